"""Twenty calls at once at one desk, typed and by telephone, in virtual time: all answered, no sound late, nothing left behind."""

from __future__ import annotations

import asyncio
import re
import wave
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Unpack

import anyio
import numpy as np
import pytest

from patter.agentfile import AgentFile
from patter.audio.format import MULAW_8K, PCM_8K, AudioChunk
from patter.audio.g711 import mulaw_encode
from patter.bus import Bus
from patter.call.outfit import Outfit, Steered, Wiring
from patter.call.session import CallSession
from patter.call.toolbox import Toolbox
from patter.clock import Clock
from patter.conversations.pipeline import Pipeline
from patter.events import AgentSaid, CallEnded, Event
from patter.guard import Guards
from patter.loopback.media_leg import MediaLeg
from patter.models import Agent
from patter.ports import Ask, CallInfo, Screen, Transport
from patter.server.desk import Casting, Desk
from patter.signals import ResponderPiece, TextDelta
from patter.softphone.wavdevice import recorded_caller
from patter.transports.media_stream import StreamTransport
from patter.transports.text import TextTransport
from patter.wire.twilio import CarrierWriter, Play, Start, TwilioStream, read, read_server
from tests.support.parts import LoudnessDetector, ScriptedTranscriber
from tests.support.virtual_time import VIRTUAL_BACKEND, virtual_clock

pytestmark = pytest.mark.anyio
EACH = 10
LINES = 3
PIECE_MS, PIECE_EVERY_S = 200.0, 0.19  # a voice hardly faster than speech: any delay behind it would be heard
ANSWER_MS = 3000.0


@pytest.fixture
def anyio_backend() -> object:
    return VIRTUAL_BACKEND


def call_id(number: int) -> str:
    return f"CA{number:032d}"


def level(number: int) -> int:
    return 1000 * (number + 1)


class Answers:
    """Tells every caller the number of the own call."""

    name = model = voice = "test"

    async def respond(self, ask: Ask) -> AsyncIterator[ResponderPiece]:
        await anyio.sleep(0.15)
        yield TextDelta(f"This is the answer of call {int(ask.call.call_id[2:])}.")

    async def start(self) -> None:
        """Ready."""

    async def synthesize(self, text: str) -> AsyncIterator[AudioChunk]:
        """A level that belongs to the call in the text."""
        number = int(re.findall(r"\d+", text)[0])
        sample = np.int16(level(number)).tobytes()
        for _ in range(int(ANSWER_MS / PIECE_MS)):
            await anyio.sleep(PIECE_EVERY_S)
            yield AudioChunk(sample * int(PIECE_MS * 8), PCM_8K)

    async def aclose(self) -> None:
        """Nothing to close."""


class House:
    """A desk with everything that was published at it."""

    def __init__(self, recording: Path) -> None:
        self.clock: Clock = virtual_clock()
        self.bus = Bus(self.clock)
        self.events: list[Event] = []
        self.bus.add_sink(self.events.append)
        agent = Agent("Be brief.", provider="pipeline")
        self.file = AgentFile(recording.with_name("desk.toml"), "desk", agent, None, (), "", "")
        self.recording = recording
        self.desk = Desk(self.bus, self.open_call)

    def open_call(self, call: CallInfo, agent: Agent, transport: Transport, **_: Unpack[Casting]) -> CallSession:
        answers = Answers()

        def rework(_: Steered, agent: Agent) -> tuple[Toolbox, Screen]:
            return Toolbox([]), Guards([]).screen

        def outfit(session: Steered, agent: Agent) -> Outfit:
            pipeline = Pipeline(
                responder=answers,
                clock=self.clock,
                transcriber=ScriptedTranscriber(self.clock, ["Which call is this?"]),
                detector=LoudnessDetector(),
                synthesizer=answers,
            )
            return Outfit(pipeline, *rework(session, agent))

        return CallSession(call, agent, transport, self.bus, self.clock, Wiring(outfit, rework))


