"""Calls we place: only numbers reach a carrier, and whoever says they are such a call must know its token."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web

from patter.events import CallEnded, CallPlaced
from patter.exceptions import CarrierError, PatterError
from patter.server.orders import Order
from patter.wire import twiml
from tests.hostile.doors import BOTH, OURS, TelnyxPlace, TwilioPlace, place, short
from tests.hostile.words import NASTY
from tests.support import telnyx_house, twilio_house

pytestmark = pytest.mark.anyio
both = pytest.mark.parametrize("name", BOTH)
NUMBERS = (
    *NASTY,
    "+1",
    "+0123456789",
    "+1555123456789012",
    "+1555\n1234567",
    "٣" * 11,
    "+1555123456x",
    "client:bob",
    "sip:a@b",
)


def order(**changes: Any) -> Order:
    given: dict[str, Any] = {"to": twilio_house.THEIRS, "caller": OURS, "file": twilio_house.agent_file("caller")}
    return Order(**given | changes)


@both
@pytest.mark.parametrize("field", ["to", "caller"])
async def test_what_is_no_number_never_reaches_the_carrier(name: str, field: str) -> None:
    async with place(name) as here:
        for number in NUMBERS:
            with pytest.raises((ValueError, PatterError)):
                await here.door.dial(order(**{field: number}))
        assert here.house.api.asked == []
        await here.serves(1)


@both
@pytest.mark.parametrize("number", NUMBERS, ids=short)
async def test_no_call_is_handed_to_what_is_no_number(name: str, number: str) -> None:
    async with place(name) as here:
        ring = await here.ring(1)
        async with here.up(ring):
            before = len(here.house.api.asked)
            session = here.house.calls.sessions[ring.call_id]
            with pytest.raises((ValueError, PatterError)):
                await session.transport.transfer(number, "")
            with pytest.raises((ValueError, PatterError)):
                await session.transport.transfer(number, "Somebody calls.")
            assert len(here.house.api.asked) == before


@both
@pytest.mark.parametrize("token", ["", "x", "../..", "\0", "9" * 3_000, "<b>"], ids=short)
async def test_a_call_that_nobody_placed_is_hung_up_or_ignored(name: str, token: str) -> None:
    async with place(name) as here:
        if isinstance(here, TwilioPlace):
            form = here.house.form(twilio_house.sid(7), Direction="outbound-api", AnsweredBy="human", CallStatus="busy")
            status, text = await here.post(f"{here.hook}?call={quote(token, safe='')}", form)
            assert status == 200
            assert twiml.read(text).verbs == ("Hangup",)
            for path in ("status", "amd", "recording"):
                status, _ = await here.post(f"/webhooks/twilio/{path}?call={quote(token, safe='')}&leg=x", form)
                assert status == 204
            status, text = await here.post(f"/webhooks/twilio/consult?leg={quote(token, safe='')}&step=join", form)
            assert twiml.read(text).verbs == ("Hangup",)
        elif isinstance(here, TelnyxPlace):
            for kind in ("call.initiated", "call.answered", "call.machine.detection.ended", "call.hangup"):
                body = here.house.event(
                    kind, telnyx_house.leg(7), client_state=token, direction="outgoing", result="human"
                )
                assert await here.house.post(body) == 200
            assert "streaming_start 7" not in here.house.did
        assert here.house.calls.sessions == {}
        await here.serves(1)


@both
async def test_an_order_that_the_carrier_answers_with_nonsense_leaves_no_call(name: str) -> None:
    async with place(name) as here:
        nonsense: list[Any] = [
            [],
            None,
            7,
            "x",
            {},
            {"sid": 7},
            {"sid": "../x"},
            {"data": []},
            {"data": {"call_leg_id": "../x"}},
        ]
        for answer in nonsense:
            if isinstance(here, TwilioPlace):
                here.house.on_create = answering(answer)
            else:
                here.house.on["dial"] = answering(answer)
            with pytest.raises(CarrierError):
                await here.door.dial(order())
        placed = {event.call_id for event in here.house.events if isinstance(event, CallPlaced)}
        assert placed == {event.call_id for event in here.house.events if isinstance(event, CallEnded)}
        await here.serves(1)


def answering(value: Any) -> Any:
    async def answer(_: object) -> web.Response:
        return web.json_response(value, status=201)

    return answer
