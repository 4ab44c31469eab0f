"""One HTTP request on a stage, and strict scripts of them: what must be asked, and how the answer comes.

It owns bodies that come in odd chunks, late, or not to their end; it refuses to know what they say.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import anyio
from aiohttp import web

from patter.loopback.stage_faults import Fault, Garbled
from patter.loopback.stage_script import Check, difference, differs


@dataclass(frozen=True, slots=True)
class Answer:
    """How a request is answered. Times in seconds.

    `body`: a mapping or list goes as JSON, text and bytes as they are; `pieces` are sent one by one instead, `between_s`
    apart, and `chunk` cuts every piece into so many bytes. `cut` breaks the connection after the pieces, `hang` says
    nothing more after them."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = b""
    pieces: Sequence[str | bytes] = ()
    after_s: float = 0.0
    between_s: float = 0.0
    chunk: int = 0
    cut: bool = False
    hang: bool = False


@dataclass(frozen=True, slots=True)
class Exchange:
    """One expected request and its answer. `query`, `headers`, `body`: see `stage_script.difference` (a subset is enough).

    `body` is compared with the JSON body; `check` is given the whole `Visit` (for forms: `visit.form`)."""

    answer: Answer = Answer()
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, Any] = field(default_factory=dict)
    body: Check | None = None
    check: Callable[[Visit], object] | None = None


class Visit:
    """One request of a client. `json` is its body if that is JSON, `form` its fields if it is a form (files as bytes)."""

    def __init__(
        self, request: web.Request, match: Mapping[str, str] | None = None, cut_after: int | None = None
    ) -> None:
        self.request = request
        self.path = request.path
        self.match = dict(match or {})
        """What stands for the placeholders of the path."""
        self.query = {name: request.query.getall(name) for name in request.query}
        self.headers = {name.lower(): value for name, value in request.headers.items()}
        self.json: Any = None
        self.form: dict[str, list[Any]] = {}
        self.filenames: dict[str, str] = {}
        self._cut_after = cut_after

    async def read(self) -> None:
        """Read the body; done before a handler sees the visit."""
        kind = self.request.content_type
        if kind.startswith("multipart/") or kind == "application/x-www-form-urlencoded":
            for name, value in (await self.request.post()).items():
                plain = value
                if isinstance(value, web.FileField):
                    with value.file:
                        self.filenames[name], plain = value.filename, value.file.read()
                self.form.setdefault(name, []).append(plain)
            return
        body = await self.request.read()
        try:
            self.json = json.loads(body) if body else None
        except ValueError:
            self.json = None

    async def begin(self, status: int = 200, headers: Mapping[str, str] | None = None) -> Body:
        """Begin a streamed answer; the handler returns it after the last `write`."""
        body = Body(self.request, self._cut_after, status=status, headers=headers)
        await body.prepare(self.request)
        await body.start()
        return body

    async def whole(self, response: web.StreamResponse) -> web.StreamResponse:
        """A handler's answer as it is sent: a whole one is broken off where the connection is to be cut."""
        if self._cut_after is None or not isinstance(response, web.Response):
            return response
        body = await self.begin(response.status, response.headers)
        await body.write(response.body if isinstance(response.body, bytes) else b"")
        return body

    async def answer(self, answer: Answer) -> web.StreamResponse:
        """Answer as told."""
        await anyio.sleep(answer.after_s)
        data, kind = _encoded(answer.body)
        headers = {"Content-Type": kind, **answer.headers}
        streamed = bool(answer.pieces or answer.chunk or answer.cut or answer.hang or self._cut_after is not None)
        if not streamed:
            return web.Response(status=answer.status, headers=headers, body=data)
        body = await self.begin(answer.status, headers)
        for piece in answer.pieces or [data]:
            whole = piece.encode() if isinstance(piece, str) else piece
            size = answer.chunk or len(whole) or 1
            for at in range(0, len(whole), size):
                await body.write(whole[at : at + size])
            await anyio.sleep(answer.between_s)
        if answer.hang:
            await anyio.sleep_forever()
        if answer.cut:
            body.cut()
        return body

    def hang_up(self) -> NoReturn:
        """Break the connection behind what has been sent. Raises ConnectionResetError: there is nobody to answer any more."""
        if self.request.transport is not None:
            self.request.transport.close()
        raise ConnectionResetError("the connection was cut on purpose")

    async def fail(self, fault: Fault) -> web.StreamResponse:
        """Answer with garbage, or with headers and then nothing."""
        if isinstance(fault, Garbled) and fault.frame and self.request.transport is not None:
            self.request.transport.write(b"\x00\xff this is no HTTP\r\n\r\n")
            self.hang_up()
        if isinstance(fault, Garbled):
            return web.Response(body=b"\x00<html>not { json", content_type="application/json")
        await self.begin()
        await anyio.sleep_forever()
        raise AssertionError("forever is over")


class Body(web.StreamResponse):
    """A streamed body that may break off after so many bytes."""

    def __init__(self, request: web.Request, cut_after: int | None, **values: Any) -> None:
        super().__init__(**values)
        self._asked = request
        self._left = cut_after

    async def start(self) -> None:
        """Break off at once if no byte of the body may arrive."""
        if self._left == 0:
            self.cut()

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send more of the body, as far as the connection is to last. Raises ConnectionError behind that."""
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        if data:
            await super().write(data)
        if self._left == 0:
            self.cut()

    def cut(self) -> None:
        """Break the connection behind what has been sent. Raises ConnectionResetError: there is nobody to answer any more."""
        if self._asked.transport is not None:
            self._asked.transport.close()
        raise ConnectionResetError("the connection was cut on purpose")


def _encoded(body: Any) -> tuple[bytes, str]:
    if isinstance(body, bytes):
        return body, "application/octet-stream"
    if isinstance(body, str):
        return body.encode(), "text/plain; charset=utf-8"
    return json.dumps(body).encode(), "application/json"


def wrong(exchange: Exchange, visit: Visit) -> str:
    """What is wrong with a request, or "" if it is as expected."""
    query = {name: values[0] if len(values) == 1 else values for name, values in visit.query.items()}
    headers = {name.lower(): value for name, value in exchange.headers.items()}
    return (
        difference(exchange.query, query, "query")
        or difference(headers, visit.headers, "headers")
        or (differs(exchange.body, visit.json) if exchange.body is not None else "")
        or (differs(exchange.check, visit) if exchange.check is not None else "")  # type: ignore[arg-type]
    )
