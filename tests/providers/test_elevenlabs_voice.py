"""ElevenLabs' voices in detail: formats, prices, interruptions, refusals in plain words, and what breaks in the middle."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import anyio
import pytest

from patter.audio.format import MULAW_8K, PCM_16K, PCM_48K, AudioChunk, AudioFormat
from patter.clock import Clock
from patter.exceptions import ProviderError
from patter.loopback.elevenlabs_tts import MODELS, SARAH, SOCKET, STREAM, LoopbackElevenLabsTTS
from patter.loopback.stage import Stage, closed_port
from patter.loopback.stage_faults import CutAfter, Garbled, HalfOpen, Refuse, Silent
from patter.loopback.stage_http import Answer, Exchange
from patter.loopback.stage_script import Close, Expect, Script, Send
from patter.loopback.tones import as_line, hum
from patter.models import TTSConfig
from patter.providers import delivery
from patter.providers.bench import Bench
from patter.providers.dialer import Dialer
from patter.providers.elevenlabs import lines, socket_voice
from patter.providers.elevenlabs.http_voice import ElevenLabsHttpVoice
from patter.providers.elevenlabs.maker import make
from patter.providers.elevenlabs.socket_voice import ElevenLabsSocketVoice
from patter.providers.vendor_http import new_http
from patter.signals import ConnectionUsed, Faulted, Spent, SynthesizerPiece

pytestmark = pytest.mark.anyio

TEXT = "Your taxi is booked for six."
KEY = "sk_test_0123456789abcdef"
Voice = ElevenLabsHttpVoice | ElevenLabsSocketVoice


@dataclass
class Rig:
    """One HTTP client and one dialer, as a workshop has them; `notes` are the sentences for the user."""

    http: aiohttp.ClientSession
    dialer: Dialer
    tasks: Any
    stack: AsyncExitStack
    notes: list[str]

    def make(
        self,
        base_url: str,
        streaming: str = "http",
        *,
        voice: str = SARAH,
        plays: AudioFormat | None = MULAW_8K,
        attended: bool = True,
        key: str = KEY,
        **values: Any,
    ) -> Voice:
        config = TTSConfig("elevenlabs", "", voice, streaming=streaming, **values)
        tasks = self.tasks if attended else None
        bench = Bench(self.http, self.dialer, Clock(), key, base_url, plays=plays, tasks=tasks, note=self.notes.append)
        made = make(config, bench)
        self.stack.push_async_callback(made.aclose)
        return made


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    with anyio.fail_after(40):
        async with anyio.create_task_group() as tasks, new_http() as http, AsyncExitStack() as stack:
            dialer = Dialer(http)
            stack.push_async_callback(dialer.aclose)
            yield Rig(http, dialer, tasks, stack, [])


@asynccontextmanager
async def vendor(**values: Any) -> AsyncIterator[LoopbackElevenLabsTTS]:
    async with LoopbackElevenLabsTTS(key=KEY, **values) as made:
        yield made


async def said(voice: Voice, text: str = TEXT) -> list[SynthesizerPiece]:
    async with aclosing(voice.synthesize(text)) as pieces:
        return [piece async for piece in pieces]


def sound(pieces: list[SynthesizerPiece]) -> bytes:
    return b"".join(piece.data for piece in pieces if isinstance(piece, AudioChunk))


def of(kind: type, pieces: list[SynthesizerPiece]) -> list[Any]:
    return [piece for piece in pieces if isinstance(piece, kind)]


# ------------------------------------------------------------------------------------------------------------ choices


async def test_a_socket_is_the_usual_way_and_v3_comes_by_http(rig: Rig) -> None:
    assert isinstance(rig.make("", ""), ElevenLabsSocketVoice)
    assert isinstance(rig.make("", "http"), ElevenLabsHttpVoice)
    assert isinstance(rig.make("", "", model="eleven_v3"), ElevenLabsHttpVoice)
    assert rig.notes == []
    assert isinstance(rig.make("", "websocket", model="eleven_v3"), ElevenLabsHttpVoice)
    assert rig.notes == ["eleven_v3 has no WebSocket: its voice comes by HTTP."]


@pytest.mark.parametrize(
    ("base_url", "streaming"), [("", "carrier pigeon"), ("http://api.example.com", ""), ("api", "")]
)
async def test_settings_that_cannot_be_used_are_refused(rig: Rig, base_url: str, streaming: str) -> None:
    with pytest.raises(ValueError):
        rig.make(base_url, streaming)


@pytest.mark.parametrize("streaming", ["http", "websocket"])
@pytest.mark.parametrize(
    ("plays", "spelled"), [(MULAW_8K, "ulaw_8000"), (PCM_16K, "pcm_16000"), (PCM_48K, "pcm_24000")]
)
async def test_the_format_settings_and_language_reach_the_vendor(
    rig: Rig, streaming: str, plays: AudioFormat, spelled: str
) -> None:
    async with vendor() as there:
        voice = rig.make(there.base_url, streaming, plays=plays, options={"stability": 0.4, "speed": 1.1, "seed": 7})
        assert sound(await said(voice))
        if streaming == "http":
            visit = there.stage.visits[-1]
            assert visit.query["output_format"] == [spelled]
            assert visit.json == {
                "text": TEXT, "model_id": "eleven_flash_v2_5", "language_code": "en", "seed": 7,
                "voice_settings": {"stability": 0.4, "speed": 1.1},
            }  # fmt: skip
            assert visit.headers["xi-api-key"] == KEY
        else:
            peer = there.stage.peers[-1]
            assert (peer.query["output_format"], peer.query["language_code"]) == (spelled, "en")
            assert peer.received[0] == {
                "text": " ", "context_id": "s1", "voice_settings": {"stability": 0.4, "speed": 1.1},
            }  # fmt: skip
            assert peer.headers["xi-api-key"] == KEY
            assert KEY not in str(peer.request.url)


async def test_a_socket_gives_the_sound_also_as_it_stood_on_the_wire(rig: Rig) -> None:
    async with vendor() as there:
        chunks = of(AudioChunk, await said(rig.make(there.base_url, "websocket")))
        assert all(chunk.base64 for chunk in chunks)


# ------------------------------------------------------------------------------------------------- cost and connections


async def test_the_price_is_taken_from_the_answer(rig: Rig) -> None:
    async with vendor() as there:
        pieces = await said(rig.make(there.base_url))
        assert of(Spent, pieces) == [Spent({"characters": float(len(TEXT))})]
        multilingual = rig.make(there.base_url, model="eleven_multilingual_v2")
        assert of(Spent, await said(multilingual)) == [Spent({"characters": float(len(TEXT))})]
    async with vendor(cost=False) as there:
        assert of(Spent, await said(rig.make(there.base_url))) == []


@pytest.mark.parametrize("streaming", ["http", "websocket"])
async def test_a_started_voice_speaks_over_a_connection_that_stands(rig: Rig, streaming: str) -> None:
    async with vendor() as there:
        voice = rig.make(there.base_url, streaming)
        first = of(ConnectionUsed, await said(voice))
        assert [(used.stage, used.provider, used.reused) for used in first] == [("tts", "elevenlabs", False)]
        assert first[0].ms > 0
        assert of(ConnectionUsed, await said(voice)) == [ConnectionUsed("tts", "elevenlabs", True)]
    async with vendor() as there:
        voice = rig.make(there.base_url, streaming, voice="sarah")
        await voice.start()
        assert of(ConnectionUsed, await said(voice)) == [ConnectionUsed("tts", "elevenlabs", True)]


async def test_an_interruption_costs_no_connection_on_a_socket(rig: Rig) -> None:
    async with vendor(between_s=0.005, chunk_ms=20) as there:
        voice = rig.make(there.base_url, "websocket")
        for _ in range(3):
            async with aclosing(voice.synthesize(TEXT)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, AudioChunk):
                        break
        pieces = await said(voice, "Sure, just the desserts.")
        assert of(ConnectionUsed, pieces) == [ConnectionUsed("tts", "elevenlabs", True)]
        assert sound(pieces) == as_line(hum("Sure, just the desserts."), MULAW_8K)
        assert len(there.stage.peers) == 1


class Choir:
    """A vendor's voice that begins when so many sentences have been asked for, or when told."""

    def __init__(self, size: int) -> None:
        self.size, self.asked = size, 0
        self.ready = anyio.Event()

    async def __call__(self, text: str) -> bytes:
        self.asked += 1
        if self.asked >= self.size:
            self.ready.set()
        await self.ready.wait()
        return hum(text)


