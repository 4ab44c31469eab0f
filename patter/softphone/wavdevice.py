"""A WAV file at the telephone: what is in one file is spoken, what is heard goes into another.

It owns the way from a file to a caller; it refuses to know lines and what is said.
"""

from __future__ import annotations

import numpy as np
import soxr

from patter.audio.format import AudioFormat
from patter.audio.wav import read_wav
from patter.softphone.device import DeviceProblem
from patter.softphone.simulated import SimulatedCaller, samples_of


def recorded_caller(line: AudioFormat, wav_in: str, wav_out: str = "") -> SimulatedCaller:
    """A caller who is a recording: it begins at once and hangs up when the agent has answered. Raises DeviceProblem."""
    try:
        sound, rate = read_wav(wav_in)
    except (OSError, ValueError) as error:
        raise DeviceProblem(
            f"{wav_in} cannot be played into the line: {error}", "Give a 16-bit PCM WAV file."
        ) from error
    if rate != line.rate:
        sound = np.asarray(soxr.resample(samples_of(sound), rate, line.rate), np.int16).tobytes()
    caller = SimulatedCaller(line, (), {}, wav_out)
    caller.say(sound)
    return caller
