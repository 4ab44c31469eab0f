/** What an operator may do to a call that is up: say, whisper, press keys, mute, transfer, listen, hang up. */

import { ofCall, post } from "./api.js";
import { ask, notice } from "./dialogs.js";
import { el, fresh, mark, say } from "./dom.js";
import { Listening } from "./listen.js";

const NUMBER = "\\+[1-9][0-9]{6,14}";
const KEYS = /^[0-9*#wW]{1,32}$/;

const LINES = {
  say: { label: "Say", entry: "/say", hint: "The agent says this word for word" },
  guide: { label: "Whisper", entry: "/guide", hint: "The model reads this, the caller does not hear it" },
  digits: { label: "Keys", entry: "/digits", hint: "0–9 * # on the caller's line, w waits half a second" },
  text: { label: "As caller", entry: "/text", hint: "A turn of the caller, typed" },
};

export class Controls {
  constructor(callId) {
    this.callId = callId;
    this.muted = false;
    this.listening = null;
    this.mute = button("Mute agent", () => this.toggle(), { "aria-pressed": "false" });
    this.listen = button("Listen", () => this.toggleListening(), { "aria-pressed": "false" });
    this.interrupt = button("Interrupt", () => this.do("/interrupt"), { title: "Stop what the agent is saying" });
    this.transfer = button("Transfer…", () => this.askTransfer());
    this.end = button("Hang up…", () => this.askEnd(), { class: "danger" });
    this.buttons = el("div.buttons", { role: "group", "aria-label": "Steer this call" },
      this.listen, this.mute, this.interrupt, this.transfer, this.end);
    this.composer = this.compose();
  }

  compose() {
    const group = fresh("kind");
    const choices = Object.entries(LINES).map(([kind, { label, hint }], index) => {
      const id = fresh("kind");
      const input = el("input", { type: "radio", id, name: group, value: kind, checked: index === 0, onchange: () => this.hint(hint) });
      return [input, el("label", { for: id, title: hint }, label)];
    });
    this.input = el("input", { type: "text", maxlength: 4000, autocomplete: "off", "aria-label": LINES.say.hint, placeholder: LINES.say.hint });
    const form = el("form.composer", { onsubmit: (event) => this.send(event, group) },
      el("fieldset.kinds", null, el("legend.unseen", null, "How your line is meant"), choices),
      this.input, el("button.main", { type: "submit" }, "Send"));
    return form;
  }

  hint(text) {
    mark(this.input, "placeholder", text);
    mark(this.input, "aria-label", text);
  }

  async send(event, group) {
    event.preventDefault();
    const kind = new FormData(event.target).get(group);
    const text = this.input.value.trim();
    if (!text) return;
    if (kind === "digits" && !KEYS.test(text)) {
      notice("Keys are up to 32 of 0–9, * and #, and w for a pause.", true);
      return;
    }
    const sent = await this.do(LINES[kind].entry, { [kind === "digits" ? "digits" : "text"]: text });
    if (sent && this.input.value.trim() === text) this.input.value = "";
  }

  async do(entry, body = {}) {
    try {
      await post(ofCall(this.callId, entry), body);
      return true;
    } catch (problem) {
      notice(problem.message, true);
      return false;
    }
  }

  /** How things are: `row` of the call, undefined when it is over. */
  draw(row) {
    const live = Boolean(row);
    const rings = live && row.state === "ringing";
    for (const one of [this.mute, this.interrupt, this.transfer, this.listen]) one.disabled = !live || rings;
    this.end.disabled = !live;
    for (const one of this.composer.elements) one.disabled = !live || rings;
    this.muted = live && Boolean(row.muted);
    say(this.mute, this.muted ? "Unmute agent" : "Mute agent");
    mark(this.mute, "aria-pressed", String(this.muted));
    if (!live) this.close();
  }

  toggle() {
    return this.do("/mute", { muted: !this.muted });
  }

  toggleListening() {
    if (this.listening) this.listening.stop();
    else this.listening = new Listening(this.callId, (state, problem) => this.listens(state, problem));
  }

  listens(state, problem) {
    say(this.listen, { connecting: "Connecting…", on: "Listening", off: "Listen" }[state]);
    mark(this.listen, "aria-pressed", String(state !== "off"));
    if (state === "off") this.listening = null;
    if (problem) notice(problem, true);
  }

  async askTransfer() {
    const given = await ask({
      title: "Transfer this call",
      text: "With a summary, that person is called and told it first; the caller stays with the agent until then.",
      confirm: "Transfer",
      danger: true,
      fields: [
        { name: "number", label: "Number", type: "tel", required: true, pattern: NUMBER, placeholder: "+15551234567", title: "In E.164 form, such as +15551234567" },
        { name: "summary", label: "Summary (optional)", maxlength: 1000 },
      ],
    });
    if (!given) return;
    const body = { number: given.number.trim() };
    if (given.summary.trim()) body.summary = given.summary.trim();
    if (await this.do("/transfer", body)) notice("The transfer was asked for.");
  }

  async askEnd() {
    const sure = await ask({ title: "Hang up?", text: "The call ends at once, for the caller too.", confirm: "Hang up", danger: true });
    if (sure) await this.do("/hangup");
  }

  close() {
    this.listening?.stop();
  }
}

function button(label, onclick, attributes) {
  return el("button", { type: "button", onclick, ...attributes }, label);
}
