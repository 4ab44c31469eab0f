"""The journal's hands: threads that put lines into the calls' files, force them to the disk, and hold what it will not take.

They own the files, their order and their repair; they refuse to know what a line says. One thread writes, so that a line is with
the system as soon as it is told and outlives the process; the other one waits for the disk, which may take its time.
"""

from __future__ import annotations

import errno
import logging
import os
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from patter.events import DROPPABLE, MemoryChanged

log = logging.getLogger(__name__)

OPEN_FILES = 128  # more than the calls that are up at once, far fewer than a process may have
HELD_BYTES = 64 * 1024 * 1024  # about an hour of fifty busy calls
UNSAFE_BYTES = 1024 * 1024  # a turn is far shorter: who talks that much without an end is forced to the disk meanwhile
LAST_WORDS = 1.25  # beyond the limit so much is left for turns that are over and for ends
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0  # between two tries: a disk that is freed is noticed within seconds
FORGOTTEN = 20_000  # ids of deleted calls whose late lines are refused: a day of deletions
_DROPPABLE = tuple(f'{{"type":"{kind.__name__}"'.encode() for kind in DROPPABLE)
FREE, ALLOW = "Free some space on the disk of the home", "Make the folder calls/ of the home writable"
_BINARY = getattr(os, "O_BINARY", 0)
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}

Told = Callable[[MemoryChanged], None]
Notes = dict[str, tuple[int, OSError | None]]
"""Of calls whose files were forced to the disk: up to which byte, or why not."""


@dataclass(slots=True)
class Page:
    """What one call said within a moment. `durable`: force it to the disk; `first` and `last`: the call begins, is over.
    `seq`: of the last fact on it."""

    call_id: str
    lines: list[bytes] = field(default_factory=list)
    durable: bool = False
    first: bool = False
    last: bool = False
    seq: int = 0


@dataclass(slots=True)
class Forget:
    """The files of these calls are about to be deleted: let go of them and write no more of these calls."""

    call_ids: frozenset[str]
    done: threading.Event = field(default_factory=threading.Event)


@dataclass(slots=True)
class _Sheet:
    """One call's file. Nothing is forgotten here before the disk has it, as far as it was asked to."""

    path: Path
    file: int = -1
    good: int = 0  # bytes of the file that are whole lines
    safe: int = 0  # bytes that the disk has
    torn: bool = False  # there may be half a line behind the good ones
    waiting: list[bytes] = field(default_factory=list)
    unsafe: list[bytes] = field(default_factory=list)  # written, not known to be on the disk
    kept: bool = False
    durable: bool = False
    syncing: bool = False

    def write(self) -> None:
        """Put everything that waits into the file, all or nothing. Raises OSError."""
        if self.file < 0:
            self._open()
        text = b"".join(self.waiting)
        self.torn = True
        rest = memoryview(text)
        while rest:
            rest = rest[os.write(self.file, rest) :]
        self.torn = False
        self.good += len(text)
        self.unsafe += self.waiting
        self.waiting = []

    def close(self) -> None:
        """Give the file back; the next line opens it anew."""
        if self.file >= 0:
            file, self.file = self.file, -1
            try:
                os.close(file)
            except OSError:
                log.exception("a journal could not be closed")

    def on_disk(self, size: int) -> None:
        """The disk has the file up to here."""
        count = 0
        for line in self.unsafe:
            if self.safe + len(line) > size:
                break
            self.safe += len(line)
            count += 1
        del self.unsafe[:count]

    def not_on_disk(self) -> None:
        """The disk took the lines and lost them: they wait again."""
        self.close()
        self.waiting, self.unsafe = self.unsafe + self.waiting, []
        self.good, self.torn, self.durable = self.safe, True, True

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)  # what callers said is for its user's eyes only
        self.file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | _BINARY, 0o600)
        size = os.fstat(self.file).st_size
        if self.torn and size >= self.good:
            if size > self.good:  # half a line, or lines that the disk may have lost
                os.ftruncate(self.file, self.good)
            return
        self.torn, self.good = False, size
        if size:
            os.lseek(self.file, size - 1, os.SEEK_SET)
            if os.read(self.file, 1) != b"\n":  # torn by a crash: it stays a line of its own, which readers leave out
                self.good += os.write(self.file, b"\n")
        self.safe = self.good
        self.unsafe = []


