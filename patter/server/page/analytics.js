/** Figures over days: calls, minutes, money, latency, why calls ended, which agents, and what a thousand calls would cost. */

import { dropped, get } from "./api.js";
import { bar, lines, stacks } from "./charts.js";
import { el, panel, put, table } from "./dom.js";
import { amount, count, seconds, some, usd, utcDay, words } from "./format.js";
import { used } from "./panels.js";
import { SEGMENTS } from "./turns.js";

const RANGES = [7, 30, 90];
const PARTS = [["stt", "stt"], ["llm", "llm"], ["tts", "tts"], ["telephony", "line"]];

export function analytics() {
  return new Analytics();
}

class Analytics {
  constructor() {
    this.title = "Analytics";
    this.charts = [];
    this.ranges = el("nav.ranges", { "aria-label": "Range" });
    this.body = el("div.boards", null);
    this.node = el("div.analytics", null, el("h1.unseen", { tabindex: "-1" }, "Analytics"), this.ranges, this.body);
  }

  go(place) {
    const asked = Number(place.query.get("days"));
    this.days = RANGES.includes(asked) ? asked : 7;
    this.agent = place.query.get("agent") || "";
    const links = RANGES.map((days) => el("a.button", { href: link(days, this.agent), "aria-current": days === this.days ? "page" : null }, `${days} days`));
    const note = this.agent
      ? el("span.note", null, "only ", el("bdi", null, this.agent), " ", el("a", { href: link(this.days, "") }, "show all agents"))
      : null;
    put(this.ranges, links, note);
    this.read();
  }

  async read() {
    this.asking?.abort();
    this.asking = new AbortController();
    const { signal } = this.asking;
    const query = { from: utcDay(this.days - 1), agent: this.agent };
    const ask = (path, more) => get(path, { ...query, ...more }, signal).then((answer) => answer.data);
    try {
      const [overview, costs, latency] = await Promise.all([ask("/analytics/overview"), ask("/analytics/costs"), ask("/analytics/latency")]);
      const ended = Object.values(overview.reasons).some(Boolean); // a forecast needs calls that are over
      const forecast = ended ? await ask("/analytics/forecast", { calls: 1000 }) : null;
      if (!signal.aborted) this.draw(overview, costs, latency, forecast);
    } catch (problem) {
      if (dropped(problem)) return;
      this.drop();
      put(this.body, panel("Analytics", { class: "panel" }, el("p.problem", { role: "alert" }, problem.message)));
    }
  }

  draw(overview, costs, latency, forecast) {
    this.drop();
    const days = Array.from({ length: this.days }, (_, index) => utcDay(this.days - 1 - index));
    const byDay = new Map((costs.days || []).map((day) => [day.day, day]));
    const at = days.map((day) => byDay.get(day) || {});
    const keep = (chart) => {
      this.charts.push(chart);
      return chart.node;
    };
    put(this.body,
      panel("In all", { class: "panel wide" }, sums(overview)),
      panel("Cost by day", { class: "panel" }, keep(stacks({
        label: "Cost by day and component", days, format: usd, tick: axis,
        series: PARTS.map(([key, name]) => ({ name, kind: `c-${key}`, values: at.map((day) => day[key] || 0) })),
        flags: at.map((day) => (day.unpriced_calls ? `${day.unpriced_calls} calls with a price that is not known` : "")),
      })), unpriced(overview)),
      panel("Calls by day", { class: "panel" }, keep(stacks({
        label: "Calls by day", days, format: amount, series: [{ name: "calls", kind: "c-plain", values: at.map((day) => day.calls || 0) }],
      }))),
      panel("Minutes by day", { class: "panel" }, keep(stacks({
        label: "Minutes by day", days, format: amount, series: [{ name: "minutes", kind: "c-plain", values: at.map((day) => day.minutes || 0) }],
      }))),
      panel("Silence before an answer", { class: "panel" }, keep(silence(latency, days))),
      panel("Where the silence goes", { class: "panel" }, segments(overview.segments)),
      panel("Why calls ended", { class: "panel" }, reasons(overview.reasons || {})),
      panel("Agents", { class: "panel" }, agents(overview.agents || [], this.days)),
      panel("Providers", { class: "panel" }, providers(costs.providers || [])),
      panel("Forecast", { class: "panel" }, forecast ? outlook(forecast) : el("p.note", null, "No call to judge by.")));
  }

  drop() {
    for (const chart of this.charts) chart.close();
    this.charts = [];
  }

  close() {
    this.asking?.abort();
    this.drop();
  }
}

/** US dollars as short as an axis wants them: "$0.25", "$2.5k". */
function axis(value) {
  return value >= 1000 ? `$${amount(value / 1000)}k` : `$${Number(value.toPrecision(3))}`;
}

function link(days, agent) {
  return `#/analytics?days=${days}${agent ? `&agent=${encodeURIComponent(agent)}` : ""}`;
}

