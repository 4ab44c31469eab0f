"""`<Connect><Stream>` in the carrier's chair: opens the media socket, runs the stream, says goodbye, tells of it.

It owns the socket; it refuses to know what the call does before and after.
"""

from __future__ import annotations

import socket as sockets
from contextlib import suppress
from functools import partial
from urllib.parse import urlsplit

import aiohttp
import anyio
from yarl import URL

from patter.audio.format import MULAW_8K
from patter.loopback.media_leg import MediaLeg
from patter.loopback.twilio_leg import Exchange, Leg
from patter.loopback.twilio_resources import date, new_sid
from patter.wire.twilio import CarrierWriter, read_server
from patter.wire.twiml import StreamVerb, Verb

CONNECT_S = 10.0
GOODBYE_S = 2.0  # for the server to close its side after `stop`
LARGEST_FRAME = 32 * 1024 * 1024  # ten minutes of sound in one message: more than may be queued anyway
NORMAL_CLOSE = (1000, 1001, 1005)


async def stream(leg: Leg, exchange: Exchange, verb: StreamVerb, noun: Verb) -> None:
    """The stream from its opening until either side ends it, or the leg's turn is over."""
    _judge_address(exchange, verb)
    sid = new_sid("MZ")
    report = partial(_report, leg, exchange, noun, sid)
    socket = await _open(exchange, verb.url)
    if socket is None:
        report("stream-error", StreamError="Stream - WebSocket - Handshake Error")
        return
    read = partial(read_server, stream_sid=sid)
    writer = CarrierWriter(sid, exchange.account_sid, leg.call_id)
    media = MediaLeg(
        writer, MULAW_8K, exchange.clock, leg.line.said, leg.line.hear, read=read, misbehaviour=exchange.day
    )
    media.violations = exchange.violations
    report("stream-started")
    leg.media = media
    leg.streaming.set()
    try:
        with leg.line.driven():
            await _converse(leg, media, socket, verb.parameters)
    finally:
        leg.media = None
        closed_with = socket.close_code
        if not socket.closed:
            await _hang_up(socket)
    if closed_with not in (None, *NORMAL_CLOSE) and not media.dropped:
        exchange.note(f"31921: the server closed the media stream with {closed_with}")
    report("stream-stopped")


async def _converse(
    leg: Leg, media: MediaLeg, socket: aiohttp.ClientWebSocketResponse, parameters: dict[str, str]
) -> None:
    async def end_with_turn() -> None:
        await leg.turn.wait()
        media.hang_up()

    async def listen() -> None:
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                media.receive(message.data)
            elif message.type is aiohttp.WSMsgType.BINARY:
                media.receive_binary()
        media.server_gone()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        tasks.start_soon(end_with_turn)
        await media.run(socket.send_str, parameters)
        if media.dropped:
            _cut(socket)
        with anyio.move_on_after(GOODBYE_S):
            await socket.close()
        tasks.cancel_scope.cancel()


async def _hang_up(socket: aiohttp.ClientWebSocketResponse) -> None:
    """The carrier itself goes: nobody waits for an answer."""
    with anyio.CancelScope(shield=True), anyio.move_on_after(0):
        await socket.close()


def _cut(socket: aiohttp.ClientWebSocketResponse) -> None:
    connection = socket.get_extra_info("socket")
    if connection is not None:
        with suppress(OSError):
            connection.shutdown(sockets.SHUT_RDWR)


async def _open(exchange: Exchange, url: str) -> aiohttp.ClientWebSocketResponse | None:
    address, tunnel = exchange.reach.of(url)
    headers = exchange.messenger.signed(url) | tunnel
    place = urlsplit(url).netloc
    try:
        with anyio.fail_after(CONNECT_S):
            return await exchange.http.ws_connect(
                URL(address, encoded=True), headers=headers, max_msg_size=LARGEST_FRAME, compress=0
            )
    except TimeoutError:
        exchange.note(f"31901: the media socket at {place} did not open in {CONNECT_S:.0f} s")
    except aiohttp.WSServerHandshakeError as refusal:
        exchange.note(f"31920: the media socket at {place} was refused with {refusal.status}")
    except (aiohttp.ClientError, OSError) as error:
        exchange.note(f"31920: the media socket at {place} cannot be reached ({type(error).__name__})")
    return None


def _judge_address(exchange: Exchange, verb: StreamVerb) -> None:
    parts = urlsplit(verb.url)
    if parts.scheme != "wss" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        exchange.note(f"31922: the stream's address {parts.scheme}://{parts.netloc} is not wss://")
    for name, value in verb.parameters.items():
        if len(name) + len(value) >= 500:
            exchange.note(f"the stream's parameter {name[:40]!r} is too long: name and value must stay under 500")


def _report(leg: Leg, exchange: Exchange, noun: Verb, sid: str, event: str, **extra: str) -> None:
    url = noun.attributes.get("statusCallback", "")
    if not url:
        return
    form = {
        "AccountSid": exchange.account_sid,
        "CallSid": leg.call_id,
        "StreamSid": sid,
        "StreamName": noun.attributes.get("name", sid),
        "StreamEvent": event,
        "Timestamp": str(date(exchange.now())),
        **extra,
    }
    leg.outbox.put(url, form, noun.attributes.get("statusCallbackMethod", "POST"))
