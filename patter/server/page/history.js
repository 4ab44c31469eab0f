/** The history: all calls, searched, filtered and sorted; what is asked for stands in the address. */

import { address, dropped, get } from "./api.js";
import { classes, el, mark, panel, put, row, say } from "./dom.js";
import { count, length, moment, party, seconds, SLOW_MS, some, usd, words } from "./format.js";

const PAGE = 50;
const PAUSE_MS = 300; // after a key, before it is searched for
const REASONS = ["caller_hung_up", "agent_ended", "operator_ended", "handler_ended", "transferred", "engine_stopped", "engine_died",
  "line_lost", "failed", "no_answer", "busy", "canceled", "machine_answered", "voicemail_left", "budget_spent"];
const ORDERS = { started: ["-started_at", "started_at"], cost: ["-cost_total"], length: ["-duration_s"], p95: ["-p95_latency_ms"] };
const FILTERS = ["q", "number", "agent", "direction", "state", "reason", "from", "to"];

const COLUMNS = [
  { key: "started", label: "started" },
  { label: "from → to", kind: "parties" },
  { label: "agent", wide: true },
  { label: "way", wider: true },
  { key: "length", label: "length", number: true },
  { label: "turns", number: true, wider: true },
  { label: "mean", title: "mean silence before an answer", number: true, wider: true },
  { key: "p95", label: "p95", title: "silence before the slowest twentieth of the answers", number: true, wide: true },
  { key: "cost", label: "cost", number: true },
  { label: "ended by", wide: true },
];

export function history() {
  return new History();
}

class History {
  constructor() {
    this.title = "History";
    this.aborter = new AbortController();
    this.timer = 0;
    this.fields = {};
    this.node = el("div.history", null, el("h1.unseen", { tabindex: "-1" }, "Call history"), this.filters(), this.results());
    this.names();
  }

  filters() {
    const field = (name, label, input) => {
      this.fields[name] = input;
      input.setAttribute("name", name);
      input.id = `filter-${name}`;
      input.addEventListener("input", () => this.later());
      return el("p.field", { class: `field by-${name}` }, el("label", { for: input.id }, label), input);
    };
    const text = (attributes) => el("input", { type: "search", autocomplete: "off", spellcheck: "false", ...attributes });
    this.reset = el("a.button", { href: "#/history" }, "Clear");
    return el("form.filters.panel", { role: "search", "aria-label": "Calls", onsubmit: (event) => {
      event.preventDefault();
      this.change();
    } },
    field("q", "Words or call id", text({ placeholder: "what was said…", maxlength: 200 })),
    field("number", "Number", text({ placeholder: "part of it", maxlength: 40, inputmode: "tel" })),
    field("agent", "Agent", select([["", "any"]])),
    field("direction", "Direction", select([["", "any"], ...["inbound", "outbound", "test"].map((one) => [one, one])])),
    field("reason", "Ended by", select([["", "any"], ...REASONS.map((one) => [one, words(one)])])),
    field("from", "From (UTC)", el("input", { type: "date" })),
    field("to", "To (UTC)", el("input", { type: "date" })),
    el("p.field.clear", null, this.reset));
  }

  results() {
    this.head = el("tr", null);
    this.body = el("tbody", null);
    this.sum = el("p.note", { role: "status" });
    this.before = el("a.button", null, "← newer");
    this.after = el("a.button", null, "older →");
    this.csv = el("a", { download: "calls.csv" }, "CSV");
    this.json = el("a", { download: "calls.json" }, "JSON");
    this.table = el("table.calls-table", { "aria-label": "Calls" }, el("thead", null, this.head), this.body);
    return panel("Calls", { class: "panel results" },
      this.table,
      el("div.under", null, this.sum,
        el("nav.pages", { "aria-label": "Pages" }, this.before, this.after),
        el("p.note", null, "Export these: ", this.csv, " ", this.json)));
  }

  /** The agents that calls had. */
  async names() {
    const overview = await get("/analytics/overview", {}, this.aborter.signal).catch(() => null);
    if (!overview) return; // a filter with nothing to choose from: the others still work
    const names = (overview.data.agents || []).map((one) => one.agent).filter(Boolean);
    const chosen = this.fields.agent.value;
    put(this.fields.agent, options([["", "any"], ...names.sort().map((name) => [name, name])]));
    choose(this.fields.agent, chosen);
  }

  /** Show what the address asks for. */
  go(place) {
    this.query = Object.fromEntries(place.query);
    for (const [name, input] of Object.entries(this.fields)) {
      const value = this.query[name] || "";
      if (input.value === value || input === document.activeElement) continue;
      if (input.tagName === "SELECT") choose(input, value);
      else input.value = value;
    }
    this.read();
  }

