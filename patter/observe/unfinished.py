"""What a killed process left: its calls are closed with the cause, its recordings are made whole.

It owns the first look at HOME/calls when an engine starts; it refuses to touch a call that is over and told.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

from patter.audio.wav import repair
from patter.events import CallEnded, CallStarted, Event, RecordingSaved
from patter.observe.journal import CALLS, EVENTS, dump, event_of, read
from patter.observe.recordings import FILE

log = logging.getLogger(__name__)

TAIL = 64 * 1024  # bytes in which a call's CallEnded stands, with the measurements after it
LOOKED = ".looked"
"""A file in HOME/calls whose date is the last time that everything in it was seen to be closed."""
MARGIN_S = (
    2 * 86_400.0
)  # journals so much older than the last look are not opened again; a clock may have been set back


def close_unfinished(home: str | Path, now: float) -> list[str]:
    """End every journaled call that has no end, with the reason "engine_died", and make its recording whole; their ids.

    For the start of an engine, before it takes calls. `now` in seconds since the epoch. A call's end is dated to its last
    event or the end of its sound: so long it is known to have lived."""
    folder = Path(home) / CALLS
    closed, failed = [], False
    for path in _journals(folder, _last_look(folder)):
        try:
            tail = _tail(path)
            ended = next((event for event in tail if isinstance(event, CallEnded)), None)
            sound_s = 0.0 if any(isinstance(event, RecordingSaved) for event in tail) else _recorded(path)
            if ended is None:
                ended = _close(path, now, sound_s)
                if ended is not None:
                    closed.append(ended.call_id)
            if ended is not None and sound_s:
                _note_recording(path, ended, sound_s)
        except OSError:
            failed = True
            log.exception("an unfinished call could not be closed", extra={"path": str(path)})
    if folder.is_dir() and not failed:
        try:
            (folder / LOOKED).touch()
        except OSError:
            log.warning("the calls' folder cannot be written", extra={"path": str(folder)})
    return closed


def _last_look(folder: Path) -> float:
    try:
        return (folder / LOOKED).stat().st_mtime
    except OSError:
        return 0.0


def _journals(folder: Path, looked: float) -> list[Path]:
    """The journals that may be open: those written since the last look, with a margin."""
    paths = []
    try:
        names = sorted(entry.name for entry in os.scandir(folder))
    except OSError:
        return []
    for name in names:
        path = folder / name / EVENTS
        try:
            if path.stat().st_mtime >= looked - MARGIN_S:
                paths.append(path)
        except FileNotFoundError:
            with contextlib.suppress(OSError):
                path.parent.rmdir()  # killed before its first line; a folder with anything in it stays
        except OSError:
            continue
    return paths


def _close(path: Path, now: float, sound_s: float) -> CallEnded | None:
    events = read(path)
    if not events:
        if b"\n" not in path.read_bytes():  # killed within its first line: nobody was told of this call
            path.unlink()
            with contextlib.suppress(OSError):
                path.parent.rmdir()
        return None
    if (known := next((event for event in events if isinstance(event, CallEnded)), None)) is not None:
        return known
    start = next((event.at for event in events if isinstance(event, CallStarted)), events[0].at)
    last = max(*(event.at for event in events), start + sound_s)
    ended = CallEnded(
        call_id=events[0].call_id,
        seq=max(event.seq for event in events) + 1,
        at=min(now, last) if last else now,
        reason="engine_died",
        detail="The engine was stopped from outside during this call.",
        duration_s=round(max(0.0, last - start), 3),
    )
    _append(path, ended)
    return ended


def _recorded(path: Path) -> float:
    """How many seconds of sound stand beside this journal, which does not tell of them; the file is whole afterwards."""
    recording = path.with_name(FILE)
    if not recording.exists():
        return 0.0
    try:
        return repair(recording)
    except ValueError:
        log.exception("a recording cannot be read", extra={"path": str(recording)})
        return 0.0


def _note_recording(path: Path, ended: CallEnded, seconds: float) -> None:
    events = read(path)
    if any(isinstance(event, RecordingSaved) for event in events):
        return
    seq, recording = max(event.seq for event in events) + 1, str(path.with_name(FILE))
    saved = RecordingSaved(call_id=ended.call_id, seq=seq, at=ended.at, path=recording, duration_s=round(seconds, 3))
    _append(path, saved)


def _tail(path: Path) -> list[Event]:
    """The last events of a journal: saves reading all of it at every start."""
    with path.open("rb") as file:
        start = max(0, file.seek(0, os.SEEK_END) - TAIL)
        file.seek(start)
        lines = file.read().split(b"\n")[1 if start else 0 :]
    wanted = (b'{"type":"CallEnded"', b'{"type":"RecordingSaved"')
    return [event for line in lines if line.startswith(wanted) and (event := event_of(line)) is not None]


def _append(path: Path, event: Event) -> None:
    """Append a line; if the one before it was torn, it stays a line of its own, which readers leave out."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        torn = False
        if size:
            file.seek(size - 1)
            torn = file.read(1) != b"\n"
        file.seek(0, os.SEEK_END)
        file.write((b"\n" if torn else b"") + dump(event).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
