"""The event socket: everything that happens, in order, resumable by sequence number.

It owns the reader's place in the stream and what becomes of a slow reader; it refuses to know what the events mean.
"""

from __future__ import annotations

import json

import anyio
import anyio.lowlevel
from aiohttp import WSMsgType, web

from patter.bus import Bus, Subscription
from patter.events import Event, to_json
from patter.server.answers import Refused, json_text

TOO_SLOW = 4000  # close code: resume from the last seq
BATCH = 50  # backlog events between two breaths of the event loop: about a millisecond, unheard by any call
SEND_SECONDS = 10.0  # a reader whose socket takes nothing for this long is gone or stuck
HEARTBEAT_S = 20.0  # finds a reader that vanished without closing


class EventSocket:
    """Serves the bus of one engine to any number of readers."""

    def __init__(self, bus: Bus, engine_id: str) -> None:
        self._bus = bus
        self._engine_id = engine_id
        self._readers: set[Subscription] = set()
        self._changed = anyio.Event()

    @property
    def readers(self) -> int:
        """How many are connected."""
        return len(self._readers)

    async def wait_change(self) -> None:
        """Return when a reader has come or gone."""
        self._changed = anyio.Event()
        await self._changed.wait()

    def close(self) -> None:
        """Let every reader have what is queued, then say goodbye."""
        for subscription in list(self._readers):
            self._bus.unsubscribe(subscription)

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        """GET …/events/ws?after=N&engine=ID."""
        after = _after(request)
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=1024, compress=False, timeout=2.0)
        await socket.prepare(request)
        # nothing may be awaited between these lines: an event belongs either to the backlog or to the subscription
        subscription = self._bus.subscribe()
        other = request.query.get("engine", self._engine_id) != self._engine_id
        backlog = [] if after is None else None if other else self._bus.since(after)
        hello = {"engine_id": self._engine_id, "seq": self._bus.seq, "gap": backlog is None}
        self._join(subscription)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._drop_when_gone, socket, subscription)
                await _send(socket, json.dumps({"hello": hello}))
                await self._serve(socket, backlog or [], subscription)
                tasks.cancel_scope.cancel()
        except* (ConnectionError, TimeoutError):
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._leave(subscription)
        return socket

    async def _serve(self, socket: web.WebSocketResponse, backlog: list[Event], subscription: Subscription) -> None:
        for number, event in enumerate(backlog):
            await _send(socket, _text(event))
            if number % BATCH == BATCH - 1:
                await anyio.lowlevel.checkpoint()
        async for event in subscription:
            await _send(socket, _text(event))
        if subscription.lost:
            await socket.close(code=TOO_SLOW, message=b"resume from seq")
        else:
            await socket.close(code=1001, message=b"the engine is stopping")

    async def _drop_when_gone(self, socket: web.WebSocketResponse, subscription: Subscription) -> None:
        async for message in socket:  # readers have nothing to say
            if message.type is WSMsgType.ERROR:
                break
        self._bus.unsubscribe(subscription)

    def _join(self, subscription: Subscription) -> None:
        self._readers.add(subscription)
        self._changed.set()

    def _leave(self, subscription: Subscription) -> None:
        self._bus.unsubscribe(subscription)
        self._readers.discard(subscription)
        self._changed.set()


async def _send(socket: web.WebSocketResponse, text: str) -> None:
    with anyio.fail_after(SEND_SECONDS):
        await socket.send_str(text)


def _text(event: Event) -> str:
    return json_text(to_json(event))


def _after(request: web.Request) -> int | None:
    given = request.query.get("after")
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and len(given) < 16):
        raise Refused(400, "after must be the seq of the last event you have, a whole number.")
    return int(given)
