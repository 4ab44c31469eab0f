/** The recording of a call beside its transcript: a line seeks the sound, the sound marks its line. */

import { ofCall, address } from "./api.js";
import { el, mark, svg } from "./dom.js";
import { length } from "./format.js";

const LANES = 34;

export class Player {
  /** `began`: when second 0 of the recording was; `lasts` in s. */
  constructor(callId, transcript, began, lasts) {
    this.transcript = transcript;
    this.began = began;
    this.entries = [];
    this.audio = el("audio", { controls: true, preload: "metadata", src: address(ofCall(callId, "/recording")), "aria-label": "Recording: caller left, agent right" });
    this.head = svg("line.playhead", { x1: 0, x2: 0, y1: 0, y2: LANES });
    this.strip = el("div.strip", { "aria-hidden": "true" });
    this.lasts = lasts;
    for (const what of ["timeupdate", "seeking", "play", "ended"]) this.audio.addEventListener(what, () => this.follow());
    this.node = el("div.player", null, this.audio, this.strip);
  }

  /** Who spoke when, drawn from the transcript. */
  draw(entries) {
    this.entries = entries.filter((entry) => entry.kind === "caller" || entry.kind === "agent");
    const lasts = this.lasts || 1;
    const picture = svg("svg", { viewBox: `0 0 1000 ${LANES}`, preserveAspectRatio: "none" });
    for (const entry of this.entries) {
      const x = (1000 * (entry.at - this.began)) / lasts;
      const width = Math.max(2, (1000 * spoken(entry)) / lasts);
      const lane = entry.kind === "caller" ? 2 : LANES / 2 + 1;
      picture.append(svg(`rect.${entry.kind}`, { x, y: lane, width: Math.max(0, Math.min(width, 1000 - x)), height: LANES / 2 - 3, rx: 1 },
        svg("title", null, `${length(entry.at - this.began)} ${entry.kind}`)));
    }
    picture.append(this.head);
    picture.addEventListener("click", (event) => {
      const box = picture.getBoundingClientRect();
      this.seek(((event.clientX - box.left) / box.width) * lasts);
    });
    this.strip.replaceChildren(picture);
  }

  /** Play from this entry on. */
  start(entry) {
    this.seek(Math.max(0, entry.at - this.began));
    this.audio.play().catch(() => {}); // without a recording that can be played, the player itself says so
  }

  seek(second) {
    this.audio.currentTime = second;
    this.follow();
  }

  follow() {
    const now = this.began + this.audio.currentTime + 0.05; // the browser rounds where it is
    let current = null;
    for (const entry of this.entries) if (entry.at <= now && (!current || entry.at >= current.at)) current = entry;
    const at = (1000 * this.audio.currentTime) / (this.lasts || 1);
    mark(this.head, "x1", at.toFixed(1));
    mark(this.head, "x2", at.toFixed(1));
    this.transcript.playing(this.audio.currentTime > 0 ? current : null, !this.audio.paused);
  }

  close() {
    this.audio.pause();
    this.audio.removeAttribute("src");
    this.audio.load(); // lets the connection go
  }
}

/** About how long an entry was spoken, in s: fifteen characters a second, as people read aloud. */
function spoken(entry) {
  return (entry.heard || entry.text || "").length / 15;
}
