"""Who is at a telephone: whether they take the call, what they say, and what they have heard.

It owns people and answering machines; it refuses to know carriers, sockets and agents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import anyio

from patter.audio.convert import Converter
from patter.audio.dtmf import KeyDetector
from patter.audio.format import PCM_8K, AudioFormat
from patter.audio.level import rms_dbfs
from patter.loopback.media_leg import Ear, Mouth
from patter.loopback.playout import FRAME_MS
from patter.loopback.tones import BEEP_HZ, BEEP_MS, as_line, tone

BREATH_MS = 300.0  # between a machine's greeting and its beep
SILENT_DBFS = -50.0  # quieter than this, nobody speaks


def silent(_: AudioFormat) -> Mouth:
    """The mouth of somebody who says nothing."""
    return bytes


def says(pcm_8k: bytes, after_ms: float = 0.0) -> Callable[[AudioFormat], Mouth]:
    """The mouth of somebody who says this (PCM 8 kHz) so long after the call was answered, and then nothing.

    A carrier answers first and opens the media stream then: who speaks at once loses the first syllable, as in life."""
    return lambda line: _reader(as_line(PCM_8K.quiet(after_ms) + pcm_8k, line), line)


def _reader(sound: bytes, line: AudioFormat) -> Mouth:
    size = line.bytes_for(FRAME_MS)
    frames = iter([sound[at : at + size] for at in range(0, len(sound), size)])
    return lambda: next(frames, b"")


@dataclass
class Person:
    """Somebody at a telephone. Times in seconds.

    `answers`: a "machine" plays `greeting` (PCM 8 kHz), beeps (or falls silent, without `beep`) and listens; "busy" and
    "reject" turn the call away, "no_answer" lets it ring. `rings_s`: how long it rings before that. `mouth` makes the mouth
    for the line's format, `ear` an additional ear (what was heard is kept anyway). `stays_s`: hangs up so long after
    answering; `silence_s`: hangs up when nothing was heard for so long. `judged_as`: what a carrier takes them for when it
    is wrong, or not sure; `judged_after_s`: how soon it recognises a human."""

    answers: Literal["human", "machine", "busy", "no_answer", "reject"] = "human"
    rings_s: float = 0.1
    mouth: Callable[[AudioFormat], Mouth] = silent
    ear: Callable[[AudioFormat], Ear] | None = None
    greeting: bytes = b""
    beep: bool = True
    stays_s: float | None = None
    silence_s: float | None = None
    judged_as: Literal["human", "machine", "fax", "unknown"] | None = None
    judged_after_s: float = 0.5

    @property
    def taken_for(self) -> Literal["human", "machine", "fax", "unknown"]:
        """What a carrier's machine detection says."""
        return self.judged_as or ("machine" if self.answers == "machine" else "human")


class Handset:
    """One end of one call, in somebody's hand: pull `mouth` and push `ear` once every 20 ms while the line is open.

    `speaks` is the format of what they say, `hears` of what they hear (one format on most lines)."""

    def __init__(self, person: Person, speaks: AudioFormat, hears: AudioFormat | None = None) -> None:
        self.person = person
        self.speaks = speaks
        self.hears = hears or speaks
        self.heard = bytearray()
        """Everything that was heard, silence included; on a machine with a greeting only what came after the beep."""
        self.digits_heard = ""
        """The keys whose tones were heard."""
        self.greeted = anyio.Event()
        """A machine has played its greeting and its beep: it listens now. At once, for everybody else."""
        self.leaves = anyio.Event()
        """They have had enough and hang up."""
        self._frame = speaks.bytes_for(FRAME_MS)
        self._words = self._machine() if person.answers == "machine" else person.mouth(speaks)
        self._ear = person.ear(self.hears) if person.ear is not None else None
        self._decoder = Converter(self.hears, PCM_8K) if person.silence_s is not None else None
        self._keys = KeyDetector(self.hears)
        self._silent_ms = 0.0
        if person.answers != "machine":
            self.greeted.set()

    def mouth(self) -> bytes:
        """The next 20 ms they say, always whole."""
        words = self._words()[: self._frame]
        return words + self.speaks.silence * ((self._frame - len(words)) // self.speaks.sample_bytes)

    def ear(self, frame: bytes) -> None:
        """The 20 ms they hear now."""
        self.digits_heard += self._keys.hear(frame)
        if self.greeted.is_set():
            self.heard += frame
            self._note_silence(frame)
        if self._ear is not None:
            self._ear(frame)

    def _machine(self) -> Mouth:
        person = self.person
        beep = tone(BEEP_HZ, BEEP_MS) if person.beep else b""
        outgoing = _reader(as_line(person.greeting + PCM_8K.quiet(BREATH_MS) + beep, self.speaks), self.speaks)
        after = person.mouth(self.speaks)

        def words() -> bytes:
            if self.greeted.is_set():
                return after()
            frame = outgoing()
            if not frame:
                self.greeted.set()
            return frame

        return words

    def _note_silence(self, frame: bytes) -> None:
        if self._decoder is None or self.person.silence_s is None:
            return
        quiet = rms_dbfs(self._decoder.convert(frame)) < SILENT_DBFS
        self._silent_ms = self._silent_ms + FRAME_MS if quiet else 0.0
        if self._silent_ms >= self.person.silence_s * 1000:
            self.leaves.set()
