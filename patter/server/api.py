"""The engine's REST API: agents, rehearsals, calls and their control, as JSON over loopback.

It owns the shapes of requests and answers; it refuses to know how agents are read, calls run or histories kept.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from patter.agentfile import AgentFile
from patter.builders import is_e164
from patter.clock import Clock
from patter.exceptions import AgentFileError, PatterError
from patter.ports import CallInfo
from patter.server.agents import Agents, agent_path
from patter.server.answers import Refused, data, json_body, number_in, text_in
from patter.server.calls import CALL_ID, CallLog
from patter.server.desk import Desk, LineKind, LiveCall, Route, new_call_id
from patter.server.twilio_routes import VOICE, Account
from patter.transports.text import TextTransport

PROTOCOL = 1
PAGE = 100  # rows of the list of calls at most
TEXT_LIMIT = 256 * 1024  # characters of an agent file
CALLER = "+15005550001"  # the number rehearsals call from; no carrier gives it to anybody

_DIGITS = re.compile(r"[0-9*#wW]{1,32}")  # w is half a second of pause at every carrier


@dataclass(frozen=True, slots=True)
class Identity:
    """Which engine this is. `started_at` in seconds since the epoch."""

    engine_id: str
    version: str
    pid: int
    started_at: float
    agents_dir: Path


@dataclass(frozen=True, slots=True)
class Api:
    """The routes of /health and /api/v1. `rungs` says which engines are ready, `shut_down("now" | "idle")` ends it all,
    `watchers` counts who follows the events, `give_up` ends a call that rings."""

    identity: Identity
    agents: Agents
    desk: Desk
    calls: CallLog
    clock: Clock
    loopback: Account
    public: str
    rungs: Callable[[], dict[str, Any]]
    shut_down: Callable[[str], None]
    watchers: Callable[[], int]
    give_up: Callable[[str], Awaitable[bool]]

    def routes(self) -> list[web.RouteDef]:
        """The routes, for the application."""
        root = "/api/v1"
        return [
            web.get("/health", self.health),
            web.get(f"{root}/engine", self.engine),
            web.get(f"{root}/agents", self.list_agents),
            web.post(f"{root}/agents/validate", self.validate),
            web.post(f"{root}/agents/open", self.open_agent),
            web.post(f"{root}/rehearsals", self.rehearse),
            web.get(f"{root}/calls", self.list_calls),
            web.get(f"{root}/calls/active", self.active_calls),
            web.get(f"{root}/calls/{{id}}", self.one_call),
            web.get(f"{root}/calls/{{id}}/events", self.call_events),
            web.post(f"{root}/calls/{{id}}/hangup", self.hang_up),
            web.post(f"{root}/calls/{{id}}/interrupt", self.interrupt),
            web.post(f"{root}/calls/{{id}}/say", self.say),
            web.post(f"{root}/calls/{{id}}/text", self.text),
            web.post(f"{root}/calls/{{id}}/digits", self.digits),
            web.post(f"{root}/calls/{{id}}/transfer", self.transfer),
            web.post(f"{root}/shutdown", self.shutdown),
        ]

    # ------------------------------------------------------------------ the engine

    async def health(self, _: web.Request) -> web.Response:
        """Who answers here; needs no token."""
        who = self.identity
        about = {"version": who.version, "protocol": PROTOCOL, "engine_id": who.engine_id, "pid": who.pid}
        return web.json_response({"status": "ok"} | about)

    async def engine(self, _: web.Request) -> web.Response:
        """What this engine is and has ready."""
        who = self.identity
        return data(
            {
                "engine_id": who.engine_id,
                "version": who.version,
                "protocol": PROTOCOL,
                "pid": who.pid,
                "started_at": who.started_at,
                "agents_dir": str(who.agents_dir),
                "calls": self.desk.count,
                "stopping": self.desk.stopping,
                "watchers": self.watchers(),
                "rungs": self.rungs(),
            }
        )

    async def shutdown(self, request: web.Request) -> web.Response:
        """End now, or when the last call is over (no new ones are taken)."""
        when = text_in(await json_body(request), "when", default="now")
        if when not in ("now", "idle"):
            raise Refused(422, '"when" must be "now" or "idle".')
        self.shut_down(when)
        return data({}, status=202)

    # ------------------------------------------------------------------ agents

    async def list_agents(self, _: web.Request) -> web.Response:
        """All agent files, with what is wrong with them."""
        return data(self.agents.rows())

    async def validate(self, request: web.Request) -> web.Response:
        """All problems of a text that is being edited."""
        body = await json_body(request)
        text = text_in(body, "text", limit=TEXT_LIMIT, default="")
        path = agent_path(text_in(body, "path"))
        problems = [_problem(found) for found in await self.agents.check(text, path)]
        return data({"ok": not problems, "problems": problems})

    async def open_agent(self, request: web.Request) -> web.Response:
        """Follow an agent file wherever it is."""
        path = agent_path(text_in(await json_body(request), "path"))
        entry = await self.agents.open(path)
        if entry.file is None and entry.raw is None:
            raise Refused(404, f"There is no agent file at {path}.")
        return data(entry.row())

    # ------------------------------------------------------------------ rehearsals

    async def rehearse(self, request: web.Request) -> web.Response:
        """Start a call by text, or say how the softphone dials one."""
        body = await json_body(request)
        line = _line(text_in(body, "line", default="phone"))
        entry = await self.agents.wanted(text_in(body, "agent"))
        if sentence := self.desk.refusal():
            raise Refused(409, sentence)
        if entry.file is None:
            assert entry.problem is not None
            raise Refused(422, f"This agent cannot be used yet: {entry.problem}")
        if line != "text":
            try:
                await self.desk.vouch(entry.file.agent)
            except PatterError as problem:
                raise Refused(422, str(problem)) from None
        notes = [f"The file has a problem; its last good version is used. {entry.problem}"] if entry.problem else []
        notes += [str(rung["note"]) for rung in self.rungs().values() if rung.get("note")]
        caller = [said.to_json() for said in entry.file.caller_lines]
        answer: dict[str, Any] = {"call_id": None, "dial": None, "notes": notes, "caller": caller}
        if line == "text":
            answer["call_id"] = self._start_text(entry.file)
        else:
            answer["dial"] = self._dial(Route(entry.path, line))
        return data(answer, status=201)

    def _start_text(self, file: AgentFile) -> str:
        call = CallInfo(new_call_id(), caller="keyboard", callee=file.name, direction="test", telephony="text")
        try:
            self.desk.start(call, file, TextTransport(self.clock))
        except (ValueError, TypeError) as problem:
            raise Refused(422, f"This agent cannot be run: {problem}") from None
        return call.call_id

    def _dial(self, route: Route) -> dict[str, str]:
        """What the softphone needs to call in as a carrier (its auth token signs the webhook)."""
        return {
            "webhook_url": self.public + VOICE,
            "account_sid": self.loopback.sid,
            "auth_token": self.loopback.auth_token,
            "from": CALLER,
            "to": self.desk.number_of(route),
            "line": route.line,
        }

    # ------------------------------------------------------------------ calls

    async def list_calls(self, request: web.Request) -> web.Response:
        """The history, newest first."""
        limit, offset = number_in(request, "limit", 50, PAGE), number_in(request, "offset", 0, 10**9)
        rows, total = await self.calls.page(limit, offset)
        return data(rows, pagination={"limit": limit, "offset": offset, "count": len(rows), "total": total})

    async def active_calls(self, _: web.Request) -> web.Response:
        """The calls that are up."""
        rows = self.calls.live()
        return data(rows, count=len(rows))

    async def one_call(self, request: web.Request) -> web.Response:
        """A call with its transcript."""
        call = await self.calls.call(_call_id(request))
        if call is None:
            raise _no_such_call()
        return data(call)

    async def call_events(self, request: web.Request) -> web.Response:
        """Everything that happened in a call, from its journal."""
        events = await self.calls.events(_call_id(request))
        if events is None:
            raise _no_such_call()
        return web.Response(text=f'{{"data":{events}}}', content_type="application/json")

    async def hang_up(self, request: web.Request) -> web.Response:
        """End the call, or give it up while it rings."""
        call_id = _call_id(request)
        try:
            if self.desk.find(call_id) is None and await self.give_up(call_id):
                return data({})
        except PatterError as problem:
            raise Refused(502, str(problem)) from None
        return await self._do(self._live(request).session.hang_up("operator_ended"))

    async def interrupt(self, request: web.Request) -> web.Response:
        """Stop what the agent is saying."""
        return await self._do(self._live(request).session.interrupt())

    async def say(self, request: web.Request) -> web.Response:
        """The agent says the text word for word."""
        words = text_in(await json_body(request), "text")
        return await self._do(self._live(request).session.say(words))

    async def text(self, request: web.Request) -> web.Response:
        """The caller's typed words: a turn."""
        words = text_in(await json_body(request), "text")
        return await self._do(self._live(request).session.read(words))

    async def digits(self, request: web.Request) -> web.Response:
        """Press keys on the caller's line."""
        digits = text_in(await json_body(request), "digits")
        if not _DIGITS.fullmatch(digits):
            raise Refused(422, '"digits" are up to 32 of 0-9, *, # (and w for a pause).')
        return await self._do(self._live(request).session.send_digits(digits))

    async def transfer(self, request: web.Request) -> web.Response:
        """Hand the call to another number."""
        body = await json_body(request)
        number, summary = text_in(body, "number"), text_in(body, "summary", default="")
        if not is_e164(number):
            raise Refused(422, '"number" must be in E.164 form, such as "+15551234567".')
        session = self._live(request).session
        return await self._do(session.transfer(number, summary=summary, failed=_told_by_its_event))

    def _live(self, request: web.Request) -> LiveCall:
        call_id = _call_id(request)
        live = self.desk.find(call_id)
        if live is None:
            raise Refused(409, "This call is over.") if self.calls.knows(call_id) else _no_such_call()
        return live

    async def _do(self, verb: Awaitable[None]) -> web.Response:
        try:
            await verb
        except ValueError as problem:
            raise Refused(422, str(problem)) from None
        return data({})


def _told_by_its_event() -> None:
    """Whether anybody takes a call is known after minutes perhaps: TransferFailed or CallEnded tell, no request waits."""


def _call_id(request: web.Request) -> str:
    call_id = request.match_info["id"]
    if not CALL_ID.fullmatch(call_id):
        raise _no_such_call()
    return call_id


def _no_such_call() -> Refused:
    return Refused(404, "There is no such call.")


def _line(given: str) -> LineKind:
    match given:
        case "phone" | "wideband" | "text":
            return given
    raise Refused(422, '"line" must be "phone", "wideband" or "text".')


def _problem(found: AgentFileError) -> dict[str, Any]:
    return {"problem": found.problem, "line": found.line, "column": found.column, "fix": found.fix}
