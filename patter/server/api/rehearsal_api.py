"""The API of rehearsals: a call by text, or what the softphone needs to dial one.

It owns these shapes; it refuses to know how a call is put together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio
from aiohttp import web

from patter.agentfile import AgentFile
from patter.clock import Clock
from patter.exceptions import PatterError
from patter.ports import CallInfo
from patter.server.agents import Agents
from patter.server.answers import Refused, data, json_body, text_in
from patter.server.auth import visitor_of
from patter.server.desk import Desk, LineKind, LiveCall, Route, new_call_id
from patter.server.endpoint import Endpoint
from patter.server.schemas import ANYTHING, TEXT, TEXTS, answered, listing, one_of, or_null, record, words
from patter.server.twilio_routes import VOICE, Account
from patter.transports.text import TextTransport

CALLER = "+15005550001"  # the number rehearsals call from; no carrier gives it to anybody
BEGINS_S = 5.0  # a call begins within milliseconds, unless a tool server has to be asked first

_WANTED = record({"agent": words(), "line": one_of("phone", "wideband", "text", default="phone")}, optional=("line",))
_DIALLED = record(dict.fromkeys(("webhook_url", "account_sid", "auth_token", "from", "to", "line"), TEXT), title="Dial")
_STARTED = record(
    {"call_id": or_null(TEXT), "dial": or_null(_DIALLED), "notes": TEXTS, "caller": listing(ANYTHING)},
    title="Rehearsal",
)


@dataclass(frozen=True, slots=True)
class RehearsalApi:
    """POST /api/v1/rehearsals. `loopback` is the account by which the softphone calls in at `public`; `rungs` says which
    engines are ready."""

    agents: Agents
    desk: Desk
    clock: Clock
    loopback: Account
    public: str
    rungs: Callable[[], dict[str, Any]]

    def endpoints(self) -> list[Endpoint]:
        """The entries, for the table."""
        return [
            Endpoint(
                "POST",
                "/api/v1/rehearsals",
                self.rehearse,
                "operate",
                "Talk to an agent without a carrier",
                body=_WANTED,
                answer=answered(_STARTED),
                status=201,
                refusals=(404, 409),
            )
        ]

    async def rehearse(self, request: web.Request) -> web.Response:
        """Start a call by text, or say how the softphone dials one."""
        body = await json_body(request)
        line: LineKind = body.get("line", "phone")
        entry = await self.agents.wanted(text_in(body, "agent"), may_open=visitor_of(request).role == "admin")
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
            live = self._start_text(entry.file)
            with anyio.move_on_after(BEGINS_S):
                await live.begun.wait()  # whoever is told its id finds it
            answer["call_id"] = live.session.call.call_id
        else:
            answer["dial"] = self._dial(Route(entry.path, line))
        return data(answer, status=201)

    def _start_text(self, file: AgentFile) -> LiveCall:
        call = CallInfo(new_call_id(), caller="keyboard", callee=file.name, direction="test", telephony="text")
        try:
            return self.desk.start(call, file, TextTransport(self.clock))
        except (ValueError, TypeError) as problem:
            raise Refused(422, f"This agent cannot be run: {problem}") from None

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
