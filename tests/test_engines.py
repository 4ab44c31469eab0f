"""Every engine of the API in real phone calls: over both loopback carriers, with all vendors on this machine.

Words are tones (`tone_speech`), so what each side heard is known word by word.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from patter import Agent, CallMetrics, Patter
from patter.audio.convert import Converter
from patter.audio.format import MULAW_8K, PCM_8K, PCM_16K, PCM_24K, AudioFormat
from patter.loopback.media_leg import Mouth
from patter.loopback.openai_chat_living import Call
from patter.loopback.person import Person
from patter.loopback.stage_peer import Peer
from patter.loopback.tones import as_line
from patter.server.listener import listen
from patter.vendors.house import VendorHouse
from tests.support.carriers import CARRIERS, OURS, THEIRS, carrier_of, phone_at
from tests.support.tone_speech import speech, understood
from tests.support.vendor_house import ENGINES, Mind, patter_of, vendor_house

pytestmark = pytest.mark.anyio

PATIENCE_S = 30.0  # the machine is shared
QUIET = MULAW_8K.bytes_for(200)  # longer than the gap between two words
GREETING = "alpha bravo"
GOLF_HOTEL = speech("golf", "hotel", line=PCM_24K)
LONG = "juliett kilo lima mike november juliett kilo lima mike november"
USED = {
    "openai_realtime": {("stt", "openai"), ("llm", "openai")},
    "elevenlabs_convai": {("llm", "elevenlabs")},
    "pipeline": {("stt", "deepgram"), ("llm", "openai"), ("tts", "elevenlabs")},
}
ORDER = {
    "name": "order",
    "description": "Orders a golf.",
    "parameters": {"type": "object", "required": ["what"], "properties": {"what": {"type": "string"}}},
}


def think(said: str, results: Mapping[str, str]) -> str | Call | Sequence[str | Call]:
    """What the agents of this file answer."""
    if "order" in results:
        return "india." if "ready" in results["order"] else "papa."
    answers: dict[str, str | Call | Sequence[str | Call]] = {
        "charlie": "golf hotel.",
        "delta": Call("order", '{"what": "golf"}'),
        "echo": f"{LONG}.",
        "foxtrot": ["oscar.", Call("end_call", '{"reason": "done"}')],
    }
    return answers.get(said.strip(".").lower(), "papa.")


class Caller:
    """Somebody who says what they are told to."""

    def __init__(self) -> None:
        self._sound = b""
        self._line = MULAW_8K
        self.person = Person(mouth=self._mouth)

    def say(self, *words: str) -> bytes:
        """Begin to say it now; returns its sound on the line."""
        self._sound += speech(*words, line=self._line)
        return self._sound

    def _mouth(self, line: AudioFormat) -> Mouth:
        self._line = line

        def frame() -> bytes:
            size = line.bytes_for(20)
            now, self._sound = self._sound[:size], self._sound[size:]
            return now

        return frame


@dataclass
class OnThePhone:
    """A call that is up, and everything around it."""

    engine: str
    house: VendorHouse
    mind: Mind
    caller: Caller
    leg: Any
    home: Path
    ordered: list[dict[str, Any]]
    over: list[dict[str, Any]]
    listened: int = 0
    words: str = ""

    def heard(self) -> str:
        """The words the caller has heard so far."""
        new = bytes(self.leg.heard[self.listened :])
        words = " ".join(filter(None, (self.words, understood(Converter(MULAW_8K, PCM_16K).convert(new)))))
        if self.quiet:  # nothing of this changes any more
            self.listened, self.words = self.listened + len(new), words
        return words

    @property
    def quiet(self) -> bool:
        """Whether the agent has stopped talking."""
        return bytes(self.leg.heard[-QUIET:]) == MULAW_8K.silence * QUIET

    async def until_heard(self, words: str, *, whole: bool = True) -> None:
        """Wait until the caller has heard this, and (`whole`) that the agent has stopped talking."""

        def heard() -> bool:
            return (self.quiet or not whole) and words in self.heard()

        await self.until(heard, lambda: f"{words!r} in {self.heard()!r}")

    async def until(self, check: Callable[[], object], told: Callable[[], str] = str) -> None:
        """Wait until something is so."""
        with anyio.move_on_after(PATIENCE_S):
            while not check():
                await anyio.sleep(0.02)
            return
        pytest.fail(f"not in time: {told()}; journal: {[event['type'] for event in self.events()]}")

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        """The journal so far."""
        files = list(self.home.glob("serve/*/calls/*/events.jsonl"))
        lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        return [event for event in lines if not kind or event["type"] == kind]


@asynccontextmanager
async def on_the_phone(carrier_name: str, engine: str, port: int, home: Path) -> AsyncIterator[OnThePhone]:
    """A served number that is being called; the agent has greeted."""
    ordered: list[dict[str, Any]] = []
    ended: list[dict[str, Any]] = []
    mind = Mind(think)

    async def order(arguments: dict[str, Any], call: dict[str, Any]) -> str:
        ordered.append(arguments)
        return "It is ready."

    async def over(call: dict[str, Any]) -> None:
        ended.append(call)

    async with carrier_of(carrier_name) as carrier, vendor_house(mind, tools=[ORDER]) as house:
        phone = phone_at(carrier, port, home, **patter_of(house))
        agent = phone.agent("Be kind.", first_message=GREETING, tools=[ORDER | {"handler": order}], **ENGINES[engine])
        async with served(phone, agent, over, port):
            caller = Caller()
            leg = carrier.place_call(THEIRS, OURS, caller.person)
            call = OnThePhone(engine, house, mind, caller, leg, home, ordered, ended)
            await call.until_heard(GREETING)
            yield call
        assert carrier.violations == []


@asynccontextmanager
async def served(phone: Patter, agent: Agent, over: Callable[[dict[str, Any]], Any], port: int) -> AsyncIterator[None]:
    """`serve()` in the background, from when it listens until it has been disconnected."""
    async with anyio.create_task_group() as tasks:

        async def serve() -> None:
            await phone.serve(agent, port, dashboard=False, on_call_end=over)

        tasks.start_soon(serve)
        with anyio.fail_after(PATIENCE_S):
            while phone._serving is None or phone._serving.station is None:
                await anyio.sleep(0.02)
        yield
        await phone.disconnect()


@pytest.fixture
def port() -> int:
    listener = listen()
    number: int = listener.getsockname()[1]
    listener.close()
    return number


def lines(events: list[dict[str, Any]]) -> list[str]:
    """What was said, in order."""
    told = {event["turn"]: event["text"] for event in events if event["type"] == "CallerTranscribed"}
    said = []
    for event in events:
        if event["type"] == "CallerSaid":
            said.append(f"caller: {told.get(event['turn'], event['text'])}")
        elif event["type"] == "AgentSaid":
            said.append(f"agent: {event['text']}")
    return said


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("carrier", CARRIERS)
async def test_a_whole_call(carrier: str, engine: str, port: int, tmp_path: Path) -> None:
    await whole_call(carrier, engine, port, tmp_path)


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_whole_call_among_many_others(
    engine: str, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("patter.transports.caller_frames.CROWD", 1)
    house = await whole_call("twilio", engine, port, tmp_path)
    assert MULAW_8K.ms_of(piece_of(house, engine)) == pytest.approx(40, abs=4)  # an odd frame at either end


async def whole_call(carrier: str, engine: str, port: int, tmp_path: Path) -> VendorHouse:
    """A greeting, a question, a tool, an interruption and a goodbye. Returns the vendors that were asked."""
    async with on_the_phone(carrier, engine, port, tmp_path) as call:
        question = call.caller.say("charlie")
        await call.until_heard("golf hotel")
        call.caller.say("delta")
        await call.until_heard("india")
        call.caller.say("echo")
        await call.until_heard("juliett kilo", whole=False)
        call.caller.say("foxtrot")  # in the middle of the long answer
        await call.until_heard("oscar", whole=False)
        with anyio.fail_after(PATIENCE_S):
            await call.leg.over.wait()
            await call.until(lambda: call.over)
        kept = bytes(call.leg.heard)
    events = call.events()

    said = lines(events)
    cut = next(event for event in events if event["type"] == "AgentSaid" and event["interrupted"])
    assert said == [
        f"agent: {GREETING}", "caller: charlie", "agent: golf hotel.", "caller: delta", "agent: india.",
        "caller: echo", f"agent: {cut['text']}", "caller: foxtrot", "agent: oscar.",
    ]  # fmt: skip
    assert cut["text"]
    assert LONG.startswith(cut["text"])  # what was heard, and no more
    assert len(cut["text"].split()) <= 4
    assert call.ordered == [{"what": "golf"}]
    assert events[-1]["type"] == "CallEnded"
    assert events[-1]["reason"] == "agent_ended"
    remembers(engine, call.mind)
    billed(engine, events, call.over[0])
    untouched(engine, question, call.house, kept)
    return call.house


def remembers(engine: str, mind: Mind) -> None:
    """When it was last asked, the model knew of the long answer what had been heard of it."""
    words = [text for role, text in mind.asked[-1] if role == "assistant" and text.startswith("juliett")]
    if engine == "pipeline" or words:  # a stored agent's memory is the vendor's own
        assert len(words[0].split()) < len(LONG.split()) - 4


def billed(engine: str, events: list[dict[str, Any]], ended: dict[str, Any]) -> None:
    """Every stage was counted under its vendor's name, and has cost something."""
    used = {(event["stage"], event["provider"]) for event in events if event["type"] == "UsageMeasured"}
    assert used >= USED[engine]
    assert all(sum(event["amounts"].values()) > 0 for event in events if event["type"] == "UsageMeasured")
    turns = [event for event in events if event["type"] == "TurnMeasured" and event["closed"]]
    assert [turn["user_text"] for turn in turns] == ["", "charlie", "delta", "echo", "foxtrot"]
    assert all(turn["total_ms"] == pytest.approx(sum(turn["segments"].values())) for turn in turns)
    assert [turn["interrupted"] for turn in turns] == [False, False, False, True, False]
    metrics: CallMetrics = ended["metrics"]
    assert metrics.cost.total > 0
    assert turns[-1]["cost_so_far"] <= metrics.cost.total


