"""One media stream of a Telnyx leg: the carrier's socket to a server, and how strictly its messages are read.

It owns the socket and the codecs on it; it refuses to know commands and what the person at the line does.
"""

from __future__ import annotations

import socket
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import anyio

from patter.audio.convert import Converter
from patter.audio.format import ALAW_8K, MULAW_8K, AudioFormat
from patter.clock import Clock
from patter.exceptions import WireError
from patter.loopback.line import Line
from patter.loopback.media_leg import LineStats, MediaLeg
from patter.loopback.misbehaviour import Misbehaviour
from patter.loopback.reach import Reach
from patter.wire import telnyx
from patter.wire.stream import Play, ServerMessage, object_of, part_of

MP3_PAUSE_S = 1.0  # between two messages in mp3 mode
CONNECT_S = 5.0
LARGEST_FRAME = 8 * 1024 * 1024  # thirty seconds of 48 kHz sound in base64 fit in
TITLES = {
    telnyx.UNKNOWN_ERROR: "unknown_error",
    telnyx.MALFORMED_FRAME: "malformed_frame",
    telnyx.INVALID_MEDIA: "invalid_media",
    telnyx.RATE_LIMIT_REACHED: "rate_limit_reached",
}


class _Unfit(WireError):
    """A message that is answered with an error message."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(f"{TITLES[code]}: {detail}")
        self.code, self.detail = code, detail


@dataclass(frozen=True, slots=True)
class StreamOrder:
    """What was asked for. `plays`: what the server sends; `hears`: what it gets (None = the line's own codec)."""

    url: str
    mode: str = "mp3"
    plays: AudioFormat = MULAW_8K
    hears: AudioFormat | None = None
    auth_token: str = field(default="", repr=False)
    parameters: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> StreamOrder:
        """From the checked parameters of a command."""
        rate = fields.get("stream_bidirectional_sampling_rate", 16_000)
        return cls(
            url=fields["stream_url"],
            mode=fields.get("stream_bidirectional_mode", "mp3"),
            plays=_format(fields.get("stream_bidirectional_codec", "PCMU"), rate) or MULAW_8K,
            hears=_format(fields.get("stream_codec", "default"), 16_000),
            auth_token=fields.get("stream_auth_token", ""),
            parameters={item["name"]: item["value"] for item in fields.get("custom_parameters", [])},
        )


def _format(codec: str, l16_rate: int) -> AudioFormat | None:
    return {"PCMU": MULAW_8K, "PCMA": ALAW_8K, "L16": AudioFormat("pcm_s16le", l16_rate)}.get(codec)


class MediaStream:
    """One stream, one life. `call` goes into `start` (arguments of `CarrierWriter`); `tell` sends webhooks.

    `big_endian`: how this carrier writes and reads L16."""

    def __init__(
        self,
        order: StreamOrder,
        line: Line,
        call: Mapping[str, Any],
        clock: Clock,
        day: Misbehaviour,
        violations: list[str],
        tell: Callable[..., None],
        *,
        big_endian: bool = False,
    ) -> None:
        self.stream_id = str(uuid.uuid4())
        self.order = order
        self.done = anyio.Event()
        self._line, self._clock, self._tell, self._big_endian = line, clock, tell, big_endian
        self._last_mp3 = float("-inf")
        hears = order.hears or line.format
        self._up, self._down = Converter(line.format, hears), Converter(order.plays, line.format)
        self._writer = telnyx.CarrierWriter(
            self.stream_id, audio=hears, auth_token=order.auth_token, big_endian=big_endian, **call
        )
        self._leg = MediaLeg(
            self._writer,
            hears,
            clock,
            self._said,
            self._heard,
            read=self._read,
            plays=order.plays,
            refusal=self._refusal,
            misbehaviour=day,
        )
        self._leg.violations = violations
        self.hang_up = self._leg.hang_up

    @property
    def stats(self) -> LineStats:
        """How well the stream does."""
        return self._leg.stats

    def press(self, digit: str) -> None:
        """The person presses a key."""
        at = self._clock.now()
        self._leg.say(lambda: self._writer.dtmf(digit, at))

    async def run(self, http: aiohttp.ClientSession, reach: Reach) -> None:
        """From the socket's opening to its end; a socket that cannot be opened is told by webhook."""
        try:
            connection = await self._connect(http, reach)
            if connection is None:
                return
            self._tell("streaming.started", stream_url=self.order.url)
            async with connection, anyio.create_task_group() as tasks:
                tasks.start_soon(self._listen, connection)
                with self._line.driven():
                    await self._leg.run(connection.send_str, dict(self.order.parameters))
                if self._leg.dropped:
                    _break(connection)
                else:
                    await connection.close()
                tasks.cancel_scope.cancel()
            self._tell("streaming.stopped", stream_url=self.order.url)
        finally:
            self.done.set()

    async def _connect(self, http: aiohttp.ClientSession, reach: Reach) -> aiohttp.ClientWebSocketResponse | None:
        address, headers = reach.of(self.order.url)
        if self.order.auth_token:
            headers[telnyx.AUTH_TOKEN] = self.order.auth_token
        reason = "timeout"
        with anyio.move_on_after(CONNECT_S):
            try:
                return await http.ws_connect(address, headers=headers, max_msg_size=LARGEST_FRAME, compress=0)
            except aiohttp.ClientError as error:
                reason = f"connection_failed ({getattr(error, 'status', '') or type(error).__name__})"
        self._leg.violations.append(f"the media stream could not be opened: {reason}")
        self._tell(
            "streaming.failed",
            failure_reason=reason,
            stream_id=self.stream_id,
            stream_type="websocket",
            stream_params={"stream_url": self.order.url, "track": "inbound_track"},
        )
        return None

    async def _listen(self, connection: aiohttp.ClientWebSocketResponse) -> None:
        async for message in connection:
            if message.type is aiohttp.WSMsgType.TEXT:
                self._leg.receive(message.data)
            elif message.type is aiohttp.WSMsgType.BINARY:
                self._leg.receive_binary()
        self._leg.server_gone()

    # ----------------------------------------------------------------- sound

    def _said(self) -> bytes:
        return self._up.convert(self._line.said())

    def _heard(self, frame: bytes) -> None:
        self._line.hear(self._down.convert(frame))

    # ----------------------------------------------------------------- what the server sends

    def _read(self, text: str) -> ServerMessage:
        plays = self.order.plays if self.order.mode == "rtp" else None
        try:
            message = telnyx.read_server(text, plays, big_endian=self._big_endian)
        except WireError as problem:
            raise _Unfit(_fault(text), str(problem)) from None
        if isinstance(message, Play) and self.order.mode == "mp3":
            self._check_mp3(message.sound)
        return message

    def _check_mp3(self, sound: bytes) -> None:
        if not sound.startswith((b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2")):
            raise _Unfit(telnyx.INVALID_MEDIA, "media must be MP3 unless stream_bidirectional_mode is rtp")
        now = self._clock.now()
        if now - self._last_mp3 < MP3_PAUSE_S:
            raise _Unfit(telnyx.RATE_LIMIT_REACHED, "mp3 mode takes one message a second")
        self._last_mp3 = now
        raise _Unfit(telnyx.UNKNOWN_ERROR, "this carrier plays no MP3")

    def _refusal(self, problem: WireError) -> str:
        unfit = problem if isinstance(problem, _Unfit) else _Unfit(telnyx.UNKNOWN_ERROR, str(problem))
        return self._writer.error(unfit.code, TITLES[unfit.code], unfit.detail)


def _fault(text: str) -> int:
    """What kind of error an unusable message is: only one that carries a payload can have a wrong one."""
    try:
        payload = part_of(object_of(text), "media").get("payload")
    except WireError:
        return telnyx.MALFORMED_FRAME
    return telnyx.INVALID_MEDIA if isinstance(payload, str) else telnyx.MALFORMED_FRAME


def _break(connection: aiohttp.ClientWebSocketResponse) -> None:
    """Cut the connection without a goodbye."""
    line = connection.get_extra_info("socket")
    if line is not None:
        line.shutdown(socket.SHUT_RDWR)
