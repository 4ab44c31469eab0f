"""A WebSocket whose texts go to their reader in the step that read them: no queue, no task that wakes up for each.

It owns that short cut and how a silent peer is noticed; it refuses to know what a text means. Whatever is no text, and what
follows it at once, goes the usual way, through `receive`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import WSMsgType, web
from aiohttp._websocket.reader import WebSocketDataQueue, WebSocketReader

from patter.unwaited import unwaited

UNREAD_LIMIT = 64 * 1024  # bytes that wait to be received before the peer is read no further
QUIET_S = 10.0  # a peer that has said nothing for so long is asked whether it is there, and has as long to answer

Ear = Callable[[str], None]
_TEXT = WSMsgType.TEXT  # a look-up among an enumeration's members would cost as much as the step it decides on


class _Post(WebSocketDataQueue):
    """What came and was not received yet. Texts go straight to the `ear`, if there is one and nothing waits before them."""

    ear: Ear | None = None
    count = 0
    """Messages of any kind."""
    broken: Exception | None = None
    """What the ear could not take."""

    def feed_data(self, data: Any, size: int) -> None:
        """The parser has read a message."""
        self.count += 1
        if self.ear is None or self._buffer or data[0] is not _TEXT:
            super().feed_data(data, size)
            return
        try:
            self.ear(data[1])
        except Exception as error:  # a fault of ours: nobody hears the rest, and the handler is told
            self.ear, self.broken = _nobody, error
            self.set_exception(error)


def _nobody(_text: str) -> None:
    """Whoever heard has failed."""


class StraightSocket(web.WebSocketResponse):
    """Until `listen`, an ordinary WebSocket; then one whose texts are hardly ever received. It knows no compression."""

    _post: _Post
    _watch: asyncio.TimerHandle | None = None
    _seen = 0
    _asked = False

    def _post_start(self, request: web.BaseRequest, protocol: str | None, writer: Any) -> None:
        pipe = request.protocol
        early, pipe._message_tail = pipe._message_tail, b""  # of a peer that did not wait for our answer
        super()._post_start(request, protocol, writer)
        self._reader = self._post = _Post(pipe, UNREAD_LIMIT, loop=asyncio.get_running_loop())
        self._parser = WebSocketReader(self._post, self._max_msg_size, compress=False, decode_text=True)
        pipe._payload_parser = self._parser
        if early:
            self._parser.feed_data(early)

    def listen(self, ear: Ear) -> None:
        """Give texts to `ear` from now on. One that comes while another message waits to be received is received after it."""
        self._post.ear = ear

    def deafen(self) -> None:
        """Nobody listens any more. Raises what the ear has raised."""
        self._post.ear = None
        if self._watch is not None:
            self._watch.cancel()
        if self._post.broken is not None:
            raise self._post.broken

    def watch(self, peer: asyncio.Transport) -> None:
        """Cut off a peer that has gone without a word, until `deafen`: a half-open line is found within thrice `QUIET_S`.

        One timer looks at what many messages have left: a line that talks pays nothing for it."""
        if self.closed or peer.is_closing():
            return
        quiet = self._post.count == self._seen
        if quiet and self._asked:
            peer.abort()
            return
        if quiet:
            unwaited(self.ping())
        self._seen, self._asked = self._post.count, quiet
        self._watch = asyncio.get_running_loop().call_later(QUIET_S, self.watch, peer)
