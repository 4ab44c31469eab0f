/** What a call would have cost with another provider or model in one stage. */

import { get, post } from "./api.js";
import { el, fresh, panel, put, table } from "./dom.js";
import { usd } from "./format.js";

const PARTS = [["stt", "stt"], ["llm", "llm"], ["tts", "tts"], ["telephony", "line"], ["total", "total"]];

/** The panel of one call; `usage` are its rows. What may be chosen is what has a price. */
export function whatIf(callId, usage) {
  const stages = [...new Set(usage.map((one) => one.stage))];
  const [stageId, otherId] = [fresh("stage"), fresh("other")];
  const stage = el("select", { id: stageId }, stages.map((one) => el("option", { value: one }, one === "telephony" ? "line" : one)));
  const other = el("select", { id: otherId });
  const result = el("div", { role: "status" });
  let prices = [];
  const fill = () => {
    const here = usage.filter((one) => one.stage === stage.value).map(key);
    const found = new Map(prices.filter((one) => one.stage === stage.value).map((one) => [key(one), one]));
    put(other, [...found].filter(([name]) => !here.includes(name)).sort()
      .map(([name, one]) => el("option", { value: name }, [one.provider, one.model].filter(Boolean).join(" "))));
  };
  stage.addEventListener("change", fill);
  get("/prices").then((told) => {
    prices = told.data;
    fill();
  }, (problem) => put(result, el("p.problem", null, problem.message)));
  const form = el("form.what-if", { onsubmit: async (event) => {
    event.preventDefault();
    if (!other.value) return;
    const [provider, model] = JSON.parse(other.value);
    try {
      put(result, answer((await post("/analytics/what-if", { call_id: callId, swap: { [stage.value]: { provider, model } } })).data));
    } catch (problem) {
      put(result, el("p.problem", null, problem.message));
    }
  } },
  el("p.field", null, el("label", { for: stageId }, "Stage"), stage),
  el("p.field", null, el("label", { for: otherId }, "With"), other),
  el("button", { type: "submit" }, "Compare"));
  return panel("What if", { class: "panel" }, form, result);
}

function key(one) {
  return JSON.stringify([one.provider, one.model]);
}

function answer({ now, then, difference, unpriced, unpriced_now: before, notes }) {
  const columns = [{ label: "part" }, { label: "was", number: true }, { label: "would be", number: true }];
  const total = (name) => name === "total";
  const rows = PARTS.map(([name, label]) => [label, usd(now[name] || 0, total(name) ? before : []), usd(then[name] || 0, total(name) ? unpriced : [])]);
  return [table("With the other one", columns, rows), el("p.note", null, verdict(difference, [...new Set([...before, ...unpriced])])),
    notes.map((note) => el("p.note", null, note))];
}

function verdict(difference, unknown) {
  if (difference === null) return `How much that differs is unknown: there is no price for ${unknown.join(", ")}.`;
  if (difference === 0) return "That would cost the same.";
  return `That would be ${usd(Math.abs(difference))} ${difference > 0 ? "more" : "less"}.`;
}
