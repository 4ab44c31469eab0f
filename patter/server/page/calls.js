/**
 * The calls that are up, one light row each: what the list shows, and nothing that was said before.
 *
 * It owns the rows and who is told of a change; it refuses to know how they are drawn. What is over is dropped at once.
 */

import { get } from "./api.js";

const WORDS = 160; // characters of the last words that a row keeps
const RECENT = 400; // events kept for a call that is just being opened: its journal may be a moment behind
const LOOK_AGAIN = 1000; // ms until calls that nobody told of are asked for

export class LiveCalls extends EventTarget {
  /** Tells "rows" (calls came or went) and "row" (detail: call id). */
  constructor(stream) {
    super();
    this.rows = new Map();
    this.ready = false;
    this.problem = "";
    this.ahead = 0; // s by which the engine's clock is ahead of this one's
    this.recent = [];
    this.budget = null; // what a call and a day may cost, and what the day did
    this.timer = 0;
    stream.addEventListener("event", (told) => this.take(told.detail));
    stream.addEventListener("engine", () => this.forget());
    stream.addEventListener("afresh", () => this.read());
  }

  forget() {
    this.recent = [];
    this.rows.clear();
    this.dispatchEvent(new Event("rows"));
  }

  /** Read the rows of all live calls. What is known of them from events only is kept. */
  async read() {
    clearTimeout(this.timer);
    this.timer = 0;
    const asked = this.recent.at(-1)?.seq || 0;
    try {
      const rows = (await get("/calls/active")).data;
      const before = this.rows;
      this.rows = new Map();
      for (const row of rows) {
        const known = before.get(row.call_id);
        this.rows.set(row.call_id, { floor: "", words: "", speaker: "", ms: row.avg_latency_ms || 0, faults: 0, ...known, ...row });
        if (row.state === "live") this.ahead = clamp(row.started_at + row.duration_s - Date.now() / 1000);
      }
      for (const event of this.recent) if (event.seq > asked) this.change(event);
      this.ready = true;
      this.problem = "";
      this.budget = (await get("/budget")).data;
    } catch (problem) {
      this.problem = problem.message;
      this.timer = setTimeout(() => this.read(), 5 * LOOK_AGAIN);
    }
    this.dispatchEvent(new Event("rows"));
  }

  take(event) {
    if (!event.call_id) return;
    this.recent.push(event);
    if (this.recent.length > 2 * RECENT) this.recent = this.recent.slice(-RECENT);
    this.change(event);
  }

  change(event) {
    const id = event.call_id;
    const row = this.rows.get(id);
    if (event.type === "CallEnded") {
      if (this.rows.delete(id)) this.dispatchEvent(new Event("rows"));
    } else if (event.type === "CallStarted" || event.type === "CallPlaced") {
      this.rows.set(id, begun(row, event));
      this.dispatchEvent(new Event("rows"));
    } else if (!row) {
      if (AFTERWARDS.has(event.type)) return;
      if (!this.timer) this.timer = setTimeout(() => this.read(), LOOK_AGAIN);
    } else {
      CHANGES[event.type]?.(row, event);
      this.dispatchEvent(new CustomEvent("row", { detail: id }));
    }
  }

  /** Seconds that a live call has lasted by now. */
  lasted(row) {
    return row.state === "ringing" ? 0 : Math.max(0, Date.now() / 1000 + this.ahead - row.started_at);
  }

  /** The newest events of one call. */
  recentOf(callId) {
    return this.recent.filter((event) => event.call_id === callId);
  }
}

const AFTERWARDS = new Set(["RecordingSaved", "CarrierRecordingSaved", "TurnMeasured", "CostMeasured", "UsageMeasured"]);

function clamp(ahead) {
  return Math.abs(ahead) < 2 ? 0 : ahead; // less than that is the way there and back
}

function begun(row, event) {
  const rings = event.type === "CallPlaced";
  return {
    call_id: event.call_id, turns: 0, cost_total: 0, unpriced: [], muted: false, ms: 0, faults: 0, words: "", speaker: "",
    ...row,
    agent: event.agent, caller: event.caller, callee: event.callee, telephony: event.telephony,
    direction: rings ? "outbound" : event.direction,
    line: event.line || "", state: rings ? "ringing" : "live", started_at: event.at, floor: rings ? "ringing" : "listening",
  };
}

function spoke(row, speaker, text) {
  row.speaker = speaker;
  row.words = text.length > WORDS ? `…${text.slice(-WORDS)}` : text;
}

const CHANGES = {
  CallerSpeechStarted(row) {
    row.floor = "caller speaking";
  },
  CallerSpeechStopped(row) {
    if (row.floor === "caller speaking") row.floor = "caller paused";
  },
  CallerPartial(row, event) {
    spoke(row, "caller", event.text);
  },
  CallerSaid(row, event) {
    row.turns += 1;
    row.floor = "thinking";
    if (event.text) spoke(row, "caller", event.text);
  },
  CallerTranscribed(row, event) {
    if (row.speaker === "caller") spoke(row, "caller", event.text);
  },
  ReplyStarted(row) {
    if (row.floor === "listening" || row.floor === "caller paused") row.floor = "thinking";
  },
  ReplyText(row, event) {
    const again = row.speaker === "agent" && row.reply === event.reply_id;
    row.reply = event.reply_id;
    spoke(row, "agent", (again ? row.words : "") + event.text);
  },
  ReplyReached(row, event) {
    if (event.stage === "playing") row.floor = "agent speaking";
  },
  ReplyPaused(row) {
    row.floor = "agent paused";
  },
  ReplyResumed(row) {
    row.floor = "agent speaking";
  },
  Interrupted(row) {
    row.floor = "caller speaking";
  },
  AgentSaid(row, event) {
    if (!event.interrupted) row.floor = "listening";
    if (event.text) spoke(row, "agent", event.text);
  },
  ToolCalled(row, event) {
    row.floor = `tool ${event.name}`;
  },
  ToolReturned(row) {
    row.floor = "thinking";
  },
  TurnMeasured(row, event) {
    if (event.kind === "answer" && !event.interrupted && event.total_ms) row.ms = event.total_ms;
    row.cost_total = Math.max(row.cost_total, event.cost_so_far || 0);
    if (event.unpriced && event.unpriced.length) row.unpriced = [...new Set([...(row.unpriced || []), ...event.unpriced])];
  },
  CostMeasured(row, event) {
    row.cost_total = Math.max(row.cost_total, (event.cost && event.cost.total) || 0);
    if (event.unpriced && event.unpriced.length) row.unpriced = [...event.unpriced];
  },
  AgentMuted(row, event) {
    row.muted = event.muted;
  },
  FaultOccurred(row) {
    row.faults += 1;
  },
};
