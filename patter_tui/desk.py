"""The workbench's side of one engine: it connects, follows events, knows agents and calls. It owns no widget.

Rehearsals and the phone line are parts of their own.

Every action is a coroutine of one life; state changes are collected in `dirty` for the screen to draw when it likes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from patter.events import (
    AgentChanged,
    AgentRejected,
    CallEnded,
    CallStarted,
    Event,
    FaultOccurred,
    LineChanged,
    from_json,
)
from patter_tui import engine as engines
from patter_tui.engine import Engine, EngineUnavailable
from patter_tui.link import Link, Refused
from patter_tui.paths import Paths
from patter_tui.rehearsal import Rehearsal
from patter_tui.softphone import COMMAND
from patter_tui.store import ALL_PARTS, Side, State, apply, forget_engine, replay, set_rows
from patter_tui.switchboard import Switchboard

Severity = Literal["information", "warning", "error"]
Notify = Callable[[str, str, Severity], None]
"""(title, text, severity) for a toast."""


@dataclass(frozen=True)
class Options:
    """How the workbench was started. The commands can be replaced, so that tests bring their own processes."""

    agent: Path | None = None
    stt_model: str = ""
    engine_command: Sequence[str] = ()
    softphone_command: Sequence[str] = COMMAND
    line: Literal["phone", "wideband"] = "phone"


@dataclass
class Desk:
    """The client's side of one engine. `status`: "starting", "up", "down" (it was up) or "problem" (it cannot be used)."""

    paths: Paths
    options: Options
    notify: Notify
    state: State = field(default_factory=State)
    dirty: set[str] = field(default_factory=lambda: set(ALL_PARTS))
    wanted: set[str] = field(default_factory=set)
    """What has to be fetched anew: "everything" (events were missed), "agents", "line"."""
    status: str = "starting"
    detail: str = ""
    engine: Engine | None = None
    link: Link | None = None
    agent_name: str = ""
    left: bool = False
    _meanwhile: dict[str, list[Event]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rehearsal = Rehearsal(self)
        self.switchboard = Switchboard(self)

    # ------------------------------------------------------------------ engine

    async def connect(self) -> None:
        """Adopt or start the engine and follow its events until it is gone. Never raises; `status` says how it went."""
        self._become("starting", "Starting the engine…")
        try:
            self.engine = await asyncio.to_thread(
                engines.ensure, self.paths, command=self.options.engine_command, stt_model=self.options.stt_model,
                given_up=lambda: self.left,
            )  # fmt: skip
        except EngineUnavailable as error:
            self._become("problem", f"{error.problem} {error.fix}".strip())
            return
        self.link = Link(self.engine)
        if self.state.engine_id != self.engine.engine_id:
            forget_engine(self.state)
            self.state.engine_id = self.engine.engine_id
        self._become("up", "")
        try:
            await self.open_given_agent()
        except Refused as error:
            self.notify("Agent", str(error), "error")
        await self.link.follow(lambda: self.state.seq or None, self._greeted, self._take)
        self.link = None
        self.rehearsal.lose_engine()
        forget_engine(self.state)
        self._become("down", "The engine has stopped. Calls up to now are on disk and in the list.")
        self.notify("Engine stopped", "ctrl+e starts it again; nothing that was said is lost.", "error")

    def _become(self, status: str, detail: str) -> None:
        self.status, self.detail = status, detail
        self.dirty |= ALL_PARTS

    async def open_given_agent(self) -> None:
        """Register the file named on the command line, if it lies outside the agents folder."""
        path = self.options.agent
        if path is None or self.link is None:
            return
        answer = await self.link.post("/agents/open", path=str(path))
        self.agent_name = str(answer.get("data", {}).get("name") or path.stem)

    async def refresh(self) -> None:
        """Fetch agents, engine parts, the list of calls and the line anew. Raises Refused."""
        await self.refresh_agents()
        await self.refresh_rungs()
        await self.refresh_calls()
        await self.switchboard.refresh()

    async def refresh_agents(self) -> None:
        """Fetch the agents. Raises Refused."""
        if self.link is None:
            return
        data = (await self.link.get("/agents")).get("data")
        self.state.agents = [row for row in data if isinstance(row, dict)] if isinstance(data, list) else []
        names = [str(row.get("name", "")) for row in self.state.agents]
        if self.agent_name not in names:
            self.agent_name = names[0] if names else ""
        self.dirty |= {"agents", "top"}

    async def refresh_rungs(self) -> bool:
        """Fetch what hears, answers and speaks. True while something is still loading. Raises Refused."""
        if self.link is None:
            return False
        data = (await self.link.get("/engine")).get("data", {})
        rungs = data.get("rungs", {})
        if rungs != self.state.rungs:
            self.state.rungs = rungs if isinstance(rungs, dict) else {}
            self.dirty.add("rungs")
        return any(rung.get("state") == "loading" for rung in self.state.rungs.values())

    async def refresh_calls(self) -> None:
        """Fetch the list of calls. Raises Refused."""
        if self.link is None:
            return
        asked_with = tuple(self.state.rows)
        answer = await self.link.get("/calls", limit=100, offset=0)
        data = answer.get("data")
        rows = data if isinstance(data, list) else []
        set_rows(self.state, rows, int(answer.get("pagination", {}).get("total", 0)), asked_with=asked_with)
        self.dirty.add("calls")

    async def watch_loading(self) -> None:
        """Ask again now and then while the engine loads its models."""
        while self.status in ("starting", "up"):
            await asyncio.sleep(1.0)
            try:
                if self.link is not None and not await self.refresh_rungs():
                    return
            except Refused:
                return

    def _greeted(self, hello: dict[str, Any]) -> None:
        """Lists are fetched once the events flow: what happens in between is in one of them."""
        if hello.get("gap") or not self.state.seq:
            self.state.seq = int(hello.get("seq") or 0)
            self.wanted.add("everything")

    async def fill_gap(self) -> None:
        """Events were missed: fetch the lists and the shown call anew."""
        try:
            await self.refresh()
            for side in ("rehearse", "serve"):
                if self.state.shown_on(side):
                    await self.view(self.state.shown_on(side), side, again=True)
        except Refused as error:
            self.notify("Engine", str(error), "warning")

    def _take(self, data: dict[str, Any]) -> None:
        event = from_json(data)
        if event is None:
            return
        self.dirty |= apply(self.state, event)
        if event.call_id in self._meanwhile:
            self._meanwhile[event.call_id].append(event)
        if isinstance(event, AgentChanged) and not event.call_id:
            self.wanted.add("agents")
        elif isinstance(event, AgentRejected):
            where = f" line {event.line}" if event.line else ""
            self.wanted.add("agents")
            problem = event.problem if event.problem.endswith(".") else f"{event.problem}."
            self.notify(f"{event.agent}{where}", " ".join(filter(None, (problem, event.fix))), "warning")
        elif isinstance(event, CallStarted) and self.state.rows[event.call_id].rehearsal:
            self.rehearsal.started(event.call_id)
        elif isinstance(event, CallEnded) and event.call_id == self.rehearsal.own_call:
            self.rehearsal.over()
        elif isinstance(event, LineChanged):
            self.wanted.add("line")  # the event tells only a part of it
            self.dirty |= {"top", "status"}
        elif isinstance(event, FaultOccurred) and event.call_id == self.state.shown:
            self.notify(f"{event.stage} failed", " — ".join(filter(None, (event.problem, event.fix))), "error")

    # ------------------------------------------------------------------ agent

    @property
    def agent(self) -> dict[str, Any]:
        """The chosen agent's row; empty if there is none."""
        return next((row for row in self.state.agents if row.get("name") == self.agent_name), {})

    @property
    def agent_path(self) -> Path | None:
        """The chosen agent's file."""
        path = self.agent.get("path")
        return Path(str(path)) if path else self.options.agent

    # ------------------------------------------------------------------ calls

    @property
    def live_call(self) -> str:
        """The shown call's id while people talk in it; "" otherwise (also while it rings)."""
        call = self.state.call
        return call.call_id if call is not None and not call.ended_at and call.floor != "ringing" else ""

    async def interrupt(self) -> None:
        """Stop what the agent is saying. Raises Refused."""
        if self.link is not None and self.live_call:
            await self.link.call(self.live_call, "interrupt")

    async def view(self, call_id: str, side: Side = "rehearse", *, again: bool = False) -> None:
        """Show a call on one side: from memory if it was watched from its beginning, else from its journal. Raises Refused."""
        if side == "serve":
            self.state.show(call_id, side)  # at once: whoever picks a call and then hangs up means that one
        known = self.state.calls.get(call_id)
        if (known is None or not known.whole or again) and self.link is not None:
            meanwhile = self._meanwhile[call_id] = []
            try:
                events = [event for event in map(from_json, await self.link.journal(call_id)) if event is not None]
            finally:
                self._meanwhile.pop(call_id, None)
            last = max((event.seq for event in events), default=0)
            events += [event for event in meanwhile if event.seq > last]  # said while the journal was on its way
            self.state.calls[call_id] = replay(call_id, events)
        if side == "rehearse":
            self.state.show(call_id, side)
        self.dirty |= ALL_PARTS

    def now(self) -> float:
        """The time of day that live durations are counted from."""
        return time.time()
