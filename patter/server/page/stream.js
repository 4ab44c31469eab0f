/**
 * Follows the engine's events: in order, each once, from where it was after every break.
 *
 * It owns the connection and its state; it refuses to know what the events mean.
 */

import { get, signedOut } from "./api.js";

const WAITS = [500, 1000, 2000, 5000, 10_000]; // ms; an engine that restarts is back within a few seconds
const ASLEEP = 30_000; // a page that was hidden this long may have lost its connection without a word

export class Stream extends EventTarget {
  /** Tells "state" (see `state`), "event" (detail: the event) and "afresh" (all that is shown must be read anew). */
  constructor() {
    super();
    this.state = "connecting";
    this.engine = null;
    this.seq = null;
    this.source = null;
    this.tries = 0;
    this.timer = 0;
    this.hiddenAt = 0;
    signedOut.addEventListener("signed-out", () => this.leave());
    addEventListener("online", () => this.again());
    document.addEventListener("visibilitychange", () => this.seen());
  }

  /** Begin. Tells "afresh" as soon as events come. */
  async start() {
    clearTimeout(this.timer);
    if (this.state === "signed out") return;
    let engine;
    try {
      engine = (await get("/engine")).data;
    } catch {
      this.wait();
      return;
    }
    if (this.state === "signed out") return;
    if (!this.engine || this.engine.engine_id !== engine.engine_id) {
      const restarted = this.engine !== null;
      this.seq = null;
      this.engine = engine;
      this.dispatchEvent(new CustomEvent("engine", { detail: { engine, restarted } }));
    }
    this.open();
  }

  open() {
    this.source?.close();
    const resumed = this.seq !== null;
    const place = new URLSearchParams(resumed ? { after: this.seq, engine: this.engine.engine_id } : {});
    const source = new EventSource(`/api/v1/events?${place}`);
    this.source = source;
    source.addEventListener("hello", (message) => this.begin(message, !resumed));
    source.addEventListener("gap", (message) => this.begin(message, true));
    source.onmessage = (message) => this.take(message);
    source.onerror = () => {
      if (this.source === source) this.wait();
    };
  }

  /** The engine says where this reader is; `afresh`: not all is known that happened before. */
  begin(message, afresh) {
    this.tries = 0;
    if (afresh) this.seq = Number(message.lastEventId);
    this.tell("live");
    if (afresh) this.dispatchEvent(new Event("afresh"));
  }

  take(message) {
    const event = JSON.parse(message.data);
    if (!event || !event.type) return;
    if (this.seq !== null && event.seq <= this.seq) return;
    this.seq = event.seq;
    this.dispatchEvent(new CustomEvent("event", { detail: event }));
  }

  /** Close what is open and try again later: a new engine may answer, so the browser's own retries are not used. */
  wait() {
    this.source?.close();
    this.source = null;
    if (this.state === "signed out") return;
    this.tell("reconnecting");
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.start(), WAITS[Math.min(this.tries, WAITS.length - 1)]);
    this.tries += 1;
  }

  again() {
    if (this.state !== "signed out" && this.source) {
      this.source.close();
      this.start();
    }
  }

  seen() {
    if (document.hidden) this.hiddenAt = Date.now();
    else if (this.hiddenAt && Date.now() - this.hiddenAt > ASLEEP) this.again();
  }

  leave() {
    this.source?.close();
    this.source = null;
    clearTimeout(this.timer);
    this.tell("signed out");
  }

  tell(state) {
    if (state === this.state) return;
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }
}
