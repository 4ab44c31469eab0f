"""The recordings of one home: one recorder for every call with sound, told to the world when its file is whole.

It owns which recorders are at work; it refuses to know how sound is mixed and who reads the files.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread

from patter.bus import Bus
from patter.clock import Clock
from patter.events import RecordingSaved
from patter.observe.journal import call_folder
from patter.observe.recorder import Recorder
from patter.ports import CallInfo, Transport

FILE = "recording.wav"


class Recordings:
    """Stereo WAV files beside the calls' journals (left: caller, right: agent)."""

    def __init__(self, home: Path, bus: Bus, clock: Clock) -> None:
        self._home, self._bus, self._clock = home, bus, clock
        self._open: dict[str, Recorder] = {}

    def taps(self, call: CallInfo, transport: Transport) -> tuple[Recorder, ...]:
        """The taps of a call that begins; none for a call without sound."""
        if transport.abilities.plays is None:
            return ()
        path = call_folder(self._home, call.call_id) / FILE
        recorder = Recorder(
            path,
            self._clock,
            saved=partial(self._saved, call.call_id),
            over=lambda: self._over(call.call_id),
        )
        self._open[call.call_id] = recorder
        return (recorder,)

    def _saved(self, call_id: str, path: str, duration_s: float) -> None:
        self._bus.publish(RecordingSaved(call_id=call_id, path=path, duration_s=round(duration_s, 3)))

    def _over(self, call_id: str) -> None:
        self._open.pop(call_id, None)

    async def aclose(self) -> None:
        """Wait until the files of all calls, which are over, are whole."""
        for recorder in list(self._open.values()):
            recorder.close(self._clock.now())
            await anyio.to_thread.run_sync(recorder.join)
        await anyio.lowlevel.checkpoint()  # the threads have left their last word to the loop
