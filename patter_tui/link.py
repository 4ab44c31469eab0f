"""Talks to the engine: commands over HTTP, events over one WebSocket. It owns both connections and knows no widget.

Commands run in a thread; events are read on the event loop, resumed by number after a break, and handed to one function.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

from patter.exceptions import PatterError
from patter_tui.engine import Engine, alive

RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0)
"""Pauses between attempts to reach the engine's events again; after the last one it counts as lost."""


ANSWER_SECONDS = 20.0
"""How long an engine may think about a command: the longest is opening a call while models load."""


class Refused(PatterError):
    """The engine answered a command with an error; the text says what and how to fix it."""

    def __init__(self, text: str, status: int = 0) -> None:
        self.status = status
        super().__init__(text)


class Link:
    """The connection to one engine. One life: another engine gets another Link."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.answer_seconds = ANSWER_SECONDS

    # ------------------------------------------------------------------ commands

    async def get(self, path: str, /, **query: Any) -> dict[str, Any]:
        """GET below /api/v1. Raises Refused (also when the engine does not answer)."""
        return await asyncio.to_thread(self._request, "GET", path + (f"?{urlencode(query)}" if query else ""), None)

    async def post(self, path: str, /, **body: Any) -> dict[str, Any]:
        """POST below /api/v1. Raises Refused."""
        return await asyncio.to_thread(self._request, "POST", path, body)

    async def delete(self, path: str, /, **query: Any) -> dict[str, Any]:
        """DELETE below /api/v1. Raises Refused."""
        return await asyncio.to_thread(self._request, "DELETE", path + (f"?{urlencode(query)}" if query else ""), None)

    async def call(self, call_id: str, verb: str, **body: Any) -> dict[str, Any]:
        """A command to one call: "hangup", "interrupt", "say", "text", "digits", "transfer". Raises Refused."""
        return await self.post(f"/calls/{quote(call_id, safe='')}/{verb}", **body)

    async def journal(self, call_id: str) -> list[dict[str, Any]]:
        """All events of a call, as they were written. Raises Refused."""
        answer = await self.get(f"/calls/{quote(call_id, safe='')}/events")
        data = answer.get("data")
        return data if isinstance(data, list) else []

    def _request(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        import http.client  # not needed before the first paint

        connection = http.client.HTTPConnection("127.0.0.1", self.engine.port, timeout=self.answer_seconds)
        headers = {"Authorization": f"Bearer {self.engine.token}", "Content-Type": "application/json"}
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, "/api/v1" + path, body=text, headers=headers)
            answer = connection.getresponse()
            data = json.loads(answer.read() or b"{}")
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise Refused(f"The engine does not answer ({error or type(error).__name__}).") from error
        finally:
            connection.close()
        if answer.status >= 400:
            said = data.get("error") if isinstance(data, dict) else None
            raise Refused(str(said or f"The engine refused ({answer.status})."), answer.status)
        return data if isinstance(data, dict) else {}

    # ------------------------------------------------------------------ events

    async def follow(
        self,
        after: Callable[[], int | None],
        greet: Callable[[dict[str, Any]], None],
        take: Callable[[dict[str, Any]], None],
    ) -> None:
        """Hand every event to `take` until the engine is gone; then return.

        `after()` is the number of the last event taken (None: only what is new); `greet` gets the first frame of every
        connection, whose "gap" says that events were missed."""
        failures = 0
        while True:
            got_in = await self._follow_once(after(), greet, take)
            failures = 0 if got_in else failures + 1
            if failures >= len(RETRY_SECONDS) or not await asyncio.to_thread(alive, self.engine.pid):
                return
            await asyncio.sleep(RETRY_SECONDS[failures])

    async def _follow_once(
        self, after: int | None, greet: Callable[[dict[str, Any]], None], take: Callable[[dict[str, Any]], None]
    ) -> bool:
        """One connection. True if it got as far as the greeting."""
        from websockets.asyncio.client import connect  # a third of the start-up time if imported before the first paint
        from websockets.exceptions import WebSocketException

        query = {"engine": self.engine.engine_id} | ({} if after is None else {"after": str(after)})
        url = f"ws://127.0.0.1:{self.engine.port}/api/v1/events/ws?{urlencode(query)}"
        greeted = False
        try:
            async with connect(
                url, additional_headers={"Authorization": f"Bearer {self.engine.token}"}, proxy=None, max_size=None,
                open_timeout=5, close_timeout=1, compression=None,
                ping_interval=5, ping_timeout=10,  # an engine that hangs is noticed as soon as one that has died
            ) as socket:  # fmt: skip
                async for frame in socket:
                    data = json.loads(frame)
                    if "hello" in data:
                        greet(data["hello"])
                        greeted = True
                    else:
                        take(data)
        except (OSError, ValueError, TimeoutError, WebSocketException):
            pass
        return greeted
