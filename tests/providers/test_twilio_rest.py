"""Twilio's REST API: what we ask for is what Twilio's own client would ask for, and its refusals say what to do."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import aiohttp
import pytest
from aiohttp import web
from twilio.http import HttpClient
from twilio.http.response import Response
from twilio.rest import Client

from patter.exceptions import CarrierError
from patter.loopback.person import Person
from patter.loopback.twilio_carrier import LoopbackTwilioCarrier
from patter.providers.twilio_rest import GONE, TwilioRest
from tests.support.rest_desk import Asked, RestDesk, said

pytestmark = pytest.mark.anyio

ACCOUNT = "AC0123456789abcdef0123456789abcdef"
TOKEN = "76543210fedcba9876543210fedcba98"
CALL = "CA0123456789abcdef0123456789abcdef"
NUMBER = "PN0123456789abcdef0123456789abcdef"
HUMAN, OURS = "+14155550123", "+14155550199"
URL = "https://voice.example.test/webhooks/twilio/voice?call=a%2Fb"
STATUS_URL = "https://voice.example.test/webhooks/twilio/status"
MACHINE_URL = "https://voice.example.test/webhooks/twilio/amd"


@asynccontextmanager
async def rest(desk: RestDesk) -> AsyncIterator[TwilioRest]:
    async with desk.open() as (http, address):
        yield TwilioRest(http, ACCOUNT, TOKEN, address, sleep=desk.sleep)


class Recorder(HttpClient):  # type: ignore[misc]
    """Takes the place of the network under Twilio's own client."""

    def __init__(self) -> None:
        super().__init__(None, False, None)
        self.asked: list[tuple[str, str, list[tuple[str, str]], list[tuple[str, str]]]] = []

    def request(self, method: str, url: str, params: Any = None, data: Any = None, *_: Any, **__: Any) -> Response:
        path = unquote(urlsplit(url).path)
        self.asked.append((method.upper(), path, pairs(params), pairs(data)))
        body = '{"meta": {"key": "rows"}, "rows": [], "sid": "X"}'
        return Response(200 if method.upper() == "GET" or "/Calls/CA" in path or "/PN" in path else 201, body)