class Writer:
    """Two threads between the queue `pages` and the files `path_of` names; `told` hears of a disk that refuses, in a thread.

    `close` writes what can be written and stops."""

    def __init__(self, path_of: Callable[[str], Path], told: Told) -> None:
        self._path_of, self._told = path_of, told
        self._pages: queue.SimpleQueue[list[Page] | Notes | Forget | None] = queue.SimpleQueue()
        self._sheets: dict[str, _Sheet] = {}
        self._forgotten: OrderedDict[str, None] = OrderedDict()
        self._failing: dict[str, OSError] = {}
        self._held = 0  # bytes that wait in failing sheets
        self._lost = 0
        self._told_of_loss = False
        self._crowded = False
        self._pause, self._next_try = FIRST_PAUSE_S, 0.0
        self._taken = 0
        self.handed = 0
        """The number of the newest fact that the system has, with all before it (or that is held while the disk refuses)."""
        self._syncer = _Syncer(self._pages.put)
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
        self._thread.start()

    def put(self, pages: list[Page] | Forget) -> None:
        """Write these as soon as possible. Never waits."""
        self._pages.put(pages)

    def close(self) -> None:
        """Write what has come, force it to the disk, and stop; waits for the disk. More than once is fine."""
        self._pages.put(None)
        self._thread.join()

    # ------------------------------------------------------------------ the writing thread

    def _work(self) -> None:
        over = False
        while not over:
            try:
                fresh, over = self._take()
                self._write([*fresh, *(self._failing if time.monotonic() >= self._next_try or over else ())])
                self.handed = self._taken
            except Exception:
                log.exception("the journal stumbled")
        self._syncer.close()
        self._take(wait=False)
        self._write(list(self._failing))
        left = self._lost + sum(len(sheet.waiting) for sheet in self._sheets.values())
        if left:
            log.error("the journal could not be written before the end", extra={"lost_lines": left})
        for sheet in self._sheets.values():
            sheet.close()

    def _take(self, *, wait: bool = True) -> tuple[dict[str, None], bool]:
        """Sort in what has come, waiting for it; which calls have something new, and whether that was all."""
        fresh: dict[str, None] = {}
        over = False
        pause = max(0.0, self._next_try - time.monotonic()) if self._failing else None
        try:
            item = self._pages.get(wait, pause)
            while True:
                if item is None:
                    over = True
                elif isinstance(item, Forget):
                    self._write(list(fresh))
                    fresh.clear()
                    self._forget(item)
                elif isinstance(item, dict):
                    self._note(item)
                else:
                    for page in item:
                        self._sort_in(page, fresh)
                item = self._pages.get_nowait()
        except queue.Empty:
            return fresh, over

    def _sort_in(self, page: Page, fresh: dict[str, None]) -> None:
        call_id = page.call_id
        self._taken = max(self._taken, page.seq)
        if call_id in self._forgotten:
            return
        sheet = self._sheets.get(call_id)
        if sheet is None:
            sheet = self._sheets[call_id] = _Sheet(self._path_of(call_id))
        if page.first and not sheet.kept:
            self._keep(sheet)
        if page.last:
            sheet.kept = False
        sheet.durable = sheet.durable or page.durable
        if call_id in self._failing:
            self._hold(sheet, page.lines, important=page.first or page.durable)
        else:
            sheet.waiting += page.lines
            fresh[call_id] = None

    def _keep(self, sheet: _Sheet) -> None:
        kept = [other for other in self._sheets.values() if other.kept]
        if len(kept) >= OPEN_FILES:
            kept[0].kept = False  # from now on each of its lines opens it anew
            kept[0].close()
        sheet.kept = True

    def _write(self, call_ids: Iterable[str]) -> None:
        failed = failed_again = recovered = False
        for call_id in dict.fromkeys(call_ids):
            sheet, known = self._sheets[call_id], call_id in self._failing
            held = sum(map(len, sheet.waiting)) if known else 0
            try:
                sheet.write()
            except OSError as error:
                failed, failed_again = True, failed_again or known
                sheet.close()  # a file that is opened anew may be another one by then
                self._fail(call_id, sheet, error)
                continue
            if known:
                del self._failing[call_id]
                self._held -= held
                recovered = True
            if sheet.durable or sheet.good - sheet.safe > UNSAFE_BYTES:
                sheet.durable, sheet.syncing = False, True
                self._syncer.want(call_id, sheet.path, sheet.good)
            if not sheet.kept:
                sheet.close()
                self._let_go(call_id, sheet)
        if failed_again or (failed and self._next_try <= time.monotonic()):
            self._next_try = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE_S)
        if recovered and not self._failing:
            self._caught_up()

    def _let_go(self, call_id: str, sheet: _Sheet) -> None:
        if not sheet.kept and not sheet.syncing and not sheet.waiting:
            sheet.close()
            self._sheets.pop(call_id, None)

    def _note(self, notes: Notes) -> None:
        """What became of files that were to be on the disk."""
        for call_id, (size, error) in notes.items():
            sheet = self._sheets.get(call_id)
            if sheet is None:
                continue
            sheet.syncing = self._syncer.wants(call_id)
            if error is None:
                sheet.on_disk(size)
                self._let_go(call_id, sheet)
            elif call_id not in self._failing:
                sheet.not_on_disk()
                self._fail(call_id, sheet, error)
                self._next_try = time.monotonic() + self._pause

    def _forget(self, order: Forget) -> None:
        for call_id in order.call_ids:
            self._forgotten[call_id] = None
            if (sheet := self._sheets.pop(call_id, None)) is not None:
                sheet.close()
            if self._failing.pop(call_id, None) is not None and not self._failing:
                self._caught_up()
        while len(self._forgotten) > FORGOTTEN:
            self._forgotten.popitem(last=False)
        order.done.set()

    # ------------------------------------------------------------------ a disk that refuses

    def _fail(self, call_id: str, sheet: _Sheet, error: OSError) -> None:
        news, known = not self._failing, call_id in self._failing
        self._failing[call_id] = error
        if not known:
            lines, sheet.waiting = sheet.waiting, []
            self._hold(sheet, lines, important=True)
        if news:
            log.error("the journal could not be written", extra={"error": error.strerror, "path": str(sheet.path)})
            self._tell_behind(error)

    def _hold(self, sheet: _Sheet, lines: list[bytes], *, important: bool) -> None:
        """Keep the lines of a call whose file cannot be written, as long as there is room."""
        size = sum(map(len, lines))
        if self._held + size > HELD_BYTES and not self._crowded:
            self._crowded = True
            for call_id in self._failing:
                other = self._sheets[call_id]
                other.waiting = [line for line in other.waiting if not line.startswith(_DROPPABLE)]
            self._held = sum(len(line) for call_id in self._failing for line in self._sheets[call_id].waiting)
        if self._crowded:
            lines = [line for line in lines if not line.startswith(_DROPPABLE)]
            size = sum(map(len, lines))
            if self._held + size > HELD_BYTES * (LAST_WORDS if important else 1):
                self._lost += len(lines)
                lines, size = [], 0
                if not self._told_of_loss:
                    self._told_of_loss = True
                    log.error("the journal has lost lines: nothing can be written and the memory for them is full")
                    self._tell_behind(next(iter(self._failing.values())))
        self._held += size
        sheet.waiting += lines

    def _caught_up(self) -> None:
        log.warning("the journal has caught up", extra={"lost_lines": self._lost})
        lost = f"{self._lost} facts could not be kept: nothing could be written for too long" if self._lost else ""
        self._told(MemoryChanged(call_id="", keeper="journal", state="current", problem=lost))
        self._held = self._lost = 0
        self._crowded = self._told_of_loss = False
        self._pause = FIRST_PAUSE_S

    def _tell_behind(self, error: OSError) -> None:
        waiting = sum(len(self._sheets[call_id].waiting) for call_id in self._failing)
        lost = f"; {self._lost} facts are lost already, as the memory for them is full" if self._lost else ""
        self._told(
            MemoryChanged(
                call_id="",
                keeper="journal",
                state="behind",
                waiting=waiting,
                problem=f"The calls' journals cannot be written: {error.strerror or type(error).__name__}{lost}.",
                fix=f"{FREE if error.errno in _FULL else ALLOW}: what was not written is held and written then.",
            )
        )


