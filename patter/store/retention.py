"""Deletion of calls: by age, by number, one by one, and all of somebody who wants to be forgotten. Nothing is left of them.

It owns which calls go, and in which order: a call's folder is taken out of sight first, then its rows and its part of the sums
go, then the files. What a crash leaves half done stands in HOME/forgotten and is finished by the next start. A call that goes
on is never touched; it refuses to know who asks.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, Self

import anyio
import anyio.abc
import anyio.to_thread
from sqlalchemy import Select, or_, select

from patter.clock import Clock
from patter.events import CallEnded, Event
from patter.exceptions import StoreError
from patter.models import Memory
from patter.observe.journal import EVENTS, call_folder, read
from patter.store.database import Database
from patter.store.schema import calls

log = logging.getLogger(__name__)

FORGOTTEN = "forgotten"
"""The folder in the home with what is being deleted."""
BATCH = 20  # calls that are deleted in one transaction: the database is free for others in between
BREATH_S = 0.05  # between two batches: deleting is in no hurry
HOUR = 3  # of the day (UTC) at which it is looked what has grown too old
EVERY = 100  # ended calls after which it is looked as well
YOUNG_S = 60.0  # a call that has just ended may still be written: its recording, its last figures
RETRY_S = 60.0

Go = Callable[[Sequence[str]], None]


class Holder(Protocol):
    """Whoever has something of a call in memory (the journal): lets go of it for good. Called in a thread."""

    def forget(self, call_ids: Sequence[str]) -> None: ...


class Rows(Protocol):
    """The keeper of the rows: takes them out of the database and its own memory. Raises StoreError; then nothing is gone."""

    async def forget(self, call_ids: Sequence[str]) -> None: ...

    async def flushed(self, within_s: float = 1.0) -> bool: ...

    def live(self) -> list[dict[str, Any]]: ...


class Retention:
    """`async with` around all that it deletes from; also a bus sink, which counts ended calls.

    `gone` functions are told on the event loop which calls are no more."""

    def __init__(
        self, memory: Memory, home: Path, database: Database, rows: Rows, journal: Holder, clock: Clock
    ) -> None:
        self._memory, self._home, self._database = memory, home, database
        self._rows, self._journal, self._clock = rows, journal, clock
        self._ended = 0
        self._look = anyio.Event()
        self._deleting = anyio.Lock()
        self._tasks: anyio.abc.TaskGroup
        self.gone: list[Go] = []

    async def __aenter__(self) -> Self:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._work)
        return self

    async def __aexit__(self, *error: Any) -> None:
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(None, None, None)

    def __call__(self, event: Event) -> None:
        """Take in an event of the bus."""
        if isinstance(event, CallEnded):
            self._ended += 1
            if self._ended % EVERY == 0:
                self._look.set()

    # ------------------------------------------------------------------ on demand; all raise StoreError

    async def forget(self, call_id: str) -> bool:
        """Delete one call that is over; False if it is not known (or goes on)."""
        known = call_folder(self._home, call_id).is_dir() or await self._find(
            select(calls.c.call_id).where(_is(call_id))
        )
        return bool(known) and bool(await self._delete([call_id]))

    async def forget_number(self, number: str) -> int:
        """Delete all calls from and to a telephone number; how many there were. Raises ValueError for none."""
        plain = "".join(character for character in number if character.isdigit())
        if not plain:
            raise ValueError(f"number must be a telephone number such as +15551234567, not {number!r}")
        forms = {number.strip(), plain, f"+{plain}"}
        theirs = or_(calls.c.caller.in_(forms), calls.c.callee.in_(forms))
        return await self._delete(await self._find(_over().where(theirs)))

    async def forget_older(self, days: float) -> int:
        """Delete the calls that ended longer ago than this; how many there were."""
        return await self._delete(await self._find(self._older(days)))

    async def forget_beyond(self, count: int) -> int:
        """Delete all calls but the newest so many; how many there were."""
        return await self._delete(await self._find(_beyond(count)))

    # ------------------------------------------------------------------ by itself

    async def _work(self) -> None:
        while True:
            self._look = anyio.Event()
            wait_s = self._until_hour()
            try:
                await self._database.open()
                await self._finish()
                await self._rows.flushed()  # the newest count
                await self.sweep()
            except StoreError as problem:
                log.warning("old calls could not be deleted now", extra={"why": str(problem)})
                wait_s = RETRY_S
            except Exception:
                log.exception("old calls could not be deleted")
            with anyio.move_on_after(wait_s):
                await self._look.wait()

    def _until_hour(self) -> float:
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        then = now.replace(hour=HOUR, minute=0, second=0, microsecond=0)
        return ((then if then > now else then + timedelta(days=1)) - now).total_seconds()

    async def sweep(self) -> int:
        """Delete what the memory's settings say; how many calls that were. Raises StoreError."""
        found: dict[str, None] = {}
        young = calls.c.ended_at < self._clock.now() - YOUNG_S
        if self._memory.keep_days is not None:
            found |= dict.fromkeys(await self._find(self._older(self._memory.keep_days).where(young)))
        if self._memory.keep_calls is not None:
            beyond = set(await self._find(_beyond(self._memory.keep_calls)))
            old = await self._find(_over().where(young)) if beyond else []
            found |= dict.fromkeys(call_id for call_id in old if call_id in beyond)
        if not self._database.is_sqlite:  # other homes keep their calls there too, and look after them by themselves
            found = {call_id: None for call_id in found if call_folder(self._home, call_id).is_dir()}
        deleted = await self._delete(list(found))
        if deleted:
            log.info("old calls were deleted", extra={"count": deleted})
        return deleted

    async def _finish(self) -> None:
        """What an earlier process has begun to delete."""
        left = await anyio.to_thread.run_sync(_left, self._home / FORGOTTEN)
        call_ids = [call_id for call_id in left.values() if call_id]
        for start in range(0, len(call_ids), BATCH):
            await self._rows.forget(call_ids[start : start + BATCH])
        await anyio.to_thread.run_sync(_remove, list(left))

    # ------------------------------------------------------------------ deleting

    async def _delete(self, call_ids: Sequence[str]) -> int:
        async with self._deleting:
            live = {str(row["call_id"]) for row in self._rows.live()}
            gone = [call_id for call_id in call_ids if call_id not in live]
            for start in range(0, len(gone), BATCH):
                if start:
                    await anyio.sleep(BREATH_S)
                await self._delete_some(gone[start : start + BATCH])
            return len(gone)

    async def _delete_some(self, call_ids: Sequence[str]) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._journal.forget, call_ids)
            hidden = await anyio.to_thread.run_sync(_hide, self._home, call_ids)
            await self._rows.flushed()  # what is being written of them comes before, not after
            await self._rows.forget(call_ids)
            await anyio.to_thread.run_sync(_remove, hidden)
        for tell in self.gone:
            tell(call_ids)

    async def _find(self, query: Select[Any]) -> list[str]:
        async with self._database.read() as connection:
            return list((await connection.execute(query)).scalars())

    def _older(self, days: float) -> Select[Any]:
        return _over().where(calls.c.ended_at < self._clock.now() - days * 86_400)