function sums(data) {
  const { latency = {}, directions = {}, cost = {} } = data;
  const figure = (name, value, more) => el("div", null, el("dt", null, name), el("dd", null, el("b", null, value), more ? el("small", null, more) : null));
  return el("dl.big", null,
    figure("calls", count(data.calls), Object.entries(directions).filter(([, n]) => n).map(([way, n]) => `${count(n)} ${way}`).join(", ")),
    figure("minutes", amount(data.minutes || 0), data.calls ? `${amount(data.minutes / data.calls)} a call` : ""),
    figure("cost", usd(cost.total || 0, data.unpriced), data.cost_per_minute ? `${usd(data.cost_per_minute, data.unpriced)} a minute` : ""),
    figure("typical silence", latency.n ? seconds(latency.p50) : "–", latency.n ? `p95 ${seconds(latency.p95)}, n ${count(latency.n)}` : "no samples"),
    figure("turns", count(data.turns), `${count(data.interruptions)} interrupted, ${count(data.false_interruptions)} falsely`));
}

function unpriced(data) {
  if (!data.unpriced_calls) return null;
  const who = data.unpriced && data.unpriced.length ? ` (${data.unpriced.join(", ")})` : "";
  return el("p.note.warn", null, `${count(data.unpriced_calls)} calls used something whose price is not known${who}: sums are what is known.`);
}

function silence(latency, days) {
  const byDay = new Map((latency.days || []).map((day) => [day.day, day]));
  const values = (key) => days.map((day) => (byDay.get(day) && byDay.get(day).n ? byDay.get(day)[key] : null));
  return lines({
    label: "Silence before an answer by day, percentiles", days, format: seconds,
    series: [{ name: "p50", kind: "c-p50", values: values("p50") }, { name: "p95", kind: "c-p95", values: values("p95") }],
    counts: days.map((day) => (byDay.get(day) || {}).n || 0),
  });
}

function segments(found) {
  const named = SEGMENTS.filter(([key]) => found[key]);
  if (!named.length) return el("p.note", null, "no samples");
  const most = Math.max(...named.map(([key]) => found[key].p95 || 0));
  const columns = [{ label: "segment" }, { label: "", head: el("span.unseen", null, "bar") }, { label: "p50", number: true }, { label: "p95", number: true }, { label: "n", number: true }];
  return table("Silence by segment", columns, named.map(([key, short, long]) => {
    const { p50, p95, n } = found[key];
    return [el("abbr", { title: long }, `${short} ${words(key)}`), bar([[p50, "c-p50"], [p95 - p50, "c-rest"]], most), seconds(p50), seconds(p95), count(n)];
  }), { class: "bars" });
}

function reasons(found) {
  const rows = Object.entries(found).filter(([, n]) => n).sort((one, other) => other[1] - one[1]);
  if (!rows.length) return el("p.note", null, "no calls");
  const total = rows.reduce((sum, [, n]) => sum + n, 0);
  const columns = [{ label: "reason" }, { label: "", head: el("span.unseen", null, "bar") }, { label: "calls", number: true }, { label: "share", number: true }];
  return table("Why calls ended", columns, rows.map(([reason, n]) => [
    el("a", { href: `#/history?reason=${encodeURIComponent(reason)}` }, words(reason)),
    bar([[n, "c-plain"]], rows[0][1]), count(n), `${Math.round((100 * n) / total)} %`,
  ]), { class: "bars" });
}

function agents(rows, days) {
  if (!rows.length) return el("p.note", null, "no calls");
  const columns = [{ label: "agent" }, { label: "calls", number: true }, { label: "minutes", number: true }, { label: "cost", number: true }];
  return table("Agents", columns, rows.map((one) => [
    el("a", { href: link(days, one.agent), dir: "auto" }, one.agent || "(no name)"), count(one.calls), amount(one.minutes || 0),
    usd(one.cost_total || 0, one.unpriced_calls ? [one.agent] : []),
  ]));
}

function providers(rows) {
  if (!rows.length) return el("p.note", null, "nothing was used");
  const columns = [{ label: "stage" }, { label: "provider" }, { label: "used", wide: true }, { label: "cost", number: true }];
  return table("Providers", columns, rows.map((one) => [
    one.stage === "telephony" ? "line" : one.stage, [one.provider, one.model].filter(Boolean).join(" "), used(one.amounts),
    one.priced === false ? usd(one.cost || 0, [one.provider]) : usd(one.cost || 0),
  ]));
}

function outlook(data) {
  const based = data.based_on;
  const unknown = data.unpriced || [];
  const columns = [{ label: "part" }, { label: "a call", number: true }, { label: `${count(data.calls)} calls`, number: true }];
  const rows = [...PARTS, ["total", "total"]].map(([key, name]) => [
    name, usd((data.per_call || {})[key] || 0, key === "total" ? unknown : []), usd((data.total || {})[key] || 0, key === "total" ? unknown : []),
  ]);
  const range = data.low !== null && data.high !== null
    ? ` In nineteen of twenty cases between ${usd(data.low)} and ${usd(data.high)}.` : "";
  return [table(`What ${count(data.calls)} calls like these would cost`, columns, rows),
    el("p.note", null, `Judged by ${some(based.calls, based.kind === "rehearsal" ? "rehearsal" : "call")} of ${amount(based.minutes || 0)} minutes.${range}`)];
}
