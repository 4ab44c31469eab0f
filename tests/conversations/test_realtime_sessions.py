"""Realtime sessions that end in the middle of a call, in every way they can: the call goes on in another one."""

from __future__ import annotations

import anyio
import pytest

from patter.audio.format import MULAW_8K, AudioChunk
from patter.exceptions import ProviderError
from patter.loopback.openai_realtime import PATH, Line, LoopbackRealtime, Manners, Prompt
from patter.loopback.stage import closed_port
from patter.loopback.stage_faults import CutAfter, Garbled, Refuse, Silent
from patter.signals import (
    CallerTranscribed,
    ConnectionUsed,
    Faulted,
    ReplyAudio,
    ReplyEnded,
    ReplyStarted,
    SpeechStarted,
    SpeechStopped,
    ToolAsked,
    UtteranceEnded,
)
from tests.support.realtime_talk import house, judge, realtime_agent, sent, talking

pytestmark = pytest.mark.anyio

SLOW = Manners(pause_s=0.015, piece_ms=100)
TOOL = {"name": "price_of", "description": "A price.", "parameters": {"type": "object", "properties": {}}}


def remembered(vendor: LoopbackRealtime) -> list[tuple[str, str]]:
    return [(item["role"], item["text"]) for item in vendor.seen.prompts[-1].items]


# ------------------------------------------------------------------ before the time is over


async def test_a_session_is_replaced_before_its_time_is_over_and_nobody_notices() -> None:
    async with house("One.", Line("", [("price_of", "{}")]), "Two.", "Three.", manners=Manners(lasts_s=3)) as vendor:
        async with talking(realtime_agent(vendor.base_url), tools=[TOOL]) as talk:
            await talk.conversation.read("first")
            await talk.until(ReplyEnded)
            talk.speaks()
            asked = await talk.until(ToolAsked)
            await talk.conversation.answer(asked.tool_id, "18")
            await talk.until(ReplyEnded, 2)
            vendor.manners.lasts_s = 60
            await talk.until(ConnectionUsed, 2)
            await talk.true(lambda: vendor.sessions[0].over)
            assert len(talk.of(UtteranceEnded)) == 1
            assert len(talk.of(ReplyStarted)) == 2
            await talk.conversation.interrupt(2, "", 0.0)  # it was still in the caller's ear after all
            talk.speaks()
            await talk.until(ReplyEnded, 3)
        assert remembered(vendor) == [
            ("user", "first"), ("assistant", "One."), ("user", "do you deliver"), ("call", "{}"), ("output", "18"),
            ("user", "do you deliver"),
        ]  # fmt: skip
        assert talk.of(Faulted) == []
        assert "session_expired" not in vendor.seen.refusals
        judge(vendor)


async def test_a_session_whose_time_is_over_in_the_middle_of_an_answer_is_replaced_too() -> None:
    story = "Once upon a time there was a tulip. " * 12
    async with house(story, manners=Manners(pause_s=0.05, piece_ms=200, lasts_s=0.5)) as vendor:
        async with talking(realtime_agent(vendor.base_url)) as talk:
            vendor.manners.lasts_s = 60
            await talk.conversation.read("tell me")
            fault = await talk.until(Faulted)
            await talk.until(ReplyEnded)
            assert "time limit" in fault.problem
            assert not fault.fatal
            assert [signal.reply_id for signal in talk.of(ReplyStarted)] == [1]
            assert talk.text(1).endswith("Nothing more.")
        prompt = vendor.seen.prompts[-1]
        assert "broke off" in prompt.instructions
        assert prompt.instructions.startswith("You sell flowers.")
        told = [item["text"] for item in prompt.items if item["role"] == "assistant"]
        assert len(told) == 1
        assert story.startswith(told[0])
        assert talk.text(1).startswith(told[0])


# ------------------------------------------------------------------ when it breaks


