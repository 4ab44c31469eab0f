"""Pointing a number's webhook here and back, at loopback carriers whose REST servers take only what the real ones take."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from patter.builders import Carrier
from patter.exceptions import CarrierError
from patter.loopback.telnyx_carrier import LoopbackTelnyxCarrier
from patter.loopback.twilio_carrier import LoopbackTwilioCarrier
from patter.providers.telnyx_rest import TelnyxRest
from patter.providers.twilio_rest import TwilioRest
from patter.server.number_setup import point_number, restore
from tests.support.rest_desk import RestDesk, said

pytestmark = pytest.mark.anyio

OURS, OTHER = "+14155550199", "+14155550188"
PUBLIC = "https://voice.example.test"
TWILIO_HOOK = "https://voice.example.test/webhooks/twilio/voice"
TELNYX_HOOK = "https://voice.example.test/webhooks/telnyx/voice"
OLD = "https://me:pw-secret@old.example.test/flow?key=very-secret"


@asynccontextmanager
async def twilio() -> AsyncIterator[tuple[LoopbackTwilioCarrier, TwilioRest, Carrier]]:
    async with LoopbackTwilioCarrier() as there, aiohttp.ClientSession() as http:
        rest = TwilioRest(http, there.account_sid, there.auth_token, there.api_base)
        yield there, rest, Carrier("twilio", there.account_sid, there.auth_token)
        assert there.violations == []


@asynccontextmanager
async def telnyx() -> AsyncIterator[tuple[LoopbackTelnyxCarrier, TelnyxRest, Carrier]]:
    async with LoopbackTelnyxCarrier() as there, aiohttp.ClientSession() as http:
        yield (
            there,
            TelnyxRest(http, there.api_key, there.api_base),
            Carrier("telnyx", there.connection_id, there.api_key),
        )
        assert there.violations == []


def changes(requests: list[Any]) -> list[str]:
    return [asked.method for asked in requests if asked.method != "GET"]


# --------------------------------------------------------------------------- Twilio


async def test_a_new_twilio_number_is_pointed_here_and_back() -> None:
    async with twilio() as (there, rest, carrier):
        there.add_number(OURS)
        setup = await point_number(rest, carrier, OURS, PUBLIC + "/")
        assert (setup.previous_url, setup.notes, setup.url) == ("", (), TWILIO_HOOK)
        assert there.numbers[OURS].voice_url == TWILIO_HOOK
        await restore(rest, setup)
        assert there.numbers[OURS].voice_url == ""


async def test_another_twilio_webhook_is_replaced_with_a_warning_that_shows_its_host_only(caplog: Any) -> None:
    async with twilio() as (there, rest, carrier):
        there.add_number(OURS, OLD).voice_method = "GET"
        with caplog.at_level(logging.INFO):
            setup = await point_number(rest, carrier, OURS, PUBLIC)
        assert setup.notes == (f"Calls to {OURS} led to old.example.test; they come to voice.example.test now.",)
        assert (setup.previous_url, setup.previous_host) == (OLD, "old.example.test")
        warnings = [vars(record) for record in caplog.records if record.levelname == "WARNING"]
        assert [warning["led_to"] for warning in warnings] == ["old.example.test"]
        assert "secret" not in repr(warnings) + repr(setup)
        number = there.numbers[OURS]
        assert (number.voice_url, number.voice_method) == (TWILIO_HOOK, "POST")
        await restore(rest, setup)
        assert (number.voice_url, number.voice_method) == (OLD, "GET")


async def test_a_twilio_number_that_leads_here_already_is_left_alone() -> None:
    async with twilio() as (there, rest, carrier):
        there.add_number(OURS, TWILIO_HOOK)
        setup = await point_number(rest, carrier, OURS, PUBLIC)
        assert (setup.notes, setup.url) == ((), "")
        await restore(rest, setup)
        assert there.numbers[OURS].voice_url == TWILIO_HOOK, "what we did not change is not ours to put back"
        assert changes(there.requests) == []


async def test_a_twilio_number_that_asks_here_in_another_way_is_set_right() -> None:
    async with twilio() as (there, rest, carrier):
        number = there.add_number(OURS, TWILIO_HOOK)
        number.voice_method = "GET"
        setup = await point_number(rest, carrier, OURS, PUBLIC)
        assert (setup.notes, number.voice_method) == ((), "POST")
        await restore(rest, setup)
        assert (number.voice_url, number.voice_method) == (TWILIO_HOOK, "GET")


@pytest.mark.parametrize(
    ("field", "sid", "what"),
    [("trunk_sid", "TK" + "0" * 32, "a SIP trunk"), ("voice_application_sid", "AP" + "0" * 32, "a TwiML app")],
)
@pytest.mark.parametrize("take", [True, False])
async def test_a_twilio_number_whose_webhook_would_be_ignored_is_not_touched(
    field: str, sid: str, what: str, take: bool
) -> None:
    async with twilio() as (there, rest, carrier):
        setattr(there.add_number(OURS, OLD), field, sid)
        setup = await point_number(rest, carrier, OURS, PUBLIC, take=take)
        (note,) = setup.notes
        assert what in note
        assert sid in note
        assert "set the number's voice configuration to Webhook" in note
        await restore(rest, setup)
        assert changes(there.requests) == []


async def test_looking_changes_nothing_at_twilio() -> None:
    async with twilio() as (there, rest, carrier):
        there.add_number(OURS, OLD)
        setup = await point_number(rest, carrier, OURS, PUBLIC, take=False)
        assert setup.notes == (f"Calls to {OURS} lead to old.example.test, not to voice.example.test.",)
        assert (await point_number(rest, carrier, OURS, "", take=False)).notes == ()
        there.add_number(OTHER)
        setup = await point_number(rest, carrier, OTHER, PUBLIC, take=False)
        assert setup.notes == (f"Calls to {OTHER} lead to nobody, not to voice.example.test.",)
        await restore(rest, setup)
        assert changes(there.requests) == []


async def test_a_number_of_somebody_else_is_an_error_that_says_where_ours_are() -> None:
    async with twilio() as (there, rest, carrier):
        there.add_number(OTHER)
        with pytest.raises(
            CarrierError, match=r"\+14155550199 is no number of this account — .*Twilio console"
        ) as caught:
            await point_number(rest, carrier, OURS, PUBLIC)
        assert caught.value.status == 404
    async with telnyx() as (their, telnyx_rest, telnyx_carrier):
        their.add_number(OTHER)
        with pytest.raises(CarrierError, match=r"\+14155550199 is no number of this account — .*Telnyx portal"):
            await point_number(telnyx_rest, telnyx_carrier, OURS, PUBLIC)


async def test_a_webhook_that_somebody_changed_meanwhile_is_theirs() -> None:
    async with twilio() as (there, rest, carrier):
        number = there.add_number(OURS, OLD)
        setup = await point_number(rest, carrier, OURS, PUBLIC)
        number.voice_url = "https://third.example.test/"
        await restore(rest, setup)
        assert number.voice_url == "https://third.example.test/"
        del there.numbers[OURS]
        await restore(rest, setup)
        assert changes(there.requests) == ["POST"]


async def test_a_twilio_number_without_voice_is_noted() -> None:
    row = {"phone_number": OURS, "sid": "PN1", "voice_url": TWILIO_HOOK, "capabilities": {"voice": False, "sms": True}}
    desk = RestDesk(said(200, incoming_phone_numbers=[row]))
    async with desk.open() as (http, address):
        setup = await point_number(TwilioRest(http, "AC1", "x", address), Carrier("twilio", "AC1", "x"), OURS, PUBLIC)
    assert "without voice" in setup.notes[0]


async def test_a_refusal_of_the_change_comes_out_and_changes_nothing() -> None:
    async with twilio() as (there, rest, carrier):
        there.add_number(OURS, OLD)
        there.refuse_next(401, 20003, "Authenticate")
        with pytest.raises(CarrierError, match="TWILIO_AUTH_TOKEN"):
            await point_number(rest, carrier, OURS, PUBLIC)
        assert there.numbers[OURS].voice_url == OLD


# --------------------------------------------------------------------------- Telnyx


async def test_a_telnyx_application_is_pointed_here_and_back(caplog: Any) -> None:
    async with telnyx() as (there, rest, carrier):
        there.add_number(OURS, OLD)
        with caplog.at_level(logging.INFO):
            setup = await point_number(rest, carrier, OURS, PUBLIC)
        told = "All calls of the application 'loopback' led to old.example.test; they come to voice.example.test now."
        assert setup.notes == (told,)
        assert "secret" not in repr([vars(record) for record in caplog.records]) + repr(setup)
        assert there.webhook_url == TELNYX_HOOK
        await restore(rest, setup)
        assert there.webhook_url == OLD


async def test_a_telnyx_application_that_leads_here_already_is_left_alone() -> None:
    async with telnyx() as (there, rest, carrier):
        there.add_number(OURS, TELNYX_HOOK)
        setup = await point_number(rest, carrier, OURS, PUBLIC)
        assert (setup.notes, setup.url) == ((), "")
        await restore(rest, setup)
        assert changes(there.requests) == []


async def test_looking_changes_nothing_at_telnyx() -> None:
    async with telnyx() as (there, rest, carrier):
        there.add_number(OURS, OLD)
        setup = await point_number(rest, carrier, OURS, PUBLIC, take=False)
        told = "All calls of the application 'loopback' lead to old.example.test, not to voice.example.test."
        assert setup.notes == (told,)
        await restore(rest, setup)
        assert changes(there.requests) == []


async def test_a_telnyx_number_that_is_bound_elsewhere_is_noted() -> None:
    async with telnyx() as (there, rest, carrier):
        there.add_number(OURS).connection_id = "999"
        setup = await point_number(rest, carrier, OURS, PUBLIC)
        assert "not bound to the Voice API application 'loopback'" in setup.notes[0]
        assert there.webhook_url == TELNYX_HOOK, "calls that we make need it all the same"


async def test_a_webhook_of_the_application_that_somebody_changed_meanwhile_is_theirs() -> None:
    async with telnyx() as (there, rest, carrier):
        there.add_number(OURS, OLD)
        setup = await point_number(rest, carrier, OURS, PUBLIC)
        there.add_number(OTHER, "https://third.example.test/")
        await restore(rest, setup)
        assert there.webhook_url == "https://third.example.test/"


async def test_an_application_that_cannot_serve_us_is_noted() -> None:
    number = {"phone_number": OURS, "connection_id": "1", "status": "purchase-pending"}
    application = {"webhook_event_url": TELNYX_HOOK, "active": False, "webhook_api_version": "1"}
    desk = RestDesk(said(200, data=[number]), said(200, data=application))
    async with desk.open() as (http, address):
        setup = await point_number(TelnyxRest(http, "KEY", address), Carrier("telnyx", "1", "KEY"), OURS, PUBLIC)
    for note, sign in zip(setup.notes, ("not active", "switched off", "choose API v2"), strict=True):
        assert sign in note


# --------------------------------------------------------------------------- both


@pytest.mark.parametrize("old", ["junk", "mailto:x", "https://[", "//", "javascript:very-secret"])
async def test_an_old_webhook_of_any_form_is_no_obstacle(old: str) -> None:
    row = {"phone_number": OURS, "sid": "PN1", "voice_url": old, "voice_method": None}
    desk = RestDesk(said(200, incoming_phone_numbers=[row]))
    async with desk.open() as (http, address):
        setup = await point_number(TwilioRest(http, "AC1", "x", address), Carrier("twilio", "AC1", "x"), OURS, PUBLIC)
    assert setup.notes == (f"Calls to {OURS} led to an address of another kind; they come to voice.example.test now.",)


async def test_a_tunnel_that_got_another_name_is_told_apart_from_another_path() -> None:
    async with twilio() as (there, rest, carrier):
        there.add_number(OURS, "https://voice.example.test/other?secret=1")
        setup = await point_number(rest, carrier, OURS, PUBLIC)
        assert setup.notes == (
            f"Calls to {OURS} led to another address of voice.example.test; they come to this server now.",
        )


@pytest.mark.parametrize("number", ["", "911", "tel:+1415"])
async def test_what_is_no_number_is_refused_before_anything_is_asked(number: str) -> None:
    async with twilio() as (there, rest, carrier):
        with pytest.raises(ValueError, match=r"E\.164"):
            await point_number(rest, carrier, number, PUBLIC)
        with pytest.raises(ValueError, match="no address"):
            await point_number(rest, carrier, OURS, "")
        assert there.requests == []
