/** Small panels about one call: money, faults, tools, what it is made of. */

import { el, panel, put, say, table } from "./dom.js";
import { amount, clock, length, seconds, usd } from "./format.js";

const STAGES = [["stt", "stt"], ["llm", "llm"], ["tts", "tts"], ["telephony", "line"]];

/** Facts in pairs; what is not known is left out. */
export function facts(pairs) {
  return el("dl.facts", null, pairs.filter(([, value]) => value !== "" && value !== null && value !== undefined && value !== false)
    .map(([name, value]) => el("div", null, el("dt", null, name), el("dd", { dir: "auto" }, value))));
}

export class Money {
  constructor() {
    this.rows = STAGES.map(([, label]) => ({ name: el("dt", null, label), use: el("span.use", null), cost: el("b", null) }));
    this.total = el("b", null);
    this.minute = el("span.use", null);
    this.note = el("p.note", null);
    this.node = panel("Cost", { class: "panel money" },
      el("dl.sums", null,
        this.rows.map(({ name, use, cost }) => el("div", null, name, el("dd", null, use, cost))),
        el("div.sum", null, el("dt", null, "total"), el("dd", null, this.minute, this.total))),
      this.note);
  }

  /** `costs`: USD by stage; `usage`: stage → what was used, in words. */
  draw({ costs, usage, total, unpriced, duration, budget, limit }) {
    STAGES.forEach(([stage], index) => {
      say(this.rows[index].cost, usd(costs[stage] || 0));
      say(this.rows[index].use, usage[stage] || "");
    });
    say(this.total, usd(total, unpriced));
    say(this.minute, duration > 1 && (total > 0 || !unpriced.length) ? `${usd((60 * total) / duration, unpriced)} a minute` : "");
    const notes = [];
    if (unpriced.length) notes.push(`No price is known for ${unpriced.join(", ")}: the sum is what is known of it.`);
    if (limit) notes.push(`${Math.round((100 * total) / limit)} % of the $${limit.toFixed(2)} that a call may cost.`);
    if (budget) notes.push(`The ${budget.scope}'s budget of $${budget.limit_usd.toFixed(2)} is spent.`);
    say(this.note, notes.join(" "));
    this.note.hidden = !notes.length;
  }
}

const UNITS = {
  audio_seconds: "s", seconds: "s", characters: "chars", minutes: "min", input_tokens: "tokens in", output_tokens: "tokens out",
};

/** What was used, in words: {audio_seconds: 10.1} → "10.1 s". */
export function used(amounts) {
  return Object.entries(amounts || {}).filter(([, value]) => value)
    .map(([name, value]) => `${amount(value)} ${UNITS[name] || name.replaceAll("_", " ")}`).join(", ");
}

/** stage → "provider 10.1 s", of rows {stage, provider, amounts}. A call and its stream last equally long: that is said once. */
export function usageWords(rows) {
  const words = {};
  for (const { stage, provider, amounts } of rows) (words[stage] ||= new Set()).add(`${provider} ${used(amounts)}`);
  return Object.fromEntries(Object.entries(words).map(([stage, texts]) => [stage, [...texts].join("; ")]));
}

export class Faults {
  constructor() {
    this.list = el("ul.plain", null);
    this.node = panel("Faults", { class: "panel faults" }, this.list);
    this.shown = -1;
  }

  draw(faults, from = 0) {
    this.node.hidden = !faults.length;
    const newest = faults.length ? faults.at(-1).at : 0;
    if (newest === this.shown) return;
    this.shown = newest;
    put(this.list, faults.map((fault) => el("li", null,
      el("span.time", null, from ? length(fault.at - from) : clock(fault.at)), " ",
      el("strong", null, [fault.stage, fault.provider].filter(Boolean).join(" ")), ` ${fault.problem}`,
      fault.fix ? el("small.fix", null, ` ${fault.fix}`) : null)));
  }
}

/** The tools of a call that is over, with what they were given and what they gave back. */
export function tools(rows, from) {
  const columns = [
    { label: "at", number: true }, { label: "tool" }, { label: "result" }, { label: "took", number: true },
  ];
  return table("Tools", columns, rows.map((tool) => [
    length(tool.at - from),
    el("details", null, el("summary", null, tool.name), el("pre", null, tool.arguments)),
    el("details", null,
      el("summary", { class: tool.returned && !tool.ok ? "bad" : null }, tool.returned ? (tool.ok ? "✓ done" : "✗ failed") : "never came back"),
      el("pre", null, tool.output || "(nothing)")),
    tool.returned ? seconds(tool.ms) : "",
  ]));
}

/** What was used and what it cost. */
export function usageTable(rows) {
  const columns = [{ label: "stage" }, { label: "provider" }, { label: "used" }, { label: "cost", number: true }];
  return table("Usage and its cost", columns, rows.map((one) => [
    one.stage === "telephony" ? "line" : one.stage, [one.provider, one.model].filter(Boolean).join(" "), used(one.amounts),
    one.priced === false ? usd(0, [one.provider]) : usd(one.cost || 0),
  ]));
}