class _Syncer:
    """Forces files to the disk, one after the other: a file that is asked for again meanwhile waits only once."""

    def __init__(self, note: Callable[[Notes], None]) -> None:
        self._note = note
        self._wanted: dict[str, tuple[Path, int]] = {}
        self._change = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._work, name="journal-disk", daemon=True)
        self._thread.start()

    def want(self, call_id: str, path: Path, size: int) -> None:
        """Let the disk have the file, which has `size` bytes."""
        with self._change:
            self._wanted[call_id] = path, size
            self._change.notify()

    def wants(self, call_id: str) -> bool:
        """Whether this file is still to be forced to the disk."""
        with self._change:
            return call_id in self._wanted

    def close(self) -> None:
        """Do what is wanted, then stop. Waits for the disk."""
        with self._change:
            self._over = True
            self._change.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._change:
                while not self._wanted and not self._over:
                    self._change.wait()
                wanted, self._wanted = self._wanted, {}
                if not wanted:
                    return
            self._note({call_id: (size, _force(path)) for call_id, (path, size) in wanted.items()})


def _force(path: Path) -> OSError | None:
    try:
        file = os.open(path, os.O_RDWR | _BINARY)  # any descriptor of the file will do; it is not kept open for this
        try:
            os.fsync(file)
        finally:
            os.close(file)
    except FileNotFoundError:
        return None  # deleted meanwhile: there is nothing to lose
    except OSError as error:
        return error
    return None
