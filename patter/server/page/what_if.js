/** What a call would have cost with another provider or model in one stage. */

import { post } from "./api.js";
import { el, fresh, panel, put, table } from "./dom.js";
import { usd } from "./format.js";

const PARTS = [["stt", "stt"], ["llm", "llm"], ["tts", "tts"], ["telephony", "line"], ["total", "total"]];

/** The panel of one call; `usage` are its rows. */
export function whatIf(callId, usage) {
  const stages = usage.filter((one, index) => usage.findIndex((other) => other.stage === one.stage) === index);
  const ids = [fresh("stage"), fresh("provider"), fresh("model")];
  const stage = el("select", { id: ids[0], name: "stage" }, stages.map((one) => el("option", { value: one.stage }, one.stage === "telephony" ? "line" : one.stage)));
  const provider = el("input", { id: ids[1], name: "provider", required: true, autocomplete: "off", spellcheck: "false" });
  const model = el("input", { id: ids[2], name: "model", autocomplete: "off", spellcheck: "false" });
  const fill = () => {
    const used = stages.find((one) => one.stage === stage.value);
    provider.value = used ? used.provider : "";
    model.value = used ? used.model : "";
  };
  stage.addEventListener("change", fill);
  fill();
  const result = el("div", { role: "status" });
  const form = el("form.what-if", { onsubmit: async (event) => {
    event.preventDefault();
    const swap = { [stage.value]: { provider: provider.value.trim(), model: model.value.trim() } };
    try {
      put(result, answer((await post("/analytics/what-if", { call_id: callId, swap })).data));
    } catch (problem) {
      put(result, el("p.problem", null, problem.message));
    }
  } },
  el("p.field", null, el("label", { for: ids[0] }, "Stage"), stage),
  el("p.field", null, el("label", { for: ids[1] }, "Provider"), provider),
  el("p.field", null, el("label", { for: ids[2] }, "Model"), model),
  el("button", { type: "submit" }, "Compare"));
  return panel("What if", { class: "panel" }, form, result);
}

function answer({ now, then, difference, unpriced = [] }) {
  const columns = [{ label: "part" }, { label: "was", number: true }, { label: "would be", number: true }];
  const rows = PARTS.map(([key, name]) => [name, usd(now[key] || 0), usd(then[key] || 0, key === "total" ? unpriced : [])]);
  const change = typeof difference === "object" ? difference.total : difference;
  const told = unpriced.length
    ? `No price is known for ${unpriced.join(", ")}.`
    : change === 0 ? "That would cost the same." : `That would be ${usd(Math.abs(change))} ${change > 0 ? "more" : "less"}.`;
  return [table("With the other model", columns, rows), el("p.note", null, told)];
}
