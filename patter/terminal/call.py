"""A call by text in a terminal: every typed line is a turn, a few that begin with "/" are commands.

It owns the pace of the lines and the commands; it refuses to know how a session gets its parts. Piped lines wait until the
agent has finished, typed ones interrupt it.
"""

from __future__ import annotations

import secrets
import signal
import sys
import threading
from contextlib import suppress
from typing import Protocol, TextIO

import anyio
from anyio.abc import TaskStatus

from patter.builders import check_number, fill_variables
from patter.bus import Bus
from patter.call.session import CallSession
from patter.clock import Clock
from patter.events import AgentSaid, CallEnded, CallStarted, Event, ReplyStarted
from patter.exceptions import PatterError
from patter.models import Agent
from patter.ports import CallInfo, Transport
from patter.terminal.lines import typed_lines
from patter.terminal.page import COMMANDS, JsonPage, TextPage
from patter.transports.text import TextTransport

CALLER, CALLEE = "+15005550006", "+15005550001"  # numbers that no carrier connects


class OpenCall(Protocol):
    """How a session is made of a call, an agent and the caller's side."""

    def __call__(
        self, call: CallInfo, agent: Agent, transport: Transport, *, agent_name: str = "", agent_version: str = ""
    ) -> CallSession: ...


class TerminalCall:
    """One text test. `run` it once; it ends with the call: hung up, ended by the agent, or no more input."""

    def __init__(
        self, bus: Bus, clock: Clock, open_call: OpenCall, typed: TextIO, out: TextIO, *, as_json: bool = False
    ) -> None:
        self._bus = bus
        self._open_call = open_call
        self._typed = typed
        self._at_a_desk = typed.isatty()
        prompts = self._at_a_desk and out.isatty()
        self._page = JsonPage(out, sys.stderr) if as_json else TextPage(out, prompts=prompts)
        self._transport = TextTransport(clock)
        self._call = CallInfo(f"test_{secrets.token_hex(8)}", CALLER, CALLEE, "test", "text")
        self._session: CallSession | None = None
        self._live: set[int] = set()  # replies that have begun and are not over
        self._owed = False  # a reply must come: to the last line, or as a greeting
        self._free = anyio.Event()  # nothing is owed and nothing is live
        self._ended: CallEnded | None = None

    async def run(self, agent: Agent, *, agent_name: str = "", agent_version: str = "") -> CallEnded:
        """The whole call; returns its last event. Ctrl+C hangs up, a second one cuts everything short."""
        session = self._session = self._open_call(
            self._call, agent, self._transport, agent_name=agent_name, agent_version=agent_version
        )
        leave_bus = self._bus.add_sink(self._follow)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._read_lines)
                if threading.current_thread() is threading.main_thread() and sys.platform != "win32":
                    await tasks.start(self._mind_interrupts, tasks.cancel_scope)
                await session.run()
                tasks.cancel_scope.cancel()
        finally:
            leave_bus()
        assert self._ended is not None  # a session that runs, however short, publishes its end
        return self._ended

    # ------------------------------------------------------------------ what happens

    def _follow(self, event: Event) -> None:
        if event.call_id != self._call.call_id:
            return
        self._page.event(event)
        match event:
            case CallStarted():
                self._owed = self._greets()
            case ReplyStarted(reply_id=reply_id):
                self._owed = False
                self._live.add(reply_id)
            case AgentSaid(reply_id=reply_id):
                self._live.discard(reply_id)
            case CallEnded():
                self._ended = event
        if self._page.gone:
            self._leave()
        elif isinstance(event, CallStarted | AgentSaid):
            self._settle()

    def _greets(self) -> bool:
        assert self._session is not None
        agent = self._session.agent
        return bool(fill_variables(agent.first_message, agent.variables).strip())

    def _settle(self) -> None:
        if not self._owed and not self._live:
            self._page.prompt()
            self._free.set()

    # ------------------------------------------------------------------ what is typed

    async def _read_lines(self) -> None:
        await self._free.wait()
        async for line in typed_lines(self._typed):
            self._page.typed()
            await self._take(line.strip())
            if not self._at_a_desk:
                await self._free.wait()
        self._leave()

    async def _take(self, line: str) -> None:
        if line.startswith("/"):
            await self._obey(*line.split(maxsplit=1))
            self._settle()
        elif line:
            self._free, self._owed = anyio.Event(), True
            with suppress(anyio.ClosedResourceError):  # the call has just ended
                self._transport.type(line)
        else:
            self._settle()

    def _leave(self) -> None:
        with suppress(anyio.ClosedResourceError):  # the call has just ended
            self._transport.leave()

    async def _obey(self, command: str, argument: str = "") -> None:
        assert self._session is not None
        match command:
            case "/quit" | "/hangup":
                self._leave()
            case "/history":
                self._page.history(self._call.call_id, self._session.history)
            case "/transfer":
                try:
                    check_number(argument, "the number to transfer to")
                    await self._session.transfer(argument)
                except (ValueError, PatterError) as error:
                    self._page.notice(str(error))
            case _:
                self._page.notice(f"{command} is no command. There are: {COMMANDS}")

    async def _mind_interrupts(self, scope: anyio.CancelScope, *, task_status: TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(signal.SIGINT) as signals:
            task_status.started()
            await anext(signals)
            self._leave()
            await anext(signals)
            scope.cancel()
