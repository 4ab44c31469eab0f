/** Single keys that work anywhere but in fields: to views, through lists, to the search. They can be turned off. */

import { el } from "./dom.js";
import { show } from "./dialogs.js";

const KEY = "patter.keys";
const PATIENCE_MS = 1500; // how long "g" waits for the letter after it

const LIST = [
  ["g l", "live calls"], ["g h", "history"], ["g a", "analytics"],
  ["j / k", "next / previous call of a list"], ["Enter", "open it"], ["/", "search the history"],
  ["Esc", "close, or back to the list"], ["?", "this list"],
];

export class Keys {
  /** `view()` is what is shown; `go(address)` leads elsewhere; `search()` begins a search. */
  constructor({ view, go, search }) {
    this.view = view;
    this.go = go;
    this.search = search;
    this.prefix = -Infinity; // a page that has just been opened counts from 0
    document.addEventListener("keydown", (event) => this.press(event));
  }

  press(event) {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const writing = event.target.closest("input, select, textarea, audio, [contenteditable]");
    if (event.key === "Escape") {
      if (writing) writing.blur();
      else if (this.view().up?.()) this.go(this.view().up());
      return;
    }
    if (writing || off()) return;
    const after = event.timeStamp - this.prefix < PATIENCE_MS;
    this.prefix = -Infinity;
    const done = after ? this.place(event.key) : this.key(event);
    if (done) event.preventDefault();
  }

  place(key) {
    const address = { l: "#/live", h: "#/history", a: "#/analytics" }[key];
    if (address) this.go(address);
    return Boolean(address);
  }

  key(event) {
    switch (event.key) {
      case "g":
        this.prefix = event.timeStamp;
        return true;
      case "j":
        return this.walk(1);
      case "k":
        return this.walk(-1);
      case "/":
        this.search();
        return true;
      case "?":
        help();
        return true;
      default:
        return false;
    }
  }

  walk(step) {
    const links = this.view().links?.() || [];
    if (!links.length) return false;
    const here = links.indexOf(document.activeElement);
    const current = here >= 0 ? here : links.findIndex((link) => link.getAttribute("aria-current") === "true");
    const next = current < 0 ? (step > 0 ? 0 : links.length - 1) : Math.min(links.length - 1, Math.max(0, current + step));
    links[next].focus();
    return true;
  }
}

function off() {
  try {
    return localStorage.getItem(KEY) === "off";
  } catch {
    return false;
  }
}

/** The list of keys, and the switch for them. */
export function help() {
  const box = el("input", { type: "checkbox", id: "keys-on", onchange: () => {
    try {
      localStorage.setItem(KEY, box.checked ? "on" : "off");
    } catch {
      /* storage may be forbidden: the keys stay on */
    }
  } });
  box.checked = !off();
  show("Keys", el("dl.keys", null, LIST.map(([key, what]) => el("div", null, el("dt", null, el("kbd", null, key)), el("dd", null, what)))),
    el("p", null, box, " ", el("label", { for: "keys-on" }, "Single keys are shortcuts")));
}
