"""A queue between a synchronous writer and one asynchronous reader on the same loop.

It owns order and the end of the stream; it refuses to bound anything: its writers are events of a call, not frames of audio.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

import anyio

Item = TypeVar("Item")


class Mailbox(Generic[Item]):
    """`put` never blocks; iterating waits for items and ends after `close`, when all have been read."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._news = anyio.Event()
        self._closed = False

    def put(self, item: Item) -> None:
        """Add an item; after `close` it is dropped."""
        if not self._closed:
            self._items.append(item)
            self._news.set()

    def close(self) -> None:
        """No more items will come. Closing twice is closing once."""
        self._closed = True
        self._news.set()

    async def __aiter__(self) -> AsyncIterator[Item]:
        while True:
            while self._items:
                yield self._items.popleft()
            if self._closed:
                return
            self._news = anyio.Event()
            await self._news.wait()
