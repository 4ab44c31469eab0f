"""A call's conversation over a played realtime vendor: greeting, turns and interruptions."""

from __future__ import annotations

import pytest

from patter.audio.format import MULAW_8K
from patter.loopback.openai_realtime import Manners
from patter.signals import (
    CallerPartial,
    CallerTranscribed,
    ConnectionUsed,
    ReplyAudio,
    ReplyEnded,
    ReplyReached,
    ReplyStarted,
    ReplyText,
    ReplyWithdrawn,
    SpeechStarted,
    SpeechStopped,
    Used,
    UtteranceEnded,
)
from tests.support.realtime_talk import house, judge, realtime_agent, sent, talking

pytestmark = pytest.mark.anyio

GREETING = "Tulip and Fern, good morning, how may I help you?"
SLOW = Manners(pause_s=0.015, piece_ms=100)
TOOL = {"name": "price_of", "description": "A price.", "parameters": {"type": "object", "properties": {}}}


# ------------------------------------------------------------------ greeting and turns


async def test_the_greeting_is_said_word_for_word_and_its_sound_passes_untouched() -> None:
    async with house() as vendor, talking(realtime_agent(vendor.base_url)) as talk:
        await talk.conversation.speak(GREETING, "greeting")
        await talk.until(ReplyEnded)
        assert [type(signal) for signal in talk.said[:4]] == [ConnectionUsed, ReplyStarted, ReplyReached, ReplyReached]
        assert talk.of(ReplyStarted)[0].kind == "greeting"
        assert [signal.stage for signal in talk.of(ReplyReached)] == ["first_token", "first_audio"]
        assert talk.text(1) == GREETING
        wire = [event["delta"] for event in vendor.seen.sent if event["type"] == "response.output_audio.delta"]
        assert [chunk.base64 for chunk in talk.sound(1) if chunk.data] == wire
        assert {chunk.format for chunk in talk.sound(1)} == {MULAW_8K}
        assert [signal.text for signal in talk.of(ReplyAudio) if signal.text] == [s.text for s in talk.of(ReplyText)]
        assert sent(vendor, "response.create")[0]["response"]["tool_choice"] == "none"  # type: ignore[index]


async def test_words_are_laid_where_they_sound_and_later_replies_know_the_pace() -> None:
    async with house("It is four. " * 12) as vendor, talking(realtime_agent(vendor.base_url)) as talk:
        await talk.conversation.speak(GREETING, "greeting")
        await talk.conversation.read("How much?")
        await talk.until(ReplyEnded, 2)
        at, places = 0.0, list[tuple[float, str]]()
        for signal in talk.of(ReplyAudio):
            if signal.reply_id == 2:
                places += [(at, signal.text)] if signal.text else []
                at += signal.chunk.ms
        said = 0
        for place, text in places:
            assert place == pytest.approx(at * said / len("It is four. " * 12), abs=450)
            said += len(text) + 1


async def test_a_turn_is_told_and_only_answered_when_it_is_asked_for() -> None:
    async with house() as vendor, talking(realtime_agent(vendor.base_url)) as talk:
        talk.answers = False
        talk.speaks()
        ended = await talk.until(UtteranceEnded)
        words = await talk.until(CallerTranscribed)
        assert [type(s) for s in talk.said if isinstance(s, SpeechStarted | SpeechStopped | UtteranceEnded)] == [
            SpeechStarted,
            SpeechStopped,
            UtteranceEnded,
        ]
        assert (ended.text, ended.answered, words.text) == ("", False, "do you deliver")
        assert words.utterance == ended.utterance
        assert talk.of(CallerPartial)[-1].text == "do you deliver"
        assert not sent(vendor, "response.create")
        await talk.conversation.reply(ended.utterance)
        await talk.until(ReplyEnded)
        assert talk.text(1) == "You said: do you deliver."
        assert len(sent(vendor, "response.create")) == 1


async def test_what_is_typed_is_a_turn_too() -> None:
    async with house() as vendor, talking(realtime_agent(vendor.base_url)) as talk:
        await talk.conversation.read("[DTMF: 42]")
        await talk.until(ReplyEnded)
        assert talk.text(1) == "You said: [DTMF: 42]."


