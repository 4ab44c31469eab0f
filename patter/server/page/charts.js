/** Charts as drawings with a table beside them: what can be seen can also be read. */

import { el, svg, table } from "./dom.js";

const HEIGHT = 190;
const LEFT = 58;
const BOTTOM = 22;
const TOP = 10;

/**
 * A chart that is drawn anew when its place changes its width.
 *
 * `label` says what it shows, `paint(width)` returns the drawing's parts, `alternative` is a table of the same.
 */
export class Chart {
  constructor(label, alternative, paint, legend = []) {
    this.label = label;
    this.paint = paint;
    this.width = 0;
    this.place = el("div.drawing", null);
    const keys = legend.map(([name, kind]) => el("li", null, el(`span.key.${kind}`, { "aria-hidden": "true" }), name));
    this.node = el("figure.chart", null,
      keys.length ? el("ul.legend", { "aria-label": "What the colours mean" }, keys) : null,
      this.place,
      el("details", null, el("summary", null, "As a table"), el("div.scroll", { tabindex: "0", role: "region", "aria-label": `${label}, as a table` }, alternative)));
    this.watch = new ResizeObserver(() => this.draw());
    this.watch.observe(this.place);
  }

  draw() {
    const width = Math.floor(this.place.clientWidth);
    if (width < 80 || width === this.width) return;
    this.width = width;
    const picture = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-label": this.label });
    picture.append(...this.paint(width));
    this.place.replaceChildren(picture);
  }

  close() {
    this.watch.disconnect();
  }
}

/** The value of the axis' top: the first of 1, 2, 2.5, 5 × 10ⁿ that is not below `most`. */
export function top(most) {
  if (!(most > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((value) => value >= most * 0.999);
}

function frame(width, most, format, days) {
  const parts = [0, 0.5, 1].flatMap((share) => {
    const y = Math.round(TOP + (1 - share) * (HEIGHT - TOP - BOTTOM)) + 0.5;
    return [svg("line.grid", { x1: LEFT, x2: width, y1: y, y2: y }),
      svg("text.tick", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, format(most * share))];
  });
  const wide = (width - LEFT) / days.length;
  const every = Math.max(1, Math.ceil(64 / wide));
  days.forEach((day, index) => {
    if ((days.length - 1 - index) % every) return;
    const x = Math.min(width - 18, Math.max(LEFT + 18, LEFT + (index + 0.5) * wide));
    parts.push(svg("text.tick", { x, y: HEIGHT - 6, "text-anchor": "middle" }, day.slice(5)));
  });
  return parts;
}

function height(value, most) {
  return (value / most) * (HEIGHT - TOP - BOTTOM);
}

/** Stacked bars; `tick` writes the axis. `days`: "YYYY-MM-DD"; `series`: [{name, kind, values}]; `flags[i]`: why a bar is only a part, or "". */
export function stacks({ label, days, series, format, tick = format, flags = [] }) {
  const totals = days.map((_, index) => series.reduce((sum, one) => sum + (one.values[index] || 0), 0));
  const most = top(Math.max(...totals, 0));
  const columns = [{ label: "day" }, ...series.map((one) => ({ label: one.name, number: true })), { label: "total", number: true }];
  const rows = days.map((day, index) => [day, ...series.map((one) => format(one.values[index] || 0)), `${flags[index] ? "≥ " : ""}${format(totals[index])}`]);
  const paint = (width) => {
    const parts = frame(width, most, tick, days);
    const wide = (width - LEFT) / days.length;
    const thick = Math.max(1.5, Math.min(28, wide * 0.72));
    days.forEach((day, index) => {
      const x = LEFT + (index + 0.5) * wide - thick / 2;
      const told = series.map((one) => `${one.name} ${format(one.values[index] || 0)}`).join(", ");
      const bar = svg("g", null, svg("title", null, `${day}: ${told}${flags[index] ? `; ${flags[index]}` : ""}`),
        svg("rect.catch", { x: LEFT + index * wide, y: TOP, width: wide, height: HEIGHT - TOP - BOTTOM }));
      let y = HEIGHT - BOTTOM;
      for (const one of series) {
        const tall = height(one.values[index] || 0, most);
        if (tall <= 0) continue;
        y -= tall;
        bar.append(svg(`rect.${one.kind}`, { x, y, width: thick, height: tall }));
      }
      if (flags[index]) bar.append(svg("text.flag", { x: x + thick / 2, y: y - 2, "text-anchor": "middle" }, "+"));
      parts.push(bar);
    });
    return parts;
  };
  const legend = series.length > 1 ? series.map((one) => [one.name, one.kind]) : [];
  return new Chart(label, table(label, columns, rows), paint, legend);
}

/** Lines over days; days without a value leave a gap. `series`: [{name, kind, values}] with null for none; `counts`: n. */
export function lines({ label, days, series, format, counts }) {
  const most = top(Math.max(...series.flatMap((one) => one.values.map((value) => value || 0)), 0));
  const columns = [{ label: "day" }, ...series.map((one) => ({ label: one.name, number: true })), { label: "n", number: true }];
  const rows = days.map((day, index) => [day, ...series.map((one) => (one.values[index] === null ? "–" : format(one.values[index]))), String(counts[index] || 0)]);
  const paint = (width) => {
    const parts = frame(width, most, format, days);
    const wide = (width - LEFT) / days.length;
    const x = (index) => LEFT + (index + 0.5) * wide;
    const y = (value) => HEIGHT - BOTTOM - height(value, most);
    for (const one of series) {
      let path = "";
      one.values.forEach((value, index) => {
        if (value === null) return;
        const joined = index > 0 && one.values[index - 1] !== null;
        path += `${joined ? "L" : "M"}${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
      });
      parts.push(svg(`path.curve.${one.kind}`, { d: path }));
      one.values.forEach((value, index) => {
        if (value !== null) parts.push(svg(`circle.dot.${one.kind}`, { cx: x(index), cy: y(value), r: days.length > 40 ? 1.5 : 2.5 }));
      });
    }
    days.forEach((day, index) => {
      const told = series.map((one) => `${one.name} ${one.values[index] === null ? "–" : format(one.values[index])}`).join(", ");
      parts.push(svg("rect.catch", { x: LEFT + index * wide, y: TOP, width: wide, height: HEIGHT - TOP - BOTTOM },
        svg("title", null, `${day}: ${told}, n ${counts[index] || 0}`)));
    });
    return parts;
  };
  return new Chart(label, table(label, columns, rows), paint, series.map((one) => [one.name, one.kind]));
}

/** A bar for a cell of a table: `parts` of [value, kind] beside each other, `most` is the full width. */
export function bar(parts, most) {
  const picture = svg("svg.cell-bar", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" });
  let x = 0;
  for (const [value, kind] of parts) {
    const width = most > 0 ? Math.max(0, (100 * value) / most) : 0;
    picture.append(svg(`rect.${kind}`, { x, y: 1, width, height: 8 }));
    x += width;
  }
  return picture;
}