async def test_a_broken_socket_is_replaced_and_what_the_caller_said_meanwhile_is_heard() -> None:
    async with house() as vendor, talking(realtime_agent(vendor.base_url)) as talk:
        talk.speaks(loud_ms=400, quiet_ms=100)
        await talk.until(SpeechStarted)
        vendor.stage.cut_all()
        talk.speaks(loud_ms=200, quiet_ms=600)
        await talk.until(ConnectionUsed, 2)
        await talk.until(ReplyEnded)
        assert talk.text(1) == "You said: do you deliver."
        assert len(talk.of(SpeechStarted)) == len(talk.of(SpeechStopped)) == len(talk.of(UtteranceEnded)) == 1
        assert [fault.fatal for fault in talk.of(Faulted)] == [False]
        assert vendor.sessions[1].ear.ms > 1200


async def test_an_utterance_that_nobody_had_written_down_goes_with_the_call_as_sound() -> None:
    heard = list[int]()

    async def slow(pcm: bytes) -> str:
        heard.append(len(pcm))
        if len(heard) == 1:
            await anyio.sleep_forever()
        return "do you deliver"

    async with (
        LoopbackRealtime(transcribe=slow, record=True) as vendor,
        talking(realtime_agent(vendor.base_url)) as talk,
    ):
        talk.speaks()
        await talk.until(UtteranceEnded)
        vendor.stage.cut_all()
        await talk.until(ReplyEnded)
        assert talk.text(1) == "You said: do you deliver."
        assert remembered(vendor) == [("user", "do you deliver")]
        assert heard[1] >= 400 * 48
        assert [words.text for words in talk.of(CallerTranscribed)] == [""]


@pytest.mark.parametrize("typed", [True, False])
async def test_all_that_was_answered_at_once_is_told_as_wordless_when_its_session_is_lost(typed: bool) -> None:
    async def never(pcm: bytes) -> str:
        await anyio.sleep_forever()
        raise AssertionError

    async with LoopbackRealtime(transcribe=never) as vendor, talking(realtime_agent(vendor.base_url)) as talk:
        talk.answers = False
        talk.speaks()
        talk.speaks()
        second = await talk.until(UtteranceEnded, 2)
        if typed:
            await talk.conversation.read("never mind")
        else:
            await talk.conversation.reply(second.utterance)
        vendor.stage.cut_all()
        await talk.until(CallerTranscribed, 2)
        told = {words.utterance for words in talk.of(CallerTranscribed)}
        assert told == {ended.utterance for ended in talk.of(UtteranceEnded)}


async def test_an_answer_that_breaks_off_goes_on_where_its_sound_stopped() -> None:
    async with (
        house("We deliver on Fridays. " * 12, "And on Mondays.", manners=SLOW) as vendor,
        talking(realtime_agent(vendor.base_url)) as talk,
    ):
        await talk.conversation.speak("Tulip and Fern, good morning to you, how may I help you today?", "greeting")
        await talk.until(ReplyAudio, 6)
        vendor.stage.cut_all()
        await talk.until(ReplyEnded)
        assert talk.text(1) == "Tulip and Fern, good morning to you, how may I help you today?"
        await talk.conversation.read("when")
        await talk.until(ReplyAudio, 6, lambda signal: signal.reply_id == 2)
        vendor.stage.cut_all()
        await talk.until(ReplyEnded, 2)
        assert talk.text(2).endswith("And on Mondays.")
        await talk.conversation.interrupt(2, "We deliver", 400.0)
        await talk.conversation.read("I see")
        await talk.until(ReplyEnded, 3)
        assert remembered(vendor)[-3:] == [("user", "when"), ("assistant", "We deliver"), ("user", "I see")]
        assert vendor.seen.refusals == []


async def test_a_tool_that_answers_while_no_session_is_there_is_not_lost() -> None:
    async with (
        house(Line("", [("price_of", "{}")]), "Eighteen euros.") as vendor,
        talking(realtime_agent(vendor.base_url), tools=[TOOL]) as talk,
    ):
        await talk.conversation.read("how much")
        asked = await talk.until(ToolAsked)
        vendor.stage.cut_all()
        await talk.until(Faulted)
        await talk.conversation.answer(asked.tool_id, "18")
        await talk.until(ReplyEnded)
        assert talk.text(1) == "Eighteen euros."
        assert remembered(vendor) == [("user", "how much"), ("call", "{}"), ("output", "18")]
        assert len(talk.of(ToolAsked)) == 1


