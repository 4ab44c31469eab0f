"""Our own client of Twilio's API against the loopback Twilio: what it asks for happens, and breaks no rule."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from patter.exceptions import CarrierError
from patter.loopback.person import Person
from patter.loopback.twilio_carrier import LoopbackTwilioCarrier
from patter.providers.twilio_rest import GONE, TwilioRest
from tests.loopback.app import CALLER, HUMAN, NUMBER, STREAM, response, town, url

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def rest(carrier: LoopbackTwilioCarrier) -> AsyncIterator[TwilioRest]:
    async def at_once(_: float) -> None: ...

    async with aiohttp.ClientSession() as http:
        yield TwilioRest(http, carrier.account_sid, carrier.auth_token, carrier.api_base, sleep=at_once)


async def test_a_call_from_dialling_to_hanging_up() -> None:
    async with town(answers={"/voice": response(STREAM)}) as (app, carrier), rest(carrier) as twilio:
        carrier.people[HUMAN] = Person(judged_after_s=0.05)
        call_sid = await twilio.create_call(
            to=HUMAN,
            caller=NUMBER,
            url=url("/voice"),
            status_url=url("/status"),
            detect_machine=True,
            machine_url=url("/amd"),
        )
        leg = carrier.legs[call_sid]
        await leg.streaming.wait()
        await twilio.start_recording(call_sid, url("/recording"))
        assert (await app.form("/amd"))["AnsweredBy"] == "human"
        assert (await twilio.fetch_call(call_sid))["status"] == "in-progress"
        await twilio.update_call(call_sid, status="completed")
        await leg.over.wait()
        with pytest.raises(CarrierError) as caught:
            await twilio.update_call(call_sid, status="completed")
    assert caught.value.code in GONE
    assert [form["CallStatus"] for form in app.forms("/status")][-1] == "completed"
    assert app.forms("/recording")[0]["RecordingChannels"] == "2"
    assert carrier.violations == []


async def test_numbers_and_a_live_call_are_changed() -> None:
    async with town(answers={"/voice": response(STREAM)}) as (_, carrier), rest(carrier) as twilio:
        number = await twilio.number(NUMBER)
        assert number is not None
        await twilio.set_voice_url(number["sid"], url("/voice"))
        assert await twilio.number("+15550009999") is None
        leg = carrier.place_call(CALLER, NUMBER)
        await leg.streaming.wait()
        await twilio.update_call(leg.call_id, twiml=response("<Say>Goodbye.</Say>"))
        await leg.over.wait()
    assert leg.announced == ["Goodbye."]
    assert carrier.violations == []


async def test_a_busy_carrier_is_asked_again() -> None:
    async with LoopbackTwilioCarrier(skew_s=90) as carrier, rest(carrier) as twilio:
        carrier.refuse_next(429, 20429, "Too Many Requests", retry_after=1)
        assert (await twilio.account())["status"] == "active"
        assert twilio.skew_s is not None
        assert 80 < twilio.skew_s < 100
    assert len(carrier.requests) == 2
