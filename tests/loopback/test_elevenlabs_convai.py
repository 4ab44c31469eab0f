"""The loopback agent: what a client must not send, how it listens and answers, and the official client as its judge."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import anyio
import httpx
import pytest
from elevenlabs.client import ElevenLabs

from patter.audio.format import MULAW_8K, PCM_16K, AudioFormat
from patter.loopback.elevenlabs_convai import CONVERSATION, SIGNED_URL, LoopbackConvai, StoredAgent, Turn
from patter.loopback.elevenlabs_convai_agents import History
from patter.loopback.elevenlabs_convai_events import DEFAULT_EVENTS
from patter.loopback.stage_script import ScriptBroken
from patter.loopback.tones import as_line, tone
from tests.support.elevenlabs_client import (
    AsyncAudioInterface,
    AsyncConversation,
    ClientTools,
    ConversationInitiationData,
)

# ruff: noqa: PT012 -- leaving the vendor is what raises, so it stands inside

pytestmark = pytest.mark.anyio

KEY = "sk_loopback_0123456789"
LOUD = as_line(tone(300.0, 200.0), MULAW_8K)
BEGIN = {"type": "conversation_initiation_client_data"}


async def hears_hello(sound: bytes, line: AudioFormat) -> str:
    return "hello there"


async def quickly(text: str, line: AudioFormat) -> bytes:
    return line.quiet(10.0 * len(text))


def agent(**settings: object) -> StoredAgent:
    given = {"transcribe": hears_hello, "speak": quickly, "pause_s": 0.2, "first_message": ""} | settings
    return StoredAgent(**given)  # type: ignore[arg-type]


class Client:
    """A socket to the vendor, read by hand."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def say(self, *messages: dict[str, Any]) -> None:
        for message in messages:
            await self.socket.send_json(message)

    async def hear(self, sound: bytes) -> None:
        await self.say({"user_audio_chunk": b64encode(sound).decode()})

    async def next(self, *kinds: str) -> dict[str, Any]:
        """The next message of one of these types; pings are passed over unless they are asked for."""
        with anyio.fail_after(10):
            while True:
                message: dict[str, Any] = await self.socket.receive_json()
                if message["type"] in kinds or (message["type"] != "ping" and not kinds):
                    return message


@asynccontextmanager
async def client_of(vendor: LoopbackConvai, *, begin: dict[str, Any] | None = None) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as http:
        async with http.get(
            vendor.stage.http + SIGNED_URL, params={"agent_id": "agent_loopback"}, headers={"xi-api-key": KEY}
        ) as answer:
            url = (await answer.json())["signed_url"]
        async with http.ws_connect(url, protocols=("convai",)) as socket:
            client = Client(socket)
            await client.say(BEGIN if begin is None else begin)
            yield client


async def test_a_conversation_begins_with_its_formats_and_the_greeting() -> None:
    greeting = agent(first_message="Hello {{ guest }}.", plays="pcm_16000")
    begin = BEGIN | {"dynamic_variables": {"guest": "Noor"}}
    async with LoopbackConvai(greeting) as vendor, client_of(vendor, begin=begin) as client:
        begun = (await client.next())["conversation_initiation_metadata_event"]
        assert (begun["agent_output_audio_format"], begun["user_input_audio_format"]) == ("pcm_16000", "ulaw_8000")
        said = (await client.next())["agent_response_event"]
        heard = (await client.next("audio"))["audio_event"]
        assert said["agent_response"] == "Hello Noor."
        assert heard["event_id"] == said["event_id"]
        assert client.socket.protocol == "convai"


async def test_what_the_caller_says_is_transcribed_answered_and_interrupts() -> None:
    slow = agent(pace=1.0, client_events=DEFAULT_EVENTS | {"agent_response_correction"})
    async with LoopbackConvai(slow) as vendor, client_of(vendor) as client:
        await client.hear(LOUD)
        await client.hear(MULAW_8K.quiet(300))
        transcript = await client.next("user_transcript")
        assert transcript["user_transcription_event"]["user_transcript"] == "hello there"
        said = (await client.next("agent_response"))["agent_response_event"]
        await client.next("audio")
        await client.hear(LOUD)
        interruption = (await client.next("interruption"))["interruption_event"]
        assert interruption["event_id"] > said["event_id"]
        correction = (await client.next("agent_response_correction"))["agent_response_correction_event"]
        assert (correction["event_id"], correction["original_agent_response"]) == (
            said["event_id"],
            "You said: hello there.",
        )
        assert len(correction["corrected_agent_response"]) < len("You said: hello there.")


