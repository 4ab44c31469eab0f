"""`python -m tests.benchmarks.faked_engine AGENTS HOME`: an engine process whose engines are faked at their ports.

Server, session, pipeline, transports, journal, metrics and recorder are the real ones; hearing, thinking and speaking take
fixed times, so that whatever a caller waits beyond them is ours.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Unpack

import anyio
import anyio.to_thread
import numpy as np

from patter.audio.format import PCM_24K, AudioChunk
from patter.audio.reblock import Reblocker
from patter.bus import Bus
from patter.call.outfit import Outfit, Steered, Wiring
from patter.call.session import CallSession
from patter.call.toolbox import Toolbox
from patter.clock import Clock
from patter.conversations.pipeline import Pipeline
from patter.guard import Guards
from patter.models import Agent
from patter.observe.cost import Prices
from patter.observe.journal import Journal, call_folder
from patter.observe.reader import MetricsReader
from patter.observe.recorder import Recorder
from patter.ports import Ask, AudioTap, CallInfo, Screen, Transport
from patter.server.desk import Casting
from patter.server.host import Options, Parts, host
from patter.signals import ResponderPiece, TextDelta
from tests.support.parts import ScriptedTranscriber

AGENT = 'system_prompt = "Be brief."\nfirst_message = "Hello."\nprovider = "pipeline"\n'
UTTERANCE = "I have a question about this."
ANSWER = "Thank you for asking, I will look that up for you right away."
RECOGNITION_S, THINKING_S, SYNTHESIS_S = 0.25, 0.15, 0.08  # after the 200 ms of silence that start recognition
PIECE_MS, PIECE_EVERY_S = 200.0, 0.04  # the voice is five times faster than speech
MS_PER_CHARACTER = 35.0
LOUD = 3000  # of 32767


class LoudnessDetector:
    """Voice is what is loud, in windows of 20 ms."""

    window_ms = 20.0
    lag_ms = 0.0
    tail_ms = 0.0

    def __init__(self) -> None:
        self._windows = Reblocker(640)

    def probabilities(self, pcm_16k: bytes) -> list[float]:
        """1.0 for loud windows."""
        return [
            float(int(np.abs(np.frombuffer(window, np.int16).astype(np.int32)).max()) > LOUD)
            for window in self._windows.push(pcm_16k)
        ]


class OneAnswer:
    """Answers everything alike after a fixed time."""

    name = "fixed"
    model = "benchmark"

    async def respond(self, ask: Ask) -> AsyncIterator[ResponderPiece]:
        """One sentence."""
        await anyio.sleep(THINKING_S)
        yield TextDelta(ANSWER)

    async def aclose(self) -> None:
        """Nothing to close."""


class ToneVoice:
    """A tone as long as the text would take, at the rate most vendors give, in pieces as a vendor sends them."""

    name = "tone"
    model = "benchmark"
    voice = "tone"

    def __init__(self) -> None:
        time = np.arange(PCM_24K.rate * 10) / PCM_24K.rate
        self._tone = (np.sin(time * 2 * np.pi * 440) * 8000).astype(np.int16).tobytes()

    async def start(self) -> None:
        """Ready."""

    async def synthesize(self, text: str) -> AsyncIterator[AudioChunk]:
        """The tone."""
        sound = memoryview(self._tone)[: PCM_24K.bytes_for(len(text) * MS_PER_CHARACTER)]
        await anyio.sleep(SYNTHESIS_S)
        while sound:
            piece = PCM_24K.bytes_for(PIECE_MS)
            yield AudioChunk(bytes(sound[:piece]), PCM_24K)
            sound = sound[piece:]
            await anyio.sleep(PIECE_EVERY_S)

    async def aclose(self) -> None:
        """Nothing to close."""


def opener(
    bus: Bus, clock: Clock, taps: Callable[[CallInfo, Transport], Sequence[AudioTap]] = lambda _call, _transport: ()
) -> Callable[..., CallSession]:
    """An `OpenCall` whose calls have the fixed engines."""
    voice, responder = ToneVoice(), OneAnswer()

    def rework(_: Steered, agent: Agent) -> tuple[Toolbox, Screen]:
        return Toolbox(agent.tools or []), Guards(agent.guardrails or []).screen

    def outfit(session: Steered, agent: Agent) -> Outfit:
        conversation = Pipeline(
            responder=responder,
            clock=clock,
            transcriber=ScriptedTranscriber(clock, [UTTERANCE] * 10_000, RECOGNITION_S),
            detector=LoudnessDetector(),
            synthesizer=voice,
        )
        return Outfit(conversation, *rework(session, agent), stt="scripted", llm="fixed", tts="tone")

    def open_call(call: CallInfo, agent: Agent, transport: Transport, **cast: Unpack[Casting]) -> CallSession:
        wiring = Wiring(outfit, rework, taps=taps(call, transport))
        return CallSession(
            call,
            agent,
            transport,
            bus,
            clock,
            wiring,
            agent_name=cast.get("agent_name", ""),
            agent_version=cast.get("agent_version", ""),
            voicemail=cast.get("voicemail", ""),
        )

    return open_call


@asynccontextmanager
async def parts(home: Path, bus: Bus, clock: Clock) -> AsyncIterator[Parts]:
    """The engine's watchers and the fixed calls."""
    journal = Journal(home)
    bus.add_sink(journal)
    bus.add_sink(MetricsReader(bus, Prices.load()))
    recorders: list[Recorder] = []

    def taps(call: CallInfo, transport: Transport) -> Sequence[AudioTap]:
        if transport.abilities.plays is None:
            return ()
        recorders.append(Recorder(call_folder(home, call.call_id) / "recording.wav", clock))
        return recorders[-1:]

    async def warm() -> None:
        """Nothing to load."""

    try:
        yield Parts(opener(bus, clock, taps), lambda: {"llm": {"name": "fixed", "state": "ready", "note": ""}}, warm)
    finally:
        with anyio.CancelScope(shield=True):
            for recorder in recorders:
                recorder.close(clock.now())
                await anyio.to_thread.run_sync(recorder.join)
            await anyio.to_thread.run_sync(journal.close)


if __name__ == "__main__":
    agents, home = sys.argv[1:3]
    sys.exit(host(Options(Path(home), Path(agents), "0.benchmark"), parts))
