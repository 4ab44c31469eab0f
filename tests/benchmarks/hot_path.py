"""What one frame of a caller costs the event loop, part by part, with the embedded voice detector.

Run: `python -m tests.benchmarks.hot_path [--frames 750]`. The frames come once every 20 ms, as in a call: the processor has
forgotten everything in between, which makes each part several times dearer than in a tight loop (shown beside it).
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np

from patter.audio import convert
from patter.audio.g711 import mulaw_encode
from patter.audio.resample import Resampler
from patter.audio.vad import VoiceGate
from patter.bus import Bus
from patter.call.outfit import Outfit, Steered, Wiring
from patter.call.session import CallSession
from patter.call.toolbox import Toolbox
from patter.clock import Clock
from patter.conversations.pipeline import Pipeline
from patter.models import Agent
from patter.observe.journal import Journal
from patter.observe.recorder import Recorder
from patter.ports import CallInfo, Screen
from patter.providers.embedded.decode_queue import DecodeQueue
from patter.providers.embedded.silero import SileroDetector
from patter.providers.embedded.whisper import WhisperTranscriber
from patter.transports.media_stream import StreamTransport
from patter.wire import twilio
from patter.wire.twilio import CarrierWriter, Start, TwilioStream, read
from tests.benchmarks.faked_engine import OneAnswer, ToneVoice
from tests.benchmarks.processes import Neighbours

WHOLE = "whole frame"
PARTS = (
    ("JSON", twilio, "read"),
    ("base64", twilio, "sound_of"),
    ("resampling 8 to 16 kHz", Resampler, "process"),
    ("voice detector (Silero)", SileroDetector, "probabilities"),
    ("voice gate", VoiceGate, "push"),
    ("recogniser's memory", WhisperTranscriber, "hear"),
    ("recorder's note", Recorder, "caller"),
    ("one event on the bus, to journal", Bus, "publish"),
)


class Watch:
    """Times around functions, in µs."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = defaultdict(list)

    def around(self, label: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, timed."""
        times = self.times[label]

        def timed(*given: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*given, **named)
            finally:
                times.append((time.perf_counter() - began) * 1e6)

        return timed

    def place(self) -> None:
        """Time every part from now on, in this process."""
        for label, owner, name in PARTS:
            setattr(owner, name, self.around(label, getattr(owner, name)))
        convert._DECODE["mulaw"] = self.around("G.711", convert._DECODE["mulaw"])


class NoModel:
    """A recogniser's model that is never heard back from: only what a frame costs is of interest."""

    name = "none"

    def __init__(self) -> None:
        self.queue = DecodeQueue("no recognition")

    def load(self) -> None:
        """Nothing to load."""

    def transcribe(self, samples: Any, language: str, **_: Any) -> str:
        """Nothing."""
        return ""


class Nowhere:
    """A media socket that nobody reads."""

    def send(self, text: str) -> None:
        """Gone."""

    def close(self) -> None:
        """Gone."""


def call(clock: Clock, home: Path) -> tuple[StreamTransport, CallSession]:
    """A call as the engine makes it, with the real ears."""
    bus = Bus(clock)
    journal = Journal(home)
    bus.add_sink(journal)
    writer = CarrierWriter("MZ" + "0" * 32, "AC" + "0" * 32, "CA" + "0" * 32)
    start = read(writer.start())
    assert isinstance(start, Start)
    transport = StreamTransport(start.call_sid, TwilioStream(start), Nowhere(), clock)

    def rework(_: Steered, agent: Agent) -> tuple[Toolbox, Screen]:
        return Toolbox([]), lambda _so_far, text: (text, None)

    def outfit(session: Steered, agent: Agent) -> Outfit:
        pipeline = Pipeline(
            responder=OneAnswer(),
            clock=clock,
            transcriber=WhisperTranscriber(NoModel(), clock),
            detector=SileroDetector(),
            synthesizer=ToneVoice(),
        )
        return Outfit(pipeline, *rework(session, agent))

    agent = Agent("Be brief.", first_message="Hello.", provider="pipeline")
    recorder = Recorder(home / "recording.wav", clock)
    return transport, CallSession(
        CallInfo(start.call_sid), agent, transport, bus, clock, Wiring(outfit, rework, taps=[recorder])
    )


def frames(count: int) -> list[str]:
    """A caller's frames: the noise of a room, now and then loud."""
    noise = (
        np.random.default_rng(1).normal(size=(count, 160)) * np.where(np.arange(count) % 250 < 60, 4000, 60)[:, None]
    )
    writer = CarrierWriter("MZ" + "0" * 32, "AC" + "0" * 32, "CA" + "0" * 32)
    return [
        writer.media(mulaw_encode(np.clip(frame, -32768, 32767).astype(np.int16).tobytes()), 20 * number)
        for number, frame in enumerate(noise)
    ]


async def measure(texts: list[str], paced: bool) -> dict[str, list[float]]:
    """Feed the frames to a call, at their pace or at once."""
    watch = Watch()
    originals = [getattr(owner, name) for _, owner, name in PARTS], convert._DECODE["mulaw"]
    watch.place()
    clock = Clock()
    with tempfile.TemporaryDirectory() as scratch:
        transport, session = call(clock, Path(scratch))
        feed = watch.around(WHOLE, transport.feed)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.run)
            await anyio.sleep(1.0)
            for label in watch.times:
                watch.times[label].clear()
            began = time.perf_counter()
            for number, text in enumerate(texts):
                if paced:
                    await asyncio.sleep(max(0.0, began + number * 0.02 - time.perf_counter()))
                elif number % 50 == 0:
                    await anyio.lowlevel.checkpoint()
                feed(text)
            await session.hang_up()
        await anyio.sleep(0.3)
    for (_, owner, name), original in zip(PARTS, originals[0], strict=True):
        setattr(owner, name, original)
    convert._DECODE["mulaw"] = originals[1]
    return watch.times


async def main(count: int) -> None:
    """Measure and print."""
    texts = frames(count)
    neighbours = Neighbours()
    cold, hot = await measure(texts, paced=True), await measure(texts, paced=False)
    print(f"µs a frame of 20 ms, median of {count} frames (per call of the part); {neighbours.told()}")
    print(f"  {'':36} {'in a call':>10} {'p95':>8} {'tight loop':>11}   a frame")
    known = 0.0
    for label, times in sorted(cold.items(), key=lambda item: -sum(item[1])):
        if not times:
            continue
        share = sum(times) / count
        known += share if label not in (WHOLE, PARTS[-1][0]) else 0.0
        print(
            f"  {label:36} {statistics.median(times):10.0f} {sorted(times)[int(0.95 * len(times))]:8.0f} "
            f"{statistics.median(hot[label]):11.1f}   {share:.0f}"
        )
    print(f"  {'everything else of a frame':36} {'':10} {'':8} {'':11}   {sum(cold[WHOLE]) / count - known:.0f}")
    total = sum(cold[WHOLE]) / count
    print(f"  = {total * 50 / 1000:.1f} ms of the loop per call-second in frames")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=750)
    anyio.run(main, parser.parse_args().frames)
