/** One call that is kept: everything that was said, heard, measured and paid, with its recording. */

import { address, dropped, get, ofCall, Refusal } from "./api.js";
import { el, panel, put, say } from "./dom.js";
import { CallFold } from "./fold.js";
import { amount, length, moment, party, seconds, some, usd, words } from "./format.js";
import { Faults, facts, Money, tools, usageTable, usageWords } from "./panels.js";
import { Player } from "./player.js";
import { Transcript } from "./transcript.js";
import { SEGMENTS, Turns } from "./turns.js";
import { whatIf } from "./what_if.js";

export function call() {
  return new CallRecord();
}

class CallRecord {
  constructor() {
    this.title = "Call";
    this.aborter = new AbortController();
    this.heading = el("h1", { tabindex: "-1", dir: "auto" }, "Call");
    this.body = el("div.record", null, el("p.note", null, "Reading…"));
    this.node = el("div.call-view", null, el("p.crumbs", null, el("a", { href: "#/history" }, "← history")), this.heading, this.body);
  }

  go(place) {
    if (this.callId === place.id) return;
    this.callId = place.id;
    this.read();
  }

  async read() {
    const { signal } = this.aborter;
    try {
      const data = (await get(ofCall(this.callId), {}, signal)).data;
      const events = await get(ofCall(this.callId, "/events"), {}, signal).then((answer) => answer.data, (problem) => {
        if (problem instanceof Refusal) return []; // the journal may be gone; the store still has the words
        throw problem;
      });
      this.draw(data, events);
    } catch (problem) {
      if (!dropped(problem)) put(this.body, el("p.problem", { role: "alert" }, problem.message));
    }
  }

  draw(data, events) {
    const test = data.direction === "test";
    say(this.heading, test ? `${data.caller || "test"} ⇢ ${data.callee || data.agent}` : `${party(data.caller)} → ${party(data.callee)}`);
    const fold = new CallFold();
    for (const event of events) fold.take(event);
    const entries = fold.entries.length ? fold.entries : stored(data);
    const from = fold.startedAt || fold.placedAt || data.started_at;
    const recorded = Boolean(data.recording_url || data.recording);
    this.transcript = new Transcript({ from, seek: recorded ? (entry) => this.player.start(entry) : null });
    this.turns = new Turns();
    const turns = data.turns_measured || (Array.isArray(data.turns) ? data.turns : fold.turns);
    this.turns.draw(turns);
    const faults = new Faults();
    faults.draw(data.faults || fold.faults, from);
    put(this.body,
      panel("Facts", { class: "panel wide" }, this.facts(data), this.downloads(data, recorded)),
      panel("Transcript", { class: "panel talk" }, recorded ? this.sound(data, from) : el("p.note", null, "There is no recording of this call."), this.transcript.node),
      el("div.side", null, this.turns.node, this.money(data, fold), this.metrics(data.metrics), faults.node,
        (data.tools || []).length ? panel("Tools", { class: "panel" }, tools(data.tools, from)) : null,
        (data.usage || []).length ? panel("Usage", { class: "panel" }, usageTable(data.usage)) : null,
        (data.usage || []).length ? whatIf(this.callId, data.usage) : null));
    this.transcript.draw(entries);
    this.transcript.node.scrollTop = 0;
    this.player?.draw(entries);
  }

  sound(data, from) {
    this.player = new Player(this.callId, this.transcript, from, data.recording_s || data.duration_s);
    return this.player.node;
  }

  facts(data) {
    const engines = [data.stt, data.llm, data.tts].filter(Boolean).join(" · ");
    const waits = data.latency_n ? `mean ${seconds(data.avg_latency_ms)}, p95 ${seconds(data.p95_latency_ms)}, n ${data.latency_n}` : "no samples";
    return facts([
      ["started", moment(data.started_at)],
      ["length", length(data.duration_s)],
      ["ended by", data.state === "ended" ? [words(data.reason), data.detail].filter(Boolean).join(": ") : el("a", { href: `#/live/${encodeURIComponent(this.callId)}` }, data.state)],
      ["agent", [data.agent, data.agent_version && `version ${data.agent_version.slice(0, 8)}`].filter(Boolean).join(", ")],
      ["direction", data.direction],
      ["answered by", data.answered_by],
      ["mode", words(data.provider_mode)],
      ["engines", engines],
      ["line", [data.telephony, data.line].filter(Boolean).join(", ")],
      ["silence", waits],
      ["interrupted", `${some(data.interruptions, "time")}, ${data.false_interruptions || 0} falsely`],
      ["cost", usd(data.cost_total, data.unpriced)],
      ["call id", el("code", null, data.call_id)],
    ]);
  }

  downloads(data, recorded) {
    const id = encodeURIComponent(data.call_id);
    return el("p.downloads", null, "Download: ",
      recorded ? el("a", { href: address(`/calls/${id}/recording`), download: `${data.call_id}.wav` }, "recording (WAV)") : null, recorded ? " · " : null,
      el("a", { href: address(`/calls/${id}/journal`), download: `${data.call_id}.jsonl` }, "journal (JSON Lines)"));
  }

  money(data, fold) {
    const money = new Money();
    money.draw({ costs: data.cost || fold.costs(), usage: usageWords(data.usage || []), total: data.cost_total || 0, unpriced: data.unpriced || [], duration: data.duration_s, budget: fold.budget });
    return money.node;
  }

  metrics(found) {
    if (!found) return null;
    const { line, segments = {}, latency = {} } = found;
    const spread = SEGMENTS.filter(([key]) => segments[key] && segments[key].n).map(([key, short]) => `${short} ${seconds(segments[key].p50)}`).join(", ");
    return panel("Measured", { class: "panel" }, facts([
      ["greeting after", found.greeting_ms ? seconds(found.greeting_ms) : ""],
      ["silence p50", latency.n ? `${seconds(latency.p50)}, p90 ${seconds(latency.p90)}, n ${latency.n}` : ""],
      ["of that", spread],
      ["tools took", found.tool_ms ? seconds(found.tool_ms) : ""],
      ["connections", found.connections_opened || found.connections_reused ? `${found.connections_opened || 0} opened, ${found.connections_reused || 0} used again` : ""],
      ["frames", line && line.frames ? `${amount(line.frames)}, ${line.lost} lost, ${line.dropped} dropped` : ""],
      ["jitter", line && line.frames ? `${amount(line.jitter_ms)} ms` : ""],
      ["underruns", line && line.frames ? String(line.underruns) : ""],
    ]));
  }

  up() {
    return "#/history";
  }

  close() {
    this.aborter.abort();
    this.player?.close();
  }
}

/** The lines of a call whose journal is gone. */
function stored(data) {
  return (data.transcript || []).map((line, index) => ({
    id: index + 1, kind: line.role === "user" ? "caller" : "agent", at: line.timestamp, text: line.text, heard: line.text, dropped: "",
    detail: "", ms: 0, rev: 0, state: line.role === "user" ? "final" : line.interrupted ? "interrupted" : "done", source: line.kind,
  }));
}
