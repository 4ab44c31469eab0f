/** The live view: all calls that are up or ring, and one of them in full. */

import { LiveCall } from "./live_call.js";
import { el, mark, panel, put, say } from "./dom.js";
import { length, party, seconds, SLOW_MS, usd } from "./format.js";
import { forget, soon } from "./frames.js";

const GAP_MS = 120; // the list is drawn this seldom: nobody reads fifty calls faster
const WAYS = { outbound: "out", inbound: "in", test: "test" };

/** `context`: {calls, stream}. Returns the view. */
export function live(context) {
  return new Live(context);
}

class Live {
  constructor({ calls, stream }) {
    this.title = "Live";
    this.calls = calls;
    this.stream = stream;
    this.items = new Map();
    this.dirty = new Set();
    this.chosen = null;
    this.pane = null;
    this.list = el("ol.calls", null);
    this.empty = el("p.note", null);
    this.sum = el("p.note.sum", null);
    this.day = el("p.note", { hidden: true });
    this.box = el("div.pane", null);
    this.listPanel = panel("Calls", { class: "panel call-list" }, this.list, this.empty, this.sum, this.day);
    this.node = el("div.live", null, el("h1.unseen", { tabindex: "-1" }, "Live calls"), this.listPanel, this.box);
    this.drawAll = () => this.rows();
    this.drawSome = () => this.some();
    this.onRows = () => soon(this.drawAll);
    this.onRow = (told) => {
      this.dirty.add(told.detail);
      soon(this.drawSome, GAP_MS);
    };
    calls.addEventListener("rows", this.onRows);
    calls.addEventListener("row", this.onRow);
    stream.addEventListener("state", this.onRows);
    this.clock = setInterval(() => this.tick(), 1000);
  }

  /** Show the call of the address, if it names one. */
  go(place) {
    this.chosen = place.id || null;
    if (this.pane && this.pane.callId !== this.chosen) {
      this.pane.close();
      this.pane = null;
    }
    if (this.chosen && !this.pane) {
      this.pane = new LiveCall(this.chosen, this.calls, this.stream);
      put(this.box, this.pane.node);
    }
    if (!this.chosen) put(this.box, panel("Call", { class: "panel blank" }, el("p.note", null, "Choose a call to see what is being said.")));
    mark(this.node, "data-chosen", Boolean(this.chosen));
    this.rows();
  }

  rows() {
    const rows = [...this.calls.rows.values()].sort((one, other) => other.started_at - one.started_at);
    const focused = this.list.contains(document.activeElement) ? document.activeElement : null;
    let before = null;
    for (const row of rows) {
      const item = this.items.get(row.call_id) || this.item(row.call_id);
      this.draw(item, row);
      const next = before ? before.nextSibling : this.list.firstChild;
      if (next !== item.node) this.list.insertBefore(item.node, next);
      before = item.node;
    }
    for (const [id, item] of this.items) {
      if (this.calls.rows.has(id)) continue;
      item.node.remove();
      this.items.delete(id);
    }
    if (focused && focused.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true }); // it was moved
    this.dirty.clear();
    const waits = this.calls.ready ? "No call is up." : "Asking the engine…";
    say(this.empty, rows.length ? "" : this.calls.problem || waits);
    this.empty.hidden = rows.length > 0;
    this.sums();
  }

  some() {
    for (const id of this.dirty) {
      const item = this.items.get(id);
      const row = this.calls.rows.get(id);
      if (item && row) this.draw(item, row);
    }
    this.dirty.clear();
    this.sums();
  }

  sums() {
    let ringing = 0;
    let cost = 0;
    const unpriced = new Set();
    for (const row of this.calls.rows.values()) {
      if (row.state === "ringing") ringing += 1;
      cost += row.cost_total || 0;
      for (const provider of row.unpriced || []) unpriced.add(provider);
    }
    const up = this.calls.rows.size - ringing;
    say(this.sum, `${up} up · ${ringing} ringing · ${usd(cost, [...unpriced])} so far`);
    const { limits, today } = this.calls.budget || {};
    const perDay = limits && limits.per_day_usd;
    say(this.day, perDay ? `today ${usd(today.spent_usd, today.unpriced)} of the day's $${perDay.toFixed(2)}` : "");
    this.day.hidden = !perDay;
    this.sum.hidden = !this.calls.rows.size;
  }

  item(id) {
    const part = (name) => el(`span.${name}`, null);
    const item = {
      way: part("way"), who: part("parties"), length: part("length"), agent: part("agent"), floor: part("floor"),
      ms: part("latency"), cost: part("cost"), words: part("last"),
    };
    mark(item.who, "dir", "auto");
    mark(item.words, "dir", "auto");
    item.link = el("a", { href: `#/live/${encodeURIComponent(id)}` },
      el("span.top", null, item.who, item.length),
      el("span.middle", null, item.floor, item.way, item.agent, item.ms, item.cost), item.words);
    item.node = el("li", null, item.link);
    this.items.set(id, item);
    return item;
  }

  draw(item, row) {
    const rings = row.state === "ringing";
    say(item.way, WAYS[row.direction] || "");
    say(item.who, row.direction === "test" ? `${row.caller || "test"} ⇢ ${row.callee || row.agent}` : `${party(row.caller)} → ${party(row.callee)}`);
    say(item.length, rings ? "rings" : length(this.calls.lasted(row)));
    say(item.agent, row.agent || "agent");
    say(item.floor, row.muted ? "muted" : (row.floor || row.state).replace(" speaking", ""));
    mark(item.floor, "data-floor", row.muted ? "muted" : (row.floor || "").split(" ")[0]);
    say(item.ms, row.ms ? seconds(row.ms) : "");
    mark(item.ms, "data-slow", row.ms >= SLOW_MS);
    say(item.cost, usd(row.cost_total || 0, row.unpriced));
    say(item.words, row.words || "");
    mark(item.words, "data-speaker", row.speaker || null);
    mark(item.link, "aria-current", row.call_id === this.chosen ? "true" : null);
    mark(item.node, "data-faults", row.faults > 0);
  }

  tick() {
    if (document.hidden) return;
    for (const [id, item] of this.items) {
      const row = this.calls.rows.get(id);
      if (row && row.state === "live") say(item.length, length(this.calls.lasted(row)));
    }
    this.pane?.tick();
  }

  /** The links that j and k walk through. */
  links() {
    return [...this.list.querySelectorAll("a")];
  }

  /** Esc: back to the list. */
  up() {
    return this.chosen ? "#/live" : null;
  }

  close() {
    clearInterval(this.clock);
    this.calls.removeEventListener("rows", this.onRows);
    this.calls.removeEventListener("row", this.onRow);
    this.stream.removeEventListener("state", this.onRows);
    forget(this.drawAll);
    forget(this.drawSome);
    this.pane?.close();
    this.items.clear();
  }
}
