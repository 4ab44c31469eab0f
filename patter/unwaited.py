"""Writing to a socket without waiting: the frame is handed to the transport now, whoever reads it later.

It owns that one step; it refuses to know sockets and how much may lie unread (its callers look at that before).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


def unwaited(writing: Coroutine[Any, Any, None]) -> bool:
    """Take the first step of a WebSocket's `send_…()`, which puts the whole frame into the transport's buffer.

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
