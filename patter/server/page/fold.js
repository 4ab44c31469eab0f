/**
 * One call as it is shown: what was said and heard, tools, turns, money, who has the floor; a fold over its events.
 *
 * Entries: kind "caller" (state "partial", "awaited", "final", "acknowledged"), "agent" ("making", "speaking", "paused",
 * "done", "interrupted"; `text` was generated, `heard` reached the caller, `dropped` never did), "tool" ("running", "ok",
 * "failed") and "mark" ("info", "warn", "bad"). `rev` grows with every change.
 */

import { seconds, some, words } from "./format.js";

export class CallFold {
  /** Keeps the newest `most` entries and turns. */
  constructor(most = Infinity) {
    this.most = most;
    this.entries = [];
    this.turns = [];
    this.faults = [];
    this.usage = new Map();
    this.unpriced = new Set();
    this.info = {};
    this.floor = "";
    this.cost = {};
    this.costSoFar = 0;
    this.muted = false;
    this.startedAt = 0;
    this.endedAt = 0;
    this.seq = 0;
    this.dropped = 0; // entries that were too many
    this.made = 0;
    this.voiceAt = 0;
  }

  /** Take the call's next event in; one that was taken already is left out. */
  take(event) {
    if (event.seq && event.seq <= this.seq) return;
    this.seq = event.seq || this.seq;
    HANDLERS[event.type]?.(this, event);
  }

  add(kind, at, fields) {
    const base = { id: (this.made += 1), kind, at, text: "", state: "", heard: "", dropped: "", detail: "", ms: 0, rev: 0 };
    const entry = Object.assign(base, fields);
    let place = this.entries.length;
    if (kind !== "caller" && place && this.entries[place - 1].state === "partial") place -= 1;
    if (kind === "tool" && place && wordless(this.entries[place - 1])) place -= 1;
    this.entries.splice(place, 0, entry);
    if (this.entries.length > this.most) {
      this.entries.shift();
      this.dropped += 1;
    }
    return entry;
  }

  mark(event, text, state = "info", detail = "") {
    this.add("mark", event.at, { text, state, detail });
  }

  last(test) {
    for (let place = this.entries.length - 1; place >= 0; place -= 1) {
      if (test(this.entries[place])) return this.entries[place];
    }
    return undefined;
  }

  reply(event) {
    return this.last((entry) => entry.kind === "agent" && entry.reply === event.reply_id)
      || this.add("agent", event.at, { state: "making", reply: event.reply_id });
  }

  partial() {
    return this.last((entry) => entry.state === "partial");
  }

  voice(event) {
    return this.partial() || this.add("caller", this.voiceAt || event.at, { state: "partial" });
  }

  /** What turns of this call cost, by stage, telephony included where that was told. */
  costs() {
    const sums = {};
    for (const turn of this.turns) {
      for (const [stage, value] of Object.entries(turn.cost || {})) sums[stage] = (sums[stage] || 0) + value;
    }
    for (const [stage, value] of Object.entries(this.cost)) sums[stage] = Math.max(sums[stage] || 0, value);
    return sums;
  }
}

function wordless(entry) {
  return entry.kind === "agent" && entry.state === "making" && !entry.text;
}

function change(entry, fields) {
  Object.assign(entry, fields);
  entry.rev += 1;
}

/** What of `text` comes after `heard`; words are counted where the spelling differs. */
export function restOf(text, heard) {
  if (!heard) return text;
  if (text.startsWith(heard)) return text.slice(heard.length).trim();
  return text.split(/\s+/).slice(heard.split(/\s+/).length).join(" ");
}

const BAD_ENDS = new Set(["failed", "engine_died", "line_lost"]);