async def test_a_model_that_falls_silent_is_asked_again_over_another_session() -> None:
    silent = True

    async def answer(prompt: Prompt) -> Line:
        if silent:
            await anyio.sleep_forever()
        return Line("Here I am.")

    async with (
        LoopbackRealtime(answer=answer) as vendor,
        talking(realtime_agent(vendor.base_url), patience_s=0.3) as talk,
    ):
        await talk.conversation.read("hello")
        await talk.true(lambda: vendor.sessions[0].appends == 0)
        await anyio.sleep(0.1)
        silent = False
        fault = await talk.until(Faulted)
        await talk.until(ReplyEnded)
        assert "in time" in fault.problem
        assert talk.text(1) == "Here I am."


async def test_a_model_that_stays_silent_is_given_up_in_the_end() -> None:
    async def answer(prompt: Prompt) -> Line:
        await anyio.sleep_forever()
        raise AssertionError

    async with (
        LoopbackRealtime(answer=answer) as vendor,
        talking(realtime_agent(vendor.base_url), patience_s=0.1) as talk,
    ):
        await talk.conversation.read("hello")
        await talk.until(ReplyEnded)
        await talk.until(ConnectionUsed, 4)
        asked = [sent(vendor, "response.create", number) for number in range(len(vendor.sessions))]
        assert [len(events) for events in asked] == [1, 1, 1, 0]
        assert "technical problem" in asked[2][0]["response"]["instructions"]
        assert not any(fault.fatal for fault in talk.of(Faulted))


async def test_garbage_is_told_and_passed_over_until_it_is_too_much() -> None:
    async with house("One.") as vendor, talking(realtime_agent(vendor.base_url)) as talk:
        peer = vendor.sessions[0].peer
        await peer.garbage()
        await peer.send(b"\x00\x01")
        await peer.send('{"type":"response.output_audio.delta","delta":"*"}')
        await talk.until(Faulted, 3)
        assert all("cannot be read" in fault.problem and not fault.fatal for fault in talk.of(Faulted))
        await talk.conversation.read("hi")
        await talk.until(ReplyEnded)
        assert talk.text(1) == "One."
        for _ in range(3):
            await peer.garbage()
        await talk.until(ConnectionUsed, 2)
        await talk.conversation.read("again")
        await talk.until(ReplyEnded, 2)


async def test_bytes_that_are_no_websocket_end_the_session_not_the_call() -> None:
    async with house("One.") as vendor, talking(realtime_agent(vendor.base_url)) as talk:
        await vendor.sessions[0].peer.garbage(frame=True)
        await talk.until(ConnectionUsed, 2)
        await talk.conversation.read("hi")
        await talk.until(ReplyEnded)
        assert talk.text(1) == "One."


async def test_a_session_that_cannot_be_replaced_ends_the_call_with_its_cause() -> None:
    async with house() as vendor, talking(realtime_agent(vendor.base_url)) as talk:
        vendor.stage.faults.keep(PATH, Refuse(401, {"error": {"code": "invalid_api_key", "message": "No."}}))
        vendor.stage.cut_all()
        last = await talk.until(Faulted, check=lambda fault: fault.fatal)
        assert "refuses the key" in last.problem
        vendor.stage.faults.heal(PATH)


async def test_a_vendor_that_is_busy_for_a_moment_is_tried_again() -> None:
    async with house("One.") as vendor, talking(realtime_agent(vendor.base_url)) as talk:
        vendor.stage.faults.put(PATH, Refuse(503), Refuse(429))
        vendor.stage.cut_all()
        await talk.until(ConnectionUsed, 2)
        assert [fault.fatal for fault in talk.of(Faulted)] == [False, False, False]
        await talk.conversation.read("hi")
        await talk.until(ReplyEnded)


async def test_sessions_that_break_again_and_again_end_the_call() -> None:
    async with house() as vendor, talking(realtime_agent(vendor.base_url)) as talk:
        vendor.stage.faults.keep(PATH, CutAfter(sent=2))
        vendor.stage.cut_all()
        await talk.until(Faulted, check=lambda fault: fault.fatal)
        vendor.stage.faults.heal(PATH)


