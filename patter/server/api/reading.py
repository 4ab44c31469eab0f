"""What the entries that read the memory have in common: the words of a question, and what becomes of it when it takes long.

It owns how filters and ranges stand in an address, and the end of a query that nobody waits for; it refuses to know answers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar, cast

import anyio
from aiohttp import web

from patter.exceptions import StoreError, plain_errors
from patter.server.answers import Refused
from patter.server.api.period import MOMENT, since, until
from patter.server.schemas import Schema, one_of, words
from patter.store.analytics import Days
from patter.store.filters import ORDERS, Filter, Order

T = TypeVar("T")

LIMIT_S = 20.0  # a reading question that takes longer is given up: nobody waits for it, and others may
LOOK_S = 0.25  # how often it is looked whether somebody still waits for a question that takes long

RANGE: Mapping[str, Schema] = {
    "from": MOMENT,
    "to": {**MOMENT, "description": f"{MOMENT['description']}; exclusive, a date means until its end"},
}
AGENT: Mapping[str, Schema] = {"agent": words(200, needed=False, note="only this agent's calls")}
FILTERS: Mapping[str, Schema] = {
    **AGENT,
    "direction": one_of("inbound", "outbound", "test", ""),
    "state": one_of("ringing", "live", "ended", ""),
    "reason": words(200, needed=False, note="why the call ended"),
    "telephony": words(200, needed=False, note="the carrier"),
    "number": words(200, needed=False, note="a part of the caller's or the callee's number"),
    "q": words(
        400, needed=False, note="words of the transcript (each must occur, or one that begins so), or a call's id"
    ),
    **RANGE,
    "order": one_of(*ORDERS, default=ORDERS[0]),
}


def filter_in(request: web.Request) -> Filter:
    """The filter of a request's query. Raises Refused for a time that cannot be read."""
    query = request.query
    texts = {
        name: query.get(name, "") for name in ("agent", "direction", "state", "reason", "telephony", "number", "q")
    }
    since, until = span_in(request)
    order = cast(Order, query.get("order", ORDERS[0]))
    return Filter(**texts, since=since, until=until, order=order)


def days_in(request: web.Request) -> Days:
    """The days that a request's range touches. Raises Refused."""
    return Days.touched(*span_in(request))


def span_in(request: web.Request) -> tuple[float | None, float | None]:
    """`from` and `to` in seconds since the epoch, None for one that is not given. Raises Refused."""
    first, last = _given(request, "from"), _given(request, "to")
    span = since(first) if first else None, until(last) if last else None
    if span[0] is not None and span[1] is not None and span[1] < span[0]:
        raise Refused(400, "to lies before from: swap them, or leave one out.")
    return span


def _given(request: web.Request, name: str) -> str:
    given = request.query.get(name, "").strip()
    return given.replace(" ", "+") if "T" in given else given  # the + of a time zone is a space in an address


async def answer_of(request: web.Request, question: Callable[[], Awaitable[T]]) -> T:
    """The question's answer. It ends when whoever asked is gone, or after `LIMIT_S`; raises Refused (503) then, and while the
    database cannot be read."""
    found: list[T] = []
    problem: StoreError | None = None
    with plain_errors(), anyio.move_on_after(LIMIT_S) as limit:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_end_when_gone, request, tasks.cancel_scope)
            try:
                found.append(await question())
            except StoreError as error:
                problem = error
            tasks.cancel_scope.cancel()
    if found:
        return found[0]
    if problem is not None:
        raise Refused(503, f"{str(problem)[:1].upper()}{str(problem)[1:]}.")
    if limit.cancelled_caught:
        raise Refused(503, "The memory of calls takes too long to answer: ask for less, or try again.")
    raise ConnectionResetError("whoever asked is gone")


async def _end_when_gone(request: web.Request, scope: anyio.CancelScope) -> None:
    while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110
        await anyio.sleep(LOOK_S)  # a closed connection tells nobody
    scope.cancel()
