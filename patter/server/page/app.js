/** The page: its views by address, the state of its connection, theme and keys. */

import { analytics } from "./analytics.js";
import { call } from "./call.js";
import { LiveCalls } from "./calls.js";
import { notice } from "./dialogs.js";
import { mark, put, say } from "./dom.js";
import { history } from "./history.js";
import { help, Keys } from "./keys.js";
import { live } from "./live.js";
import { Stream } from "./stream.js";

const VIEWS = { live, history, analytics, call };
const THEMES = ["auto", "light", "dark"];
const STATES = { connecting: "connecting…", live: "live", reconnecting: "reconnecting…", "signed out": "signed out" };

const main = document.getElementById("main");
const stream = new Stream();
const calls = new LiveCalls(stream);
let view = null;
let kind = "";

/** `#/call/ID?query` → {kind, id, query}. */
function place() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, id = ""] = path.split("/");
  return { kind: Object.hasOwn(VIEWS, name) ? name : "live", id: decoded(id), query: new URLSearchParams(query) };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function go(afresh = false) {
  const wanted = place();
  const other = wanted.kind !== kind || afresh || (kind === "call" && view.callId !== wanted.id);
  if (other) {
    const before = kind;
    view?.close();
    kind = wanted.kind;
    view = VIEWS[kind]({ calls, stream });
    put(main, view.node);
    if (before && !afresh) {
      scrollTo(0, 0);
      view.node.querySelector("h1").focus({ preventScroll: true });
    }
  }
  for (const name of ["live", "history", "analytics"]) {
    const current = name === kind || (name === "history" && kind === "call");
    mark(document.getElementById(`nav-${name}`), "aria-current", current ? "page" : null);
  }
  view.go(wanted);
  document.title = `${view.title} · Patter`;
}

const state = document.getElementById("state");

function connection() {
  say(state, STATES[stream.state]);
  mark(state, "data-state", stream.state.replace(" ", "-"));
  if (stream.state === "signed out") {
    const again = document.createElement("a");
    again.href = "/dashboard";
    again.textContent = "sign in";
    state.append(" ", again);
  }
}

function tally() {
  say(document.getElementById("live-count"), calls.rows.size ? ` ${calls.rows.size}` : "");
}

function theme() {
  const button = document.getElementById("theme");
  const show = () => {
    say(button, globalThis.patterTheme.current());
    mark(button, "aria-label", `Colours: ${globalThis.patterTheme.current()}`);
  };
  button.addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(globalThis.patterTheme.current()) + 1) % THEMES.length];
    globalThis.patterTheme.choose(next);
    show();
  });
  show();
}

async function signOut() {
  try {
    await fetch("/dashboard/logout", { method: "POST", credentials: "same-origin", headers: { "X-Patter": "page", "Content-Type": "application/json" }, body: "{}" });
  } finally {
    location.href = "/dashboard";
  }
}

function search() {
  if (kind !== "history") location.hash = "#/history";
  setTimeout(() => view.search?.(), 0); // the address changes first
}

stream.addEventListener("state", connection);
stream.addEventListener("engine", (told) => {
  if (told.detail.restarted) notice("The engine was restarted: its calls have ended.", true);
  if (kind === "live") go(true); // what may be done here is known now
});
calls.addEventListener("rows", tally);
addEventListener("hashchange", () => go());
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address belongs to the views
  main.focus();
});
document.getElementById("help").addEventListener("click", help);
document.getElementById("sign-out").addEventListener("click", signOut);
new Keys({ view: () => view, go: (address) => { location.hash = address; }, search });
theme();
connection();
go();
stream.start();
