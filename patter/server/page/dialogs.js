/** Questions to the operator, and short notices. Dialogs are the browser's own: they keep the focus and close on Esc. */

import { el, fresh } from "./dom.js";

/** Ask; returns the fields' values, or null when it was cancelled. `fields`: {name, label, …attributes of an input}. */
export function ask({ title, text, confirm = "OK", danger = false, fields = [] }) {
  return new Promise((resolve) => {
    const id = fresh("dialog");
    const inputs = fields.map(({ name, label, ...more }) => {
      const own = fresh("field");
      return el("p.field", null, el("label", { for: own }, label), el("input", { id: own, name, autocomplete: "off", ...more }));
    });
    const form = el("form", { method: "dialog" },
      el("h2", { id }, title),
      text ? el("p", null, text) : null,
      inputs,
      el("p.buttons", null,
        el("button", { type: "button", onclick: () => box.close() }, "Cancel"),
        el("button", { type: "submit", class: danger ? "danger" : "main" }, confirm)));
    const box = el("dialog", { "aria-labelledby": id }, form);
    let values = null;
    form.addEventListener("submit", () => {
      values = Object.fromEntries(new FormData(form));
    });
    box.addEventListener("close", () => {
      box.remove();
      resolve(values);
    });
    document.body.append(box);
    box.showModal();
    if (!fields.length) form.querySelector("button").focus();
  });
}

/** Show `content` until it is closed. */
export function show(title, ...content) {
  const id = fresh("dialog");
  const box = el("dialog", { "aria-labelledby": id },
    el("form", { method: "dialog" }, el("h2", { id }, title), content,
      el("p.buttons", null, el("button.main", { type: "submit" }, "Close"))));
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  box.showModal();
}

/** A sentence at the edge of the page for some seconds; a problem stays until it is closed. */
export function notice(text, bad = false) {
  const place = document.getElementById("notices");
  const node = el(bad ? "div.notice.bad" : "div.notice", null, el("span", null, text),
    el("button.quiet", { type: "button", "aria-label": "Close this notice", onclick: () => node.remove() }, "×"));
  while (place.children.length >= 3) place.firstChild.remove();
  place.append(node);
  if (!bad) setTimeout(() => node.remove(), 6000);
}

/** Tell those who listen to the page instead of looking at it. */
export function tell(text) {
  const place = document.getElementById("told");
  place.append(el("p", null, text));
  while (place.children.length > 3) place.firstChild.remove();
}
