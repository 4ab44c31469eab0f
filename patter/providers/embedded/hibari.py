"""Text-to-speech by the embedded voice of hibari, in threads, one sentence at a time.

It owns the engines and the cutting of text and sound into pieces; it refuses to know calls or lines.
"""

from __future__ import annotations

import re
import threading
from collections.abc import AsyncIterator
from importlib.util import find_spec
from typing import Any

import anyio
import anyio.to_thread
import numpy as np
import numpy.typing as npt

from patter.audio.format import PCM_24K, AudioChunk
from patter.exceptions import ProviderError
from patter.providers.embedded.onnx import INSTALL, runtime_installed
from patter.providers.embedded.spoken import spoken

DEFAULT_VOICE = "heart"
_CHUNK = PCM_24K.bytes_for(120)  # small enough that a stopped reply costs nothing, large enough to be few messages
_LONG_WORDS = (
    12  # as many take some 60 ms to synthesise; of a longer text the first clause sounds while the rest is made
)
_CLAUSE_WORDS = 3  # a shorter first clause would be over before the rest is ready
_CLAUSE = re.compile(r"(?<=[,;:—.!?])\s+")
_PEAK = 0.95  # of full scale, where louder sound is clipped: the voice's own peak is about 0.7
_SILENT = 180  # -45 dBFS: breath and the voice's own noise stay below, the softest consonant does not
_LEAD_MS = 20  # kept before the first sound, for its soft beginning
_SENTENCE_MS = 260  # kept after a sentence: the pause before the next one
_CLAUSE_MS = 120

_lock = threading.Lock()
_engines: dict[str, Any] = {}
_busy = anyio.CapacityLimiter(1)  # two at a time on two cores only make both late


class HibariSynthesizer:
    """The embedded voice: English, 24 kHz, some 75 times faster than speech. Calls share one engine per voice."""

    name = "embedded"
    model = "hibari"

    def __init__(self, voice: str = DEFAULT_VOICE) -> None:
        """`voice` is a name of hibari's; "" means "heart", the one that is always there."""
        self.voice = voice or DEFAULT_VOICE

    async def start(self) -> None:
        """Load the engine in a thread (about a second, once per process). Raises ProviderError."""
        await anyio.to_thread.run_sync(_engine, self.voice, abandon_on_cancel=True)

    async def synthesize(self, text: str) -> AsyncIterator[AudioChunk]:
        """PCM of 24 kHz in chunks of 120 ms; nothing for text without words. Raises ProviderError.

        Numbers, money, times and markup are put into words first. Closing the iterator stops the work after the clause
        that is being made."""
        for clause in clauses(spoken(text)):
            pcm = await anyio.to_thread.run_sync(self._voice, clause, limiter=_busy)
            for start in range(0, len(pcm), _CHUNK):
                yield AudioChunk(pcm[start : start + _CHUNK], PCM_24K)

    async def aclose(self) -> None:
        """Nothing to close: the engine is the process's."""

    def _voice(self, clause: str) -> bytes:
        engine = _engine(self.voice)
        try:
            sound: npt.NDArray[np.float32] = engine(clause)
        except Exception as error:  # the border: the engine and its runtime raise what they like
            raise ProviderError(f"synthesis failed ({error})", provider="hibari", stage="tts") from error
        scaled: npt.NDArray[np.int16] = (np.clip(sound, -_PEAK, _PEAK) * 32767).astype(np.int16)
        return _trimmed(scaled, _SENTENCE_MS if clause[-1:] in ".!?" else _CLAUSE_MS).tobytes()


def _trimmed(sound: npt.NDArray[np.int16], pause_ms: int) -> npt.NDArray[np.int16]:
    """Without the 300 ms of silence that the voice puts before everything, and with `pause_ms` of what it puts behind."""
    loud = np.flatnonzero(np.abs(sound) > _SILENT)
    if not len(loud):
        return sound[:0]
    a_ms = PCM_24K.rate // 1000
    return sound[max(0, int(loud[0]) - _LEAD_MS * a_ms) : int(loud[-1]) + pause_ms * a_ms]


def clauses(text: str) -> list[str]:
    """`text` in the pieces that are synthesised one by one: a long text gives its first clause away early."""
    if len(text.split()) <= _LONG_WORDS:
        return [text] if text else []
    pieces: list[str] = []
    for part in _CLAUSE.split(text):
        least = _CLAUSE_WORDS if len(pieces) == 1 else _LONG_WORDS
        if pieces and len(pieces[-1].split()) < least:
            pieces[-1] += f" {part}"
        else:
            pieces.append(part)
    return pieces


def voice_missing() -> str:
    """Why there is no embedded voice on this machine, and the fix, as a sentence; "" when there is. Loads nothing."""
    if find_spec("hibari") is None:
        return f"The agent's voice needs hibari-tts: {INSTALL}."
    return "" if runtime_installed() else f"The agent's voice needs onnxruntime: {INSTALL}."


def _engine(voice: str) -> Any:
    with _lock:
        if voice not in _engines:
            _engines[voice] = _load(voice)
        return _engines[voice]


def _load(voice: str) -> Any:
    try:
        from hibari import Hibari
        from hibari.voices import VOICES, voice_path
    except ImportError as error:
        raise ProviderError("hibari-tts is not installed", provider="hibari", stage="tts", fix=INSTALL) from error
    try:
        voice_path(voice, download_missing=False)
    except (ValueError, FileNotFoundError) as error:
        raise ProviderError(
            f"there is no voice {voice!r} on this machine",
            provider="hibari",
            stage="tts",
            fix=f"use one of these: {', '.join(_present(VOICES, voice_path))}",
        ) from error
    try:
        engine = Hibari(voice=voice)
        engine("Hello.")  # reads the dictionaries, so that the first sentence of a call need not
    except Exception as error:  # the border: onnxruntime's errors share no base but Exception
        raise ProviderError(
            f"the voice {voice!r} cannot be loaded ({error})", provider="hibari", stage="tts", fix=INSTALL
        ) from error
    return engine


def _present(voices: Any, voice_path: Any) -> list[str]:
    present = []
    for name in voices:
        try:
            voice_path(name, download_missing=False)
        except FileNotFoundError:
            continue
        present.append(name)
    return present
