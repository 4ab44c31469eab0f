"""A softphone from commands to reports, with callers that need no sound card, against a real webhook and socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

from patter.audio.format import PCM_24K, AudioChunk
from patter.audio.wav import WavWriter, read_wav
from patter.clock import Clock
from patter.exceptions import ProviderError
from patter.loopback.twilio import Dial
from patter.ports import Synthesizer
from patter.softphone.phone import Softphone
from patter.softphone.protocol import BadCommand, CallerLine, HangUp, ListDevices, Mute, PlaceCall, PressKey, Quit, Say
from tests.softphone.office import Office, open_office

pytestmark = pytest.mark.anyio


class Voice:
    """Says every text as 200 ms of a tone with silence around it."""

    name, model, voice = "tone", "", ""

    async def start(self) -> None: ...

    async def synthesize(self, text: str) -> AsyncIterator[AudioChunk]:
        tone = (np.sin(np.arange(4_800) / 8) * 8000).astype(np.int16).tobytes()
        yield AudioChunk(bytes(9_600) + tone, PCM_24K)
        yield AudioChunk(bytes(9_600), PCM_24K)

    async def aclose(self) -> None: ...


class Mute_(Voice):
    async def start(self) -> None:
        raise ProviderError("no voice is installed", provider="tone", fix="Install one.")


class Desk:
    """A softphone and what it reports."""

    def __init__(self, voice: type[Voice] = Voice) -> None:
        self.reports: list[dict[str, Any]] = []
        self.news = anyio.Event()

        def make() -> Synthesizer:
            return voice()

        self.phone = Softphone(self.note, Clock(), make)

    def note(self, kind: str, **fields: object) -> None:
        self.reports.append({"is": kind} | fields)
        self.news.set()

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [report for report in self.reports if report["is"] == kind]

    async def until(self, kind: str, count: int = 1) -> dict[str, Any]:
        while len(self.of(kind)) < count:
            self.news = anyio.Event()
            await self.news.wait()
        return self.of(kind)[count - 1]


@asynccontextmanager
async def at_the_desk(voice: type[Voice] = Voice) -> AsyncIterator[Desk]:
    desk = Desk(voice)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(desk.phone.run)
            yield desk
            desk.phone.commands.put(Quit())


def order(office: Office, device: str = "simulated", line: str = "phone", **how: Any) -> PlaceCall:
    return PlaceCall(Dial.from_json(office.dial(line)), device, **how)


@pytest.mark.parametrize(("line", "format_"), [("phone", "mulaw/8000"), ("wideband", "pcm_s16le/16000")])
async def test_a_simulated_caller_waits_speaks_is_answered_and_leaves(line: str, format_: str, tmp_path: Path) -> None:
    async with open_office() as office, at_the_desk() as desk:
        both = tmp_path / "both.wav"
        desk.phone.commands.put(order(office, line=line, caller=(CallerLine("Hello."),), wav_out=str(both)))
        ended = await desk.until("ended")
    kinds = [report["is"] for report in desk.reports if report["is"] != "levels"]
    assert kinds == ["ready", "ringing", "in_call", "ended"]
    assert ended["reason"] == "hung_up"
    assert desk.of("in_call")[0]["call_id"].startswith("CA")
    assert office.answers == 2
    assert office.playouts == ["started 1", "ended 1", "started 2", "ended 2"]
    assert office.reasons == ["caller_hung_up"]
    assert office.formats == [format_]
    assert 8 <= office.caller_loud_frames <= 14
    levels = desk.of("levels")
    assert max(report["mic"] for report in levels) > -20
    assert max(report["speaker"] for report in levels) > -20
    assert {"jitter_ms", "underruns", "dropped", "aec"} <= set(levels[0])
    pcm, rate = read_wav(both)
    assert rate == (8_000 if line == "phone" else 16_000)
    assert len(pcm) / 2 / rate == pytest.approx(len(levels) / 10, rel=0.4)


async def test_a_recording_is_spoken_into_the_line(tmp_path: Path) -> None:
    words = tmp_path / "words.wav"
    with WavWriter(words, 44_100) as file:
        file.write((np.sin(np.arange(22_050) / 12) * 8000).astype(np.int16).tobytes())
    async with open_office(greeting_ms=0) as office, at_the_desk() as desk:
        desk.phone.commands.put(order(office, "wav", wav_in=str(words)))
        assert (await desk.until("ended"))["reason"] == "hung_up"
    assert office.answers == 1
    assert 24 <= office.caller_loud_frames <= 27


async def test_the_agent_hangs_up() -> None:
    async with open_office(hang_up_after_answers=1) as office, at_the_desk() as desk:
        desk.phone.commands.put(order(office))
        assert (await desk.until("ended"))["reason"] == "agent_hung_up"
    assert office.reasons == ["agent_ended"]


async def test_keys_words_and_mute_during_a_call() -> None:
    async with open_office(greeting_ms=0) as office, at_the_desk() as desk:
        desk.phone.commands.put(order(office))
        await desk.until("in_call")
        desk.phone.commands.put(PressKey("4"))
        desk.phone.commands.put(PressKey("2"))
        desk.phone.commands.put(Say("Typed words."))
        await office.answered.wait()
        loud = office.caller_loud_frames
        desk.phone.commands.put(Mute(True))
        desk.phone.commands.put(Say("Nobody hears this."))
        await desk.until("levels", len(desk.of("levels")) + 6)
        desk.phone.commands.put(HangUp())
        await desk.until("ended")
    assert office.digits == "42"
    assert loud >= 8
    assert office.caller_loud_frames == loud


async def test_a_second_call_waits_for_the_first_and_a_second_life_follows() -> None:
    async with open_office() as office, at_the_desk() as desk:
        desk.phone.commands.put(order(office))
        await desk.until("in_call")
        desk.phone.commands.put(order(office))
        assert "up already" in (await desk.until("error"))["problem"]
        desk.phone.commands.put(HangUp())
        await desk.until("ended")
        desk.phone.commands.put(order(office))
        await desk.until("in_call", 2)
        desk.phone.commands.put(HangUp())
        await desk.until("ended", 2)
    assert office.reasons == ["caller_hung_up"] * 2


async def test_quitting_says_goodbye_to_the_call() -> None:
    async with open_office() as office, at_the_desk() as desk:
        desk.phone.commands.put(order(office))
        await desk.until("in_call")
        desk.phone.commands.put(Quit())
        assert (await desk.until("ended"))["reason"] == "hung_up"
    assert office.reasons == ["caller_hung_up"]


async def test_what_cannot_be_done_is_said_with_the_fix(tmp_path: Path) -> None:
    async with open_office() as office, at_the_desk(Mute_) as desk:
        put = desk.phone.commands.put
        put(BadCommand("a command is not a JSON line"))
        assert (await desk.until("error"))["problem"] == "a command is not a JSON line"
        put(order(office, caller=(CallerLine("Hi"),)))
        assert (await desk.until("error", 2))["fix"] == "Install one."
        await desk.until("ended")
        put(order(office, "wav", wav_in=str(tmp_path / "none.wav")))
        assert "none.wav cannot be played" in (await desk.until("error", 3))["problem"]
        await desk.until("ended", 2)
        put(Say("Hello?"))
        assert "simulated" in (await desk.until("error", 4))["fix"]
        office.base = "http://127.0.0.1:9"
        put(order(office, "wav", wav_in=str(silent(tmp_path))))
        assert "does not answer" in (await desk.until("error", 5))["problem"]
        assert (await desk.until("ended", 3))["reason"] == "failed"
        put(ListDevices())
        await desk.until("devices")


def silent(folder: Path) -> Path:
    path = folder / "silent.wav"
    with WavWriter(path, 8_000) as file:
        file.write(bytes(3_200))
    return path