class Telephone:
    """A recording that calls: carrier and server in one room, their texts handed over at once."""

    def __init__(self, house: House, number: int) -> None:
        self._house, self._number = house, number
        self._device = recorded_caller(MULAW_8K, str(house.recording))
        writer = CarrierWriter("MZ" + "0" * 32, "AC" + "0" * 32, call_id(number))
        read = partial(read_server, stream_sid=writer.stream_sid)
        self.leg = MediaLeg(writer, MULAW_8K, house.clock, self._device.mouth, self._hear, read=read)
        self._stream = writer.stream_sid
        self._transport: StreamTransport | None = None
        self._ends = 0.0  # until when the carrier has sound
        self.late: list[float] = []
        self.heard: dict[int, int] = {}

    def _hear(self, frame: bytes) -> None:
        for code in frame:
            self.heard[code] = self.heard.get(code, 0) + 1
        self._device.hear(frame)

    async def call(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.leg.run, self._to_server)
            while not self._device.finished():
                await anyio.sleep(0.1)
            self.leg.hang_up()

    async def _to_server(self, text: str) -> None:
        if self._transport is not None:
            self._transport.feed(text)
        elif isinstance(start := read(text), Start):
            self._transport = StreamTransport(start.call_sid, TwilioStream(start), self, self._house.clock)
            self._house.desk.start(CallInfo(start.call_sid), self._house.file, self._transport)

    def send(self, text: str) -> None:
        now = self._house.clock.now()
        if isinstance(message := read_server(text, self._stream), Play):
            if self._ends and now > self._ends:
                self.late.append(now - self._ends)
            self._ends = max(now, self._ends) + MULAW_8K.ms_of(len(message.sound)) / 1000
        self.leg.receive(text)

    def close(self) -> None:
        self.leg.server_gone()


async def type_lines(house: House, number: int, shown: list[str]) -> None:
    transport = TextTransport(house.clock, lambda text, _: shown.append(text))
    live = house.desk.start(CallInfo(call_id(number)), house.file, transport)
    for _ in range(LINES):
        transport.type("Which call is this?")
        await anyio.sleep(0.5)
    transport.leave()
    await live.over.wait()


def house_with_recording(tmp_path: Path) -> House:
    recording = tmp_path / "caller.wav"
    with wave.open(str(recording), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(np.int16(12000).tobytes() * 8000)
    return House(recording)


async def test_twenty_calls_at_once_are_all_answered_in_time(tmp_path: Path) -> None:
    house = house_with_recording(tmp_path)
    before = asyncio.all_tasks()
    phones = [Telephone(house, number) for number in range(EACH)]
    shown: list[list[str]] = [[] for _ in range(EACH)]
    async with house.desk, anyio.create_task_group() as tasks:
        for number in range(EACH):
            tasks.start_soon(phones[number].call)
            tasks.start_soon(type_lines, house, EACH + number, shown[number])

    for number, texts in enumerate(shown, EACH):
        assert texts == [f"This is the answer of call {number}."] * LINES
    for number, phone in enumerate(phones):
        own = mulaw_encode(np.int16(level(number)).tobytes())[0]
        assert set(phone.heard) == {0xFF, own}, "only the own answer is heard"
        assert phone.heard[own] == ANSWER_MS * 8
        assert phone.late == [], "every piece was sent before the one before it was over"
        assert phone.leg.stats.underruns == 0
        assert phone.leg.violations == []
    assert {event.call_id for event in house.events if isinstance(event, AgentSaid) and not event.interrupted} == {
        call_id(number) for number in range(2 * EACH)
    }
    ends = [event.reason for event in house.events if isinstance(event, CallEnded)]
    assert ends == ["caller_hung_up"] * 2 * EACH
    assert house.desk.count == 0
    assert asyncio.all_tasks() == before, "no call leaves a task behind"
