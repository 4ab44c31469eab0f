"""What becomes of the engine when its workbench goes. It decides; it stops nothing itself.

An engine that somebody needs (calls, an open line, another terminal) goes on; one that is alone and idle ends with us.
"""

from __future__ import annotations

from typing import Any, Literal

from patter_tui import engine as engines
from patter_tui.desk import Desk
from patter_tui.engine import Engine
from patter_tui.line import line_from_json
from patter_tui.link import Link, Refused
from patter_tui.paths import Paths

FAREWELL_SECONDS = 5.0
"""An engine that hangs may not keep anybody from leaving."""

How = Literal["leave", "drain", "kill"]
"""Everything goes on; calls are finished, then the engine stops; the engine stops now."""


async def alone(link: Link, paths: Paths, engine: Engine, *, watchers: int) -> bool:
    """Whether the engine ends with us: one of us started it, and besides our own `watchers` nobody follows it."""
    if not engine.ours and not engines.is_ours(paths, engine.engine_id):
        return False
    answer = await _quietly(link.get("/engine"))
    data = answer.get("data", {}) if answer else {}
    return int(data.get("watchers") or 0) <= watchers


async def must_ask(desk: Desk) -> bool:
    """Whether leaving needs a decision: something is going on that our going could end."""
    if desk.status != "up" or not (desk.state.live() or desk.state.line.busy):
        return False
    return bool(desk.rehearsal.own_call) or await _ours_alone(desk)


async def leave(desk: Desk, how: How) -> Engine | None:
    """Get ready to quit. Returns the engine to stop, or None if it must go on (others need it, or calls are drained)."""
    own, softphone = desk.rehearsal.own_call, desk.rehearsal.softphone
    desk.left = True
    if desk.link is not None:
        desk.link.answer_seconds = FAREWELL_SECONDS
    if softphone is not None:
        softphone.send(do="hang_up")
    elif desk.link is not None and own:
        await _quietly(desk.link.call(own, "hangup"))
    if desk.link is None or how == "leave" or not await _ours_alone(desk):
        return None
    if how == "drain":
        await _quietly(desk.link.post("/shutdown", when="idle"))
        return None
    return desk.engine


async def go(desk: Desk) -> Engine | None:
    """The terminal was closed under us: calls and the line go on, an engine that nobody needs does not."""
    own = desk.rehearsal.own_call
    needed = desk.state.line.busy or any(row.call_id != own for row in desk.state.live())
    return await leave(desk, "leave" if needed else "kill")


async def release(link: Link, paths: Paths, engine: Engine, *, watchers: int = 0) -> bool:
    """Let an engine stop once it is idle, if nobody needs its line and nobody else follows it. True if it will."""
    answer = await _quietly(link.get("/line"))
    data = answer.get("data") if answer else None
    if isinstance(data, dict) and line_from_json(data).state in ("starting", "open"):
        return False
    if not await alone(link, paths, engine, watchers=watchers):
        return False
    return await _quietly(link.post("/shutdown", when="idle")) is not None


async def _ours_alone(desk: Desk) -> bool:
    if desk.link is None or desk.engine is None:
        return False
    return await alone(desk.link, desk.paths, desk.engine, watchers=1)


async def _quietly(request: Any) -> dict[str, Any] | None:
    try:
        answer = await request
    except Refused:
        return None
    return answer if isinstance(answer, dict) else None
