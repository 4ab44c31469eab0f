"""A realtime conversation on other lines, in the protocol's other shape, with other models and keys."""

from __future__ import annotations

import pytest

from patter.audio.format import ALAW_8K, MULAW_8K, PCM_16K, PCM_24K, AudioChunk, AudioFormat
from patter.exceptions import ProviderError
from patter.loopback.openai_realtime import PATH, Line, Manners
from patter.loopback.stage_faults import Refuse
from patter.providers import retired
from patter.signals import (
    ReplyAudio,
    ReplyEnded,
    ToolAsked,
    Used,
)
from tests.support.realtime_talk import KEY, house, judge, realtime_agent, sent, talking

pytestmark = pytest.mark.anyio

GREETING = "Tulip and Fern, good morning, how may I help you?"
TOOL = {"name": "price_of", "description": "A price.", "parameters": {"type": "object", "properties": {}}}


# ------------------------------------------------------------------ lines, formats, shapes


@pytest.mark.parametrize(
    ("line", "plain_pcm", "server", "spliced"),
    [
        (MULAW_8K, False, "audio/pcmu", True),
        (ALAW_8K, False, "audio/pcma", True),
        (PCM_16K, False, "audio/pcm", False),
        (MULAW_8K, True, "audio/pcm", False),  # asked for, and not taken
    ],
)
async def test_sound_is_converted_only_where_the_server_does_not_take_the_lines_own(
    line: AudioFormat, plain_pcm: bool, server: str, spliced: bool
) -> None:
    async with (
        house(manners=Manners(plain_pcm=plain_pcm)) as vendor,
        talking(realtime_agent(vendor.base_url), line) as talk,
    ):
        on_the_wire = AudioChunk(line.quiet(20), line, "c3BsaWNlZCBpbiBhcyBpdCBpcw==")
        talk.conversation.hear(on_the_wire)
        talk.speaks()
        await talk.until(ReplyEnded)
        session = vendor.sessions[0]
        assert (session.state.hears, session.state.speaks) == (server, server)
        appended = [event["audio"] for event in sent(vendor, "input_audio_buffer.append")]
        assert (appended[0] == on_the_wire.base64) == spliced
        assert {chunk.format for chunk in talk.sound(1)} == {line if spliced else PCM_24K}
        assert talk.ms(1) == pytest.approx(len("You said: do you deliver.") * 60, abs=20)
        if not spliced:
            assert session.ear.ms == pytest.approx(1020, abs=5)


async def test_a_line_without_sound_reads_and_writes() -> None:
    async with house() as vendor, talking(realtime_agent(vendor.base_url), None) as talk:
        await talk.conversation.speak(GREETING, "greeting")
        await talk.until(ReplyEnded)
        await talk.conversation.read("hello there")
        await talk.until(ReplyEnded, 2)
        assert (talk.text(1), talk.text(2)) == (GREETING, "You said: hello there.")
        assert talk.of(ReplyAudio) == []
        await talk.conversation.interrupt(2, "You said: hello there.", 0.0)
        await talk.conversation.read("again")
        await talk.until(ReplyEnded, 3)
        assert [item["role"] for item in vendor.seen.prompts[-1].items] == ["assistant", "user", "assistant", "user"]


async def test_semantic_turn_taking_and_noise_reduction_are_asked_for() -> None:
    listening = {"turn_detection": "semantic_vad", "eagerness": "high", "noise_reduction": "far_field"}
    async with house() as vendor:
        agent = realtime_agent(vendor.base_url, listening=listening)
        async with talking(agent) as talk:
            talk.speaks(quiet_ms=900)
            await talk.until(ReplyEnded)
        state = vendor.sessions[0].state
        assert state.turn_detection is not None
        assert (state.turn_detection["type"], state.turn_detection["eagerness"]) == ("semantic_vad", "high")
        assert state.noise_reduction == {"type": "far_field"}


async def test_the_first_shape_is_spoken_with_servers_that_know_no_other() -> None:
    calls = [("price_of", "{}")]
    manners = Manners(shapes=("beta",), old_counts=True)
    async with house(Line("One moment.", calls), "Eighteen.", "A long story. " * 20, manners=manners) as vendor:
        agent = realtime_agent(vendor.base_url, model="gpt-4o-mini-realtime-preview", listening={"shape": "beta"})
        async with talking(agent, ALAW_8K, tools=[TOOL]) as talk:
            talk.speaks()
            asked = await talk.until(ToolAsked)
            await talk.conversation.answer(asked.tool_id, '{"euros":18}')
            await talk.until(ReplyEnded)
            assert talk.text(1) == "One moment. Eighteen."
            vendor.manners.pause_s = 0.03
            await talk.conversation.read("and then")
            await talk.until(ReplyAudio, check=lambda signal: signal.reply_id == 2)
            await talk.conversation.interrupt(2, "A", 100.0)
            await talk.true(lambda: vendor.sessions[0].conversation.log)
            assert talk.notes == []
            used = talk.of(Used)
            assert {use.model for use in used if use.stage == "llm"} == {"gpt-4o-mini-realtime-preview"}
            assert {chunk.format for chunk in talk.sound(1)} == {ALAW_8K}
        assert vendor.sessions[0].peer.query["model"] == "gpt-4o-mini-realtime-preview"
        judge(vendor)
        assert vendor.sessions[0].state.transcription == {"model": "whisper-1", "language": "en"}


async def test_a_vendor_that_has_switched_the_first_shape_off_says_what_to_change() -> None:
    async with house() as vendor:
        with pytest.raises(ProviderError, match="first form") as caught:
            async with talking(realtime_agent(vendor.base_url, listening={"shape": "beta"})):
                pass
        assert '"ga"' in caught.value.fix
        assert not caught.value.retryable


# ------------------------------------------------------------------ models and keys


async def test_a_model_that_is_gone_gives_its_successor_and_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    retired._warned.discard("gpt-4o-realtime-preview")
    async with house() as vendor:
        agent = realtime_agent(vendor.base_url, model="gpt-4o-realtime-preview")
        for _ in range(2):
            async with talking(agent) as talk:
                await talk.conversation.read("hi")
                await talk.until(ReplyEnded)
                assert len(talk.notes) == 1
                assert "gpt-realtime-2.1" in talk.notes[0]
                assert {use.model for use in talk.of(Used)} == {"gpt-realtime-2.1"}
        assert {session.state.model for session in vendor.sessions} == {"gpt-realtime-2.1"}
    assert caplog.text.count("gpt-4o-realtime-preview") == 1


async def test_an_unknown_model_is_passed_on_and_refused_by_name() -> None:
    async with house(manners=Manners(models=("gpt-realtime-2.1",))) as vendor:
        with pytest.raises(ProviderError, match="gpt-9") as caught:
            async with talking(realtime_agent(vendor.base_url, model="gpt-9")):
                pass
        assert caught.value.status == 404


async def test_a_wrong_key_is_refused_without_being_repeated() -> None:
    async with house() as vendor:
        refusal = {"error": {"code": "invalid_api_key", "message": f"Incorrect API key provided: {KEY}"}}
        vendor.stage.faults.put(PATH, Refuse(401, refusal))
        with pytest.raises(ProviderError, match="refuses the key") as caught:
            async with talking(realtime_agent(vendor.base_url)):
                pass
        assert caught.value.status == 401
        assert KEY not in str(caught.value)
    async with house(manners=Manners(key="sk-another")) as vendor:
        with pytest.raises(ProviderError, match="refuses the key"):
            async with talking(realtime_agent(vendor.base_url)):
                pass
