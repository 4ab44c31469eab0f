"""The API of live listening: both voices of a call that goes on, as a WebSocket.

It owns the socket's protocol; it refuses to know how the voices are put together.

First comes a text frame {"rate": Hz, "channels": 2, "encoding": "pcm_s16le"}, then binary frames of about 100 ms, the two
channels (caller, agent) interleaved. The socket is closed with 1000 when the call is over.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import anyio
from aiohttp import web

from patter.observe.listening import Listener, Listening
from patter.server.answers import Refused
from patter.server.endpoint import Endpoint, call_id_of, no_such_call

SEND_SECONDS = 10.0  # a listener whose socket takes nothing for this long is gone or stuck
HEARTBEAT_S = 20.0


@dataclass(frozen=True, slots=True)
class ListeningApi:
    """The entry of /api/v1/calls/{id}/listen."""

    listening: Listening

    def endpoints(self) -> list[Endpoint]:
        """The entry, for the table."""
        path = "/api/v1/calls/{id}/listen"
        return [
            Endpoint(
                "GET",
                path,
                self.listen,
                "operate",
                "Both voices of a live call, as a WebSocket",
                status=101,
                audited=True,
                refusals=(426,),
            )
        ]

    async def listen(self, request: web.Request) -> web.WebSocketResponse:
        """Both voices from now on, until the call is over or the listener goes."""
        call_id = call_id_of(request)
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=1024, compress=False, timeout=2.0)
        if not socket.can_prepare(request):
            raise Refused(426, "Listening takes a WebSocket.")
        listener = self.listening.join(call_id)
        if listener is None:
            raise no_such_call()
        try:
            await socket.prepare(request)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._leave_when_gone, socket, call_id, listener)
                await self._serve(socket, listener)
                tasks.cancel_scope.cancel()
        except* (ConnectionError, TimeoutError):
            if request.transport is not None:
                request.transport.abort()
        finally:
            self.listening.leave(call_id, listener)
        return socket

    async def _serve(self, socket: web.WebSocketResponse, listener: Listener) -> None:
        form = {"rate": listener.rate, "channels": 2, "encoding": "pcm_s16le"}
        await socket.send_str(json.dumps(form))
        async for block in listener:
            with anyio.fail_after(SEND_SECONDS):
                await socket.send_bytes(block)
        await socket.close(code=1000, message=b"the call is over")

    async def _leave_when_gone(self, socket: web.WebSocketResponse, call_id: str, listener: Listener) -> None:
        async for _ in socket:
            """Listeners have nothing to say."""
        self.listening.leave(call_id, listener)
