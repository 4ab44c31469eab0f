"""A call as a list of events, told once for the tests of store, views and screen."""

from __future__ import annotations

from dataclasses import replace

from patter import events as ev

CALL = "CA11111111111111111111111111111111"
START = 1_790_000_000.0
GREETING = "Thank you for calling Riverside Dental. How can I help you today?"
SLOTS = "Of course. On Tuesday I can offer you half past nine, ten o'clock or half past four. Which one suits you?"
HEARD = "Of course. On Tuesday I can offer you"
DROPPED = "half past nine, ten o'clock or half past four. Which one suits you?"


def measured(turn: int, reply_id: int, **changes: object) -> ev.TurnMeasured:
    """A closed turn of 812 ms."""
    made = ev.TurnMeasured(
        call_id=CALL, turn=turn, reply_id=reply_id, kind="answer", closed=True, user_text="", agent_text="",
        segments={"endpointing": 210.0, "transcription": 60.0, "first_token": 340.0, "first_sentence": 22.0, "synthesis": 160.0,
                  "playout": 20.0},
        total_ms=812.0, cost={"stt": 0.0002, "llm": 0.0001, "tts": 0.0004, "total": 0.0007}, cost_so_far=0.0007 * max(1, turn),
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def told() -> list[ev.Event]:
    """Greeting; an answer after an interruption of the one before it; a tool; goodbye. Numbered from 1, START onwards."""
    c = {"call_id": CALL}
    facts: list[tuple[float, ev.Event]] = [
        (0.0, ev.CallStarted(
            **c, caller="+15005550001", callee="+15005556001", direction="inbound", agent="riverside-dental",
            agent_version="1a2b3c4d", provider_mode="pipeline", stt="whisper base", llm="script responder", tts="hibari heart",
            line="mulaw/8000", notes=("script responder: no model answers",),
        )),
        (0.1, ev.ReplyStarted(**c, turn=0, reply_id=1, kind="greeting")),
        (0.1, ev.ReplyText(**c, reply_id=1, text=GREETING)),
        (0.3, ev.ReplyReached(**c, reply_id=1, stage="playing", reached_at=START + 0.3)),
        (0.3, measured(0, 1, kind="greeting", closed=False, segments={}, total_ms=0.0, cost={}, cost_so_far=0.0)),
        (2.0, ev.ReplyHeard(**c, reply_id=1, heard="Thank you for calling Riverside Dental.", heard_ms=1700.0)),
        (3.9, ev.AgentSaid(**c, turn=0, reply_id=1, text=GREETING, kind="greeting")),
        (3.9, measured(0, 1, kind="greeting", segments={}, total_ms=0.0, cost={"tts": 0.0003, "total": 0.0003},
                       cost_so_far=0.0003)),
        (4.6, ev.CallerSpeechStarted(**c, began_at=START + 4.5)),
        (5.2, ev.CallerPartial(**c, text="I would like")),
        (6.0, ev.CallerPartial(**c, text="I would like to book an")),
        (6.9, ev.CallerSpeechStopped(**c, ended_at=START + 6.7)),
        (7.0, ev.CallerSaid(**c, turn=1, text="I would like to book an appointment for next Tuesday.")),
        (7.0, ev.UsageMeasured(**c, turn=1, stage="stt", provider="embedded", amounts={"audio_seconds": 2.2})),
        (7.0, ev.ToolCalled(**c, turn=1, tool_id="t1", name="find_slots", arguments='{"day": "tuesday"}')),
        (7.15, ev.ToolReturned(**c, tool_id="t1", name="find_slots", ok=True, output="On Tuesday I have three", ms=143.0)),
        (7.2, ev.ReplyStarted(**c, turn=1, reply_id=2)),
        (7.2, ev.ReplyReached(**c, reply_id=2, stage="first_token", reached_at=START + 7.2)),
        (7.2, ev.ReplyText(**c, reply_id=2, text=SLOTS[:11])),
        (7.2, ev.ReplyText(**c, reply_id=2, text=SLOTS[11:])),
        (7.5, ev.ReplyReached(**c, reply_id=2, stage="playing", reached_at=START + 7.51)),
        (7.5, measured(1, 2, closed=False, tool_ms=143.0)),
        (9.3, ev.ReplyHeard(**c, reply_id=2, heard=HEARD, heard_ms=1800.0)),
        (9.4, ev.ReplyPaused(**c, reply_id=2, heard_ms=1850.0, voice_began_at=START + 9.3)),
        (9.9, ev.CallerPartial(**c, text="sorry do you have")),
        (10.1, ev.Interrupted(
            **c, turn=1, reply_id=2, heard=HEARD, dropped=DROPPED, heard_ms=1850.0, voice_began_at=START + 9.3,
            stopped_at=START + 9.4,
        )),
        (10.1, ev.AgentSaid(**c, turn=1, reply_id=2, text=HEARD, interrupted=True, dropped=DROPPED)),
        (10.1, measured(1, 2, interrupted=True, tool_ms=143.0)),
        (11.2, ev.CallerSaid(**c, turn=2, text="Sorry, do you have anything after four o'clock?")),
        (11.3, ev.ReplyStarted(**c, turn=2, reply_id=3)),
        (11.3, ev.ReplyText(**c, reply_id=3, text="Let me check. On Tuesday I have one time left, half past four.")),
        (12.4, ev.ReplyReached(**c, reply_id=3, stage="playing", reached_at=START + 12.44)),
        (12.4, measured(2, 3, total_ms=1240.0, segments={
            "endpointing": 240.0, "transcription": 70.0, "first_token": 700.0, "first_sentence": 0.0, "synthesis": 210.0,
            "playout": 20.0,
        })),
        (14.0, ev.CallerAcknowledged(**c, text="uh-huh")),
        (16.0, ev.AgentSaid(**c, turn=2, reply_id=3, text="Let me check. On Tuesday I have one time left, half past four.")),
        (17.0, ev.DigitPressed(**c, digit="5")),
        (17.2, ev.DigitPressed(**c, digit="#")),
        (18.0, ev.GuardrailTripped(**c, guardrail="no-medical-advice", reply_id=4)),
        (19.0, ev.FaultOccurred(**c, stage="tts", provider="hibari", problem="ran out of memory", fix="close other programs")),
        (20.0, ev.CallEnded(**c, reason="caller_hung_up", duration_s=20.0)),
        (20.2, ev.RecordingSaved(**c, path="/tmp/recording.wav", duration_s=20.0)),
    ]  # fmt: skip
    return [replace(event, seq=number, at=START + after) for number, (after, event) in enumerate(facts, 1)]


def until(kind: type[ev.Event], count: int = 1) -> list[ev.Event]:
    """The story up to and with the `count`-th event of a kind."""
    made: list[ev.Event] = []
    for event in told():
        made.append(event)
        count -= isinstance(event, kind)
        if count == 0:
            break
    return made
