"""Microphone and speaker of this machine as a telephone: two streams of 20 ms blocks, echo kept out of the microphone.

It owns sound cards and everything that goes wrong with them; it refuses to know the carrier and the agent.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from patter.audio.convert import Converter
from patter.audio.format import AudioFormat
from patter.softphone.device import DEVICE_FORMAT, DeviceProblem, Meter
from patter.softphone.echo import EchoGuard

BLOCK_MS = 20.0
RATES = (16_000, 48_000)  # the line's own rate first: the sound server converts better than we would; else 3:1
SILENT_S = 0.5  # callbacks come every 20 ms; after this long without one the device is gone (no error tells)
OPENING_S = 3.0  # an idle sound server calls back once and then stalls for up to 2 s while it wakes its devices
CUSHION = 2  # blocks that wait before the first is taken: callbacks come up to 12 ms early or late
LONGEST_WAIT = 8  # blocks; more means that our clock is slower than the device's, and old sound is dropped
TAKES_A_SECOND = 50

INSTALL = 'Install it with: pip install "patter[tui]".'
PORTAUDIO = "Install it (Debian/Ubuntu: apt-get install libportaudio2), or rehearse by typing."
NO_CARD = (
    "Connect a microphone and a speaker or start the sound server, or rehearse by typing or with a simulated caller."
)


def load_sounddevice() -> Any:
    """The sound library, if this machine has one. Raises DeviceProblem with the fix."""
    try:
        with quiet_stderr():
            import sounddevice
    except ImportError as error:
        raise DeviceProblem("The Python package sounddevice is not installed.", INSTALL) from error
    except OSError as error:
        raise DeviceProblem(
            "The PortAudio library is missing, so there is no microphone and no speaker.", PORTAUDIO
        ) from error
    return sounddevice


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Send file descriptor 2 to nowhere meanwhile: the sound libraries print to it from C, across any terminal screen."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def names() -> tuple[list[str], list[str]]:
    """(microphones, speakers) by name. Raises DeviceProblem."""
    sound = load_sounddevice()
    with quiet_stderr():
        found = list(sound.query_devices())
    return (
        [str(item["name"]) for item in found if item["max_input_channels"] > 0],
        [str(item["name"]) for item in found if item["max_output_channels"] > 0],
    )


def chosen(input_name: str | None = None, output_name: str | None = None) -> tuple[str, str]:
    """The names of the microphone and the speaker a call would use. Raises DeviceProblem if there is none.

    No stream may be open: where a device is missing, the list is read anew, for one may have come since."""
    sound = load_sounddevice()
    try:
        return _chosen(sound, input_name, output_name)
    except DeviceProblem:
        with quiet_stderr():  # the library looks for devices once a process
            sound._terminate()
            sound._initialize()
        return _chosen(sound, input_name, output_name)


def _chosen(sound: Any, input_name: str | None, output_name: str | None) -> tuple[str, str]:
    found: list[str] = []
    for kind, name in (("input", input_name), ("output", output_name)):
        try:
            with quiet_stderr():
                found.append(str(sound.query_devices(name, kind)["name"]))
        except (sound.PortAudioError, ValueError) as error:
            raise _explained(error, kind, name) from error
    return found[0], found[1]


def _explained(error: Exception, kind: str, name: str | None) -> DeviceProblem:
    what = "microphone" if kind == "input" else "speaker"
    if name is not None and isinstance(error, ValueError):
        return DeviceProblem(f"There is no {what} called {name!r}.", "Choose another one in the settings.")
    if "querying device" in str(error):
        return DeviceProblem(f"This machine has no {what}.", NO_CARD)
    return DeviceProblem(f"The {what} cannot be used: {error}", NO_CARD)


class SoundDevice:
    """Microphone and speaker for one call on a line of format `line`. Its callbacks run in the library's threads."""

    pulls = True

    def __init__(
        self,
        line: AudioFormat,
        input_name: str | None = None,
        output_name: str | None = None,
        *,
        guard: EchoGuard | None = None,
    ) -> None:
        self._line = line
        self._names = (input_name, output_name)
        self._guard = guard or EchoGuard.best()
        self._pull: Callable[[], bytes] = bytes
        self._near: deque[tuple[bytes, bytes]] = deque()  # blocks of the microphone, each with what the speaker played
        self._far: deque[bytes] = deque(maxlen=LONGEST_WAIT)
        self._far_flows = False
        self._primed = False
        self._takes, self._least_waiting = 0, LONGEST_WAIT
        self._from_line = Converter(line, DEVICE_FORMAT)
        self._to_line = Converter(DEVICE_FORMAT, line)
        self._to_card = Converter(DEVICE_FORMAT, DEVICE_FORMAT)
        self._from_card = Converter(DEVICE_FORMAT, DEVICE_FORMAT)
        self._mic, self._speaker = Meter(), Meter()
        self._streams: list[Any] = []
        self._opened = 0.0
        self._seen = [0.0, 0.0]
        self._stopped = False
        self._closing = False
        self.ear_delay_s = 0.0
        self.underruns = 0
        self.dropped = 0

    @property
    def aec(self) -> str:
        """ "on", "half-duplex" or "off"."""
        return self._guard.state

    # ----------------------------------------------------------------- opening and closing

    def open(self, pull: Callable[[], bytes]) -> None:
        """Open both streams; the speaker takes its frames from `pull` from now on. Raises DeviceProblem."""
        sound = load_sounddevice()
        chosen(*self._names)
        self._pull = pull
        try:
            self._open_at_some_rate(sound)
        except DeviceProblem:
            with (
                quiet_stderr()
            ):  # the list of devices is cached: a sound server that was restarted is only seen after this
                sound._terminate()
                sound._initialize()
            self._open_at_some_rate(sound)

    def _open_at_some_rate(self, sound: Any) -> None:
        chosen(*self._names)
        error: Exception | None = None
        for rate in RATES:
            try:
                with quiet_stderr():
                    self._open_streams(sound, rate)
                return
            except (sound.PortAudioError, ValueError) as failure:
                error = failure
                self._drop_streams()
        assert error is not None
        raise DeviceProblem(f"The microphone or the speaker cannot be opened: {error}", NO_CARD) from error

    def _open_streams(self, sound: Any, rate: int) -> None:
        card = AudioFormat("pcm_s16le", rate)
        self._to_card, self._from_card = Converter(DEVICE_FORMAT, card), Converter(card, DEVICE_FORMAT)
        common = {
            "samplerate": rate,
            "blocksize": int(rate * BLOCK_MS / 1000),
            "channels": 1,
            "dtype": "int16",
            "latency": "low",
        }
        self._opened = time.monotonic()
        self._seen = [self._opened, self._opened]
        for make, name, callback in (
            (sound.RawInputStream, self._names[0], self._record),
            (sound.RawOutputStream, self._names[1], self._play),
        ):
            self._streams.append(make(device=name, callback=callback, finished_callback=self._finished, **common))
        self.ear_delay_s = float(self._streams[1].latency) + BLOCK_MS / 1000
        for stream in self._streams:
            stream.start()

    def _drop_streams(self) -> None:
        self._closing = True
        with quiet_stderr():
            for stream in self._streams:
                with suppress(Exception):  # a stream whose server has died may fail in any way, and it is gone anyhow
                    stream.close()
        self._streams.clear()
        self._closing = False

    def close(self) -> None:
        """Close both streams."""
        self._drop_streams()

    def _finished(self) -> None:
        if not self._closing:
            self._stopped = True

    def problem(self) -> DeviceProblem | None:
        """The device stopped during the call, by its own word or by its silence."""
        if not self._streams:
            return None
        now = time.monotonic()
        silent = now - min(self._seen) >= SILENT_S and now - self._opened >= OPENING_S
        if not self._stopped and not silent:
            return None
        what = "speaker" if self._seen[1] < self._seen[0] else "microphone"
        return DeviceProblem(
            f"The {what} stopped working during the call.", "Connect it again and place the call again."
        )

    # ----------------------------------------------------------------- in the library's threads

    def _record(self, data: Any, frames: int, when: Any, status: Any) -> None:
        self._seen[0] = time.monotonic()
        near = self._from_card.convert(bytes(data))
        self._far_flows = self._far_flows or len(self._far) >= CUSHION
        while (
            len(self._far) > 2 * CUSHION
        ):  # after a stall: older blocks would reach the canceller later than their echo
            self._far.popleft()
        far = self._far.popleft() if self._far_flows and self._far else bytes(len(near))
        if len(self._near) >= LONGEST_WAIT:
            self._near.popleft()
            self.dropped += 1
        self._near.append((near, far))

    def _play(self, data: Any, frames: int, when: Any, status: Any) -> None:
        self._seen[1] = time.monotonic()
        if status.output_underflow:
            self.underruns += 1
        heard = self._from_line.convert(self._pull())
        self._far.append(heard)
        self._speaker.add(heard)
        block = self._to_card.convert(heard)
        data[:] = block.ljust(len(data), b"\0")[: len(data)]

    # ----------------------------------------------------------------- on the event loop

    def mouth(self) -> bytes:
        """The next 20 ms of the microphone, without the speaker's echo; nothing while it has none."""
        if not self._primed:
            self._primed = len(self._near) >= CUSHION
        if not (self._primed and self._near):
            self._primed = False
            return b""
        self._shorten_wait()
        near, far = self._near.popleft()
        clean = self._guard.clean(near, far)
        self._mic.add(clean)
        return self._to_line.convert(clean)

    def _shorten_wait(self) -> None:
        """Drop what has been waiting for a whole second without being needed: a stall must not become a lasting delay."""
        self._least_waiting = min(self._least_waiting, len(self._near))
        self._takes += 1
        if self._takes < TAKES_A_SECOND:
            return
        for _ in range(self._least_waiting - CUSHION):
            self._near.popleft()
            self.dropped += 1
        self._takes, self._least_waiting = 0, LONGEST_WAIT

    def hear(self, frame: bytes) -> None:
        """Not used: the speaker pulls."""

    def levels(self) -> tuple[float, float]:
        """Loudest (microphone, speaker) frame since the last call, in dBFS."""
        return self._mic.take(), self._speaker.take()

    def finished(self) -> bool:
        """A person hangs up by a command."""
        return False