  later() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.change(), PAUSE_MS);
  }

  /** Put the filters into the address; that shows them. A step back leaves the search as a whole. */
  change() {
    clearTimeout(this.timer);
    const query = { order: this.query.order };
    for (const [name, input] of Object.entries(this.fields)) query[name] = input.value.trim();
    const wanted = link(query);
    if (wanted !== location.hash) location.replace(wanted);
  }

  async read() {
    this.asking?.abort();
    this.asking = new AbortController();
    const { order = "-started_at" } = this.query;
    const offset = Number.parseInt(this.query.offset, 10) || 0;
    const filters = Object.fromEntries(FILTERS.map((name) => [name, this.query[name]]));
    this.heads(filters, order, offset, null);
    mark(this.table, "aria-busy", "true");
    try {
      const answer = await get("/calls", { ...filters, order, offset, limit: PAGE }, this.asking.signal);
      this.draw(answer, filters, order, offset);
    } catch (problem) {
      if (dropped(problem)) return;
      put(this.body);
      say(this.sum, problem.message);
    }
    mark(this.table, "aria-busy", null);
  }

  draw({ data, pagination }, filters, order, offset) {
    put(this.body, data.map(line));
    const last = offset + data.length;
    const range = data.length ? `${count(offset + 1)}–${count(last)} of ${total(pagination)}` : "No call is like that.";
    say(this.sum, range);
    this.heads(filters, order, offset, pagination.total);
  }

  heads(filters, order, offset, total) {
    const head = COLUMNS.map((column) => heading(column, filters, order));
    put(this.head, head);
    this.csv.href = address("/export/csv", { ...filters, order });
    this.json.href = address("/export/json", { ...filters, order });
    page(this.before, offset > 0, { ...filters, order, offset: Math.max(0, offset - PAGE) || "" });
    page(this.after, total !== null && offset + PAGE < total, { ...filters, order, offset: offset + PAGE });
    this.reset.hidden = !FILTERS.some((name) => filters[name]);
  }

  /** The links that j and k walk through. */
  links() {
    return [...this.body.querySelectorAll("a")];
  }

  search() {
    this.fields.q.focus();
    this.fields.q.select();
  }

  close() {
    clearTimeout(this.timer);
    this.aborter.abort();
    this.asking?.abort();
  }
}

/** The address of a history. */
export function link(query) {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    if (value && !(key === "order" && value === "-started_at")) search.set(key, value);
  }
  const text = search.toString();
  return text ? `#/history?${text}` : "#/history";
}

function total({ total, total_is_at_least: more }) {
  return more ? `${count(total)}+ calls` : some(total, "call");
}

function page(node, there, query) {
  if (there) node.href = link(query);
  else node.removeAttribute("href");
  mark(node, "aria-disabled", !there);
}

function heading(column, filters, order) {
  const kind = classes(column);
  const orders = ORDERS[column.key];
  if (!orders) return el("th", { scope: "col", class: kind, title: column.title }, column.label);
  const now = orders.indexOf(order);
  const sorted = now < 0 ? null : order.startsWith("-") ? "descending" : "ascending";
  const next = orders[(now + 1) % orders.length];
  const sign = { descending: " ▾", ascending: " ▴" }[sorted] || "";
  return el("th", { scope: "col", class: kind, "aria-sort": sorted, title: column.title },
    el("a", { href: link({ ...filters, order: next }) }, column.label, el("span", { "aria-hidden": "true" }, sign)));
}

function line(call) {
  const place = call.state === "ended" ? "call" : "live";
  const over = call.state === "ended" ? words(call.reason) : call.state;
  const at = moment(call.started_at);
  const parties = [call.caller, call.callee].map((one) => el("bdi.party", null, party(one))).flatMap((one, index) => (index ? [" → ", one] : [one]));
  return row(COLUMNS, [
    el("a", { href: `#/${place}/${encodeURIComponent(call.call_id)}` }, el("span.year", null, at.slice(0, 5)), at.slice(5)),
    parties,
    el("span", { dir: "auto" }, call.agent),
    call.direction,
    length(call.duration_s),
    String(call.turns),
    call.latency_n ? seconds(call.avg_latency_ms) : "",
    el("span", { class: call.p95_latency_ms >= SLOW_MS ? "slow" : null, title: call.latency_n ? `n ${call.latency_n}` : null },
      call.latency_n ? seconds(call.p95_latency_ms) : ""),
    usd(call.cost_total, call.unpriced),
    el("span", { class: ["failed", "engine_died", "line_lost"].includes(call.reason) ? "bad" : null, title: call.detail || null }, over),
  ], { "data-call": call.call_id });
}

function select(pairs) {
  return el("select", null, options(pairs));
}

function options(pairs) {
  return pairs.map(([value, label]) => el("option", { value }, label));
}

/** Choose a value, also one that nobody has listed. */
function choose(input, value) {
  if (value && ![...input.options].some((one) => one.value === value)) input.append(el("option", { value }, value));
  input.value = value;
}