def _is(call_id: str) -> Any:
    return calls.c.call_id == call_id


def _over() -> Select[Any]:
    return select(calls.c.call_id).where(calls.c.state == "ended").order_by(calls.c.started_at)


def _beyond(count: int) -> Select[Any]:
    newest = calls.c.started_at.desc(), calls.c.call_id.desc()
    return select(calls.c.call_id).where(calls.c.state == "ended").order_by(*newest).limit(2**31).offset(count)


# --------------------------------------------------------------------------- files; all blocking


def _hide(home: Path, call_ids: Sequence[str]) -> list[Path]:
    """Take the folders of these calls out of sight: one step each, which is done or not."""
    hidden = []
    for call_id in call_ids:
        folder = call_folder(home, call_id)
        place = home / FORGOTTEN / folder.name
        try:
            place.parent.mkdir(exist_ok=True)
            if place.exists():  # of a call of the same id, long ago
                shutil.rmtree(place, ignore_errors=True)
            os.rename(folder, place)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise StoreError(f"calls/{folder.name} cannot be deleted: {error.strerror}") from None
        hidden.append(place)
    return hidden


def _left(folder: Path) -> dict[Path, str]:
    """What stands in the folder of what is being deleted: whose it was, "" if nobody can tell any more."""
    found = {}
    for place in folder.iterdir() if folder.is_dir() else ():
        try:
            events = read(place / EVENTS)
        except OSError:
            events = []
        found[place] = events[0].call_id if events else ""
    return found


def _remove(places: Sequence[Path]) -> None:
    for place in places:
        try:
            for file in sorted(
                place.iterdir(), key=lambda file: file.name == EVENTS
            ):  # the journal says whose it was: last
                file.unlink()
            place.rmdir()
        except OSError:
            shutil.rmtree(place, ignore_errors=True)
