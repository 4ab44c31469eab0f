/**
 * Both voices of a live call through the speakers: caller left, agent right, as they are on the line.
 *
 * The first frame says {rate, channels, encoding}; every other is 16-bit PCM, its channels interleaved. Sound is played a
 * moment late, so that a network that stutters is not heard.
 */

import { address, ofCall } from "./api.js";

const LEAD_S = 0.15; // late by this much after a silence: frames that come in bursts still join
const BEHIND_S = 1.0; // sound that is later than this is left out: what is heard is what happens

export class Listening {
  /** `changed(state, problem)`: "connecting", "on" or "off". */
  constructor(callId, changed) {
    this.changed = changed;
    this.sound = new AudioContext();
    this.next = 0;
    this.format = null;
    this.heard = 0; // s of sound that were played
    const url = new URL(address(ofCall(callId, "/listen")), location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(url);
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = (message) => this.take(message.data);
    this.socket.onclose = (event) => this.over(event);
    changed("connecting", "");
  }

  take(data) {
    if (typeof data === "string") {
      const told = JSON.parse(data);
      if (!told.rate) return;
      if (told.encoding && told.encoding !== "pcm_s16le") {
        this.stop(`This browser cannot play ${told.encoding}.`);
        return;
      }
      this.format = { rate: told.rate, channels: told.channels || 2 };
      this.changed("on", "");
    } else if (this.format && data.byteLength) {
      this.play(new DataView(data));
    }
  }

  play(view) {
    const { rate, channels } = this.format;
    const frames = Math.floor(view.byteLength / 2 / channels);
    if (!frames) return;
    const now = this.sound.currentTime;
    if (this.next < now) this.next = now + LEAD_S;
    if (this.next > now + BEHIND_S) return;
    const buffer = this.sound.createBuffer(channels, frames, rate);
    for (let channel = 0; channel < channels; channel += 1) {
      const samples = buffer.getChannelData(channel);
      for (let frame = 0; frame < frames; frame += 1) samples[frame] = view.getInt16(2 * (frame * channels + channel), true) / 32768;
    }
    const source = this.sound.createBufferSource();
    source.buffer = buffer;
    source.connect(this.sound.destination);
    source.start(this.next);
    this.next += frames / rate;
    this.heard += frames / rate;
  }

  over(event) {
    if (!this.socket) return;
    const problem = this.format || event.code === 1000 ? "" : "This call cannot be listened to.";
    this.stop(problem);
  }

  /** End it; `problem` is told. More than once is fine. */
  stop(problem = "") {
    const socket = this.socket;
    if (!socket) return;
    this.socket = null;
    socket.close();
    this.sound.close();
    this.changed("off", problem);
  }
}
