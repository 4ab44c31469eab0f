"""Writing to a WebSocket without waiting: the frame is handed to the transport now, whoever reads it later.

It owns that one step and the frames of it; it refuses to know sockets and how much may lie unread (its callers look at that
before).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from functools import lru_cache
from struct import Struct
from typing import Any, Literal

from aiohttp._websocket.helpers import websocket_mask

TEXT: Literal[0x81] = 0x81
BINARY: Literal[0x82] = 0x82
"""The first byte of a frame that is a whole message (RFC 6455, 5.2)."""

_MASKED = 0x80
_SHORT, _LONG = Struct("!BBH").pack, Struct("!BBQ").pack


def frame_of(message: str | bytes) -> bytes:
    """A server's frame of one whole message: text of a `str`, else binary."""
    if isinstance(message, str):
        data = message.encode()
        return _head(TEXT, len(data), 0) + data
    return _head(BINARY, len(message), 0) + message


def masked_frame_of(message: str | bytes) -> bytes:
    """A client's frame of one whole message: text of a `str`, else binary. Its mask is new each time, as the RFC wants."""
    first, data = (TEXT, message.encode()) if isinstance(message, str) else (BINARY, message)
    mask, masked = random.getrandbits(32).to_bytes(4, "big"), bytearray(data)
    websocket_mask(mask, masked)
    return b"".join((_head(first, len(data), _MASKED), mask, masked))


@lru_cache(maxsize=256)  # a line's frames are all of one size
def _head(first: int, size: int, masked: int) -> bytes:
    if size < 126:
        return bytes((first, masked | size))
    return _SHORT(first, masked | 126, size) if size < 1 << 16 else _LONG(first, masked | 127, size)


def unwaited(writing: Coroutine[Any, Any, None]) -> bool:
    """Take the first step of a WebSocket's `close()` or `ping()`, which puts the whole frame into the transport's buffer.

    Returns False when the connection is broken. What the coroutine would wait for afterwards, an empty buffer, is not
    waited for."""
    try:
        drained = writing.send(None)
    except StopIteration:
        return True
    except ConnectionError:
        return False
    writing.close()
    if isinstance(drained, asyncio.Future):
        drained._asyncio_future_blocking = False  # as a task that takes it would: others wait for the same one
        drained.add_done_callback(_take_outcome)
    return True


def _take_outcome(waited: asyncio.Future[Any]) -> None:
    """Nobody waits for this any more; a broken pipe is told by the reading side."""
    if not waited.cancelled():
        waited.exception()