@pytest.mark.parametrize("attended", [True, False])
async def test_more_sentences_than_a_socket_carries_open_another_one(rig: Rig, attended: bool) -> None:
    async with vendor(voice=Choir(9)) as there:
        voice = rig.make(there.base_url, "websocket", attended=attended)
        async with anyio.create_task_group() as tasks:
            for number in range(9):
                tasks.start_soon(said, voice, f"Sentence number {number}.")
        assert len(there.spoken) == 9
        assert len(there.stage.peers) == 3  # four on each; the vendor closes a socket with a sixth


async def test_interrupted_sentences_count_until_the_vendor_has_marked_their_end(rig: Rig) -> None:
    choir = Choir(99)
    async with vendor(voice=choir) as there:
        voice = rig.make(there.base_url, "websocket")
        for _ in range(7):
            async with aclosing(voice.synthesize(TEXT)) as pieces:
                await anext(pieces)  # it has been asked for
        choir.ready.set()
        assert sound(await said(voice)) == as_line(hum(TEXT), MULAW_8K)
        assert len(there.stage.peers) == 2


# ------------------------------------------------------------------------------------------------- before the first ring


@pytest.mark.parametrize("streaming", ["http", "websocket"])
async def test_a_voice_that_the_account_does_not_have_is_told_at_the_start(rig: Rig, streaming: str) -> None:
    async with vendor() as there:
        with pytest.raises(ProviderError, match=r"no voice called 'rachel'.*retired.*Sarah - Warm, George") as caught:
            await rig.make(there.base_url, streaming, voice="rachel").start()
        assert caught.value.stage == "tts"
        assert not caught.value.retryable


