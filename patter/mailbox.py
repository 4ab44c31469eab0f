"""A queue between a synchronous writer and one asynchronous reader on the same loop.

It owns order and the end of the stream; it refuses to bound anything: its writers are events of a call. Frames of sound may
take the express lane, which needs neither queue nor task.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Kind = TypeVar("Kind")


class Mailbox(Generic[Item]):
    """`put` never blocks; iterating waits for items and ends after `close`, when all have been read."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._reader: asyncio.Future[None] | None = None  # a bare future: an event would be made anew for every wait
        self._closed = self._waking = False
        self._kind: type[Any] | None = None
        self._take: Callable[[Any], None] | None = None

    def express(self, kind: type[Kind], take: Callable[[Kind], None]) -> None:
        """Give items of this very type to `take` at once, inside `put`, while the reader waits with nothing left to read."""
        self._kind, self._take = kind, take

    def put(self, item: Item) -> None:
        """Add an item; after `close` it is dropped."""
        if self._closed:
            return
        if type(item) is self._kind and self._take is not None and self._waits and not self._items:
            self._take(item)
            return
        self._items.append(item)
        self._wake()

    def put_late(self, item: Item) -> None:
        """The same for what nobody hurries to read: a reader that waits is woken when what else is due now has been done."""
        if self._closed:
            return
        self._items.append(item)
        if self._waits and not self._waking:
            self._waking = True
            asyncio.get_running_loop().call_soon(self._wake)

    @property
    def unread(self) -> bool:
        """Whether something waits to be read."""
        return bool(self._items)

    def close(self) -> None:
        """No more items will come. Closing twice is closing once."""
        self._closed = True
        self._wake()

    @property
    def _waits(self) -> bool:
        return self._reader is not None and not self._reader.done()

    def _wake(self) -> None:
        self._waking = False
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def __aiter__(self) -> AsyncIterator[Item]:
        loop = asyncio.get_running_loop()
        while True:
            while self._items:
                yield self._items.popleft()
            if self._closed:
                return
            self._reader = loop.create_future()
            await self._reader