def pairs(values: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Twilio's client's fields as they go over the wire: lists repeat the name, what is not given is left out."""
    found: list[tuple[str, str]] = []
    for name, value in (values or {}).items():
        if isinstance(value, list):
            found += [(name, str(one)) for one in value]
        elif isinstance(value, str | int):
            found.append((name, str(value)))
    return sorted(found)


def as_theirs(asked: Asked) -> tuple[str, str, list[tuple[str, str]], list[tuple[str, str]]]:
    return asked.method, asked.path, asked.query, asked.form


async def test_twilios_own_client_asks_for_the_same() -> None:
    desk = RestDesk(said(200, sid="X", incoming_phone_numbers=[]))
    async with rest(desk) as ours:
        await ours.account()
        await ours.number(OURS)
        await ours.set_voice_url(NUMBER, URL)
        await ours.create_call(to=HUMAN, caller=OURS, url=URL, status_url=STATUS_URL, ring_timeout_s=25.4)
        await ours.create_call(to=HUMAN, caller=OURS, url=URL, detect_machine=True, machine_url=MACHINE_URL)
        await ours.create_call(to=HUMAN, caller=OURS, twiml="<Response/>")
        await ours.update_call(CALL, status="completed")
        await ours.update_call(CALL, twiml="<Response><Dial>+1</Dial></Response>")
        await ours.fetch_call(CALL)
        await ours.start_recording(CALL, STATUS_URL)
    recorder = Recorder()
    theirs = Client(ACCOUNT, TOKEN, http_client=recorder)
    theirs.api.v2010.accounts(ACCOUNT).fetch()
    list(theirs.incoming_phone_numbers.stream(phone_number=OURS))
    theirs.incoming_phone_numbers(NUMBER).update(voice_url=URL, voice_method="POST")
    events = ["initiated", "ringing", "answered", "completed"]
    theirs.calls.create(
        to=HUMAN, from_=OURS, url=URL, status_callback=STATUS_URL, status_callback_event=events, timeout=25
    )
    theirs.calls.create(
        to=HUMAN,
        from_=OURS,
        url=URL,
        timeout=30,
        machine_detection="DetectMessageEnd",
        async_amd="true",
        async_amd_status_callback=MACHINE_URL,
    )
    theirs.calls.create(to=HUMAN, from_=OURS, timeout=30, twiml="<Response/>")
    theirs.calls(CALL).update(status="completed")
    theirs.calls(CALL).update(twiml="<Response><Dial>+1</Dial></Response>")
    theirs.calls(CALL).fetch()
    theirs.calls(CALL).recordings.create(recording_channels="dual", recording_status_callback=STATUS_URL)
    asked = [(method, path, query, form) for method, path, query, form in recorder.asked]
    assert [(method, path, [pair for pair in query if pair[0] != "PageSize"], form) for method, path, query, form in asked] == [
        as_theirs(one) for one in desk.asked
    ]  # fmt: skip


async def test_the_account_and_its_token_open_the_door() -> None:
    desk = RestDesk(said(200, sid="X"))
    async with rest(desk) as ours:
        await ours.account()
    kind, _, credentials = desk.asked[0].headers["Authorization"].partition(" ")
    assert (kind, base64.b64decode(credentials).decode()) == ("Basic", f"{ACCOUNT}:{TOKEN}")


async def test_a_new_call_is_known_by_its_sid() -> None:
    async with rest(RestDesk(said(201, sid=CALL, status="queued"))) as ours:
        assert await ours.create_call(to=HUMAN, caller=OURS, url=URL) == CALL
    async with rest(RestDesk(said(201, status="queued"))) as ours:
        with pytest.raises(CarrierError, match="names no SID"):
            await ours.create_call(to=HUMAN, caller=OURS, url=URL)


async def test_a_number_is_ours_only_if_it_is_the_very_number() -> None:
    rows = [{"phone_number": OURS + "0"}, "junk", {"phone_number": OURS, "sid": NUMBER, "voice_url": ""}]
    async with rest(RestDesk(said(200, incoming_phone_numbers=rows))) as ours:
        assert await ours.number(OURS) == rows[2]
        assert await ours.number(HUMAN) is None
    async with rest(RestDesk(said(200, incoming_phone_numbers=None))) as ours:
        assert await ours.number(OURS) is None


@pytest.mark.parametrize(
    "number", ["", "911", "4155550123", "+0155", "+1 415 555", "+1415555012345678", "sip:a@b", "+1\n"]
)
async def test_a_number_that_is_not_e164_never_reaches_twilio(number: str) -> None:
    desk = RestDesk(said(201, sid="X"))
    async with rest(desk) as ours:
        with pytest.raises(ValueError, match=r"E\.164"):
            await ours.create_call(to=number, caller=OURS, url=URL)
        with pytest.raises(ValueError, match=r"E\.164"):
            await ours.create_call(to=HUMAN, caller=number, url=URL)
        with pytest.raises(ValueError, match=r"E\.164"):
            await ours.number(number)
    assert desk.asked == []


@pytest.mark.parametrize(("url", "twiml"), [("", ""), (URL, "<Response/>")])
async def test_a_call_has_either_an_address_or_its_orders(url: str, twiml: str) -> None:
    async with rest(RestDesk(said(201, sid="X"))) as ours:
        with pytest.raises(ValueError, match="url or twiml"):
            await ours.create_call(to=HUMAN, caller=OURS, url=url, twiml=twiml)


@pytest.mark.parametrize(("seconds", "sent"), [(0.2, "1"), (30.0, "30"), (10_000.0, "600")])
async def test_ringing_stays_within_what_twilio_takes(seconds: float, sent: str) -> None:
    desk = RestDesk(said(201, sid="X"))
    async with rest(desk) as ours:
        await ours.create_call(to=HUMAN, caller=OURS, url=URL, ring_timeout_s=seconds)
    assert ("Timeout", sent) in desk.asked[0].form


async def test_an_id_cannot_lead_elsewhere() -> None:
    desk = RestDesk(said(200, sid="X"))
    async with rest(desk) as ours:
        await ours.fetch_call("../Keys?a=b#")
        with pytest.raises(ValueError, match="CallSid"):
            await ours.start_recording("..", URL)
    assert [asked.target for asked in desk.asked] == [f"/2010-04-01/Accounts/{ACCOUNT}/Calls/..%2FKeys%3Fa%3Db%23.json"]


@pytest.mark.parametrize(
    ("status", "code", "message", "todo"),
    [
        (401, 20003, "Authenticate", "TWILIO_AUTH_TOKEN"),
        (401, None, "", "TWILIO_AUTH_TOKEN"),
        (403, 20003, "Permission denied", "TWILIO_AUTH_TOKEN"),
        (403, None, "", "permission"),
        (404, 20404, "The requested resource was not found", "account SID"),
        (400, 21201, "No 'To' number is specified", "E.164"),
        (400, 21210, "Caller ID not verified", "verified as its caller id"),
        (400, 21211, "Invalid 'To' Phone Number", "E.164"),
        (400, 21212, "Invalid 'From'", "number of this Twilio account"),
        (400, 21215, "Geo Permission", "Geo permissions"),
        (400, 13227, "Geo Permission", "Geo permissions"),
        (400, 21219, "unverified", "trial account"),
        (400, 21608, "unverified", "trial account"),
        (400, 21205, "Url is not valid", "https://"),
        (400, 21220, "Call is not in-progress", "call is over"),
        (400, 99999, "Something new", "its message says which"),
        (429, 20429, "Too Many Requests", "try again in a moment"),
        (503, 20503, "Service unavailable", "status page"),
    ],
)
async def test_a_refusal_says_what_to_do(status: int, code: int | None, message: str, todo: str) -> None:
    desk = RestDesk(said(status, code=code, message=message, more_info="https://www.twilio.com/docs", status=status))
    async with rest(desk) as ours:
        with pytest.raises(CarrierError) as caught:
            await ours.create_call(to=HUMAN, caller=OURS, url=URL)
    error = caught.value
    assert (error.status, error.code) == (status, str(code or ""))
    assert todo in error.fix
    assert message in str(error)
    assert TOKEN not in str(error)
    assert error.retryable is (status in (429, 503))
    assert len(desk.asked) == (3 if error.retryable else 1), "a new call is asked for again even after a 5xx"


async def test_newer_apis_word_their_errors_otherwise() -> None:
    answer = said(400, type="about:blank", title="Bad Request", status=400, code=21211, detail="To is wrong")
    async with rest(RestDesk(answer)) as ours:
        with pytest.raises(CarrierError, match="21211: To is wrong"):
            await ours.fetch_call(CALL)


@pytest.mark.parametrize(("status", "code"), [(404, 20404), (400, 21220)])
async def test_a_call_that_is_over_is_known_by_its_code(status: int, code: int) -> None:
    async with rest(RestDesk(said(status, code=code, message="over"))) as ours:
        with pytest.raises(CarrierError) as caught:
            await ours.update_call(CALL, status="completed")
    assert caught.value.code in GONE


async def test_no_key_in_the_client_or_in_what_it_refuses() -> None:
    async with aiohttp.ClientSession() as http:
        ours = TwilioRest(http, f" {ACCOUNT}\n", f"{TOKEN} ")
        assert TOKEN not in repr(ours)
        assert TOKEN not in repr(vars(ours))
        with pytest.raises(ValueError, match="account SID") as caught:
            TwilioRest(http, "", TOKEN)
        assert TOKEN not in str(caught.value)


# --------------------------------------------------------------------------- against a carrier that takes no nonsense

HOST = "voice.example.test"
LONG = '<Response><Pause length="30"/></Response>'


@dataclass
class Office:
    """A carrier with one number, our client of it, and a server that all its webhooks come to."""

    carrier: LoopbackTwilioCarrier
    ours: TwilioRest
    desk: RestDesk


@asynccontextmanager
async def office() -> AsyncIterator[Office]:
    twiml = web.Response(text=LONG, content_type="text/xml")
    desk = RestDesk(twiml)
    async with LoopbackTwilioCarrier() as carrier, desk.open() as (http, address):
        carrier.add_number(OURS)
        carrier.reach[HOST] = address.removeprefix("http://")
        yield Office(
            carrier, TwilioRest(http, carrier.account_sid, carrier.auth_token, carrier.api_base, sleep=desk.sleep), desk
        )


async def test_a_whole_call() -> None:
    async with office() as here:
        here.carrier.people[HUMAN] = Person()
        sid = await here.ours.create_call(
            to=HUMAN, caller=OURS, url=URL, status_url=STATUS_URL, detect_machine=True, machine_url=MACHINE_URL
        )
        leg = here.carrier.legs[sid]
        await leg.answered.wait()
        assert (await here.ours.fetch_call(sid))["status"] == "in-progress"
        recording = await here.ours.start_recording(sid, f"https://{HOST}/recording")
        assert recording.startswith("RE")
        await here.ours.update_call(sid, twiml=LONG)
        await here.ours.update_call(sid, status="completed")
        await leg.over.wait()
        with pytest.raises(CarrierError) as late:
            await here.ours.update_call(sid, status="completed")
        assert late.value.code in GONE
        assert (await here.ours.fetch_call(sid))["status"] == "completed"
        assert here.carrier.violations == []


async def test_nobody_takes_the_call() -> None:
    async with office() as here:
        here.carrier.people[HUMAN] = Person(answers="busy")
        sid = await here.ours.create_call(to=HUMAN, caller=OURS, url=URL)
        await here.carrier.legs[sid].over.wait()
        assert (await here.ours.fetch_call(sid))["status"] == "busy"


async def test_a_carrier_that_is_busy_gets_the_same_call_again() -> None:
    async with office() as here:
        here.carrier.people[HUMAN] = Person()
        here.carrier.refuse_next(429, 20429, "Too Many Requests", retry_after=2)
        here.carrier.refuse_next(503, 20503, "Service unavailable")
        sid = await here.ours.create_call(to=HUMAN, caller=OURS, url=URL)
        assert list(here.carrier.legs) == [sid]
        assert here.desk.waits[0] == 2.0
        assert here.carrier.violations == []
        here.carrier.legs[sid].hang_up()


async def test_the_account_of_a_carrier() -> None:
    async with office() as here:
        assert (await here.ours.account())["status"] == "active"
        row = await here.ours.number(OURS)
        assert row is not None
        await here.ours.set_voice_url(row["sid"], URL, "GET")
        assert (here.carrier.numbers[OURS].voice_url, here.carrier.numbers[OURS].voice_method) == (URL, "GET")
        assert await here.ours.number(HUMAN) is None
        assert here.ours.skew_s == pytest.approx(0.0, abs=2.0)
        assert here.carrier.violations == []


async def test_what_a_carrier_refuses() -> None:
    async with office() as here, aiohttp.ClientSession() as http:
        stranger = TwilioRest(http, here.carrier.account_sid, "wrong", here.carrier.api_base)
        with pytest.raises(CarrierError, match="TWILIO_AUTH_TOKEN"):
            await stranger.account()
        with pytest.raises(CarrierError, match="number of this Twilio account"):
            await here.ours.create_call(to=HUMAN, caller="+14155550777", url=URL)
        with pytest.raises(CarrierError) as unknown:
            await here.ours.update_call(CALL, status="completed")
        assert unknown.value.code in GONE
