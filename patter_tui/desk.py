"""What the person at the workbench can do: connect, rehearse, type, hang up, look at old calls. It owns no widget.

Every action is a coroutine of one life; state changes are collected in `dirty` for the screen to draw when it likes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from patter.events import AgentChanged, AgentRejected, CallEnded, CallStarted, Event, FaultOccurred, from_json
from patter_tui import engine as engines
from patter_tui.agents import caller_lines
from patter_tui.engine import Engine, EngineUnavailable
from patter_tui.link import Link, Refused
from patter_tui.paths import Paths
from patter_tui.softphone import COMMAND, Softphone
from patter_tui.store import Phone, State, apply, forget_engine, replay, set_rows

ALL_PARTS = frozenset({"agents", "calls", "transcript", "turns", "status", "trace", "rungs", "phone", "top"})

FAREWELL_SECONDS = 5.0
"""An engine that hangs may not keep anybody from leaving."""

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
    phone: Phone = field(default_factory=Phone)
    dirty: set[str] = field(default_factory=lambda: set(ALL_PARTS))
    wanted: set[str] = field(default_factory=set)
    """What has to be fetched anew: "everything" (events were missed), "agents"."""
    status: str = "starting"
    detail: str = ""
    engine: Engine | None = None
    link: Link | None = None
    agent_name: str = ""
    own_call: str = ""
    softphone: Softphone | None = None
    text_at_call: dict[str, str] = field(default_factory=dict)
    caller_line_count: int = 0
    left: bool = False
    _meanwhile: dict[str, list[Event]] = field(default_factory=dict)

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
        self.link, self.own_call = None, ""
        if self.softphone is not None:
            self.softphone.send(do="quit")
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
        """Fetch agents, engine parts and the list of calls anew. Raises Refused."""
        await self.refresh_agents()
        await self.refresh_rungs()
        await self.refresh_calls()

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
            if self.state.shown:
                await self.view(self.state.shown, again=True)
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
        elif isinstance(event, CallStarted) and self.phone.state != "off" and not self.own_call:
            self._own(event.call_id)
        elif isinstance(event, CallEnded) and event.call_id == self.own_call:
            self.own_call = ""
            self.dirty |= ALL_PARTS
        elif isinstance(event, FaultOccurred) and event.call_id == self.state.shown:
            self.notify(f"{event.stage} failed", f"{event.problem} {event.fix}".strip(), "error")

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

    def count_caller_lines(self, text: str) -> None:
        """Know how many lines the simulated caller has."""
        count = len(caller_lines(text))
        if count != self.caller_line_count:
            self.caller_line_count = count
            self.dirty.add("agents")

    # ------------------------------------------------------------------ rehearsal

    @property
    def busy(self) -> bool:
        """Whether a rehearsal of ours is on."""
        return bool(self.own_call) or self.phone.state != "off"

    async def rehearse(self, kind: Literal["sound", "simulated", "text"]) -> None:
        """Start a rehearsal and, unless it is typed, run the softphone until it ends. Raises Refused."""
        if self.link is None or self.busy or not self.agent_name:
            return
        path = self.agent_path
        text = await asyncio.to_thread(_read_text, path)
        lines = caller_lines(text)
        if kind == "simulated" and not lines:
            raise Refused(
                'The simulated caller has nothing to say: add `[rehearsal] caller = ["…"]` to the agent file.'
            )
        self.text_at_call[str(path)] = text
        if kind != "text":
            self.phone = Phone(state="starting", device=kind, sound=self.phone.sound)
            self.dirty |= {"phone", "status"}
        try:
            line = "text" if kind == "text" else self.options.line
            answer = await self.link.post("/rehearsals", agent=self.agent_name, line=line)
        except Refused:
            self.phone.state = "off"
            self.dirty |= ALL_PARTS
            raise
        data = answer.get("data", {})
        known = {str(rung.get("note")) for rung in self.state.rungs.values()}
        for note in data.get("notes") or []:
            if note not in known:  # what listens, answers and speaks stands on the start page and in the transcript
                self.notify("Rehearsal", str(note), "warning")
        if kind == "text":
            self._own(str(data.get("call_id") or ""))
            return
        await self._run_softphone({"do": "dial", "dial": data.get("dial"), "device": kind, "caller": lines})

    async def _run_softphone(self, dial: dict[str, Any]) -> None:
        self.state.shown = ""
        self.dirty |= ALL_PARTS
        self.softphone = Softphone(self._hear_phone, self.paths.screen_log, self.options.softphone_command)
        try:
            await self.softphone.run(dial)
        finally:
            self.softphone = None
            self.phone.state = "off"
            self.dirty |= ALL_PARTS

    def _hear_phone(self, message: dict[str, Any]) -> None:
        self.phone.take(message)
        self.dirty.add("phone")
        kind = message.get("is")
        if kind == "in_call":
            self._own(self.phone.call_id)
        elif kind in ("error", "device_lost") or (
            kind == "ready" and self.phone.problem and self.phone.device == "sound"
        ):
            self.notify("Sound", f"{self.phone.problem} {self.phone.fix}".strip(), "warning")
        if kind != "levels":
            self.dirty |= {"status", "top"}

    def _own(self, call_id: str) -> None:
        if call_id:
            self.own_call = self.state.shown = call_id
            self.dirty |= ALL_PARTS

    async def hang_up(self) -> None:
        """End the shown call; our own telephone call is ended by its telephone. Raises Refused."""
        if self.softphone is not None and self.state.shown in ("", self.own_call):
            self.softphone.send(do="hang_up")
        elif self.link is not None and self.live_call:
            await self.link.call(self.live_call, "hangup")

    @property
    def live_call(self) -> str:
        """The shown call's id while it is on; "" otherwise."""
        call = self.state.call
        return call.call_id if call is not None and not call.ended_at else ""

    async def interrupt(self) -> None:
        """Stop what the agent is saying. Raises Refused."""
        if self.link is not None and self.live_call:
            await self.link.call(self.live_call, "interrupt")

    def mute(self) -> None:
        """Switch the microphone of the softphone off or on."""
        if self.softphone is not None:
            self.phone.muted = not self.phone.muted
            self.softphone.send(do="mute", on=self.phone.muted)
            self.dirty.add("phone")

    async def press(self, digit: str) -> None:
        """Press a telephone key as the caller. Raises Refused."""
        if self.softphone is not None:
            self.softphone.send(do="digit", digit=digit)
        elif self.link is not None and self.live_call:
            await self.link.call(self.live_call, "digits", digits=digit)

    async def enter(self, text: str) -> None:
        """A line of the input: "/say …" makes the agent speak it, anything else is the caller's. Raises Refused."""
        words = text.strip()
        if not words:
            return
        if self.link is None:
            raise Refused("There is no engine: ctrl+e starts it.")
        if not self.live_call:
            raise Refused("There is no call: press Esc, then d, s or t to start one.")
        if words == "/say" or words.startswith("/say "):
            line = words[4:].strip()
            if not line:
                raise Refused("Write what the agent shall say: /say One moment, please.")
            await self.link.call(self.live_call, "say", text=line)
        else:
            await self.link.call(self.live_call, "text", text=words)

    # ------------------------------------------------------------------ calls

    async def view(self, call_id: str, *, again: bool = False) -> None:
        """Show a call: from memory if it was watched from its beginning, else from its journal. Raises Refused."""
        known = self.state.calls.get(call_id)
        if (known is None or not known.whole or again) and self.link is not None:
            meanwhile = self._meanwhile[call_id] = []
            try:
                events = [event for event in map(from_json, await self.link.journal(call_id)) if event is not None]
            finally:
                del self._meanwhile[call_id]
            last = max((event.seq for event in events), default=0)
            events += [event for event in meanwhile if event.seq > last]  # said while the journal was on its way
            self.state.calls[call_id] = replay(call_id, events)
        self.state.shown = call_id
        self.dirty |= ALL_PARTS

    async def leave(self, how: Literal["drain", "kill"]) -> Engine | None:
        """Get ready to quit. Returns the engine to stop, or None if it must go on (others watch it, or calls are drained)."""
        own, softphone = self.own_call, self.softphone
        self.left = True
        if self.link is not None:
            self.link.answer_seconds = FAREWELL_SECONDS
        if softphone is not None:
            softphone.send(do="hang_up")
        elif self.link is not None and own:
            await _quietly(self.link.call(own, "hangup"))
        if self.link is None or not await self.engine_is_ours_alone():
            return None
        if how == "drain":
            await _quietly(self.link.post("/shutdown", when="idle"))
            return None
        return self.engine

    async def engine_is_ours_alone(self) -> bool:
        """Whether the engine ends with this workbench: a workbench started it, and no other one watches it."""
        if self.link is None or self.engine is None:
            return False
        if not self.engine.ours and not engines.is_ours(self.paths, self.engine.engine_id):
            return False
        answer = await _quietly(self.link.get("/engine"))
        data = answer.get("data", {}) if answer else {}
        return int(data.get("watchers") or 1) <= 1

    def others_live(self) -> int:
        """How many calls are in progress."""
        return len(self.state.live())

    def now(self) -> float:
        """The time of day that live durations are counted from."""
        return time.time()


async def _quietly(request: Any) -> dict[str, Any] | None:
    try:
        answer = await request
    except Refused:
        return None
    return answer if isinstance(answer, dict) else None


def _read_text(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