const HANDLERS = {
  CallPlaced(call, event) {
    Object.assign(call.info, pick(event, ["caller", "callee", "agent", "telephony"]), { direction: "outbound" });
    call.placedAt = event.at;
    call.floor = "ringing";
    call.mark(event, `calling ${event.callee}`);
  },
  CallStarted(call, event) {
    Object.assign(call.info, pick(event, ["caller", "callee", "agent", "agent_version", "direction", "line", "telephony",
      "provider_mode", "stt", "llm", "tts"]));
    call.startedAt = event.at;
    call.floor = "listening";
    if (call.placedAt) call.mark(event, "answered");
    for (const note of event.notes || []) call.mark(event, note);
  },
  MachineDetected(call, event) {
    const text = { human: "a human answered", unknown: "the carrier cannot say who answered" }[event.answered_by];
    const told = event.ready ? "it listens now" : "its greeting is playing";
    if (text) call.mark(event, text);
    else call.mark(event, `a ${event.answered_by} answered: ${told}`, "warn");
  },
  CallEnded(call, event) {
    call.endedAt = event.at;
    call.reason = event.reason;
    call.floor = "ended";
    for (const entry of call.entries) {
      if (entry.state === "partial" || entry.state === "awaited") change(entry, { state: "final" });
      else if (entry.kind === "agent" && ["making", "speaking", "paused"].includes(entry.state)) {
        const dropped = entry.dropped || restOf(entry.text, entry.heard);
        change(entry, { dropped, state: dropped ? "interrupted" : "done" });
      }
    }
    const detail = event.detail ? ` (${event.detail})` : "";
    call.mark(event, `call ended: ${words(event.reason)}${detail}`, BAD_ENDS.has(event.reason) ? "bad" : "info");
  },
  CallerSpeechStarted(call, event) {
    call.voiceAt = event.began_at || event.at;
    call.floor = "caller speaking";
  },
  CallerSpeechStopped(call) {
    if (call.floor === "caller speaking") call.floor = "caller paused";
  },
  CallerPartial(call, event) {
    if (event.text || call.partial()) change(call.voice(event), { text: event.text });
  },
  CallerSaid(call, event) {
    const entry = call.voice(event);
    const text = event.text || (event.pending ? entry.text : "");
    change(entry, { text, state: event.pending ? "awaited" : "final", source: event.source, turn: event.turn });
    call.voiceAt = 0;
    call.floor = "thinking";
  },
  CallerTranscribed(call, event) {
    const entry = call.last((one) => one.kind === "caller" && one.turn === event.turn);
    if (entry) change(entry, { text: event.text, state: "final" });
  },
  CallerAcknowledged(call, event) {
    change(call.voice(event), { text: event.text, state: "acknowledged" });
    call.voiceAt = 0;
  },
  DigitPressed(call, event) {
    const last = call.entries.at(-1);
    if (last && last.source === "digit") change(last, { text: last.text + event.digit });
    else call.add("mark", event.at, { text: `key ${event.digit}`, state: "info", source: "digit" });
  },
  ReplyStarted(call, event) {
    change(call.reply(event), { source: event.kind, turn: event.turn });
    if (["listening", "caller paused"].includes(call.floor)) call.floor = "thinking";
  },
  ReplyReached(call, event) {
    if (event.stage !== "playing") return;
    change(call.reply(event), { at: event.reached_at, state: "speaking" });
    call.floor = "agent speaking";
  },
  ReplyText(call, event) {
    const entry = call.reply(event);
    change(entry, { text: entry.text + event.text });
  },
  ReplyHeard(call, event) {
    const entry = call.reply(event);
    if (entry.heard !== event.heard && !["done", "interrupted"].includes(entry.state)) change(entry, { heard: event.heard });
  },
  ReplyPaused(call, event) {
    change(call.reply(event), { state: "paused" });
    call.floor = "agent paused";
  },
  ReplyResumed(call, event) {
    change(call.reply(event), { state: "speaking" });
    call.floor = "agent speaking";
    if (event.why !== "acknowledgement") call.mark(event, `paused, then went on: ${event.why}`);
  },
  Interrupted(call, event) {
    change(call.reply(event), { heard: event.heard, dropped: event.dropped, state: "interrupted" });
    const unspoken = event.dropped ? `, ${some(event.dropped.split(/\s+/).filter(Boolean).length, "word")} unspoken` : "";
    call.mark(event, `interrupted at ${seconds(event.heard_ms)}${unspoken}`, "warn");
    call.floor = event.voice_began_at ? "caller speaking" : "listening";
  },
  AgentSaid(call, event) {
    const entry = call.reply(event);
    const fields = { heard: event.text, dropped: event.dropped || "", source: event.kind, turn: event.turn };
    if (!event.interrupted) fields.text = event.text;
    change(entry, { ...fields, state: event.interrupted ? "interrupted" : "done" });
    if (!event.interrupted) call.floor = "listening";
  },
  ToolCalled(call, event) {
    const fields = { text: event.name, state: "running", tool: event.tool_id, input: event.arguments, turn: event.turn };
    call.add("tool", event.at, fields);
    call.floor = `tool ${event.name}`;
  },
  ToolReturned(call, event) {
    const entry = call.last((one) => one.tool === event.tool_id)
      || call.add("tool", event.at, { text: event.name, tool: event.tool_id, input: "" });
    change(entry, { state: event.ok ? "ok" : "failed", detail: event.output, ms: event.ms });
    if (call.floor.startsWith("tool ")) call.floor = "thinking";
  },
  GuardrailTripped(call, event) {
    call.mark(event, `guardrail ${event.guardrail} replaced the reply`, "warn");
  },
  UsageMeasured(call, event) {
    const { stage, provider, model = "" } = event;
    const key = JSON.stringify([stage, provider, model]);
    const row = call.usage.get(key) || { stage, provider, model, amounts: {} };
    for (const [name, value] of Object.entries(event.amounts || {})) row.amounts[name] = (row.amounts[name] || 0) + value;
    call.usage.set(key, row);
  },
  TurnMeasured(call, event) {
    const place = call.turns.findIndex((turn) => turn.reply_id === event.reply_id);
    if (place >= 0) call.turns[place] = event;
    else call.turns.push(event);
    if (call.turns.length > call.most) call.turns.shift();
    call.costSoFar = Math.max(call.costSoFar, event.cost_so_far || 0);
    for (const provider of event.unpriced || []) call.unpriced.add(provider);
    const entry = call.last((one) => one.kind === "agent" && one.reply === event.reply_id);
    if (entry) change(entry, { ms: event.total_ms });
  },
  CostMeasured(call, event) {
    call.cost = event.cost || {};
    call.costSoFar = Math.max(call.costSoFar, call.cost.total || 0);
    for (const provider of event.unpriced || []) call.unpriced.add(provider);
  },
  TransferRequested(call, event) {
    const told = event.warm ? ", who is told a summary first" : "";
    call.mark(event, `transfer to ${event.number}${told}, asked for by the ${event.by}`, "warn");
  },
  TransferFailed(call, event) {
    call.mark(event, `the transfer to ${event.number} failed: ${event.problem}`, "bad");
  },
  AgentChanged(call, event) {
    call.info.agent_version = event.agent_version;
    const changed = event.changed && event.changed.length ? ` (${event.changed.join(", ")})` : "";
    call.mark(event, `agent changed${changed}: used from the next turn on`);
  },
  AgentMuted(call, event) {
    call.muted = event.muted;
    call.mark(event, event.muted ? `the agent was muted by the ${event.by}` : `the agent is heard again (${event.by})`, "warn");
  },
  GuidanceGiven(call, event) {
    call.mark(event, `the ${event.by} told the model: ${event.text}`, "warn");
  },
  BudgetSpent(call, event) {
    call.mark(event, `the ${event.scope}'s budget is spent: $${event.spent_usd.toFixed(2)} of $${event.limit_usd.toFixed(2)}`, "bad");
    call.budget = event;
  },
  LineMeasured(call, event) {
    call.line = event;
  },
  FaultOccurred(call, event) {
    call.faults.push(event);
    if (call.faults.length > 100) call.faults.shift();
    call.mark(event, `${event.stage}: ${event.problem}`, "bad", event.fix);
  },
};

function pick(event, names) {
  return Object.fromEntries(names.map((name) => [name, event[name]]));
}
