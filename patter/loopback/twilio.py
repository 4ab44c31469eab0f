"""A telephone carrier on this machine: rings a voice webhook, reads its TwiML, opens the media stream, reports the end.

It owns the carrier's manners, signatures and strictness; it refuses to know the person at the telephone and the agent.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from typing import Any, Literal
from urllib.parse import urlsplit

import aiohttp
import anyio

from patter.audio.format import MULAW_8K, PCM_16K, AudioFormat
from patter.clock import Clock
from patter.exceptions import PatterConnectionError, WireError
from patter.loopback.media_leg import Ear, LineStats, MediaLeg, Mouth
from patter.wire import twilio_signature, twiml
from patter.wire.twilio import CarrierWriter, read_server

LINES: dict[str, AudioFormat] = {"phone": MULAW_8K, "wideband": PCM_16K}
WEBHOOK_TIMEOUT_S = 15.0  # what a carrier waits before it tries the fallback
LARGEST_FRAME = 32 * 1024 * 1024  # ten minutes of wideband sound in one message: more than may be queued anyway

CallState = Literal["ringing", "in_call", "ended"]


@dataclass(frozen=True, slots=True)
class Dial:
    """What to dial. `line`: "phone" (µ-law 8 kHz) or "wideband" (PCM 16 kHz). `status_url` "" = beside the webhook."""

    webhook_url: str
    account_sid: str
    auth_token: str
    caller: str
    callee: str
    line: str = "phone"
    status_url: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Dial:
        """From the engine's answer. Raises ValueError that names what is missing or wrong."""
        names = ("webhook_url", "account_sid", "auth_token", "from", "to")
        missing = [name for name in names if not isinstance(data.get(name), str) or not data[name]]
        if missing:
            raise ValueError(f"dial lacks {', '.join(missing)}")
        line = data.get("line", "phone")
        if line not in LINES:
            raise ValueError(f"dial.line is {line!r}; it must be one of {', '.join(LINES)}")
        webhook_url, account_sid, auth_token, caller, callee = (str(data[name]) for name in names)
        return cls(webhook_url, account_sid, auth_token, caller, callee, line, str(data.get("status_url") or ""))

    @property
    def format(self) -> AudioFormat:
        """The line's audio."""
        return LINES[self.line]


@dataclass(frozen=True, slots=True)
class CallOver:
    """How a call ended. `reason`: "hung_up" (by us), "agent_hung_up", "line_lost", or "rejected" (no stream was offered)."""

    reason: Literal["hung_up", "agent_hung_up", "line_lost", "rejected"]
    detail: str = ""


