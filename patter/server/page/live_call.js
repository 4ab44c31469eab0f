/** One live call in full: the transcript as it is spoken, its figures, and the controls. */

import { get, ofCall } from "./api.js";
import { Controls } from "./controls.js";
import { tell } from "./dialogs.js";
import { el, mark, panel, say } from "./dom.js";
import { CallFold } from "./fold.js";
import { length, party, seconds, some, usd } from "./format.js";
import { forget, soon } from "./frames.js";
import { Faults, Money, usageWords } from "./panels.js";
import { Transcript } from "./transcript.js";
import { sample, Turns } from "./turns.js";

const KEPT = 300; // lines of a call that runs for hours; all of them are in its record

export class LiveCall {
  constructor(callId, calls, stream) {
    this.callId = callId;
    this.calls = calls;
    this.stream = stream;
    this.fold = new CallFold(KEPT);
    this.spoken = 0;
    this.early = [];
    this.problem = "";
    this.aborter = new AbortController();
    this.build();
    this.redraw = () => this.draw();
    this.onEvent = (told) => this.take(told.detail);
    this.onAfresh = () => this.read();
    stream.addEventListener("event", this.onEvent);
    stream.addEventListener("afresh", this.onAfresh);
    this.read();
  }

  build() {
    this.title = el("h2", { dir: "auto" });
    this.state = el("span.floor", null);
    this.figures = el("p.figures", null);
    this.back = el("a.back", { href: "#/live" }, "← all calls");
    this.record = el("a", { href: `#/call/${encodeURIComponent(this.callId)}` }, "Open its record");
    this.transcript = new Transcript({ label: "What is being said" });
    this.turns = new Turns();
    this.money = new Money();
    this.faults = new Faults();
    this.controls = new Controls(this.callId);
    this.note = el("p.note.over", { hidden: true });
    const mayOperate = this.stream.engine?.role !== "read";
    this.node = el("div.one-call", null,
      el("header.call-head", null, this.back, el("div.call-title", null, this.title, this.state), this.figures,
        mayOperate ? this.controls.buttons : el("p.note", null, "You may look, but not steer: sign in with an operator's token.")),
      panel("Transcript", { class: "panel talk" }, this.transcript.node, this.note, mayOperate ? this.controls.composer : null),
      el("div.side", null, this.turns.node, this.money.node, this.faults.node));
  }

  /** Fold the journal, then what came meanwhile. */
  async read() {
    this.early = [];
    let events = [];
    try {
      events = (await get(ofCall(this.callId, "/events"), {}, this.aborter.signal)).data;
      this.problem = "";
    } catch (problem) {
      if (this.aborter.signal.aborted) return;
      this.problem = problem.message;
    }
    const fold = new CallFold(KEPT);
    const late = this.early || [];
    this.early = null;
    for (const event of [...events, ...this.calls.recentOf(this.callId), ...late]) fold.take(event);
    this.fold = fold;
    this.spoken = fold.seq;
    soon(this.redraw);
  }

  take(event) {
    if (event.call_id !== this.callId) return;
    if (this.early) {
      this.early.push(event);
      return;
    }
    this.fold.take(event);
    if (event.type === "CallerSaid" && event.text) tell(`Caller: ${event.text}`);
    else if (event.type === "AgentSaid" && event.text) tell(`Agent: ${event.text}`);
    else if (event.type === "CallEnded") tell("The call has ended.");
    soon(this.redraw);
  }

  draw() {
    const { fold } = this;
    const row = this.calls.rows.get(this.callId);
    const info = { ...fold.info, ...row };
    const test = info.direction === "test";
    say(this.title, info.caller || info.callee
      ? (test ? `${info.caller || "test"} ⇢ ${info.callee || info.agent}` : `${party(info.caller)} → ${party(info.callee)}`) : this.callId);
    const over = fold.endedAt > 0;
    const floor = over ? "ended" : fold.muted ? `muted, ${fold.floor}` : fold.floor;
    say(this.state, floor || (row ? row.state : ""));
    mark(this.state, "data-floor", fold.muted ? "muted" : floor.split(" ")[0]);
    this.drawFigures(row);
    const note = fold.dropped ? `${some(fold.dropped, "earlier line")} not shown here: the call's record has all.` : "";
    this.transcript.draw(fold.entries, note);
    this.turns.draw(fold.turns);
    const costs = fold.costs();
    const total = Math.max(fold.costSoFar, costs.total || 0, row ? row.cost_total || 0 : 0);
    this.money.draw({ costs, usage: usageWords(fold.usage.values()), total, unpriced: [...fold.unpriced], duration: this.lasted(row), budget: fold.budget, limit: this.calls.budget?.limits.per_call_usd });
    this.faults.draw(fold.faults);
    this.controls.draw(over ? undefined : row);
    say(this.note, over ? "This call is over. " : this.problem);
    if (over) this.note.append(this.record);
    this.note.hidden = !over && !this.problem;
  }

  lasted(row) {
    if (this.fold.endedAt) return Math.max(0, this.fold.endedAt - (this.fold.startedAt || this.fold.endedAt));
    return row ? this.calls.lasted(row) : 0;
  }

  drawFigures(row) {
    const { info, turns } = this.fold;
    const newest = turns.filter(sample).at(-1);
    const agent = [info.agent || (row && row.agent), info.agent_version && `version ${info.agent_version.slice(0, 8)}`].filter(Boolean).join(", ");
    say(this.figures, [
      agent, info.direction || (row && row.direction), info.telephony, length(this.lasted(row)),
      newest ? `last answer after ${seconds(newest.total_ms)}` : "",
      usd(Math.max(this.fold.costSoFar, (row && row.cost_total) || 0), [...this.fold.unpriced]),
    ].filter(Boolean).join(" · "));
  }

  tick() {
    this.drawFigures(this.calls.rows.get(this.callId));
  }

  close() {
    this.aborter.abort();
    this.stream.removeEventListener("event", this.onEvent);
    this.stream.removeEventListener("afresh", this.onAfresh);
    forget(this.redraw);
    this.controls.close();
  }
}
