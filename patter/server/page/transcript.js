/**
 * Draws the entries of a call: each line once, changed in place when its words change. What was never heard is struck
 * through, what is not final is dim.
 */

import { add, el, mark, put, say } from "./dom.js";
import { clock, length, seconds, SLOW_MS } from "./format.js";
import { restOf } from "./fold.js";

const WHO = { caller: "caller", agent: "agent", tool: "tool", mark: "" };

export class Transcript {
  /** `from`: times are written from this moment on (0: as times of day). `seek(entry)`: lines are buttons. */
  constructor({ from = 0, seek = null, label = "Transcript" } = {}) {
    this.from = from;
    this.seek = seek;
    this.lines = new Map();
    this.list = el("ol.lines", { "aria-label": label });
    this.more = el("p.note", { hidden: true });
    this.node = el("div.transcript", { tabindex: "0", role: "region", "aria-label": label }, this.more, this.list);
  }

  /** Show these entries; `note` stands before them. Stays at the end if it was there. */
  draw(entries, note = "") {
    const box = this.node;
    const follows = box.scrollHeight - box.scrollTop - box.clientHeight < 48;
    say(this.more, note);
    mark(this.more, "hidden", !note);
    const kept = new Set();
    let before = null;
    for (const entry of entries) {
      kept.add(entry.id);
      const line = this.lines.get(entry.id) || this.begin(entry);
      if (line.rev !== entry.rev) this.write(line, entry);
      const next = before ? before.nextSibling : this.list.firstChild;
      if (next !== line.node) this.list.insertBefore(line.node, next);
      before = line.node;
    }
    if (this.lines.size > kept.size) {
      for (const [id, line] of this.lines) {
        if (kept.has(id)) continue;
        line.node.remove();
        this.lines.delete(id);
      }
    }
    if (follows) box.scrollTop = box.scrollHeight;
  }

  begin(entry) {
    const time = el("span.time", null);
    const words = el("span.words", { dir: "auto" });
    const figure = el("span.figure", null);
    const at = this.seek
      ? el("button.time", { type: "button", title: "Play from here", onclick: () => this.seek(entry) }, time)
      : time;
    const node = el("li", { class: `line ${entry.kind}` }, at, el("span.who", null, WHO[entry.kind]), words, figure);
    if (this.seek) {
      node.addEventListener("click", (event) => {
        if (!event.target.closest("button, details, summary") && !String(getSelection())) this.seek(entry);
      });
    }
    const line = { node, time, words, figure, rev: -1 };
    this.lines.set(entry.id, line);
    return line;
  }

  write(line, entry) {
    line.rev = entry.rev;
    mark(line.node, "data-state", entry.state);
    say(line.time, this.from ? length(entry.at - this.from) : clock(entry.at));
    say(line.figure, entry.ms ? seconds(entry.ms) : "");
    mark(line.figure, "class", entry.ms >= SLOW_MS && entry.kind === "agent" ? "figure slow" : "figure");
    put(line.words, spoken(entry));
  }

  /** Mark the entry that is being played (null: none). */
  playing(entry, follow) {
    const line = entry && this.lines.get(entry.id);
    if (this.now === line) return;
    if (this.now) mark(this.now.node, "aria-current", null);
    this.now = line;
    if (!line) return;
    mark(line.node, "aria-current", "true");
    if (follow) keepInView(this.node, line.node);
  }
}

/** Scroll the box alone, never the page around it. */
function keepInView(box, node) {
  const top = node.offsetTop - box.offsetTop;
  if (top < box.scrollTop || top + node.offsetHeight > box.scrollTop + box.clientHeight) {
    box.scrollTop = top - box.clientHeight / 3;
  }
}

function spoken(entry) {
  if (entry.kind === "agent") return reply(entry);
  if (entry.kind === "tool") return tool(entry);
  if (entry.kind === "mark") return remark(entry);
  if (entry.state === "awaited" && !entry.text) return [el("i.dim", null, "(being written down)")];
  if (entry.state === "final" && !entry.text) return [el("i.dim", null, "(no words)")];
  const more = { typed: "typed", dtmf: "keys" }[entry.source];
  const note = entry.state === "acknowledged" ? "acknowledged" : more;
  return [entry.text, note ? el("small.dim", null, ` ${note}`) : null];
}

function reply(entry) {
  if (entry.state === "done") return [entry.heard || el("i.dim", null, "(nothing was said)"), source(entry)];
  if (entry.state === "interrupted") {
    const lost = entry.dropped
      ? el("s.lost", null, el("span.unseen", null, "not heard: "), entry.dropped)
      : null;
    return [entry.heard, entry.heard && lost ? " " : null, lost, source(entry)];
  }
  const rest = restOf(entry.text, entry.heard);
  if (!entry.text && !entry.heard) return [el("i.dim", null, "…")];
  return [entry.heard, entry.heard && rest ? " " : null, rest ? el("i.dim.unheard", null, rest) : null];
}

function source(entry) {
  return { say: el("small.dim", null, " said on request"), filler: el("small.dim", null, " filler") }[entry.source] || null;
}

const SIGNS = { running: "…", ok: "✓", failed: "✗" };

function tool(entry) {
  const given = short(entry.input || "");
  const head = [el("span.sign", { "aria-hidden": "true" }, SIGNS[entry.state] || "…"), ` ${entry.text}(${given})`,
    el("span.unseen", null, ` ${entry.state}`)];
  if (!entry.detail) return head;
  return [add(el("details", null), el("summary", null, head), el("pre", null, entry.detail))];
}

function remark(entry) {
  return [entry.text, entry.detail ? el("small.fix", null, ` ${entry.detail}`) : null];
}

/** A tool's JSON arguments for one line: `{"day": "tuesday"}` → `day=tuesday`. */
function short(input) {
  const body = input.trim().replace(/^\{|\}$/g, "");
  const text = body.replaceAll('"', "").replaceAll(": ", "=");
  return text.length > 160 ? `${text.slice(0, 160)}…` : text;
}