class LoopbackTwilio:
    """One call. `mouth` gives and `ear` takes 20 ms frames; without `ear` a device with a clock pulls `next_frame`.

    `session` is shared and stays open. One object, one call: `await call()` runs it whole."""

    def __init__(
        self,
        dial: Dial,
        session: aiohttp.ClientSession,
        clock: Clock,
        mouth: Mouth,
        ear: Ear | None = None,
        *,
        on_state: Callable[[CallState], None] = lambda _: None,
    ) -> None:
        self.call_sid = "CA" + secrets.token_hex(16)
        self.dial = dial
        self._session = session
        self._clock = clock
        self._on_state = on_state
        self._answered_at = 0.0
        writer = CarrierWriter("MZ" + secrets.token_hex(16), dial.account_sid, self.call_sid, dial.format)
        read = partial(read_server, stream_sid=writer.stream_sid)
        self._leg = MediaLeg(writer, dial.format, clock, mouth, ear, read=read)
        self.next_frame = self._leg.next_frame
        self.press = self._leg.press
        self._scope: anyio.CancelScope | None = None
        self._hung_up = False

    @property
    def violations(self) -> list[str]:
        """What the server did that a carrier would not accept."""
        return self._leg.violations

    @property
    def ear_delay_s(self) -> float:
        """How long after `next_frame` a frame has been heard to its end; may be set when the device has told it."""
        return self._leg.ear_delay_s

    @ear_delay_s.setter
    def ear_delay_s(self, seconds: float) -> None:
        self._leg.ear_delay_s = seconds

    @property
    def stats(self) -> LineStats:
        """How well the line does."""
        return self._leg.stats

    @property
    def queued_ms(self) -> float:
        """How much of the agent's sound waits to be played."""
        return self._leg.queued_ms

    def hang_up(self) -> None:
        """Put the receiver down, whatever the call is doing (on the event loop)."""
        self._hung_up = True
        self._leg.hang_up()
        if self._scope is not None:
            self._scope.cancel()

    async def call(self) -> CallOver:
        """Ring, stream, report. Raises PatterConnectionError, with the fix, if the call cannot be put through."""
        over = CallOver("hung_up")
        try:
            with anyio.CancelScope() as self._scope:  # hanging up while it rings needs no goodbye
                self._on_state("ringing")
                stream = await self._ring()
                if stream is None:
                    over = CallOver("rejected", "The agent's side answered without a media stream.")
                else:
                    over = await self._stream(stream)
            await self._report()
        finally:
            self._scope = None
            self._on_state("ended")
        return over

    def _form(self, status: str) -> dict[str, str]:
        return {
            "CallSid": self.call_sid,
            "AccountSid": self.dial.account_sid,
            "From": self.dial.caller,
            "To": self.dial.callee,
            "Caller": self.dial.caller,
            "Called": self.dial.callee,
            "CallStatus": status,
            "ApiVersion": "2010-04-01",
            "Direction": "inbound",
        }

    def _signed(self, url: str, form: dict[str, str]) -> dict[str, str]:
        return {twilio_signature.HEADER: twilio_signature.sign(url, form, self.dial.auth_token)}

    async def _post(self, url: str, form: dict[str, str]) -> tuple[int, str]:
        timeout = aiohttp.ClientTimeout(total=WEBHOOK_TIMEOUT_S)
        async with self._session.post(
            url, data=form, headers=self._signed(url, form), timeout=timeout, allow_redirects=False
        ) as answer:
            return answer.status, await answer.text()

    async def _ring(self) -> twiml.StreamVerb | None:
        url = self.dial.webhook_url
        try:
            status, text = await self._post(url, self._form("ringing"))
        except (aiohttp.ClientError, TimeoutError) as error:
            raise PatterConnectionError(
                f"The voice webhook {url} does not answer ({type(error).__name__}). Is the engine running?"
            ) from error
        if status != 200:
            raise PatterConnectionError(f"The voice webhook {url} answered {status}: {text[:200].strip()}")
        try:
            document = twiml.read(text)
        except WireError as error:
            raise PatterConnectionError(f"The voice webhook {url} answered with unusable TwiML: {error}") from error
        return document.stream

    async def _stream(self, stream: twiml.StreamVerb) -> CallOver:
        try:
            socket = await self._session.ws_connect(
                stream.url, headers=self._signed(stream.url, {}), max_msg_size=LARGEST_FRAME, compress=0, autoping=True
            )
        except (aiohttp.ClientError, TimeoutError) as error:
            status = getattr(error, "status", "")
            raise PatterConnectionError(
                f"The media stream at {urlsplit(stream.url).netloc} was refused: {status or type(error).__name__}"
            ) from error
        self._answered_at = self._clock.now()
        self._scope = None  # from here on hanging up says goodbye
        async with socket, anyio.create_task_group() as tasks:
            tasks.start_soon(self._listen, socket)
            self._on_state("in_call")
            await self._leg.run(socket.send_str, stream.parameters)
            await socket.close()
            tasks.cancel_scope.cancel()
        if self._hung_up:
            return CallOver("hung_up")
        if socket.close_code in (None, 1006):
            return CallOver("line_lost", "The agent's side dropped the media stream without closing it.")
        return CallOver("agent_hung_up")

    async def _listen(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                self._leg.receive(message.data)
            elif message.type is aiohttp.WSMsgType.BINARY:
                self._leg.receive_binary()
        self._leg.server_gone()

    async def _report(self) -> None:
        """The status callback at the end of a call, as for a number: once, and nobody's answer matters."""
        url = self.dial.status_url or self.dial.webhook_url.rpartition("/")[0] + "/status"
        seconds = int(self._clock.now() - self._answered_at) if self._answered_at else 0
        form = self._form("completed" if self._answered_at else "canceled") | {
            "Timestamp": formatdate(self._clock.now()),
            "SequenceNumber": "0",
            "CallbackSource": "call-progress-events",
            "CallDuration": str(seconds),
            "Duration": str(-(-seconds // 60)),
        }
        with suppress(aiohttp.ClientError, TimeoutError):
            await self._post(url, form)
