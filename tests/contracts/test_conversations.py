"""What every conversation must do, whatever engine is inside: faked parts, or a vendor played on loopback."""

from __future__ import annotations

from collections import deque

import anyio
import pytest

from patter.audio.format import MULAW_8K, AudioFormat
from patter.signals import (
    Faulted,
    Guarded,
    ReplyAudio,
    ReplyEnded,
    ReplyReached,
    ReplyStarted,
    ReplyText,
    SpeechStarted,
    ToolAsked,
    Used,
    UtteranceEnded,
)
from tests.contracts.engines import ENGINES, Engine, Plan, Said

pytestmark = pytest.mark.anyio
STAGES = ("first_token", "first_sentence", "first_audio")
FIRST, SECOND = "We open at eight in the morning.", "On Sundays we stay closed, I am sorry to say."


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param]


def plan(*answers: str | Said, **more: object) -> Plan:
    said = (Said(answer) if isinstance(answer, str) else answer for answer in answers)
    return Plan(answers=deque(said), **more)  # type: ignore[arg-type]


LINES = [pytest.param(MULAW_8K, id="voice"), pytest.param(None, id="text")]


@pytest.mark.parametrize("line", LINES)
async def test_a_typed_turn_is_answered_by_one_reply_in_order(engine: Engine, line: AudioFormat | None) -> None:
    async with engine(plan(f"{FIRST} {SECOND}"), line) as talk:
        await talk.conversation.read("When do you open?")
        ended = await talk.until(ReplyEnded)
        of_reply = [signal for signal in talk.said if getattr(signal, "reply_id", None) == ended.reply_id]
        assert (type(of_reply[0]), type(of_reply[-1])) == (ReplyStarted, ReplyEnded)
        assert talk.of(ReplyStarted)[0].kind == "answer"
        assert talk.text(ended.reply_id) == f"{FIRST} {SECOND}"
        assert bool(talk.sound(ended.reply_id)) == (line is not None)
        assert "When do you open?" in talk.remembers()
        stages = [signal.stage for signal in talk.of(ReplyReached)]
        assert stages[0] == "first_token"
        assert stages == [stage for stage in STAGES if stage in stages]  # each once and in order
        assert ("first_audio" in stages) == (line is not None)
        times = [signal.at for signal in talk.of(ReplyReached)]
        assert times == sorted(times)


async def test_what_is_spoken_is_understood_and_answered(engine: Engine) -> None:
    async with engine(plan(FIRST, heard="when do you open"), MULAW_8K) as talk:
        talk.speak()
        assert await talk.take_turn() == "when do you open"
        reply = await talk.until_said(FIRST)
        await talk.until(ReplyEnded, fits=lambda ended: ended.reply_id == reply)
        assert talk.sound(reply)
        ended = talk.of(UtteranceEnded)[0]
        assert ended.speech_ended_at <= ended.at <= talk.clock.now()
        if talk.of(SpeechStarted):  # an engine whose vendor listens may not tell
            assert talk.of(SpeechStarted)[0].began_at <= ended.at
        assert len(talk.of(UtteranceEnded)) == 1


async def test_the_greeting_is_heard_once_and_word_for_word(engine: Engine) -> None:
    greeting = "Hello, this is Riverside Dental. How can I help you?"
    async with engine(plan(greeting=greeting), MULAW_8K) as talk:
        ended = await talk.until(ReplyEnded)
        assert [(signal.kind, talk.text(signal.reply_id)) for signal in talk.of(ReplyStarted)] == [
            ("greeting", greeting)
        ]
        assert talk.sound(ended.reply_id)
        await talk.conversation.read("Hello?")
        await talk.until_said("All right.")
        assert len(talk.of(ReplyStarted)) == 2


@pytest.mark.parametrize("line", LINES)
async def test_what_is_to_be_said_is_said_after_what_is_being_said(engine: Engine, line: AudioFormat | None) -> None:
    async with engine(plan(FIRST), line) as talk:
        await talk.conversation.read("When do you open?")
        await talk.until_said("We")
        await talk.conversation.speak("Somebody else joins us now.")
        await talk.until(ReplyEnded, 2)
        assert [(signal.kind, talk.text(signal.reply_id)) for signal in talk.of(ReplyStarted)] == [
            ("answer", FIRST),
            ("say", "Somebody else joins us now."),
        ]
        spoken = [signal.reply_id for signal in talk.said if isinstance(signal, ReplyText | ReplyAudio)]
        assert spoken == sorted(spoken)


async def test_of_an_interrupted_reply_nothing_more_comes_and_only_what_was_heard_is_remembered(
    engine: Engine, request: pytest.FixtureRequest
) -> None:
    async with engine(plan(f"{FIRST} {SECOND} {SECOND}", "Go on."), MULAW_8K) as talk:
        await talk.conversation.read("When do you open?")
        sound = await talk.until(ReplyAudio, 2)
        heard_ms = sound.chunk.ms
        await talk.conversation.interrupt(sound.reply_id, "We open", heard_ms)
        before = len(talk.said)
        await talk.conversation.read("Wait.")
        reply = await talk.until_said("Go on.")
        await talk.until(ReplyEnded, fits=lambda ended: ended.reply_id == reply)
        late = [signal for signal in talk.said[before:] if isinstance(signal, ReplyText | ReplyAudio)]
        assert {signal.reply_id for signal in late} == {reply}
        assert reply > sound.reply_id
        assert SECOND not in talk.remembers()


