/** The turns of a call in figures: a table of all, and the waterfall of the one that is chosen. */

import { el, fresh, mark, panel, put, row, say, svg } from "./dom.js";
import { ms, seconds, SLOW_MS, usd } from "./format.js";

export const SEGMENTS = [
  ["endpointing", "eot", "end of turn: until it was known that the caller is done"],
  ["transcription", "stt", "until the caller's last words were recognised"],
  ["first_token", "llm", "until the model's first token"],
  ["first_sentence", "1st", "until the first sentence that can be spoken"],
  ["synthesis", "tts", "until the voice's first sound"],
  ["playout", "play", "until that sound was in the caller's ear"],
];

const COLUMNS = [
  { label: "#", head: el("abbr", { title: "turn" }, "#") },
  ...SEGMENTS.map(([, short, long]) => ({ label: short, head: el("abbr", { title: long }, short), number: true })),
  { label: "e2e", head: el("abbr", { title: "the silence that the caller heard, in ms" }, "e2e"), number: true },
  { label: "$", head: el("abbr", { title: "US dollars, telephony not included" }, "$"), number: true },
];

const WIDTH = 320;
const STEP = 18;

/** The silence before a reply, segment by segment; the longest one stands out. */
export function waterfall(turn) {
  const values = SEGMENTS.map(([name]) => Math.max(0, (turn.segments || {})[name] || 0));
  const total = Math.max(turn.total_ms || 0, values.reduce((sum, value) => sum + value, 0));
  const longest = values.indexOf(Math.max(...values));
  const scale = total ? (WIDTH - 118) / total : 0;
  const told = SEGMENTS.map(([, short], index) => `${short} ${seconds(values[index])}`).join(", ");
  const picture = svg("svg.waterfall", {
    viewBox: `0 0 ${WIDTH} ${STEP * 7 + 4}`, role: "img", "aria-label": `${name(turn)}: ${seconds(total)} in all; ${told}`,
  });
  let at = 0;
  SEGMENTS.forEach(([, short, long], index) => {
    const y = index * STEP;
    const width = values[index] * scale;
    picture.append(
      svg("text.label", { x: 0, y: y + 13 }, short),
      svg("line.rule", { x1: 46, x2: WIDTH - 66, y1: y + 9, y2: y + 9 }),
      svg("rect", { class: index === longest ? "piece long" : "piece", x: 46 + at * scale, y: y + 2,
        width: Math.max(values[index] ? 1.5 : 0, width), height: STEP - 4 }, svg("title", null, long)),
      svg("text.value", { x: WIDTH, y: y + 13, "text-anchor": "end" }, `${ms(values[index])} ms`),
    );
    at += values[index];
  });
  picture.append(
    svg("text.label.sum", { x: 0, y: STEP * 6 + 14 }, "e2e"),
    svg("text.value.sum", { x: WIDTH, y: STEP * 6 + 14, "text-anchor": "end" }, `${ms(total)} ms`),
  );
  return picture;
}

function name(turn) {
  if (turn.kind === "greeting") return "Greeting";
  const kind = turn.kind === "answer" ? "" : `, ${turn.kind}`;
  return `Turn ${turn.turn}${kind}${turn.interrupted ? ", interrupted" : ""}`;
}

function short(turn) {
  if (turn.kind === "greeting") return "hi";
  return turn.kind === "answer" ? String(turn.turn) : `${turn.turn} ${turn.kind}`;
}

/** Which turns count as samples of latency: what answers a caller and was heard out. */
export function sample(turn) {
  return turn.kind === "answer" && !turn.interrupted && turn.total_ms > 0;
}

/** Nearest-rank percentile; 0 without values. */
export function percentile(values, percent) {
  const ordered = [...values].sort((one, other) => one - other);
  return ordered.length ? ordered[Math.max(0, Math.ceil((percent / 100) * ordered.length) - 1)] : 0;
}

export class Turns {
  constructor() {
    this.rows = new Map();
    this.chosen = null; // a reply's id; null follows the newest turn
    this.shown = null;
    this.body = el("tbody", null);
    this.figure = el("div.figure-box", null);
    this.note = el("p.note", null);
    const caption = fresh("turns");
    const head = COLUMNS.map((column) => el("th", { scope: "col", class: column.number ? "number" : null }, column.head.cloneNode(true)));
    this.table = el("table.turns", { "aria-labelledby": caption },
      el("caption.unseen", { id: caption }, "Latency of each turn in ms, and what it cost"),
      el("thead", null, el("tr", null, head)), this.body);
    this.scroll = el("div.scroll", { tabindex: "0", role: "region", "aria-label": "All turns" }, this.table);
    this.title = el("span", null, "Turn");
    this.node = el("div.stack", null,
      panel(this.title, { class: "panel one-turn" }, this.figure),
      panel("Turns", { class: "panel all-turns" }, this.scroll, this.note));
  }

  /** Show these turns (TurnMeasured, or the API's rows of them). */
  draw(turns) {
    const box = this.scroll;
    const follows = box.scrollHeight - box.scrollTop - box.clientHeight < 48;
    const kept = new Set();
    for (const turn of turns) {
      kept.add(turn.reply_id);
      const known = this.rows.get(turn.reply_id);
      if (known && known.turn === turn) continue;
      const node = this.line(turn);
      if (known) known.node.replaceWith(node);
      else this.body.append(node);
      this.rows.set(turn.reply_id, { turn, node });
    }
    for (const [id, known] of this.rows) {
      if (kept.has(id)) continue;
      known.node.remove();
      this.rows.delete(id);
    }
    this.choose(turns);
    const samples = turns.filter(sample).map((turn) => turn.total_ms);
    say(this.note, samples.length
      ? `typical ${seconds(percentile(samples, 50))} · slowest 5 % ${seconds(percentile(samples, 95))} · n ${samples.length}`
      : "no answer was measured yet");
    if (follows) box.scrollTop = box.scrollHeight;
  }

  line(turn) {
    const values = SEGMENTS.map(([key]) => ms((turn.segments || {})[key] || 0));
    const select = el("button.pick", { type: "button", onclick: () => this.pick(turn.reply_id) },
      short(turn), el("span.unseen", null, `, show ${name(turn)}`));
    const total = el("strong", { class: turn.total_ms >= SLOW_MS ? "slow" : null }, ms(turn.total_ms || 0), turn.interrupted
      ? el("abbr.cut", { title: "interrupted: no sample of latency" }, "↯") : null);
    const cost = turn.closed === false ? "…" : usd((turn.cost || {}).total || 0, turn.unpriced);
    return row(COLUMNS, [select, ...values, total, cost]);
  }

  pick(id) {
    this.chosen = this.chosen === id ? null : id;
    this.choose([...this.rows.values()].map((known) => known.turn));
  }

  choose(turns) {
    const turn = turns.find((one) => one.reply_id === this.chosen) || turns.at(-1);
    for (const [id, known] of this.rows) mark(known.node, "data-chosen", Boolean(turn) && id === turn.reply_id);
    if (turn === this.shown) return;
    this.shown = turn;
    say(this.title, turn ? name(turn) : "Turn");
    put(this.figure, turn ? waterfall(turn) : el("p.note", null, "nothing was measured yet"));
    if (turn && turn.tool_ms) this.figure.append(el("p.note", null, `${seconds(turn.tool_ms)} of it a tool took.`));
  }
}
