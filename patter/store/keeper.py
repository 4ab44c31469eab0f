"""Keeps the database of calls up to date: reads the bus, folds every call, and writes what has changed together, later.

It owns when a call is written and what happens while that cannot be done; it refuses to know tables. A call never waits for
it: all that happens while an event is published is a fold in memory.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import anyio
import anyio.lowlevel
import anyio.to_thread
from anyio.abc import TaskGroup

from patter.bus import Bus
from patter.clock import Clock
from patter.events import CallEnded, CallPlaced, CallStarted, Event, MemoryChanged, TurnMeasured
from patter.exceptions import StoreError
from patter.observe.journal import call_folder
from patter.observe.prices import Prices
from patter.store.catch_up import CatchUp, find_words, size_of
from patter.store.database import Database
from patter.store.failures import Refused
from patter.store.record import Record, Rows
from patter.store.writing import erase, write

log = logging.getLogger(__name__)

TOGETHER_S = 0.1  # what happens meanwhile is written in one transaction; the journal has it by then
BATCH = 50  # calls in one transaction: some ms
PAUSES_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # between tries while the database fails
HELD = 500  # ended calls that wait in memory for the database, some MB; more are read from their journals later
KEPT = 64  # ended calls that are written and still in memory: a recording may be saved a little later
VERSIONS = 200  # of agents, whose text is at hand for calls that end
LAST_TRY_S = 10.0  # how long an engine that stops waits for the database


class Keeper:
    """A bus sink, and `async with` around all that uses it: it opens the database as soon as that answers, and closes it.

    `live`, `detail` and `knows` answer from memory. `pauses_s`: between tries while the database fails."""

    def __init__(
        self,
        database: Database,
        home: Path,
        prices: Prices,
        bus: Bus,
        clock: Clock,
        *,
        engine_id: str = "",
        pauses_s: Sequence[float] = PAUSES_S,
        held: int = HELD,
    ) -> None:
        self._database, self._home, self._prices = database, home, prices
        self._bus, self._clock = bus, clock
        self._engine_id = engine_id
        self._pauses_s = tuple(pauses_s)
        self._held = held
        self._calls: dict[str, Record] = {}
        self._done: OrderedDict[str, None] = OrderedDict()  # ended, written, still in `_calls`
        self._due: OrderedDict[str, None] = OrderedDict()  # to be written, the longest waiting first
        self._dropped = 0  # ended calls that were let go while they waited
        self._in_hand = 0  # calls that are being written
        self._problem: StoreError | None = None
        self._failures = 0
        self._texts: OrderedDict[tuple[str, str], str] = OrderedDict()  # of agents' versions
        self._forgotten: set[str] = set()  # while somebody may still have rows of them in hand
        self._turn = anyio.Lock()  # one transaction at a time: what is erased is not written by one that began before
        self._wake = anyio.Event()
        self._moved = anyio.Event()  # set when something was written, or could not be
        self._stopping = anyio.Event()
        self._gave_up = False
        self._hurry = anyio.Event()
        self._catch_up = CatchUp(database, home, prices, self.knows, lambda: len(self._calls) > len(self._done))
        self._keeping = anyio.CancelScope(shield=True)  # who uses it may be cancelled: what waits is written still
        self._tasks: TaskGroup

    async def __aenter__(self) -> Self:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._keep)
        return self

    async def __aexit__(self, *error: Any) -> None:
        with anyio.CancelScope(shield=True):
            await self._finish()
        self._keeping.cancel()
        try:
            await self._tasks.__aexit__(None, None, None)
        finally:
            await self._database.aclose()

    async def _keep(self) -> None:
        with self._keeping:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._work)
                tasks.start_soon(self._catch_up.run, self._store, self._failed)

    # ------------------------------------------------------------------ events

    def __call__(self, event: Event) -> None:
        """Take in an event of the bus."""
        call_id = event.call_id
        if not call_id:
            return
        record = self._calls.get(call_id)
        if record is None:
            if isinstance(event, CallPlaced | CallStarted):
                record = self._calls[call_id] = Record(call_id, self._prices)
            elif isinstance(event, CallEnded) or self._catch_up.concerns(event):
                self._catch_up.again(call_id, event.seq)
                return
            else:
                return
        record.apply(event)
        over = record.state == "ended"
        if over or isinstance(event, CallPlaced | CallStarted) or (isinstance(event, TurnMeasured) and event.closed):
            self._done.pop(call_id, None)
            self._due[call_id] = None
            self._wake.set()
            if over and self._problem is not None:
                self._let_go()

    def agent_used(self, agent: str, version: str, text: str) -> None:
        """A call begins with this version of an agent, whose file is `text`: it is kept with the call."""
        self._texts[agent, version] = text
        self._texts.move_to_end((agent, version))
        while len(self._texts) > VERSIONS:
            self._texts.popitem(last=False)

    def _let_go(self) -> None:
        """While the database fails, hold no more ended calls in memory than was agreed: their journals have them."""
        over = [call_id for call_id in self._due if self._calls[call_id].state == "ended"]
        for call_id in over[: max(0, len(over) - self._held)]:
            del self._due[call_id], self._calls[call_id]
            self._dropped += 1

    # ------------------------------------------------------------------ answers

    def knows(self, call_id: str) -> bool:
        """Whether this call is in memory: it goes on, or was over a little while ago."""
        return call_id in self._calls

    def live(self) -> list[dict[str, Any]]:
        """The calls that are going on or ringing, as the API's rows, newest first."""
        now = self._clock.now()
        live = [record for record in self._calls.values() if record.state in ("live", "ringing")]
        return [
            record.row_json(self._home, now)
            for record in sorted(live, key=lambda record: record.started_at, reverse=True)
        ]

    def unwritten(self) -> list[tuple[dict[str, Any], Sequence[str]]]:
        """The rows of calls that go on or are over and not written yet, with the lines of their transcripts."""
        now = self._clock.now()
        held = [record for call_id, record in self._calls.items() if call_id not in self._done]
        return [(record.row_json(self._home, now), record.spoken) for record in held]

    def detail(self, call_id: str) -> dict[str, Any] | None:
        """Everything that is known of a call that is in memory, as the API's answer; None for another."""
        record = self._calls.get(call_id)
        return record.detail_json(self._home, self._clock.now()) if record is not None else None

    @property
    def problem(self) -> StoreError | None:
        """Why the database is behind now; None while it is current."""
        return self._problem

    @property
    def waiting(self) -> int:
        """How many calls have something that is not written yet."""
        return len(self._due) + self._in_hand + self._dropped

    async def flushed(self, within_s: float = 1.0) -> bool:
        """Have written by now what has happened before: for readers who must see it. False if that took too long."""
        self._hurry.set()
        with anyio.move_on_after(within_s):
            while self._due or self._in_hand:
                if self._problem is not None:
                    return False
                await self._moved.wait()
        return not self._due and not self._in_hand

    async def settled(self, within_s: float = 30.0) -> bool:
        """The same, with the journals of earlier engines. False if that took too long."""
        with anyio.move_on_after(within_s):
            while not self._catch_up.idle or not await self.flushed(within_s):
                if self._problem is not None:
                    break
                await self._moved.wait()
            else:
                return True
        return False

    async def forget(self, call_ids: Iterable[str]) -> None:
        """Take calls that are over out of the database and its sums. Raises StoreError; then nothing is gone."""
        gone = list(call_ids)
        self._forgotten.update(gone)
        try:
            async with self._turn, self._database.write() as connection:
                await erase(connection, gone)
        except BaseException:
            self._forgotten.difference_update(gone)
            raise
        for call_id in gone:
            self._calls.pop(call_id, None)
            self._due.pop(call_id, None)
            self._done.pop(call_id, None)

    # ------------------------------------------------------------------ writing

    async def _work(self) -> None:
        while True:
            if not self._due:
                await self._wake.wait()
            self._wake = anyio.Event()
            with anyio.move_on_after(TOGETHER_S):
                await self._hurry.wait()
            self._hurry = anyio.Event()
            while self._due:
                try:
                    await self._write([call_id for call_id, _ in zip(self._due, range(BATCH), strict=False)])
                except Exception as error:  # a mistake of ours must not end the keeping
                    log.exception("calls could not be written")
                    await self._failed(_surprise(error))

    async def _write(self, batch: list[str]) -> None:
        """Write these calls as they are now."""
        sizes = await anyio.to_thread.run_sync(self._journal_sizes, batch)
        made: list[Rows] = []
        self._in_hand = len(batch)
        try:
            for call_id, size in zip(batch, sizes, strict=True):
                if call_id in self._due:  # it was not let go meanwhile
                    del self._due[call_id]
                    made += self._rows(call_id, size)
                    await anyio.lowlevel.checkpoint()  # calls are served between two folds
            await anyio.to_thread.run_sync(find_words, made)
            await self._store(made)
        finally:
            self._in_hand = 0
        for rows in made:
            self._settle(rows.call["call_id"])
        self._came_back()

    def _rows(self, call_id: str, size: int) -> list[Rows]:
        """What is to be written of a call. One that cannot be told in rows is let go: its journal has it."""
        record = self._calls[call_id]
        try:
            rows = record.rows(whole=record.state == "ended")
        except Exception:
            log.exception("a call cannot be written", extra={"call_id": call_id})
            del self._calls[call_id]
            return []
        rows.call["journal_bytes"] = size
        return [rows]

    async def _store(self, rows: list[Rows]) -> None:
        """Write rows, however often that takes; one that the database refuses for what is in it is left to its journal."""
        for some in rows:
            some.call["engine_id"] = self._engine_id
        while True:
            try:
                await self._database.open()
                if rows:
                    async with self._turn, self._database.write() as connection:
                        wanted = [some for some in rows if some.call["call_id"] not in self._forgotten]
                        await write(connection, wanted, self._texts)
                self._came_back()
                return
            except Refused as refused:
                if len(rows) == 1:
                    log.error("a call cannot be written", extra={"path": rows[0].call["journal"], "why": str(refused)})
                    return
                for some in rows:
                    await self._store([some])
                return
            except StoreError as problem:
                await self._failed(problem)
            except Exception as error:  # a mistake of ours must not end the keeping
                log.exception("calls could not be written")
                await self._failed(_surprise(error))

    def _settle(self, call_id: str) -> None:
        """A call was written; it stays in memory a little if it is over, for what may be told of it afterwards."""
        record = self._calls.get(call_id)
        if record is not None and record.state == "ended" and call_id not in self._due:
            self._done[call_id] = None
            while len(self._done) > KEPT:
                self._calls.pop(self._done.popitem(last=False)[0], None)

    def _journal_sizes(self, call_ids: list[str]) -> list[int]:
        """How long the journals are now: what stands in them has been folded already."""
        return [size_of(call_folder(self._home, call_id)) for call_id in call_ids]

    # ------------------------------------------------------------------ trouble

    async def _failed(self, problem: StoreError) -> None:
        """Tell it once, then wait, longer each time; an engine that stops tries once more and waits no longer."""
        first, self._problem = self._problem is None, problem
        if first:
            log.warning("the database of calls is behind", extra={"why": str(problem)})
            self._publish("behind", problem.problem, problem.fix)
        self._tell_moved()
        if self._stopping.is_set():
            self._gave_up = True
            self._tell_moved()
            await anyio.sleep_forever()
        pause = self._pauses_s[min(self._failures, len(self._pauses_s) - 1)]
        self._failures += 1
        with anyio.move_on_after(pause):
            await self._stopping.wait()

    def _came_back(self) -> None:
        """Something was written: when nothing waits any more, that is told."""
        self._failures = 0
        if self._catch_up.idle and not self._in_hand:
            self._forgotten.clear()
        if self._problem is not None and not self._due and not self._in_hand:
            if self._dropped:
                self._dropped = 0
                self._catch_up.look_again()
            elif self._catch_up.idle:
                self._problem = None
                self._publish("current")
        self._tell_moved()

    def _publish(self, state: Any, problem: str = "", fix: str = "") -> None:
        self._bus.publish(
            MemoryChanged(call_id="", keeper="store", state=state, waiting=self.waiting, problem=problem, fix=fix)
        )

    def _tell_moved(self) -> None:
        self._moved.set()
        self._moved = anyio.Event()

    async def _finish(self) -> None:
        """The end: what waits is written if the database answers; if not, the next engine reads the journals."""
        self._stopping.set()
        self._hurry.set()
        with anyio.move_on_after(LAST_TRY_S):
            while (self._due or self._in_hand) and not self._gave_up:
                await self._moved.wait()
        if self._due or self._in_hand:
            log.warning("calls are not in the database: the next start reads their journals")


def _surprise(error: Exception) -> StoreError:
    return StoreError(f"calls could not be written ({type(error).__name__})", fix="see the engine's log")