async def test_the_prompt_has_its_variables_and_the_tools_are_told() -> None:
    agent_prompt = "You sell {what}."
    async with house("Yes.") as vendor:
        agent = realtime_agent(vendor.base_url, agent_prompt, variables={"what": "tulips"}, language="nl-BE")
        async with talking(agent, tools=[TOOL]) as talk:
            await talk.conversation.read("hi")
            await talk.until(ReplyEnded)
        prompt = vendor.seen.prompts[0]
        assert prompt.instructions == "You sell tulips."
        assert [tool["name"] for tool in prompt.tools] == ["price_of"]
        assert vendor.sessions[0].state.transcription == {"model": "gpt-transcribe", "language": "nl"}


async def test_replies_are_made_one_after_another() -> None:
    async with house("One.", manners=SLOW) as vendor, talking(realtime_agent(vendor.base_url)) as talk:
        await talk.conversation.read("hi")
        await talk.conversation.speak("By the way.")
        await talk.conversation.speak("And another thing.", "filler")
        await talk.until(ReplyEnded, 3)
        spoken = [s.reply_id for s in talk.said if isinstance(s, ReplyText | ReplyAudio)]
        assert spoken == sorted(spoken)
        assert [talk.text(number) for number in (1, 2, 3)] == ["One.", "By the way.", "And another thing."]
        assert vendor.seen.refusals == []


async def test_tokens_are_counted_by_class_also_of_what_was_stopped() -> None:
    async with house("A long story. " * 20, manners=SLOW) as vendor, talking(realtime_agent(vendor.base_url)) as talk:
        talk.speaks()
        await talk.until(ReplyAudio, 3)
        await talk.conversation.interrupt(1, "A long", 150)
        used = await talk.until(Used, check=lambda used: used.stage == "llm")
        assert set(used.amounts) >= {
            "input_text_tokens",
            "input_audio_tokens",
            "output_text_tokens",
            "output_audio_tokens",
        }
        assert (used.provider, used.model) == ("openai", "gpt-realtime-2.1")
        heard = await talk.until(Used, check=lambda used: used.stage == "stt")
        assert (heard.model, set(heard.amounts)) == ("gpt-transcribe", {"audio_seconds"})  # its tokens have no price
        assert 0.1 < heard.amounts["audio_seconds"] < 5
        talk.speaks()
        again = await talk.until(Used, 2, lambda used: used.stage == "llm")
        assert 0 < again.amounts["cached_text_tokens"] <= again.amounts["input_text_tokens"]


async def test_transcription_whose_tokens_have_a_price_is_counted_in_tokens() -> None:
    listening = {"transcription_model": "gpt-4o-mini-transcribe"}
    async with house("Yes.") as vendor, talking(realtime_agent(vendor.base_url, listening=listening)) as talk:
        talk.speaks()
        heard = await talk.until(Used, check=lambda used: used.stage == "stt")
        assert (heard.model, set(heard.amounts)) == ("gpt-4o-mini-transcribe", {"input_tokens", "output_tokens"})


async def test_transcription_that_is_billed_by_time_is_counted_in_seconds() -> None:
    async with house(manners=Manners(seconds_billed=True)) as vendor, talking(realtime_agent(vendor.base_url)) as talk:
        talk.speaks()
        heard = await talk.until(Used, check=lambda used: used.stage == "stt")
        assert heard.amounts["audio_seconds"] == pytest.approx(1.2, abs=0.3)


# ------------------------------------------------------------------ interruptions


async def test_an_interruption_stops_the_model_and_keeps_what_was_heard() -> None:
    async with (
        house("We deliver on Fridays and on " * 9, manners=SLOW) as vendor,
        talking(realtime_agent(vendor.base_url)) as talk,
    ):
        talk.speaks()
        await talk.until(ReplyAudio, 8)
        await talk.conversation.interrupt(1, "We deliver", 500)
        before = len(talk.of(ReplyAudio))
        talk.speaks()
        await talk.until(ReplyEnded)
        late = [signal for signal in talk.of(ReplyAudio)[before:] if signal.reply_id == 1]
        assert late == []
        assert [line.split()[0::2] for line in vendor.sessions[0].conversation.log] == [["truncate", "500"]]
        assert vendor.seen.refusals == []
        remembered = [item["text"] for item in vendor.seen.prompts[1].items if item["role"] == "assistant"]
        assert len(remembered) == 1
        assert len(remembered[0].split()) < 20
        judge(vendor)
        assert not [s for s in talk.of(ReplyEnded) if s.reply_id == 1]