async def test_events_that_the_agent_is_not_set_to_send_do_not_come() -> None:
    quiet = agent(first_message="Hi.", client_events=frozenset({"conversation_initiation_metadata", "audio"}))
    async with LoopbackConvai(quiet) as vendor, client_of(vendor) as client:
        assert [(await client.next())["type"] for _ in range(2)] == ["conversation_initiation_metadata", "audio"]


async def test_clicks_are_no_voice_and_a_client_that_sends_no_beginning_has_the_stored_agent() -> None:
    async with LoopbackConvai(agent()) as vendor, client_of(vendor, begin={"type": "user_activity"}) as client:
        await client.hear(LOUD[:160])
        await client.hear(MULAW_8K.quiet(500))
        await client.say({"type": "user_message", "text": "Hi"})
        await client.next("agent_response")
        assert [text for role, text in vendor.talks[0].history if role == "user"] == ["Hi"]
        assert vendor.talks[0].activities == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "audio"},
        {"type": "pong", "event_id": 999},
        {"type": "user_message"},
        {"user_audio_chunk": "???"},
        {"user_audio_chunk": 5},
        {"type": "client_tool_result", "tool_call_id": "tc_1", "result": "x", "is_error": False},
        {"type": "client_tool_result", "tool_call_id": "tc_1", "result": {}, "is_error": False},
        {"type": "client_tool_result", "tool_call_id": "tc_1"},
    ],
)
async def test_what_the_vendor_would_not_take_closes_the_conversation_and_fails_the_rehearsal(wrong: Any) -> None:
    with pytest.raises(ScriptBroken, match="conversation"):
        async with LoopbackConvai(agent()) as vendor, client_of(vendor) as client:
            await client.next("conversation_initiation_metadata")
            await client.say(wrong)
            await _closed(client, 1008)


async def _closed(client: Client, code: int) -> str:
    with anyio.fail_after(10):
        while True:
            message = await client.socket.receive()
            if message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED):
                assert client.socket.close_code == code
                return str(message.extra or "")


async def test_half_a_sample_is_no_sound() -> None:
    with pytest.raises(ScriptBroken, match="inside a sample"):
        async with LoopbackConvai(agent(hears="pcm_16000")) as vendor, client_of(vendor) as client:
            await client.next("conversation_initiation_metadata")
            await client.hear(b"\x00\x00\x00")
            await _closed(client, 1008)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ({"agent": {"prompt": {"prompt": "x"}}}, "field 'prompt' is not allowed"),
        ({"agent": {"llm": "x"}}, "unknown fields"),
        ({"agent": {"prompt": {"prompt": "x", "llm": "y"}}}, "unknown fields"),
        ({"tts": {"voice_id": 5}}, "unknown fields"),
        ({"asr": {}}, "unknown parts"),
    ],
)
async def test_overrides_are_checked(override: dict[str, Any], says: str) -> None:
    begin = BEGIN | {"conversation_config_override": override}
    async with LoopbackConvai(agent(allows=frozenset())) as vendor, client_of(vendor, begin=begin) as client:
        assert says in await _closed(client, 1008)


