"""Records what a source of the virtual sound server gives, on the clock of this machine, and measures and transcribes it.

It owns the recording process; it refuses to know whose voice it is.
"""

from __future__ import annotations

import subprocess
import threading
import time
import wave
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import anyio
import numpy as np

from patter.audio.format import PCM_16K, PCM_24K
from patter.providers.embedded.hibari import HibariSynthesizer
from patter.providers.embedded.mel import to_samples
from patter.providers.embedded.whisper_model import WhisperModel
from tests.support import ears
from tests.support.virtual_audio import VirtualAudio

FRAME = PCM_16K.bytes_for(20)
RAW_16K = ("--raw", "--rate=16000", "--channels=1", "--format=s16le", "--latency-msec=20")


class Listener:
    """A recording that goes on. Moments are seconds since the epoch."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._sound = bytearray()
        self._began = float("inf")
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        while frame := self._process.stdout.read(FRAME):
            self._sound += frame
            # what came with the least delay tells best when the recording began
            self._began = min(self._began, time.time() - len(self._sound) / PCM_16K.bytes_for(1000))

    def stop(self) -> None:
        """End the recording; what there is stays."""
        self._process.terminate()
        self._process.wait(10)
        self._thread.join(10)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def between(self, start: float, end: float) -> bytes:
        """16 kHz PCM between two moments."""
        first, last = (PCM_16K.bytes_for(20) * round(max(0.0, moment - self._began) * 50) for moment in (start, end))
        return bytes(self._sound[first:last])

    def loudest(self, start: float, end: float) -> float:
        """The loudest 10 ms between two moments, in dBFS."""
        levels = ears.levels(ears.samples(self.between(start, end), PCM_16K))
        return float(np.max(levels)) if len(levels) else -96.0

    def first_sound(self, start: float, end: float) -> float | None:
        """When the first sound between two moments begins."""
        found = ears.first_sound(ears.samples(self.between(start, end), PCM_16K), 0)
        return None if found is None else start + found / 1000

    def last_sound(self, start: float, end: float) -> float | None:
        """When the last sound between two moments ends."""
        found = ears.last_sound(ears.samples(self.between(start, end), PCM_16K), 0, 1000 * (end - start))
        return None if found is None else start + found / 1000


@contextmanager
def listening(sound: VirtualAudio, source: str) -> Iterator[Listener]:
    """Record a source for as long as the block lasts."""
    listener = Listener(sound.start("parec", f"--device={source}", *RAW_16K, stdout=subprocess.PIPE))
    try:
        yield listener
    finally:
        listener.stop()


def record_voice(texts: Sequence[str], folder: Path) -> dict[str, Path]:
    """A WAV file of the embedded voice for each text, without silence at either end."""

    async def speak() -> dict[str, Path]:
        voice = HibariSynthesizer()
        await voice.start()
        made: dict[str, Path] = {}
        for number, text in enumerate(texts):
            sound = b"".join([chunk.data async for chunk in voice.synthesize(text)])
            first, last = ears.bounds(ears.samples(sound, PCM_24K))
            made[text] = folder / f"caller{number}.wav"
            with wave.open(str(made[text]), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(PCM_24K.rate)
                file.writeframes(sound[PCM_24K.bytes_for(first) : PCM_24K.bytes_for(last)])
        await voice.aclose()
        return made

    return anyio.run(speak)


def words_in(pcm_16k: bytes) -> str:
    """What the embedded recognition hears in a recording."""
    model = WhisperModel()
    model.load()
    try:
        return model.transcribe(to_samples(pcm_16k), "en")
    finally:
        model.close()
