"""A caller without a sound card: speaks lines with a synthetic voice, listens for its turns, and can record both sides.

It owns what is spoken into the line and what of both sides is kept; it refuses to know sockets and sound cards.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import numpy.typing as npt

from patter.audio.convert import Converter
from patter.audio.format import AudioChunk, AudioFormat
from patter.audio.wav import WavWriter
from patter.exceptions import ProviderError
from patter.ports import Synthesizer
from patter.softphone.device import LOUD_DBFS, DeviceProblem, Meter, pcm_of
from patter.softphone.protocol import CallerLine
from patter.softphone.script import CallerScript

FRAME_MS = 20.0
PAD_MS = 60.0  # room left around trimmed words: stops and breaths are quieter than the threshold


class SimulatedCaller:
    """Speaks `lines` into a line of format `line`, whose words are in `voice` as that line's PCM.

    With `wav_out` both sides are recorded as the line carries them: left the caller, right the agent."""

    pulls = False
    ear_delay_s = 0.0
    aec = "off"
    underruns = 0
    dropped = 0

    def __init__(
        self, line: AudioFormat, lines: Iterable[CallerLine], voice: Mapping[str, bytes], wav_out: str = ""
    ) -> None:
        self.line = line
        self._pcm = pcm_of(line)
        self._frame = self._pcm.bytes_for(FRAME_MS)
        self._encode = Converter(self._pcm, line)
        self._decode = Converter(line, self._pcm)
        self._lines = CallerScript(lines)
        self._voice = dict(voice)
        self._wav_out = wav_out
        self._recording: WavWriter | None = None
        self._saying: deque[bytes] = deque()
        self._agent = bytes(self._frame)
        self._agent_loud = False
        self._mic, self._speaker = Meter(), Meter()

    def open(self, pull: Callable[[], bytes]) -> None:
        """Start the recording, if one is wanted. Raises DeviceProblem."""
        if self._wav_out:
            try:
                self._recording = WavWriter(self._wav_out, self._pcm.rate, channels=2)
            except OSError as error:
                raise DeviceProblem(
                    f"{self._wav_out} cannot be written: {error.strerror}", "Choose another wav_out."
                ) from error

    def say(self, pcm: bytes) -> None:
        """Speak this (the line's PCM) now, behind what is being said."""
        padded = pcm + bytes(-len(pcm) % self._frame)
        self._saying.extend(padded[at : at + self._frame] for at in range(0, len(padded), self._frame))

    def hear(self, frame: bytes) -> None:
        """The agent's 20 ms."""
        self._agent = self._decode.convert(frame)
        self._agent_loud = self._speaker.add(self._agent) > LOUD_DBFS

    def mouth(self) -> bytes:
        """The caller's 20 ms, decided by what was heard until now."""
        line = self._lines.step(self._agent_loud, bool(self._saying))
        if line is not None:
            self.say(self._voice[line.text])
        words = self._saying.popleft() if self._saying else bytes(self._frame)
        self._mic.add(words)
        if self._recording is not None:
            self._recording.write(np.column_stack((samples_of(words), samples_of(self._agent))).tobytes())
        return self._encode.convert(words)

    def levels(self) -> tuple[float, float]:
        """Loudest (caller, agent) frame since the last call, in dBFS."""
        return self._mic.take(), self._speaker.take()

    def problem(self) -> DeviceProblem | None:
        """A simulated caller never falls ill."""
        return None

    def finished(self) -> bool:
        """All lines were said and answered."""
        return not self._saying and self._lines.done

    def close(self) -> None:
        """Close the recording."""
        if self._recording is not None:
            self._recording.close()


def samples_of(pcm: bytes) -> npt.NDArray[np.int16]:
    """16-bit PCM as an array."""
    return np.frombuffer(pcm, np.int16)


async def speak(text: str, synthesizer: Synthesizer, line: AudioFormat) -> bytes:
    """`text` as PCM of the line's rate, without the silence around it. Raises DeviceProblem if the voice fails."""
    pcm = pcm_of(line)
    convert: Converter | None = None
    sound = b""
    try:
        async for piece in synthesizer.synthesize(text):
            if isinstance(piece, AudioChunk):
                convert = convert or Converter(piece.format, pcm)
                sound += convert.convert(piece.data)
    except ProviderError as error:
        raise DeviceProblem(f"the simulated caller has no voice: {error.problem}", error.fix) from error
    return trimmed(sound + (convert.flush() if convert else b""), pcm)


def trimmed(sound: bytes, pcm: AudioFormat) -> bytes:
    """`sound` without silence at its ends but for a short pad, so that the end of speech is where the sound ends."""
    loud = np.flatnonzero(np.abs(samples_of(sound).astype(np.int32)) > 32768 * 10 ** (LOUD_DBFS / 20))
    if not len(loud):
        return b""
    pad = int(pcm.rate * PAD_MS / 1000)
    return sound[max(0, int(loud[0]) - pad) * 2 : (int(loud[-1]) + pad) * 2]