def untouched(engine: str, question: bytes, house: VendorHouse, heard: bytes) -> None:
    """The line's own bytes went up to the vendor and came down from it."""
    if engine == "pipeline":
        ears = ears_of(house)
        assert (ears.query["encoding"], ears.query["sample_rate"]) == ("mulaw", "8000")
        answer = as_line(converted(GOLF_HOTEL, PCM_24K, PCM_8K), MULAW_8K)
    else:
        assert question in sound_of(house, engine)
        answer = converted(GOLF_HOTEL, PCM_24K, MULAW_8K)
    assert answer.strip(MULAW_8K.silence) in heard


def ears_of(house: VendorHouse) -> Peer:
    """The pipeline's recogniser."""
    [ears] = [peer for peer in house.stage.peers if peer.path == "/v2/listen"]
    return ears


def sound_of(house: VendorHouse, engine: str) -> bytes:
    """The caller's sound as it came to the vendor, where that is text."""
    return b"".join(messages_of(house, engine))


def piece_of(house: VendorHouse, engine: str) -> float:
    """How many bytes of it were in a message, on average."""
    if engine == "pipeline":
        ears = ears_of(house)
        return ears.binary_bytes / ears.binary_frames
    pieces = messages_of(house, engine)
    return sum(map(len, pieces)) / len(pieces)


def messages_of(house: VendorHouse, engine: str) -> list[bytes]:
    """The same, message by message."""
    key = {"openai_realtime": "audio", "elevenlabs_convai": "user_audio_chunk"}[engine]
    messages = [message for peer in house.stage.peers for message in peer.received if isinstance(message, dict)]
    return [b64decode(message[key]) for message in messages if key in message]


def converted(sound: bytes, src: AudioFormat, dst: AudioFormat) -> bytes:
    converter = Converter(src, dst)
    return converter.convert(sound) + converter.flush()