async def test_what_was_made_whole_is_cut_without_stopping_anything() -> None:
    async with house("We deliver on Fridays.") as vendor, talking(realtime_agent(vendor.base_url)) as talk:
        talk.speaks()
        await talk.until(ReplyEnded)
        await talk.conversation.interrupt(1, "We deliver", 600)
        await talk.true(lambda: vendor.sessions[0].conversation.log)
        assert vendor.sessions[0].conversation.log[0].endswith(" 600")
        assert not sent(vendor, "response.cancel")


@pytest.mark.parametrize("claimed", [99_999.0, float(2**40)])
async def test_nothing_is_cut_behind_what_was_sent(claimed: float) -> None:
    async with (
        house("We deliver on Fridays. " * 20, manners=SLOW) as vendor,
        talking(realtime_agent(vendor.base_url)) as talk,
    ):
        await talk.conversation.read("hi")
        await talk.until(ReplyAudio, 4)
        ms = talk.ms(1)
        await talk.conversation.interrupt(1, "We deliver on Fridays.", claimed)
        await talk.true(lambda: vendor.sessions[0].conversation.log)
        assert float(vendor.sessions[0].conversation.log[0].split()[2]) == pytest.approx(ms, abs=1)
        assert vendor.seen.refusals == []


async def test_a_reply_nobody_heard_anything_of_is_forgotten() -> None:
    async with (
        house("Never heard. " * 9, "Now.", manners=Manners(thinks_s=0.1, pause_s=0.02)) as vendor,
        talking(realtime_agent(vendor.base_url)) as talk,
    ):
        await talk.conversation.read("hi")
        await talk.true(lambda: vendor.seen.prompts)
        await talk.conversation.interrupt(1, "", 0.0)
        await talk.conversation.read("and?")
        await talk.until(ReplyEnded)
        assert [item["role"] for item in vendor.seen.prompts[-1].items] == ["user", "user"]
        assert talk.sound(1) == []


async def test_a_reply_that_waits_is_never_asked_for_once_it_is_interrupted() -> None:
    async with house("One. " * 10, manners=SLOW) as vendor, talking(realtime_agent(vendor.base_url)) as talk:
        await talk.conversation.read("hi")
        await talk.conversation.speak("Never said.")
        await talk.conversation.interrupt(2, "", 0.0)
        await talk.until(ReplyEnded)
        await talk.conversation.speak("Said.")
        await talk.until(ReplyEnded, 2)
        assert talk.text(2) == ""
        assert len(sent(vendor, "response.create")) == 2


async def test_a_server_that_interrupts_by_itself_withdraws_the_reply() -> None:
    async with (
        house("A long story. " * 30, manners=Manners(answers_itself=True, pause_s=0.02)) as vendor,
        talking(realtime_agent(vendor.base_url)) as talk,
    ):
        await talk.conversation.read("hi")
        await talk.until(ReplyAudio, 3)
        talk.answers = False
        talk.speaks()
        withdrawn = await talk.until(ReplyWithdrawn)
        assert (withdrawn.reply_id, withdrawn.by) == (1, "caller")
        await talk.conversation.interrupt(1, "A long", 150.0)
        await talk.true(lambda: vendor.sessions[0].conversation.log)
        assert vendor.sessions[0].conversation.log[0].endswith(" 150")


async def test_a_server_that_answers_by_itself_is_not_asked_twice() -> None:
    async with (
        house("First.", "Second.", manners=Manners(answers_itself=True)) as vendor,
        talking(realtime_agent(vendor.base_url)) as talk,
    ):
        talk.answers = False
        talk.speaks()
        await talk.until(UtteranceEnded)
        await talk.true(lambda: [event for event in vendor.seen.sent if event["type"] == "response.done"])
        assert talk.of(ReplyStarted) == []  # it was a cough: nobody asks for an answer
        talk.speaks()
        ended = await talk.until(UtteranceEnded, 2)
        await talk.conversation.reply(ended.utterance)
        await talk.until(ReplyEnded)
        assert talk.text(1) == "Second."
        assert not sent(vendor, "response.create")
        assert [line.split()[0] for line in vendor.sessions[0].conversation.log] == ["delete"]
        await talk.conversation.read("typed")
        await talk.until(ReplyEnded, 2)
        assert talk.text(2) == "Nothing more."
