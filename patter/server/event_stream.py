"""How events travel: as a WebSocket, and as Server-Sent Events. Both begin where the reader left off.

It owns the two protocols; it refuses to know who reads and what the events mean.

SSE: every event is `id: SEQ` and `data: JSON`. First comes `event: hello` (its id: where the reader is), or `event: gap` if what
was missed is not here any more: its data is the same, and all that the reader knows must be read anew. The last is `event:
lost` for a reader that was too slow, `event: bye` when the engine stops. Comments keep the connection alive.
"""

from __future__ import annotations

import json

import anyio
from aiohttp import WSMsgType, hdrs, web

from patter.events import Event, to_json
from patter.server.answers import Refused, json_text
from patter.server.endpoint import CALL_ID
from patter.server.event_readers import HEARTBEAT_S, SEND_SECONDS, EventReader, EventReaders

TOO_SLOW = 4000  # close code: resume from the last seq
LOOK_S = 1.0  # how often is looked whether a browser is still there
RETRY_MS = 1_000  # how soon a browser comes back after a break


class EventStream:
    """Serves the events of one port to any number of readers."""

    def __init__(self, readers: EventReaders) -> None:
        self._readers = readers

    # ------------------------------------------------------------------ WebSocket

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        """GET …/events/ws?after=N&engine=ID."""
        after, engine, call_id = _asked(request)
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=1024, compress=False, timeout=2.0)
        if not socket.can_prepare(request):
            sentence = "Take a WebSocket here, or Server-Sent Events at /api/v1/events."
            raise Refused(426, sentence, {hdrs.UPGRADE: "websocket"})
        await socket.prepare(request)
        try:
            with self._readers.reading(after, engine, call_id) as reader:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(_close_when_gone, socket, reader)
                    await _send(socket, json.dumps({"hello": reader.hello}))
                    async for event in reader.events():
                        await _send(socket, _text(event))
                    if reader.lost:
                        await socket.close(code=TOO_SLOW, message=b"resume from seq")
                    else:
                        await socket.close(code=1001, message=b"the engine is stopping")
                    tasks.cancel_scope.cancel()
        except* (ConnectionError, TimeoutError):
            if request.transport is not None:
                request.transport.abort()
        return socket

    # ------------------------------------------------------------------ Server-Sent Events

    async def events(self, request: web.Request) -> web.StreamResponse:
        """GET …/events?after=N&engine=ID&call_id=ID, or with the header Last-Event-ID."""
        after, engine, call_id = _asked(request)
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        await answer.prepare(request)
        try:
            with self._readers.reading(after, engine, call_id) as reader:
                async with anyio.create_task_group() as tasks:
                    flow = _Flow(answer)
                    tasks.start_soon(flow.beat, request, reader)
                    await flow.say(_hello(reader, after))
                    async for event in reader.events():
                        await flow.say(f"id: {event.seq}\ndata: {_text(event)}\n\n")
                    await flow.say("event: lost\ndata: {}\n\n" if reader.lost else "event: bye\ndata: {}\n\n")
                    tasks.cancel_scope.cancel()
        except* (ConnectionError, TimeoutError):
            if request.transport is not None:
                request.transport.abort()
        return answer


class _Flow:
    """What one browser is sent: one piece at a time, with a comment when nothing happens."""

    def __init__(self, answer: web.StreamResponse) -> None:
        self._answer = answer
        self._turn = anyio.Lock()

    async def say(self, text: str) -> None:
        """Send a piece. Raises TimeoutError for a reader that takes nothing."""
        async with self._turn:
            with anyio.fail_after(SEND_SECONDS):
                await self._answer.write(text.encode())

    async def beat(self, request: web.Request, reader: EventReader) -> None:
        """A comment now and then, so that no proxy thinks that nothing comes any more, until the browser is gone."""
        quiet_s = 0.0
        while request.transport is not None and not request.transport.is_closing():
            await anyio.sleep(LOOK_S)
            quiet_s += LOOK_S
            if quiet_s >= HEARTBEAT_S:
                quiet_s = 0.0
                await self.say(": still here\n\n")
        reader.close()


def _hello(reader: EventReader, after: int | None) -> str:
    """What comes first. The id is the reader's place: whoever breaks off before the next event resumes from there."""
    known = reader.hello["seq"] if reader.gap or after is None else after
    kind = "gap" if reader.gap else "hello"
    return f"retry: {RETRY_MS}\nevent: {kind}\nid: {known}\ndata: {json.dumps(reader.hello)}\n\n"


async def _close_when_gone(socket: web.WebSocketResponse, reader: EventReader) -> None:
    async for message in socket:  # readers have nothing to say
        if message.type is WSMsgType.ERROR:
            break
    reader.close()


async def _send(socket: web.WebSocketResponse, text: str) -> None:
    with anyio.fail_after(SEND_SECONDS):
        await socket.send_str(text)


def _text(event: Event) -> str:
    return json_text(to_json(event))


def _asked(request: web.Request) -> tuple[int | None, str, str]:
    """(after, engine, call_id): the header that a browser resumes with counts before the address it began with."""
    given = request.headers.get("Last-Event-ID") or request.query.get("after")
    call_id = request.query.get("call_id", "")
    if call_id and not CALL_ID.fullmatch(call_id):
        raise Refused(400, "call_id is no id of a call.")
    if given is None:
        return None, "", call_id
    if not (given.isascii() and given.isdigit() and len(given) < 16):
        raise Refused(400, "after must be the seq of the last event you have, a whole number.")
    return int(given), request.query.get("engine", ""), call_id