@pytest.mark.parametrize("streaming", ["http", "websocket"])
async def test_a_wrong_key_is_told_at_the_start_and_never_shown(rig: Rig, streaming: str) -> None:
    async with vendor() as there:
        there.stage.faults.keep(
            SOCKET, Refuse(401, {"detail": {"status": "invalid_api_key", "message": "sk_wrong_key_1"}})
        )
        with pytest.raises(ProviderError, match=r"refuses the key.*check ELEVENLABS_API_KEY") as caught:
            await rig.make(there.base_url, streaming, key="sk_wrong_key_1").start()
        assert "sk_wrong_key_1" not in str(caught.value)


async def test_trouble_with_the_question_that_opens_a_connection_proves_nothing(rig: Rig) -> None:
    async with vendor() as there:
        there.stage.faults.put(
            MODELS, Refuse(401, {"detail": {"status": "missing_permissions", "message": "models_read"}})
        )
        voice = rig.make(there.base_url)
        await voice.start()
        assert sound(await said(voice))


@pytest.mark.parametrize("streaming", ["http", "websocket"])
async def test_a_vendor_that_cannot_be_reached_is_told_at_the_first_sentence_at_the_latest(
    rig: Rig, streaming: str
) -> None:
    voice = rig.make(f"http://127.0.0.1:{closed_port()}", streaming)
    with pytest.raises(ProviderError, match="cannot be reached") as caught:
        await said(voice)
    assert (caught.value.retryable, caught.value.tries) == (True, 2)


# --------------------------------------------------------------------------------------------------------- plain words


def detail(code: str) -> dict[str, Any]:
    return {"detail": {"status": code, "message": "the vendor's own words"}}


REFUSALS = [
    (401, detail("quota_exceeded"), "characters of this plan are used up", False),
    (402, {"detail": {"code": "paid_plan_required", "message": "x"}}, f"the voice '{SARAH}' needs a paid plan", False),
    (400, detail("voice_not_found"), f"the account has no voice '{SARAH}'", False),
    (404, detail("voice_not_found"), f"the account has no voice '{SARAH}'", False),
    (400, detail("max_character_limit_exceeded"), "too long for eleven_flash_v2_5", False),
    (429, detail("too_many_concurrent_requests"), "more sentences at the same time than the plan allows", True),
    (422, {"detail": [{"loc": ["body"], "msg": "field required", "type": "missing"}]}, "field required", False),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "says", "retryable"), REFUSALS)
