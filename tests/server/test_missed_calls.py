"""Calls that come in at Twilio and are over before their media stream is there: each is in history, once, with its reason."""

from __future__ import annotations

import anyio
import pytest

from patter.events import CallEnded, CallStarted
from patter.server.arrivals import Arrivals
from patter.server.twilio_gate import STATUS
from patter.wire.twilio import CarrierWriter
from tests.support.twilio_house import ACCOUNT, OURS, PUBLIC, STREAM, THEIRS, House, an_order, house, query_of, sid

pytestmark = pytest.mark.anyio

CALL = sid(0xCA11)
UNHEARD = "The call ended before its media stream was open."


def impatient(built: House) -> None:
    """Wait for streams much shorter than a carrier may take."""
    built.routes._arrivals = Arrivals(built.clock, life_s=0.05)


async def test_a_call_whose_end_the_carrier_reports() -> None:
    async with house() as built:
        await built.incoming(CALL)
        for _ in range(2):
            await built.told(PUBLIC + STATUS, CALL, CallStatus="completed")
        assert built.story == ["started", "caller_hung_up"]
        started = await built.seen(CallStarted)
        assert isinstance(started, CallStarted)
        assert (started.caller, started.callee, started.direction, started.telephony) == (
            THEIRS, OURS, "inbound", "twilio",
        )  # fmt: skip
        ended = await built.seen(CallEnded, call_id=CALL)
        assert isinstance(ended, CallEnded)
        assert (ended.detail, ended.duration_s) == (UNHEARD, 0.0)


async def test_a_call_whose_stream_never_comes() -> None:
    async with house() as built:
        impatient(built)
        await built.incoming(CALL)
        await built.seen(CallEnded, call_id=CALL, reason="caller_hung_up")
        await built.told(PUBLIC + STATUS, CALL, CallStatus="completed")
        assert built.story == ["started", "caller_hung_up"]


async def test_a_call_whose_stream_never_comes_is_told_even_if_others_look_first() -> None:
    async with house() as built:
        impatient(built)
        await built.incoming(CALL)
        await anyio.sleep(0.05)
        assert not built.routes._arrivals.full
        await built.seen(CallEnded, call_id=CALL, reason="caller_hung_up")


async def test_a_call_whose_stream_ends_before_it_starts() -> None:
    async with house() as built:
        document = await built.incoming(CALL)
        assert document.stream is not None
        async with built.socket(document.stream.url) as socket:
            await socket.send_str(CarrierWriter(STREAM, ACCOUNT.sid, CALL).connected())
        await built.seen(CallEnded, call_id=CALL, reason="caller_hung_up")


async def test_a_call_whose_stream_is_another_ones() -> None:
    async with house() as built:
        document = await built.incoming(CALL)
        assert document.stream is not None
        async with built.socket(document.stream.url) as socket:
            writer = CarrierWriter(STREAM, ACCOUNT.sid, sid(9))
            await socket.send_str(writer.connected())
            await socket.send_str(writer.start())
            await built.seen(CallEnded, call_id=CALL, reason="failed")
        assert built.calls.sessions == {}


async def test_a_call_that_comes_while_everything_closes() -> None:
    async with house() as built:
        await built.incoming(CALL)
    assert built.story == ["started", "engine_stopped"]


async def test_a_call_whose_stream_comes_is_told_by_its_session() -> None:
    async with house() as built:
        impatient(built)
        async with built.talking(await built.incoming(CALL), CALL) as (socket, writer, _):
            await anyio.sleep(0.1)
            await socket.send_str(writer.stop())
            await built.seen(CallEnded)
        assert built.story == ["started", "caller_hung_up"]


async def test_a_call_that_we_placed_keeps_its_own_end() -> None:
    async with house() as built:
        impatient(built)
        call_id = await built.routes.dial(an_order())
        [request] = built.orders("/Calls.json")
        await built.asked(request["Url"], call_id, Direction="outbound-api")
        assert query_of(request["Url"])["call"]
        await built.told(request["StatusCallback"], call_id, CallStatus="completed")
        assert built.story == ["placed", "caller_hung_up"]
