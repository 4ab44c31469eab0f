/** Builds elements. Whatever callers and models said goes in as text only: nothing here takes markup or styles. */

const SVG = "http://www.w3.org/2000/svg";

/** `el("p.note.warn", {title: "…", onclick: f}, "text", node, …)`; null, undefined and false are left out. */
export function el(tag, attributes, ...children) {
  const [name, ...kinds] = tag.split(".");
  const node = document.createElement(name);
  if (kinds.length) node.className = kinds.join(" ");
  return fill(node, attributes, children);
}

/** The same for a drawing. */
export function svg(tag, attributes, ...children) {
  const [name, ...kinds] = tag.split(".");
  const node = document.createElementNS(SVG, name);
  if (kinds.length) node.setAttribute("class", kinds.join(" "));
  return fill(node, attributes, children);
}

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : String(value));
  }
  add(node, ...children);
  return node;
}

/** Append what is there of `children`, which may be lists. */
export function add(node, ...children) {
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Put `children` in place of what `node` holds. */
export function put(node, ...children) {
  node.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Change a text only if it is another one: an unchanged node costs no layout. */
export function say(node, text) {
  const wanted = String(text);
  if (node.textContent !== wanted) node.textContent = wanted;
}

/** Set or take away an attribute only if that changes it. */
export function mark(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== String(value)) {
    node.setAttribute(name, String(value));
  }
}

let last = 0;

/** An id that no other element of the page has. */
export function fresh(stem) {
  last += 1;
  return `${stem}-${last}`;
}

/** A framed part of a page with its heading in the frame. */
export function panel(title, attributes, ...children) {
  const id = fresh("panel");
  const heading = el("h2", { id }, title);
  return el("section.panel", { "aria-labelledby": id, ...attributes }, heading, ...children);
}

/** A table: `columns` of {label, title, number, key, wide}, rows of lists of cells (text or nodes). */
export function table(caption, columns, rows, attributes) {
  const head = columns.map((column) =>
    el("th", { scope: "col", title: column.title, class: classes(column), "aria-sort": column.sorted }, column.head || column.label));
  const body = rows.map((cells) => row(columns, cells));
  return el("table", attributes,
    el("caption.unseen", null, caption),
    el("thead", null, el("tr", null, head)),
    el("tbody", null, body));
}

/** One row of such a table; the first cell names it. */
export function row(columns, cells, attributes) {
  return el("tr", attributes, cells.map((cell, index) =>
    el(index ? "td" : "th", { scope: index ? null : "row", class: classes(columns[index]) }, cell)));
}

/** The classes of a column's cells. */
export function classes(column) {
  return [column.kind, column.number && "number", column.wide && "wide", column.wider && "wider"].filter(Boolean).join(" ") || null;
}