async def test_refusals_are_told_in_plain_words(
    rig: Rig, status: int, body: dict[str, Any], says: str, retryable: bool
) -> None:
    async with vendor() as there:
        there.stage.faults.put(STREAM, *[Refuse(status, body)] * (2 if retryable else 1))
        with pytest.raises(ProviderError, match=says) as caught:
            await said(rig.make(there.base_url))
        assert (caught.value.retryable, caught.value.status) == (retryable, status)
        assert caught.value.fix


async def test_too_many_at_the_same_time_is_tried_again(rig: Rig) -> None:
    async with vendor() as there:
        there.stage.faults.put(STREAM, Refuse(429, detail("system_busy"), retry_after="0.05"))
        pieces = await said(rig.make(there.base_url))
        assert [piece.problem for piece in of(Faulted, pieces)] == ["too many requests (the vendor's own words)"]
        assert sound(pieces) == as_line(hum(TEXT), MULAW_8K)


@pytest.mark.parametrize(
    ("code", "says", "retryable"),
    [
        ("invalid_api_key", "refuses the key", False),
        ("quota_exceeded", "characters of this plan are used up", False),
        ("something_new", "it gave up .the vendor's own words", False),
        ("max_active_conversations", "it gave up", True),
    ],
)
async def test_a_fault_on_the_socket_is_told_in_plain_words(rig: Rig, code: str, says: str, retryable: bool) -> None:
    fault = {"message": "the vendor's own words", "error": code, "code": 1008}
    steps = [Expect({"context_id": str})] * 3
    async with Stage() as stage:
        script = Script([*steps, Send(fault), Close(1008, "bye")])
        stage.script(SOCKET, *[script] * (2 if retryable else 1))
        with pytest.raises(ProviderError, match=says) as caught:
            await said(rig.make(stage.http, "websocket"))
        assert (caught.value.retryable, caught.value.status, caught.value.code) == (retryable, 1008, code)


# ----------------------------------------------------------------------------------------------- breaks in the middle


@pytest.mark.parametrize("plays", [MULAW_8K, PCM_16K])
async def test_a_stream_that_breaks_off_goes_on_where_it_broke(rig: Rig, plays: AudioFormat) -> None:
    async with vendor(ragged=True) as there:
        there.stage.faults.put(STREAM, CutAfter(bytes=4321))
        pieces = await said(rig.make(there.base_url, plays=plays))
        assert sound(pieces) == as_line(hum(TEXT), plays)
        assert [piece.fix for piece in of(Faulted, pieces)] == ["the sentence is asked for again"]
        assert there.spoken == [TEXT, TEXT]
        assert len(of(Spent, pieces)) == 2  # the vendor charges for both


@pytest.mark.parametrize("attended", [True, False])
@pytest.mark.parametrize("fault", [CutAfter(sent=3), CutAfter(received=2)])
async def test_a_socket_that_drops_is_opened_again_and_nothing_is_heard_twice(
    rig: Rig, fault: CutAfter, attended: bool
) -> None:
    async with vendor() as there:
        there.stage.faults.put(SOCKET, fault)
        pieces = await said(rig.make(there.base_url, "websocket", attended=attended))
        assert sound(pieces) == as_line(hum(TEXT), MULAW_8K)
        assert [piece.provider for piece in of(Faulted, pieces)] == ["elevenlabs"]
        assert [used.reused for used in of(ConnectionUsed, pieces)] == [False, False]


@pytest.mark.parametrize(
    ("streaming", "path", "fault"), [("http", STREAM, CutAfter(bytes=900)), ("websocket", SOCKET, CutAfter(sent=1))]
)
async def test_what_breaks_off_twice_is_an_error(rig: Rig, streaming: str, path: str, fault: CutAfter) -> None:
    async with vendor() as there:
        there.stage.faults.put(path, fault, fault)
        with pytest.raises(ProviderError, match="broke off") as caught:
            await said(rig.make(there.base_url, streaming))
        assert (caught.value.retryable, caught.value.tries) == (True, 2)


