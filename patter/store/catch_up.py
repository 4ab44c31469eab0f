"""Finds the journals that the database does not have yet, or not to their end, and folds them into rows, in the background.

It owns which journals are read and how fast; it refuses to write journals, and to know how rows are stored. A journal that
nobody can read stops no other.
"""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
from sqlalchemy import select

from patter.events import CarrierRecordingSaved, CostMeasured, Event, RecordingSaved, TurnMeasured
from patter.exceptions import StoreError
from patter.observe.journal import CALLS, EVENTS, call_folder, read
from patter.observe.prices import Prices
from patter.store.database import Database
from patter.store.record import Record, Rows
from patter.store.schema import calls
from patter.store.search import text_of

log = logging.getLogger(__name__)

PAGE = 2_000  # rows of the database that are compared at once
TOGETHER = 20  # journals in one transaction
LATE = (RecordingSaved, CarrierRecordingSaved, TurnMeasured, CostMeasured)
"""What may be told of a call that is over and has left memory: its journal is read again."""

PATIENCE = 50  # looks, 0.1 s apart, for a line that the journal's thread has not written yet


Store = Callable[[list[Rows]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Found:
    """A journal that is to be read, at least to the event `seq`."""

    folder: Path
    seq: int = 0


class CatchUp:
    """`run` it once; `look_again` makes it compare all journals with the database, `again` read one call's."""

    def __init__(
        self, database: Database, home: Path, prices: Prices, live: Callable[[str], bool], busy: Callable[[], bool]
    ) -> None:
        self._database, self._home, self._prices = database, home, prices
        self._live, self._busy = live, busy
        self._scan = True
        self._waiting: OrderedDict[Path, Found] = OrderedDict()
        self._working = False
        self._go = anyio.Event()

    @property
    def idle(self) -> bool:
        """Whether every journal that it was told of is in the database, as far as it can be."""
        return not (self._scan or self._waiting or self._working)

    def look_again(self) -> None:
        """Compare everything, now or as soon as the running round is done."""
        self._scan = True
        self._go.set()

    def concerns(self, event: Event) -> bool:
        """Whether this event changes the rows of a call that is over."""
        return isinstance(event, LATE)

    def again(self, call_id: str, seq: int) -> None:
        """Read the journal of a call once more, when it holds the event `seq`."""
        folder = call_folder(self._home, call_id)
        self._waiting[folder] = Found(folder, seq)
        self._go.set()

    async def run(self, store: Store, failed: Callable[[StoreError], Awaitable[None]]) -> None:
        """Work until cancelled. `store` writes rows, however long that takes; `failed` is told what went wrong, and waits."""
        await store([])  # opens the database
        self._go.set()
        while True:
            await self._go.wait()
            self._go = anyio.Event()
            self._working = True
            try:
                await self._round(store)
            except StoreError as problem:
                self.look_again()
                await failed(problem)
            except Exception as error:  # a mistake of ours must not end the reading
                log.exception("journals could not be compared with the database")
                self.look_again()
                await failed(
                    StoreError(f"journals could not be read ({type(error).__name__})", fix="see the engine's log")
                )
            finally:
                self._working = False
            if not self._scan:
                await store([])  # tells that all is done

    async def _round(self, store: Store) -> None:
        if self._scan:
            missing = await self._missing()
            self._scan = False
            for found in missing:
                self._waiting.setdefault(found.folder, found)
            if missing:
                log.info("journals are read into the database", extra={"count": len(missing)})
        while self._waiting:
            await self._some(store)

    async def _missing(self) -> list[Found]:
        """The journals whose calls are not in the database as they stand on the disk, the newest first."""
        there = await anyio.to_thread.run_sync(_listing, self._home / CALLS)
        last = ""
        columns = (calls.c.call_id, calls.c.journal, calls.c.journal_bytes, calls.c.state, calls.c.counted)
        while True:
            query = select(*columns).where(calls.c.call_id > last).order_by(calls.c.call_id).limit(PAGE)
            async with self._database.read() as connection:
                rows = (await connection.execute(query)).all()
            for row in rows:
                name = row.journal.split("/")[1] if row.journal.count("/") == 2 else ""
                if row.state == "ended" and row.counted and there.get(name, (-1, 0.0))[0] == row.journal_bytes:
                    del there[name]
            if len(rows) < PAGE:
                break
            last = rows[-1].call_id
        return [
            Found(self._home / CALLS / name) for name in sorted(there, key=lambda name: there[name][1], reverse=True)
        ]

    async def _some(self, store: Store) -> None:
        """Read and store the next few journals."""
        made: dict[str, Rows] = {}
        taken = [self._waiting.popitem(last=False)[1] for _ in range(min(TOGETHER, len(self._waiting)))]
        for found in taken:
            began = anyio.current_time()
            rows = await self._read(found)
            if rows is not None and not self._live(rows.call["call_id"]):
                made[rows.call["call_id"]] = rows
            if self._busy():  # half of the time belongs to whoever is on the phone
                await anyio.sleep(min(1.0, anyio.current_time() - began))
        await store(list(made.values()))

    async def _read(self, found: Found) -> Rows | None:
        for _ in range(PATIENCE):
            rows = await anyio.to_thread.run_sync(partial(fold, found.folder, self._prices))
            enough = not found.seq or (rows is not None and rows.call["last_seq"] >= found.seq)
            if enough or not found.folder.is_dir():
                break
            await anyio.sleep(0.1)
        return rows


def fold(folder: Path, prices: Prices) -> Rows | None:
    """The rows of the journal in a call's folder (blocking); None where there is no call that is over."""
    path = folder / EVENTS
    try:
        size = path.stat().st_size
        record: Record | None = None
        for event in read(path):
            record = record or Record(event.call_id, prices)
            if event.call_id == record.call_id:
                record.apply(event)
        if record is None or record.state != "ended":
            return None
        rows = record.rows(whole=True)
    except OSError:
        log.warning("a journal cannot be read", extra={"path": str(path)})
        return None
    except Exception:  # whatever stands in it: the others are read all the same
        log.exception("a journal cannot be understood", extra={"path": str(path)})
        return None
    rows.call["journal_bytes"] = size
    find_words([rows])
    return rows


def find_words(batch: list[Rows]) -> None:
    """Fill in what the search looks through: for a thread, it takes some ms for a long call."""
    for rows in batch:
        if rows.text is not None:
            rows.text["words"] = text_of(rows.call, rows.spoken)


def size_of(folder: Path) -> int:
    """How long the journal in this folder is; 0 without one."""
    try:
        return os.stat(folder / EVENTS).st_size
    except OSError:
        return 0


def _listing(folder: Path) -> dict[str, tuple[int, float]]:
    """Every call's folder by name, with the length of its journal and when that was written last."""
    found = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    told = os.stat(os.path.join(entry.path, EVENTS))
                except OSError:
                    continue
                found[entry.name] = (told.st_size, told.st_mtime)
    except OSError:
        pass
    return found