async def test_only_a_signed_address_used_once_a_key_or_a_public_agent_lets_a_client_in() -> None:
    public = StoredAgent("agent_public", public=True)
    async with LoopbackConvai(agent(), public, api_key=KEY) as vendor, aiohttp.ClientSession() as http:

        async def refused(url: str, **headers: str) -> int:
            try:
                async with http.ws_connect(url, headers=headers):
                    return 101
            except aiohttp.WSServerHandshakeError as error:
                return error.status

        plain = f"{vendor.stage.ws}{CONVERSATION}?agent_id="
        assert await refused(f"{plain}agent_loopback") == 403
        assert await refused(f"{plain}agent_loopback&conversation_signature=guess") == 403
        assert await refused(f"{plain}agent_unknown") == 404
        assert await refused(f"{plain}agent_public") == 101
        assert await refused(f"{plain}agent_loopback", **{"xi-api-key": KEY}) == 101
        headers, params = {"xi-api-key": KEY}, {"agent_id": "agent_loopback"}
        async with http.get(vendor.stage.http + SIGNED_URL, params=params, headers=headers) as answer:
            url = (await answer.json())["signed_url"]
        assert await refused(url) == 101
        assert await refused(url) == 403
        async with http.get(vendor.stage.http + SIGNED_URL, params=params) as answer:
            assert answer.status == 401


def test_a_format_that_the_vendor_does_not_know_cannot_be_stored() -> None:
    with pytest.raises(ValueError, match="ulaw_8000"):
        StoredAgent(plays="mp3_44100")


# ---------------------------------------------------------------------------------------------------- the official client


class Headset(AsyncAudioInterface):
    """Speaks when it is told to, and keeps what it hears."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.interrupted = 0
        self._speak: Callable[[bytes], Awaitable[None]]

    async def start(self, input_callback: Callable[[bytes], Awaitable[None]]) -> None:
        self._speak = input_callback

    async def stop(self) -> None: ...

    async def output(self, audio: bytes) -> None:
        self.heard += audio

    async def interrupt(self) -> None:
        self.interrupted += 1

    async def speak(self) -> None:
        await self._speak(as_line(tone(300.0, 300.0), PCM_16K))
        await self._speak(PCM_16K.quiet(500))


async def test_the_official_client_converses_with_the_loopback_agent() -> None:
    async def books(history: History) -> Turn:
        if history[-1][0] == "tool":
            return Turn(f"It is {history[-1][1]}. Goodbye.", end_call=True)
        return Turn(tools=[("book", {"day": "Sunday"})])

    stored = agent(hears="pcm_16000", plays="pcm_16000", first_message="Hello {{guest}}.", think=books, aligned=True)
    said: list[tuple[str, str]] = []
    over = anyio.Event()

    def note(who: str) -> Callable[[str], Awaitable[None]]:
        async def take(text: str) -> None:
            said.append((who, text))

        return take

    async def ended(details: Any) -> None:
        said.append(("end", details.reason))
        over.set()

    tools, headset = ClientTools(), Headset()
    tools.register("book", lambda parameters: f"booked for {parameters['day']}")
    async with LoopbackConvai(stored, api_key=KEY) as vendor:
        rest = httpx.Client()
        override = {"agent": {"prompt": {"prompt": "Be brief."}, "language": "en"}}
        conversation = AsyncConversation(
            ElevenLabs(api_key=KEY, base_url=vendor.stage.http, httpx_client=rest),
            "agent_loopback",
            requires_auth=True,
            audio_interface=headset,
            config=ConversationInitiationData(
                conversation_config_override=override, dynamic_variables={"guest": "Noor"}
            ),
            client_tools=tools,
            callback_agent_response=note("agent"),
            callback_user_transcript=note("caller"),
            callback_disconnect=ended,
        )
        with anyio.fail_after(20):
            await conversation.start_session()  # type: ignore[no-untyped-call]
            rest.close()  # noqa: ASYNC212 -- the official client asks over it from a thread
            while ("agent", "Hello Noor.") not in said or not headset.heard:
                await anyio.sleep(0.01)
            await headset.speak()
            await over.wait()
            conversation_id = await conversation.wait_for_session_end()
        talk = vendor.talks[0]
        assert conversation_id == talk.conversation_id
        assert (talk.begun.prompt, talk.pongs > 0) == ("Be brief.", True)
    assert said == [
        ("agent", "Hello Noor."),
        ("caller", "hello there"),
        ("agent", "It is booked for Sunday. Goodbye."),
        ("end", "agent"),
    ]
    assert len(headset.heard) == PCM_16K.bytes_for(10.0 * len("Hello Noor.It is booked for Sunday. Goodbye."))