# ------------------------------------------------------------------ when it never begins


async def test_nobody_there_is_told_at_the_start() -> None:
    with pytest.raises(ProviderError, match="cannot be reached"):
        async with talking(realtime_agent(f"http://127.0.0.1:{closed_port()}/v1")):
            pass


async def test_an_answer_that_is_no_realtime_session_is_told_at_the_start() -> None:
    async with house() as vendor:
        for faults, said in (
            ([Garbled(), Garbled()], "cannot be read"),  # it is tried once more
            ([Garbled(frame=True), Garbled(frame=True)], "."),
            ([Refuse(404)], "."),
        ):
            vendor.stage.faults.put(PATH, *faults)
            with pytest.raises(ProviderError, match=said):
                async with talking(realtime_agent(vendor.base_url)):
                    pass


# ------------------------------------------------------------------ answers that fail


async def test_a_failed_answer_is_tried_once_more() -> None:
    failed = Line(failure=("server_error", "The server had an error."))
    async with house(failed, "Here I am.") as vendor, talking(realtime_agent(vendor.base_url)) as talk:
        await talk.conversation.read("hello")
        await talk.until(ReplyEnded)
        assert talk.text(1) == "Here I am."
        assert [(fault.stage, fault.fatal) for fault in talk.of(Faulted)] == [("llm", False)]


async def test_after_two_failures_the_agents_apology_is_said() -> None:
    failed = Line(failure=("rate_limit_exceeded", "Slow down."))
    async with house(failed, failed) as vendor, talking(realtime_agent(vendor.base_url)) as talk:
        await talk.conversation.read("hello")
        await talk.until(ReplyEnded)
        assert talk.text(1) == "I'm sorry, I'm having a technical problem. Could you say that again?"
        assert len(talk.of(Faulted)) == 2


async def test_no_credit_is_told_at_once_and_not_tried_again() -> None:
    failed = Line(failure=("insufficient_quota", "You exceeded your current quota."))
    async with house(failed) as vendor, talking(realtime_agent(vendor.base_url)) as talk:
        await talk.conversation.read("hello")
        await talk.until(ReplyEnded)
        assert len(sent(vendor, "response.create")) == 1
        assert "no credit" in talk.of(Faulted)[0].problem


async def test_an_answer_that_the_model_cuts_short_is_told() -> None:
    async with (
        house(Line("We deliver on", cut_short="max_output_tokens")) as vendor,
        talking(realtime_agent(vendor.base_url)) as talk,
    ):
        await talk.conversation.read("hello")
        await talk.until(ReplyEnded)
        assert "max_output_tokens" in talk.of(Faulted)[0].problem
        assert talk.text(1) == "We deliver on"


async def test_words_that_cannot_be_written_down_are_told_as_none() -> None:
    async def deaf(pcm: bytes) -> str:
        raise ValueError("noise")

    async with LoopbackRealtime(transcribe=deaf) as vendor, talking(realtime_agent(vendor.base_url)) as talk:
        talk.speaks()
        words = await talk.until(CallerTranscribed)
        await talk.until(ReplyEnded)
        assert words.text == ""
        assert [fault.stage for fault in talk.of(Faulted)] == ["stt"]


async def test_the_sound_before_a_session_is_there_is_not_lost() -> None:
    async with house() as vendor, talking(realtime_agent(vendor.base_url)) as talk:
        vendor.stage.faults.put(PATH, Refuse(503))
        vendor.stage.cut_all()
        await talk.until(Faulted)
        for _ in range(10):
            talk.conversation.hear(AudioChunk(MULAW_8K.quiet(20), MULAW_8K))
        await talk.until(ConnectionUsed, 2)
        await talk.true(lambda: vendor.sessions[1].ear.ms == 200)


async def test_a_vendor_that_says_nothing_while_a_session_is_replaced_is_given_up() -> None:
    async with house() as vendor:
        vendor.stage.faults.put(PATH, Silent())
        with pytest.raises(TimeoutError), anyio.fail_after(0.3):
            async with talking(realtime_agent(vendor.base_url)):
                pass
