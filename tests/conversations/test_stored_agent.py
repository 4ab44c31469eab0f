"""Conversations with a stored agent, with a vendor that listens, answers, speaks and is interrupted."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from patter.audio.format import MULAW_8K, PCM_16K, PCM_24K, AudioFormat
from patter.clock import Clock
from patter.conversations import stored_agent
from patter.conversations.stored_agent import StoredAgent as Conversation
from patter.exceptions import ProviderError
from patter.loopback.elevenlabs_convai import CONVERSATION, LoopbackConvai, StoredAgent, Turn
from patter.loopback.elevenlabs_convai_agents import History
from patter.loopback.elevenlabs_convai_events import FORMATS
from patter.ports import Brief, CallInfo
from patter.signals import (
    CallerPartial,
    ConnectionUsed,
    Faulted,
    Guarded,
    ReplyAudio,
    ReplyEnded,
    ReplyReached,
    ReplyStarted,
    ReplyText,
    ReplyWithdrawn,
    Used,
    UtteranceEnded,
)
from tests.conversations.stored_agent_call import AGENT_ID, Talk, door_to, stored, talking

pytestmark = pytest.mark.anyio


async def hears_hello(sound: bytes, line: AudioFormat) -> str:
    return "hello there you"


async def quickly(text: str, line: AudioFormat) -> bytes:
    """10 ms of sound a letter."""
    return line.quiet(10.0 * len(text))


def agent(**settings: object) -> StoredAgent:
    return StoredAgent(AGENT_ID, **({"transcribe": hears_hello, "speak": quickly, "aligned": True} | settings))  # type: ignore[arg-type]


def text_of(talk: Talk, reply_id: int) -> str:
    return " ".join(said.text for said in talk.of(ReplyText) if said.reply_id == reply_id)


async def test_the_stored_greeting_is_a_reply_with_its_words_its_sound_and_an_end() -> None:
    async with (
        LoopbackConvai(agent(first_message="Hi there.", chunk_ms=50.0, aligned=False)) as vendor,
        talking(vendor.stage.http) as talk,
    ):
        await talk.until(ReplyEnded)
        assert [type(said) for said in talk.said if not isinstance(said, ReplyReached | Used)] == [
            ConnectionUsed, ReplyStarted, ReplyText, ReplyAudio, ReplyAudio, ReplyEnded,
        ]  # fmt: skip
        assert talk.of(ReplyStarted)[0].kind == "greeting"
        assert [said.stage for said in talk.of(ReplyReached)] == ["first_token", "first_sentence", "first_audio"]
        assert text_of(talk, 1) == "Hi there."
        assert talk.of(ReplyAudio)[0].text == "Hi there."
        assert len(talk.sound(1)) == MULAW_8K.bytes_for(90)
        assert vendor.talks[0].begun.first_message == "Hi there."


async def test_a_turn_of_the_caller_is_told_and_answered_by_the_vendor() -> None:
    async with LoopbackConvai(agent(first_message="")) as vendor, talking(vendor.stage.http) as talk:
        talk.speak()
        ended = await talk.until(UtteranceEnded)
        reply = await talk.until(ReplyEnded)
        assert (ended.text, ended.answered) == ("hello there you", True)
        assert ended.speech_ended_at <= ended.transcript_at <= ended.at <= talk.clock.now()
        assert talk.of(CallerPartial)[0].text == "hello"
        assert text_of(talk, reply.reply_id) == "You said: hello there you."
        assert talk.of(ReplyStarted)[0].kind == "answer"
        assert vendor.talks[0].heard_bytes == MULAW_8K.bytes_for(1600)


async def test_the_end_of_speech_is_dated_by_the_last_loud_frame() -> None:
    async with LoopbackConvai(agent(first_message="")) as vendor, talking(vendor.stage.http) as talk:
        before = talk.clock.now()
        talk.speak(silence=0)
        after = talk.clock.now()
        talk.feed(MULAW_8K.quiet(1000))
        ended = await talk.until(UtteranceEnded)
        assert before <= ended.speech_ended_at <= after


@pytest.mark.parametrize(
    ("hears", "plays"), [("pcm_16000", "ulaw_8000"), ("ulaw_8000", "pcm_24000"), ("pcm_44100",) * 2]
)
@pytest.mark.parametrize("line", [MULAW_8K, PCM_16K, AudioFormat("alaw", 8000)])
async def test_formats_are_what_the_stored_agent_says(hears: str, plays: str, line: AudioFormat) -> None:
    async with (
        LoopbackConvai(agent(hears=hears, plays=plays, first_message="Hi.")) as vendor,
        talking(vendor.stage.http, line=line) as talk,
    ):
        talk.speak()
        await talk.until(UtteranceEnded)
        assert talk.of(ReplyAudio)[0].chunk.format == FORMATS[plays]
        sent = FORMATS[hears].ms_of(vendor.talks[0].heard_bytes)
        assert sent == pytest.approx(1600, abs=3)  # a resampler holds up to 2 ms


async def test_sound_in_the_agents_own_format_is_passed_on_as_it_came() -> None:
    async with LoopbackConvai(agent(first_message="")) as vendor, talking(vendor.stage.http) as talk:
        talk.feed(bytes(range(256)) * 5)
        talk.speak()
        await talk.until(UtteranceEnded)
        chunks = [m for m in vendor.stage.peers[0].received if isinstance(m, dict) and "user_audio_chunk" in m]
        assert len(chunks) == 8 + 80  # each frame at once, none of them put together


async def test_overrides_are_what_was_really_set() -> None:
    caller = stored(
        system_prompt="You are {name} for {{guest}}.",
        first_message="Good day, {guest}!",
        language="de-AT",
        voice="sarah",
        variables={"name": "Ada", "guest": "Noor", "stay": [1, 2]},
    )
    async with LoopbackConvai(agent()) as vendor, talking(vendor.stage.http, caller) as talk:
        await talk.conversation.speak("Good day, Noor!", "greeting")
        await talk.until(ReplyEnded)
        begun = vendor.talks[0].begun
        assert begun.prompt == "You are Ada for Noor."
        assert begun.first_message == "Good day, Noor!"
        assert (begun.language, begun.voice_id) == ("de", "EXAVITQu4vr4xnSDxMaL")
        assert begun.variables == {"name": "Ada", "guest": "Noor", "stay": "[1, 2]"}
        assert [text_of(talk, said.reply_id) for said in talk.of(ReplyStarted)] == ["Good day, Noor!"]
    async with LoopbackConvai(agent(allows=frozenset())) as vendor, talking(vendor.stage.http) as talk:
        await talk.until(ReplyStarted)
        first = vendor.stage.peers[0].received[0]
        assert first == {"type": "conversation_initiation_client_data"}


@pytest.mark.parametrize(
    ("refused", "fields", "says"),
    [
        ("prompt", {"system_prompt": "Be brief."}, "system_prompt"),
        ("language", {"language": "de"}, "language"),
        ("voice_id", {"voice": "EXAVITQu4vr4xnSDxMaL"}, "voice"),
    ],
)
async def test_an_override_that_is_not_allowed_is_named(refused: str, fields: dict[str, str], says: str) -> None:
    allowed = frozenset({"prompt", "first_message", "language", "voice_id"}) - {refused}
    async with LoopbackConvai(agent(allows=allowed)) as vendor:
        with pytest.raises(ExceptionGroup) as group:
            async with talking(vendor.stage.http, stored(first_message="Hi.", **fields)):
                pytest.fail("it began all the same")
    error = group.value.exceptions[0]
    assert isinstance(error, ProviderError)
    assert error.problem == f"the stored agent does not let a call replace its {says}"
    assert "security settings" in error.fix
    assert not error.retryable


async def test_without_leave_to_replace_the_greeting_the_stored_one_is_heard_and_that_is_told() -> None:
    refusing = agent(allows=frozenset({"prompt"}), first_message="Stored.")
    caller = stored(system_prompt="Be brief.", first_message="Mine.")
    async with LoopbackConvai(refusing) as vendor, talking(vendor.stage.http, caller) as talk:
        await talk.conversation.speak("Mine.", "greeting")
        await talk.until(ReplyEnded)
        fault = talk.of(Faulted)[0]
        assert "first_message" in fault.problem
        assert not fault.fatal
        assert text_of(talk, 1) == "Stored."
        assert vendor.talks[0].begun.prompt == "Be brief."


async def test_a_variable_that_the_stored_agent_needs_is_asked_for() -> None:
    async with LoopbackConvai(agent(first_message="Hello {{guest}}.")) as vendor:
        with pytest.raises(ExceptionGroup) as group:
            async with talking(vendor.stage.http):
                pytest.fail("it began all the same")
    error = group.value.exceptions[0]
    assert isinstance(error, ProviderError)
    assert "guest" in error.problem
    assert "variables" in error.fix


# ---------------------------------------------------------------------------------------------------- interruptions


async def test_the_vendors_interruption_withdraws_the_reply_and_later_sound_of_it_is_dropped() -> None:
    slow = agent(first_message="A long greeting that takes its time to be said.", pace=1.0, chunk_ms=30.0)
    async with LoopbackConvai(slow) as vendor, talking(vendor.stage.http) as talk:
        await talk.until(ReplyAudio, 2)
        talk.speak()
        withdrawn = await talk.until(ReplyWithdrawn)
        assert (withdrawn.reply_id, withdrawn.by) == (1, "caller")
        await talk.conversation.interrupt(1, "A long", 200.0)
        ended = await talk.until(ReplyEnded)
        assert ended.reply_id == 2
        after = talk.said.index(withdrawn)
        assert not [
            said for said in talk.said[after:] if isinstance(said, ReplyAudio | ReplyText) and said.reply_id == 1
        ]
        assert vendor.talks[0].activities == 0  # the vendor knows


async def test_the_sessions_own_cut_drops_the_rest_and_tells_the_vendor_that_the_caller_is_there() -> None:
    slow = agent(first_message="A long greeting that takes its time to be said.", pace=1.0, chunk_ms=30.0)
    async with LoopbackConvai(slow) as vendor, talking(vendor.stage.http) as talk:
        await talk.until(ReplyAudio, 2)
        await talk.conversation.interrupt(1, "A long", 120.0)
        count = len(talk.of(ReplyAudio))
        await talk.conversation.read("What time is it?")
        reply = await talk.until(ReplyEnded)
        assert reply.reply_id == 2
        assert text_of(talk, 2) == "You said: What time is it?."
        assert talk.sound(2)
        assert len([said for said in talk.of(ReplyAudio) if said.reply_id == 1]) == count
        assert vendor.talks[0].activities == 1


async def test_the_answer_to_a_typed_turn_is_heard_though_it_has_the_interruptions_number() -> None:
    async with LoopbackConvai(agent(first_message="")) as vendor, talking(vendor.stage.http) as talk:
        await talk.conversation.read("First.")
        await talk.until(ReplyEnded)
        await talk.conversation.read("Second.")
        await talk.until(ReplyEnded, 2)
        assert [text_of(talk, reply) for reply in (1, 2)] == ["You said: First..", "You said: Second.."]
        assert talk.sound(1)
        assert talk.sound(2)


async def test_an_acknowledgement_that_does_not_stop_the_agent_is_no_turn_answered() -> None:
    async def hears_uh_huh(sound: bytes, line: AudioFormat) -> str:
        return "uh-huh"

    stubborn = agent(
        first_message="A long greeting that takes its time to be said.", interruptible=False, transcribe=hears_uh_huh
    )
    async with LoopbackConvai(stubborn) as vendor, talking(vendor.stage.http) as talk:
        await talk.until(ReplyAudio)
        talk.speak(0.3)
        ended = await talk.until(UtteranceEnded)
        assert (ended.text, ended.answered) == ("uh-huh", False)
        await talk.conversation.read("uh-huh")  # what a session does when the agent was quiet after all
        talk.speak(0.3)
        await talk.until(UtteranceEnded, 2)
        typed = [m for m in vendor.stage.peers[0].received if isinstance(m, dict) and m.get("type") == "user_message"]
        assert typed == []


# ---------------------------------------------------------------------------------------------------- saying what is given


async def test_what_is_to_be_said_is_asked_of_the_agent_after_what_it_is_saying() -> None:
    async def obeys(history: History) -> Turn:
        return Turn(history[-1][1].partition(": ")[2])

    obeying = agent(first_message="Hi there, friend.", think=obeys)
    async with LoopbackConvai(obeying) as vendor, talking(vendor.stage.http) as talk:
        await talk.until(ReplyAudio)
        await talk.conversation.speak("A person will join us.")
        await talk.conversation.speak("One moment.")
        await talk.conversation.speak("Let me see.", "filler")
        await talk.until(ReplyEnded, 3)
        assert [(said.kind, text_of(talk, said.reply_id)) for said in talk.of(ReplyStarted)] == [
            ("greeting", "Hi there, friend."), ("say", "A person will join us."), ("say", "One moment."),
        ]  # fmt: skip
        assert talk.of(Faulted) == []
        assert talk.of(ReplyWithdrawn) == []


async def test_words_of_its_own_instead_are_told() -> None:
    async def paraphrases(history: History) -> Turn:
        return Turn("Somebody will join.")

    async with LoopbackConvai(agent(first_message="", think=paraphrases)) as vendor, talking(vendor.stage.http) as talk:
        await talk.conversation.speak("A person will join us.")
        await talk.until(ReplyEnded)
        assert "words of its own" in talk.of(Faulted)[0].problem


async def test_what_is_to_be_said_waits_for_the_answer_that_is_owed() -> None:
    async def answers(history: History) -> Turn:
        said = history[-1][1]
        return Turn(said.partition(": ")[2] if ": " in said else "We open at eight.")

    async with LoopbackConvai(agent(first_message="", think=answers)) as vendor, talking(vendor.stage.http) as talk:
        await talk.conversation.read("When do you open?")
        await talk.conversation.speak("A person will join us.")
        await talk.until(ReplyEnded, 2)
        assert [(said.kind, text_of(talk, said.reply_id)) for said in talk.of(ReplyStarted)] == [
            ("answer", "We open at eight."), ("say", "A person will join us."),
        ]  # fmt: skip
        assert talk.of(Faulted) == []


async def test_a_guardrail_stops_a_reply_before_its_sound_and_has_something_else_said() -> None:
    def screen(so_far: str, text: str) -> tuple[str, str | None]:
        return ("I can't say that.", "secrets") if "secret" in text else (text, None)

    async def tells(history: History) -> Turn:
        asked = history[-1][1]
        return Turn(asked.partition(": ")[2] if asked.startswith("Say") else "The secret is 42.")

    telling = agent(first_message="", think=tells)
    async with LoopbackConvai(telling) as vendor, talking(vendor.stage.http, screen=screen) as talk:
        await talk.conversation.read("Tell me.")
        await talk.until(ReplyEnded, 2)
        assert talk.of(Guarded)[0].guardrail == "secrets"
        assert talk.sound(1) == b""
        assert (text_of(talk, 1), text_of(talk, 2)) == ("", "I can't say that.")
        assert talk.of(ReplyStarted)[1].kind == "answer"


async def test_new_instructions_are_told_and_the_same_ones_are_not() -> None:
    async with LoopbackConvai(agent(first_message="")) as vendor, talking(vendor.stage.http) as talk:
        talk.conversation.update(stored(language="de"))
        talk.conversation.update(stored(system_prompt="Be {tone}.", variables={"tone": "kind"}))
        talk.speak()
        await talk.until(UtteranceEnded)
        told = [text for role, text in vendor.talks[0].history if role == "context"]
        assert len(told) == 1
        assert told[0].endswith("Be kind.")


# ---------------------------------------------------------------------------------------------------- the rest


async def test_pings_are_answered_at_once() -> None:
    async with LoopbackConvai(agent(first_message="", ping_s=0.02)) as vendor, talking(vendor.stage.http) as talk:
        talk.speak()
        await talk.until(ReplyEnded)
        assert vendor.talks[0].pongs >= 5


async def test_the_minutes_are_counted_as_they_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_agent, "INSTALMENT_S", 0.6)
    async with LoopbackConvai(agent(first_message="")) as vendor, talking(vendor.stage.http) as talk:
        await talk.until(Used, 2)
        used = talk.of(Used)
        assert {(said.stage, said.provider, said.model) for said in used} == {("llm", "elevenlabs", "convai")}
        assert 1.0 <= sum(said.amounts["seconds"] for said in used) < 60


async def test_aligned_words_are_told_with_the_sound_that_says_them() -> None:
    spelt = agent(first_message="One two three four five.", chunk_ms=50.0, plays="pcm_24000")
    async with LoopbackConvai(spelt) as vendor, talking(vendor.stage.http) as talk:
        await talk.until(ReplyEnded)
        pieces = [said.text for said in talk.of(ReplyAudio) if said.text]
        assert len(pieces) > 2
        assert " ".join(pieces) == "One two three four five." == text_of(talk, 1)
        assert len(talk.sound(1)) == PCM_24K.bytes_for(240)


async def test_a_line_without_sound_reads_and_writes() -> None:
    async with LoopbackConvai(agent()) as vendor, talking(vendor.stage.http, line=None) as talk:
        await talk.until(ReplyEnded)
        await talk.conversation.read("Hello?")
        await talk.until(ReplyEnded, 2)
        assert text_of(talk, 2) == "You said: Hello?."
        assert talk.of(ReplyAudio) == []


async def test_the_vendor_must_have_been_offered_the_signed_address() -> None:
    async with LoopbackConvai(agent(), api_key="sk_another_0123456789") as vendor:
        with pytest.raises(ExceptionGroup) as group:
            async with talking(vendor.stage.http):
                pytest.fail("it began all the same")
        assert not [peer for peer in vendor.stage.peers if peer.path == CONVERSATION]
    error = group.value.exceptions[0]
    assert isinstance(error, ProviderError)
    assert "ELEVENLABS_API_KEY" in error.fix


async def test_what_is_wanted_of_an_agent_that_is_being_opened_waits_for_it() -> None:
    async with LoopbackConvai(StoredAgent(AGENT_ID, first_message="")) as vendor, door_to(vendor.stage.http) as door:
        conversation, brief = (
            Conversation(door, Clock()),
            Brief(CallInfo("CA1"), stored(), None, None, lambda _, text: (text, None)),
        )
        async with anyio.create_task_group() as tasks:
            async with anyio.create_task_group() as opening:
                opening.start_soon(conversation.start, brief, tasks)
                await anyio.lowlevel.checkpoint()
                conversation.update(stored(system_prompt="Be kind."))
                await conversation.read("hello")
                await conversation.speak("A person joins.")
            async for signal in conversation.signals():
                if isinstance(signal, ReplyEnded) and signal.reply_id == 2:
                    break
            await conversation.aclose()
            tasks.cancel_scope.cancel()
        said = [message for message in vendor.stage.peers[0].received if isinstance(message, dict)]
    kinds = [message["type"] for message in said if message["type"] != "pong"]
    assert kinds == ["conversation_initiation_client_data", "contextual_update", "user_message", "user_message"]
