"""Runs the tools that the model asks for, and the two that belong to every call: `transfer_call` and `end_call`.

It owns asking, timing and telling; it refuses to know how a tool is reached (the toolbox does) or what the model makes of it.
A tool runs in the call's own task group, not in its reply's: an interrupted reply neither loses nor repeats it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol

from patter import events
from patter.bus import Bus
from patter.call.toolbox import Toolbox, ToolResult
from patter.clock import Clock
from patter.events import EndReason
from patter.exceptions import PatterError
from patter.ports import CallInfo, Conversation
from patter.signals import ToolAsked

FILLER_AFTER_S = 1.0  # a pause that people bear without wondering whether the line is dead
SHOWN_OUTPUT = 2_000  # characters of a tool's output kept in its event


class Party(Protocol):
    """What tools may do to their call."""

    call: CallInfo

    @property
    def quiet(self) -> bool:
        """Neither side is saying anything, nor about to."""

    def spawn(self, job: Callable[[], Coroutine[Any, Any, None]]) -> None: ...

    async def transfer(self, number: str, by: str = "operator", summary: str = "") -> None: ...

    async def hang_up_after_goodbye(self, reason: EndReason, detail: str = "") -> None: ...


class ToolRunner:
    """The tools of one call. `toolbox` may be replaced: the next request uses the new one."""

    def __init__(self, party: Party, toolbox: Toolbox, conversation: Conversation, bus: Bus, clock: Clock) -> None:
        self.toolbox = toolbox
        self.running = 0
        self._fillers: dict[str, asyncio.TimerHandle] = {}  # by the tool call whose slowness they would bridge
        self._party = party
        self._conversation = conversation
        self._bus = bus
        self._clock = clock

    def ask(self, signal: ToolAsked, turn: int) -> None:
        """Run a tool beside the call."""
        call_id = self._party.call.call_id
        self._bus.publish(
            events.ToolCalled(
                call_id=call_id, turn=turn, tool_id=signal.tool_id, name=signal.name, arguments=signal.arguments
            )
        )
        self.running += 1
        if filler := self.toolbox.filler(signal.name):
            self._fillers[signal.tool_id] = self._clock.call_later(FILLER_AFTER_S, partial(self._bridge, filler))
        self._party.spawn(partial(self._run, signal))

    def close(self) -> None:
        """The call is over: no slow tool is bridged any more."""
        for timer in self._fillers.values():
            timer.cancel()
        self._fillers.clear()

    def _bridge(self, filler: str) -> None:
        """A tool is slow. One filler is enough for all that run now."""
        if self._party.quiet:
            self.close()
            self._party.spawn(partial(self._conversation.speak, filler, "filler"))

    async def _run(self, signal: ToolAsked) -> None:
        asked_at = self._clock.now()
        try:
            result = await self._result(signal)
        finally:
            self.running -= 1
            if (filler := self._fillers.pop(signal.tool_id, None)) is not None:
                filler.cancel()
        self._bus.publish(
            events.ToolReturned(
                call_id=self._party.call.call_id,
                tool_id=signal.tool_id,
                name=signal.name,
                ok=result.ok,
                output=result.output[:SHOWN_OUTPUT],
                ms=round((self._clock.now() - asked_at) * 1000, 1),
            )
        )
        await self._conversation.answer(signal.tool_id, result.output)

    async def _result(self, signal: ToolAsked) -> ToolResult:
        if signal.name in ("end_call", "transfer_call"):
            try:
                return await self._system_tool(signal.name, json.loads(signal.arguments or "{}"))
            except (PatterError, ValueError, AttributeError) as error:
                return ToolResult(False, json.dumps({"error": str(error)}))
        return await self.toolbox.run(signal.name, signal.arguments, self._context())

    async def _system_tool(self, name: str, arguments: dict[str, object]) -> ToolResult:
        if name == "transfer_call":
            summary = str(arguments.get("summary") or "").strip()
            await self._party.transfer(str(arguments.get("number", "")), by="agent", summary=summary)
            return ToolResult(True, json.dumps({"status": "the call was transferred"}))
        await self._party.hang_up_after_goodbye("agent_ended", str(arguments.get("reason", "")))
        return ToolResult(True, json.dumps({"status": "the call ends when your goodbye has been heard"}))

    def _context(self) -> dict[str, str]:
        call = self._party.call
        return {"call_id": call.call_id, "caller": call.caller, "callee": call.callee, "direction": call.direction}
