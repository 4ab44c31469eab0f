"""The event loop of a process that carries calls: libuv's where there is one, else the one that Python brings.

It owns that choice, for `anyio.run`; it refuses to know what runs. Nothing may depend on which of the two it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

new_loop: Callable[[], asyncio.AbstractEventLoop]
"""Makes a quick loop."""

try:
    import uvloop
except ImportError:  # Windows has none
    new_loop = asyncio.new_event_loop
else:
    new_loop = uvloop.new_event_loop

QUICK: dict[str, Any] = {"loop_factory": new_loop}
"""The `backend_options` of `anyio.run`."""