@pytest.mark.parametrize("line", LINES)
async def test_a_tool_is_asked_for_once_and_its_result_is_what_is_answered_with(
    engine: Engine, line: AudioFormat | None
) -> None:
    async with engine(plan(Said("Let me look.", tool="find"), "At nine or ten."), line) as talk:
        await talk.conversation.read("Any slots?")
        asked = await talk.until(ToolAsked)
        assert (asked.name, asked.arguments) == ("find", "{}")
        await talk.conversation.answer(asked.tool_id, '{"slots": ["nine", "ten"]}')
        reply = await talk.until_said("At nine or ten.")
        await talk.until(ReplyEnded, fits=lambda ended: ended.reply_id == reply)
        assert "nine" in talk.remembers().replace("At nine or ten.", "")
        assert len(talk.of(ToolAsked)) == 1


async def test_a_result_that_comes_after_an_interruption_is_in_what_is_answered_next(engine: Engine) -> None:
    async with engine(plan(Said("Let me look for it at once.", tool="find"), "Sure.", "At nine."), MULAW_8K) as talk:
        await talk.conversation.read("Any slots?")
        asked = await talk.until(ToolAsked)
        await talk.conversation.interrupt(asked.reply_id, "Let me", 100.0)
        await talk.conversation.answer(asked.tool_id, '{"slots": ["nine"]}')
        await talk.conversation.read("Well?")
        await talk.until(ReplyEnded, fits=lambda ended: ended.reply_id > asked.reply_id)
        assert talk.remembers().count("slots\\") + talk.remembers().count('slots"') > 0
        assert len(talk.of(ToolAsked)) == 1


async def test_a_guardrail_has_something_else_said(engine: Engine) -> None:
    def screen(so_far: str, text: str) -> tuple[str, str | None]:
        return ("I can't say that.", "secrets") if "secret" in text else (text, None)

    async with engine(plan("The secret is out.", screen=screen), MULAW_8K) as talk:
        await talk.conversation.read("Tell me.")
        reply = await talk.until_said("I can't say that.")
        await talk.until(ReplyEnded, fits=lambda ended: ended.reply_id == reply)
        assert talk.of(Guarded)[0].guardrail == "secrets"
        assert not [signal for signal in talk.of(ReplyText) if "secret" in signal.text]


async def test_what_costs_money_is_told(engine: Engine) -> None:
    async with engine(plan(FIRST), MULAW_8K) as talk:
        talk.speak()
        await talk.take_turn()
        reply = await talk.until_said(FIRST)
        await talk.until(ReplyEnded, fits=lambda ended: ended.reply_id == reply)
        await anyio.sleep(0.5)  # some vendors charge for the time
        await talk.conversation.aclose()
        with anyio.fail_after(10):
            await talk.over.wait()
        used = [signal for signal in talk.of(Used) if signal.stage in ("llm", "tts")]
        assert used
        assert all(signal.provider and any(amount > 0 for amount in signal.amounts.values()) for signal in used)


async def test_a_fault_is_told_and_overcome(engine: Engine) -> None:
    async with engine(plan("First.", "Second."), MULAW_8K) as talk:
        await talk.conversation.read("One?")
        await talk.until(ReplyEnded)
        await talk.breaks()
        if not isinstance(talk.said[-1], Faulted):
            await anyio.sleep(0.05)
        await talk.conversation.read("Two?")
        await talk.until_said("Second.")
        fault = talk.of(Faulted)[0]
        assert fault.problem
        assert not fault.fatal
        assert "One?" in talk.remembers()


async def test_closing_ends_its_signals_and_closing_twice_is_closing_once(engine: Engine) -> None:
    async with engine(plan(FIRST), MULAW_8K) as talk:
        await talk.conversation.read("When?")
        await talk.until(ReplyAudio)
        await talk.conversation.aclose()
        with anyio.fail_after(10):
            await talk.over.wait()
        await talk.conversation.aclose()
        await talk.conversation.read("Anybody there?")
        talk.speak(0.1, 0.1)


@pytest.mark.parametrize("line", LINES)
async def test_guidance_reaches_the_model_and_is_neither_answered_nor_said(
    engine: Engine, line: AudioFormat | None
) -> None:
    async with engine(plan(FIRST, SECOND), line) as talk:
        await talk.conversation.guide("The caller is a member: waive the fee.")
        await talk.conversation.read("When do you open?")
        await talk.until(ReplyEnded)
        assert "waive the fee" in talk.remembers()
        assert len(talk.of(ReplyStarted)) == 1
        assert "fee" not in talk.text(talk.of(ReplyStarted)[0].reply_id)
        await talk.conversation.read("And on Sundays?")
        await talk.until(ReplyEnded, 2)
        assert "waive the fee" in talk.remembers()
