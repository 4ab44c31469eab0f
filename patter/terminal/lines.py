"""Typed lines, one by one, from a terminal, a pipe, a file or any text stream, without blocking the event loop.

It owns how a stream is read; it refuses to know what a line means.
"""

from __future__ import annotations

import asyncio
import codecs
import math
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import TextIO

import anyio
from anyio.streams.memory import MemoryObjectSendStream

CHUNK = 65_536  # bytes at a time: as much as a pipe holds


async def typed_lines(stream: TextIO) -> AsyncIterator[str]:
    """The lines of `stream` without their ends, as they come; bytes that are no UTF-8 become "�"."""
    queue, lines = anyio.create_memory_object_stream[str](math.inf)
    with queue, lines:
        stop = _follow(stream, _Cutter(queue))
        try:
            async for line in lines:
                yield line
        finally:
            stop()


def _follow(stream: TextIO, cutter: _Cutter) -> Callable[[], object]:
    """Feed the cutter from now on, in whatever way the stream allows; the returned function stops that."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # no file behind it: all of it is there already
        cutter.feed(stream.read().encode())
        cutter.feed(b"")
        return lambda: None
    loop = asyncio.get_running_loop()

    def take() -> None:
        if not cutter.feed(_read(descriptor)):
            loop.remove_reader(descriptor)

    try:
        loop.add_reader(descriptor, take)
    except PermissionError:  # a regular file is always ready, so it cannot be watched, and reading it never waits
        while cutter.feed(_read(descriptor)):
            pass
        return lambda: None
    except NotImplementedError:  # an event loop that watches only sockets (Windows): a thread waits instead
        threading.Thread(target=_carry, args=(descriptor, loop, cutter), name="typed lines", daemon=True).start()
        return lambda: None
    return lambda: loop.remove_reader(descriptor)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, CHUNK)
    except OSError:  # the terminal is gone: that is its end
        return b""


def _carry(descriptor: int, loop: asyncio.AbstractEventLoop, cutter: _Cutter) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody reads any more
        while data := _read(descriptor):
            loop.call_soon_threadsafe(cutter.feed, data)
        loop.call_soon_threadsafe(cutter.feed, b"")


class _Cutter:
    """Cuts bytes into lines."""

    def __init__(self, queue: MemoryObjectSendStream[str]) -> None:
        self._queue = queue
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, data: bytes) -> bool:
        """Take more bytes, or b"" for the end; returns whether more may come."""
        *whole, self._rest = (self._rest + self._decoder.decode(data, final=not data)).split("\n")
        if not data and self._rest:
            whole.append(self._rest)
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # nobody wants lines any more
            for line in whole:
                self._queue.send_nowait(line.rstrip("\r"))
            if not data:
                self._queue.close()
        return bool(data)
