"""A realtime conversation against strict scripts: what it sends, message by message, and what it makes of odd servers."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import anyio
import pytest

from patter.audio.format import MULAW_8K, AudioChunk
from patter.clock import Clock
from patter.exceptions import ProviderError
from patter.loopback.stage import Stage
from patter.loopback.stage_script import Audio, Bye, Close, Expect, Quiet, Script, Send, Step
from patter.signals import (
    CallerPartial,
    ConnectionUsed,
    Faulted,
    ReplyAudio,
    ReplyEnded,
    ReplyStarted,
    SpeechStarted,
    SpeechStopped,
    ToolAsked,
    Used,
    UtteranceEnded,
)
from tests.support import traces
from tests.support.realtime_talk import KEY, house, realtime_agent, talking

pytestmark = pytest.mark.anyio

SOUND = b64encode(b"\x7f" * 800).decode()  # 100 ms
FRAME = AudioChunk(MULAW_8K.quiet(20), MULAW_8K)


def trace_of(kind: str) -> dict[str, Any]:
    """The first event of this type in the golden trace."""
    rows = traces.rows("openai_realtime", "greeting_interrupted")
    return next(row["server"] for row in rows if row.get("server", {}).get("type") == kind)


def script(*steps: Step) -> Script:
    """A session that is opened as it should be, then these steps."""
    told = trace_of("session.updated")["session"] | {"expires_at": None}
    opening = [
        Send(trace_of("session.created")),
        Expect({"type": "session.update", "session": {"type": "realtime"}}),
        Send({"type": "session.updated", "event_id": "e", "session": told}),
    ]
    return Script(
        [*opening, *steps],
        query={"model": "gpt-realtime-2.1"},
        headers={"Authorization": f"Bearer {KEY}", "OpenAI-Beta": None},
        is_audio=lambda message: isinstance(message, dict) and message.get("type") == "input_audio_buffer.append",
    )


def event(kind: str, **fields: Any) -> Send:
    return Send({"type": kind, "event_id": "e"} | fields)


def began(name: str) -> Send:
    return event(
        "response.created", response={"object": "realtime.response", "id": name, "status": "in_progress", "output": []}
    )


def ended(name: str, status: str = "completed", **fields: Any) -> Send:
    return event("response.done", response={"id": name, "status": status, "output": []} | fields)


def sound(response: str, item: str, words: str = "") -> list[Send]:
    where = {"response_id": response, "item_id": item, "output_index": 0, "content_index": 0}
    said = [event("response.output_audio_transcript.delta", delta=words, **where)] if words else []
    return [*said, event("response.output_audio.delta", delta=SOUND, **where)]


def refused(code: str | None, message: str, event_id: str | None = None) -> Send:
    error = {"type": "invalid_request_error", "code": code, "message": message, "param": None, "event_id": event_id}
    return event("error", error=error)


async def test_an_interruption_message_by_message() -> None:
    steps = [
        Expect({"type": "response.create", "response": {"tool_choice": "none"}}),
        began("r1"),
        *sound("r1", "i1", "Tulip and"),
        *sound("r1", "i1", " Fern,"),
        Expect({"type": "response.cancel", "response_id": "r1"}),
        Expect({"type": "conversation.item.truncate", "item_id": "i1", "content_index": 0, "audio_end_ms": 150}),
        *sound("r1", "i1", " late"),
        refused("response_cancel_not_active", "Cancellation failed: no active response found"),
        refused(None, "Audio content of 140ms is already shorter than 150ms", "cut_i1"),
        ended("r1", "cancelled", status_details={"type": "cancelled", "reason": "client_cancelled"}),
        Expect({"type": "response.create", "response": None}),
        began("r2"),
        *sound("r2", "i2", "On Fridays."),
        ended("r2"),
        Bye(),
    ]
    async with Stage() as stage:
        stage.script("/v1/realtime", script(*steps))
        async with talking(realtime_agent(f"{stage.http}/v1")) as talk:
            await talk.conversation.speak("Tulip and Fern, hello.", "greeting")
            await talk.until(ReplyAudio, 2)
            await talk.conversation.interrupt(1, "Tulip and", 150.9)
            await talk.conversation.reply("i9")
            await talk.until(ReplyEnded)
            assert (talk.ms(1), talk.ms(2)) == (200, 100)
            assert talk.of(Faulted) == []


async def test_the_servers_times_are_told_on_the_calls_clock() -> None:
    now = [0.0]
    steps = [
        Audio(100),
        event("input_audio_buffer.speech_started", audio_start_ms=700, item_id="u1"),
        event("input_audio_buffer.speech_stopped", audio_end_ms=1900, item_id="u1"),
        event("input_audio_buffer.committed", item_id="u1", previous_item_id=None),
        Bye(),
    ]
    async with Stage() as stage:
        stage.script("/v1/realtime", script(*steps))
        clock = Clock(ticks=lambda: now[0], wall=lambda: 5000.0)
        async with talking(realtime_agent(f"{stage.http}/v1"), clock=clock) as talk:
            talk.answers = False
            for _ in range(100):
                now[0] += 0.02
                talk.conversation.hear(FRAME)
            now[0] += 0.01  # the server's word comes a little later
            started, stopped = await talk.until(SpeechStarted), await talk.until(SpeechStopped)
            utterance = await talk.until(UtteranceEnded)
            assert (started.began_at, started.at) == pytest.approx((5001.0, 5002.01))  # 700 ms, and the padding of 300
            assert (stopped.ended_at, stopped.at) == pytest.approx((5001.45, 5002.01))  # 1,900 ms, less 450 of silence
            assert utterance.speech_ended_at == pytest.approx(5001.45)


async def test_sound_is_spliced_into_the_event_as_it_came() -> None:
    frame = AudioChunk(MULAW_8K.quiet(20), MULAW_8K, "bm90IGV2ZW4gbG9va2VkIGF0")
    async with Stage() as stage:
        stage.script(
            "/v1/realtime", script(Expect({"type": "input_audio_buffer.append", "audio": frame.base64}), Bye())
        )
        async with talking(realtime_agent(f"{stage.http}/v1")) as talk:
            talk.conversation.hear(frame)
            await talk.true(lambda: len(stage.peers[0].received) == 2)


async def test_a_server_still_busy_is_asked_again() -> None:
    busy = "conversation_already_has_active_response"
    ours: list[str] = []

    def asked(message: dict[str, Any]) -> bool:
        ours.append(message["event_id"])
        return bool(message["type"] == "response.create")

    steps = [
        Expect(asked),
        refused(busy, "Conversation already has an active response in progress: r0."),
        Expect(asked),
        began("r1"),
        refused(busy, "An older complaint."),
        *sound("r1", "i1", "Here."),
        ended("r1"),
        Bye(),
    ]
    async with Stage() as stage:
        stage.script("/v1/realtime", script(*steps))
        async with talking(realtime_agent(f"{stage.http}/v1")) as talk:
            await talk.conversation.reply("u1")
            await talk.until(ReplyEnded)
            assert talk.text(1) == "Here."
            assert talk.of(Faulted) == []
    assert len(set(ours)) == 2


async def test_a_refused_response_is_a_failed_one() -> None:
    refuse_all: list[Step] = []
    for number in (1, 2, 3):
        refuse_all += [
            Expect({"type": "response.create", "event_id": f"ask_{number}"}),
            refused("server_error", "Try later.", f"ask_{number}"),
        ]
    async with Stage() as stage:
        stage.script("/v1/realtime", script(*refuse_all, Bye()))
        async with talking(realtime_agent(f"{stage.http}/v1")) as talk:
            await talk.conversation.reply("u1")
            await talk.until(ReplyEnded)
            assert len(talk.of(Faulted)) == 3
            assert not any(fault.fatal for fault in talk.of(Faulted))


async def test_a_server_that_never_says_that_it_stopped_is_not_waited_for() -> None:
    steps = [
        Expect({"type": "response.create"}),
        began("r1"),
        Expect({"type": "response.cancel"}),
        Expect({"type": "response.create"}),
        began("r2"),
        *sound("r1", "i1", "late"),
        *sound("r2", "i2", "Here."),
        ended("r1", "cancelled"),
        ended("r2"),
        Bye(),
    ]
    async with Stage() as stage:
        stage.script("/v1/realtime", script(*steps))
        async with talking(realtime_agent(f"{stage.http}/v1")) as talk:
            await talk.conversation.reply("u1")
            await anyio.sleep(0.05)
            await talk.conversation.interrupt(1, "", 0.0)
            await talk.conversation.reply("u2")
            await talk.until(ReplyEnded)
            assert (talk.text(1), talk.text(2)) == ("", "Here.")


async def test_a_call_that_is_only_told_at_the_end_of_a_response_is_made_once() -> None:
    call = {
        "id": "i1",
        "type": "function_call",
        "status": "completed",
        "name": "price_of",
        "call_id": "c1",
        "arguments": "{}",
    }
    broken = call | {"id": "i2", "call_id": "c2", "status": "incomplete"}
    steps = [
        Expect({"type": "response.create"}),
        began("r1"),
        event("response.output_item.done", response_id="r1", output_index=0, item=call),
        ended("r1", output=[call, broken]),
        Expect(
            {
                "type": "conversation.item.create",
                "item": {"type": "function_call_output", "call_id": "c1", "output": "18"},
            }
        ),
        Expect({"type": "response.create"}),
        began("r2"),
        *sound("r2", "i3", "Eighteen."),
        ended("r2"),
        Bye(),
    ]
    async with Stage() as stage:
        stage.script("/v1/realtime", script(*steps))
        async with talking(realtime_agent(f"{stage.http}/v1")) as talk:
            await talk.conversation.reply("u1")
            await talk.until(ToolAsked)
            await talk.conversation.answer("c1", "18")
            await talk.until(ReplyEnded)
            assert [asked.tool_id for asked in talk.of(ToolAsked)] == ["c1"]
            assert [signal.reply_id for signal in talk.of(ReplyStarted)] == [1]


async def test_words_of_an_answered_utterance_interrupt_nothing() -> None:
    words = "conversation.item.input_audio_transcription"
    steps = [
        event("input_audio_buffer.committed", item_id="u1", previous_item_id=None),
        Expect({"type": "response.create"}),
        began("r1"),
        event(f"{words}.delta", item_id="u1", content_index=0, delta="Do you"),
        event(
            f"{words}.completed",
            item_id="u1",
            content_index=0,
            transcript="Do you?",
            usage={"type": "duration", "seconds": 2},
        ),
        ended("r1"),
        Bye(),
    ]
    async with Stage() as stage:
        stage.script("/v1/realtime", script(*steps))
        async with talking(realtime_agent(f"{stage.http}/v1")) as talk:
            await talk.until(ReplyEnded)
            assert talk.of(CallerPartial) == []
            assert [used.amounts for used in talk.of(Used)] == [{"audio_seconds": 2.0}]


async def test_a_setting_that_is_refused_is_told_before_the_call() -> None:
    steps = [
        Expect({"type": "session.update"}),
        refused("invalid_value", "Invalid value: 'bob'. Voices are: alloy."),
        Bye(),
    ]
    async with Stage() as stage:
        stage.script("/v1/realtime", Script(steps))
        with pytest.raises(ProviderError, match="Voices are") as caught:
            async with talking(realtime_agent(f"{stage.http}/v1", voice="bob")):
                pass
        assert not caught.value.retryable


async def test_a_session_that_closes_before_it_began_is_told() -> None:
    async with Stage() as stage:
        early: list[Step] = [Expect({"type": "session.update"}), Close(1000)]
        stage.script("/v1/realtime", Script(early), Script(early))  # it is tried once more
        with pytest.raises(ProviderError, match="before it began"):
            async with talking(realtime_agent(f"{stage.http}/v1")):
                pass


async def test_nothing_is_sent_that_nobody_asked_for() -> None:
    async with Stage() as stage:
        stage.script("/v1/realtime", script(Quiet(0.2), Bye()))
        async with talking(realtime_agent(f"{stage.http}/v1")) as talk:
            talk.conversation.hear(FRAME)
            talk.conversation.update(realtime_agent(f"{stage.http}/v1"))
            await talk.conversation.interrupt(7, "", 0.0)
            await anyio.sleep(0.25)


async def test_a_session_opened_while_the_phone_rings_is_used_unless_it_has_gone_cold() -> None:
    async with house("One.") as vendor:
        agent = realtime_agent(vendor.base_url)
        async with talking(agent, warm=True) as talk:
            assert (await talk.until(ConnectionUsed)).reused
            assert len(vendor.sessions) == 1
        async with talking(agent, warm=True, before=vendor.stage.cut_all) as talk:
            assert not (await talk.until(ConnectionUsed)).reused
            await talk.conversation.read("hi")
            await talk.until(ReplyEnded)
