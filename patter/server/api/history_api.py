"""The API of calls as they are read: the list and its filters, those that are up, one call whole, its journal and recording.

It owns these entries; it refuses to know where calls are kept. What is up is answered from memory, with the database or
without it; files are found by a call's checked id alone and never outside the home.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.to_thread
from aiohttp import web

from patter.observe.journal import EVENTS, call_folder, dump, event_of
from patter.server.answers import Refused, data, number_in
from patter.server.api.call_shapes import DETAIL, ROW, VERSION
from patter.server.api.reading import FILTERS, answer_of, filter_in
from patter.server.endpoint import Endpoint, call_id_of, no_such_call
from patter.server.schemas import OBJECT, PAGINATION, WHOLE, answered, listing, whole
from patter.store.history import History
from patter.store.queries import FOUND

PAGE = 100  # rows of the list at most
FURTHEST = 10**9
PIECE = 256 * 1024  # bytes of a journal that are sent at once

ROOT = "/api/v1/calls"


@dataclass(frozen=True, slots=True)
class HistoryApi:
    """The reading entries of /api/v1/calls, and the versions of agents that took calls."""

    history: History
    home: Path

    def endpoints(self) -> list[Endpoint]:
        """The entries, for the table."""
        page = {"limit": whole(0, PAGE, 50), "offset": whole(0, FURTHEST, 0)}
        one = f"{ROOT}/{{id}}"
        return [
            Endpoint("GET", ROOT, self.list_calls, "read", "Calls, filtered and in pages, newest first",
                     query={**page, **FILTERS}, answer=answered(listing(ROW), pagination=PAGINATION), refusals=(503,)),
            Endpoint("GET", f"{ROOT}/active", self.active_calls, "read", "The calls that are up or ring",
                     answer=answered(listing(ROW), count=WHOLE)),
            Endpoint("GET", one, self.one_call, "read", "One call: its transcript, turns, usage, tools and figures",
                     answer=answered(DETAIL), refusals=(503,)),
            Endpoint("GET", f"{one}/events", self.call_events, "read", "Everything that happened in a call",
                     answer=answered(listing(OBJECT))),
            Endpoint("GET", f"{one}/journal", self.journal, "read", "The call's journal, as a file", audited=True,
                     content="application/jsonl"),
            Endpoint("GET", f"{one}/recording", self.recording, "read", "The call's recording: left caller, right agent",
                     audited=True, content="audio/wav", refusals=(206, 416, 503)),
            Endpoint("GET", "/api/v1/agents/{name}/versions", self.versions, "read",
                     "The versions of an agent that took calls, the latest first",
                     answer=answered(listing(VERSION)), refusals=(503,)),
        ]  # fmt: skip

    async def list_calls(self, request: web.Request) -> web.Response:
        """A page of the list. What a search finds is counted, and shown, up to a bound."""
        limit, offset = number_in(request, "limit", 50, PAGE), number_in(request, "offset", 0, FURTHEST)
        wanted = filter_in(request)
        if wanted.searches and offset >= FOUND:
            raise Refused(
                400, f"A search shows its first {FOUND:,} calls: narrow it by dates or filters, or export it."
            )
        page = await answer_of(request, lambda: self.history.page(wanted, limit, offset))
        counted: dict[str, Any] = {"limit": limit, "offset": offset, "count": len(page.rows), "total": page.total}
        if page.more:
            counted["total_is_at_least"] = True
        return data(page.rows, pagination=counted)

    async def active_calls(self, _: web.Request) -> web.Response:
        """The calls that are up, from memory."""
        rows = self.history.live()
        return data(rows, count=len(rows))

    async def one_call(self, request: web.Request) -> web.Response:
        """Everything that is kept of a call."""
        return data(await self._call(request))

    async def call_events(self, request: web.Request) -> web.StreamResponse:
        """The journal as a list; half a line at its end, of a process that was killed, is left out."""
        journal = await self._journal(request)
        answer = web.StreamResponse(headers={"Content-Type": "application/json; charset=utf-8"})
        await answer.prepare(request)
        pieces = _events(journal)
        while piece := await anyio.to_thread.run_sync(next, pieces, b""):
            await answer.write(piece)
        await answer.write_eof()
        return answer

    async def journal(self, request: web.Request) -> web.StreamResponse:
        """The file itself."""
        journal = await self._journal(request)
        name = f"{request.match_info['id']}.jsonl"
        return _file(journal, "application/jsonl", f'attachment; filename="{name}"')

    async def recording(self, request: web.Request) -> web.StreamResponse:
        """The sound of a call that is over; players may ask for a part of it."""
        call = await self._call(request)
        path = Path(call["recording"]) if call["recording"] else None
        if path is None or not await anyio.to_thread.run_sync(_is_within, path, self.home):
            raise _no_recording()
        return _file(path, "audio/wav", f'inline; filename="{call["call_id"]}.wav"')

    async def versions(self, request: web.Request) -> web.Response:
        """Which definitions of an agent took how many calls."""
        name = request.match_info["name"]
        return data(await answer_of(request, lambda: self.history.agent_versions(name)))

    async def _call(self, request: web.Request) -> dict[str, Any]:
        call_id = call_id_of(request)
        call = await answer_of(request, lambda: self.history.detail(call_id))
        if call is None:
            raise no_such_call()
        return call

    async def _journal(self, request: web.Request) -> Path:
        path = call_folder(self.home, call_id_of(request)) / EVENTS
        if not await anyio.to_thread.run_sync(_is_within, path, self.home):
            raise no_such_call()
        return path


def _is_within(path: Path, home: Path) -> bool:
    """Whether it is a file below the home, wherever links lead."""
    return path.is_file() and path.resolve().is_relative_to(home.resolve())


def _file(path: Path, kind: str, disposition: str) -> web.FileResponse:
    return web.FileResponse(path, headers={"Content-Type": kind, "Content-Disposition": disposition})


def _events(journal: Path) -> Iterator[bytes]:
    """The text of a JSON object with the journal's events as its list `data`, in pieces. Blocking."""
    made, empty = bytearray(b'{"data":['), True
    with journal.open("rb") as file:
        for line in file:
            if (event := event_of(line)) is None:
                continue
            made += (b"" if empty else b",") + dump(event).encode()
            empty = False
            if len(made) >= PIECE:
                yield bytes(made)
                made.clear()
    yield bytes(made + b"]}")


def _no_recording() -> Refused:
    return Refused(404, "This call has no recording: it goes on, or nothing was recorded.")