async def test_an_answer_without_sound_is_an_error(rig: Rig) -> None:
    async with Stage() as stage:
        stage.exchanges("POST", STREAM, *[Exchange(Answer(200, {"Content-Type": "audio/basic"}))] * 2)
        with pytest.raises(ProviderError, match="without any sound"):
            await said(rig.make(stage.http))


async def test_garbage_on_the_socket_is_an_error(rig: Rig) -> None:
    async with vendor() as there:
        there.stage.faults.keep(SOCKET, Garbled())
        with pytest.raises(ProviderError, match="cannot be read"):
            await said(rig.make(there.base_url, "websocket"))


@pytest.mark.parametrize(("streaming", "path", "fault"), [
    ("http", STREAM, Silent()), ("http", STREAM, HalfOpen()), ("websocket", SOCKET, HalfOpen()),
])  # fmt: skip
async def test_a_vendor_that_says_nothing_is_not_waited_for(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, streaming: str, path: str, fault: Any
) -> None:
    monkeypatch.setattr("patter.providers.elevenlabs.http_voice.SILENCE_S", 0.2)
    monkeypatch.setattr(socket_voice, "SILENCE_S", 0.2)
    assert delivery.SILENCE_S < 10.0  # the silence that a caller bears
    async with vendor() as there:
        voice = rig.make(there.base_url, streaming)
        there.stage.faults.keep(path, fault)
        with pytest.raises(ProviderError) as caught:
            await said(voice)
        assert caught.value.retryable
        there.stage.faults.heal(path)
        monkeypatch.undo()
        assert sound(await said(voice)) == as_line(hum(TEXT), MULAW_8K)


async def test_all_who_wait_for_a_socket_share_its_failure(rig: Rig) -> None:
    async with vendor() as there:
        voice = rig.make(there.base_url, "websocket")
        there.stage.faults.keep(SOCKET, Refuse(403))
        failures: list[ProviderError] = []

        async def one() -> None:
            try:
                await said(voice)
            except ProviderError as error:
                failures.append(error)

        async with anyio.create_task_group() as tasks:
            for _ in range(6):
                tasks.start_soon(one)
        assert len(failures) == 6
        assert {error.status for error in failures} == {403}


# ------------------------------------------------------------------------------------------------------- idle sockets


async def test_an_idle_socket_is_kept_alive_while_somebody_reads_it(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "TEND_S", 0.01)
    monkeypatch.setattr(lines, "KEEP_ALIVE_S", 0.02)
    async with vendor() as there:
        voice = rig.make(there.base_url, "websocket")
        await voice.start()
        while there.kept_alive < 3:
            await anyio.sleep(0.005)
        assert of(ConnectionUsed, await said(voice))[0].reused


@pytest.mark.parametrize("attended", [True, False])
async def test_a_socket_that_nobody_uses_is_closed_in_the_end(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, attended: bool
) -> None:
    monkeypatch.setattr(lines, "TEND_S", 0.01)
    monkeypatch.setattr(lines, "KEPT_S" if attended else "UNREAD_S", 0.05)
    async with vendor() as there:
        voice = rig.make(there.base_url, "websocket", attended=attended)
        await said(voice)
        while there.stage.open_sockets:
            await anyio.sleep(0.005)
        assert {"close_socket": True} in there.stage.peers[0].received
        assert not of(ConnectionUsed, await said(voice))[0].reused


async def test_a_socket_that_the_vendor_closed_meanwhile_is_not_spoken_to(rig: Rig) -> None:
    async with vendor() as there:
        voice = rig.make(there.base_url, "websocket")
        await voice.start()
        await there.stage.peers[0].close(1000)
        while there.stage.open_sockets:
            await anyio.sleep(0.005)
        pieces = await said(voice)
        assert sound(pieces) == as_line(hum(TEXT), MULAW_8K)
        assert of(Faulted, pieces) == []


async def test_closing_says_goodbye(rig: Rig) -> None:
    async with vendor() as there:
        voice = rig.make(there.base_url, "websocket")
        await voice.start()
        await voice.aclose()
        await voice.aclose()
        while there.stage.open_sockets:
            await anyio.sleep(0.005)
        assert there.stage.peers[0].received == [{"close_socket": True}]


async def test_the_key_stands_in_no_repr(rig: Rig) -> None:
    assert KEY not in repr(rig.make("", "websocket")._speaker)
