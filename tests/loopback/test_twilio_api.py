"""The loopback Twilio's REST API, driven by the official client, which parses everything it answers."""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request
from base64 import b64encode
from collections.abc import Callable
from typing import Any, TypeVar

import aiohttp
import anyio
import pytest
from anyio.to_thread import run_sync
from twilio.base.exceptions import TwilioRestException
from twilio.http import HttpClient
from twilio.http.response import Response
from twilio.rest import Client

from patter.loopback.person import Person, says
from patter.loopback.tones import tone
from patter.loopback.twilio_carrier import LoopbackTwilioCarrier
from tests.loopback.app import CALLER, HUMAN, NUMBER, STREAM, response, town, url

pytestmark = pytest.mark.anyio
Result = TypeVar("Result")


class Rewriting(HttpClient):
    """Sends what is meant for Twilio to the carrier on this machine."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._test_only_last_request = self._test_only_last_response = None

    def request(  # type: ignore[no-untyped-def]
        self, method, uri, params=None, data=None, headers=None, auth=None, timeout=None, allow_redirects=False
    ) -> Response:
        target = uri.replace("https://api.twilio.com", self._base)
        if params:
            target += "?" + urllib.parse.urlencode(params, doseq=True)
        body = urllib.parse.urlencode(data, doseq=True).encode() if data else None
        request = urllib.request.Request(target, body, method=method, headers=headers or {})
        request.add_header("Authorization", basic_of(*auth))
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return Response(answer.status, answer.read().decode(), dict(answer.headers))
        except urllib.error.HTTPError as error:
            with error:
                return Response(error.code, error.read().decode(), dict(error.headers))


def basic_of(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


def basic(carrier: LoopbackTwilioCarrier) -> dict[str, str]:
    return {"Authorization": basic_of(carrier.account_sid, carrier.auth_token)}


def client(carrier: LoopbackTwilioCarrier, token: str = "") -> Client:
    return Client(carrier.account_sid, token or carrier.auth_token, http_client=Rewriting(carrier.api_base))


async def official(carrier: LoopbackTwilioCarrier, ask: Callable[[Client], Result]) -> Result:
    one = client(carrier)
    return await run_sync(lambda: ask(one))


async def refused(carrier: LoopbackTwilioCarrier, ask: Callable[[Client], Any]) -> tuple[int, int]:
    with pytest.raises(TwilioRestException) as caught:
        await official(carrier, ask)
    return caught.value.status, caught.value.code


async def test_the_account_is_fetched_without_its_token() -> None:
    async with LoopbackTwilioCarrier() as carrier:
        account = await official(carrier, lambda twilio: twilio.api.v2010.accounts(carrier.account_sid).fetch())
    assert (account.sid, account.status, account.type) == (carrier.account_sid, "active", "Full")
    assert account.auth_token is None
    assert account.date_created is not None
    assert carrier.violations == []


async def test_numbers_are_listed_and_pointed_elsewhere() -> None:
    async with LoopbackTwilioCarrier() as carrier:
        carrier.add_number(NUMBER, "https://old.example.test/voice")
        carrier.add_number("+15550002222")
        (number,) = await official(carrier, lambda t: t.incoming_phone_numbers.list(phone_number=NUMBER))
        assert (number.phone_number, number.voice_url) == (NUMBER, "https://old.example.test/voice")
        changed = await official(
            carrier,
            lambda t: t.incoming_phone_numbers(number.sid).update(voice_url=url("/new"), voice_method="GET"),
        )
        assert (changed.voice_url, changed.voice_method) == (url("/new"), "GET")
        everything = await official(carrier, lambda t: t.incoming_phone_numbers.list())
        again = await official(carrier, lambda t: t.incoming_phone_numbers(number.sid).fetch())
    assert len(everything) == 2
    assert again.voice_url == carrier.numbers[NUMBER].voice_url == url("/new")
    assert again.capabilities["voice"] is True
    assert carrier.violations == []


async def test_a_call_is_created_answered_fetched_and_completed() -> None:
    async with town(answers={"/voice": response(STREAM)}) as (app, carrier):
        carrier.people[HUMAN] = Person()
        events = ["initiated", "ringing", "answered", "completed"]
        call = await official(
            carrier,
            lambda t: t.calls.create(
                to=HUMAN, from_=NUMBER, url=url("/voice?call=1"), status_callback=url("/status"),
                status_callback_event=events, timeout=20,
            ),
        )  # fmt: skip
        assert (call.status, call.direction, call._from, call.to) == ("queued", "outbound-api", NUMBER, HUMAN)
        leg = carrier.legs[call.sid]
        await leg.streaming.wait()
        await app.talks_begun()
        live = await official(carrier, lambda t: t.calls(call.sid).fetch())
        assert (live.status, live.end_time, live.duration) == ("in-progress", None, None)
        await official(carrier, lambda t: t.calls(call.sid).update(status="completed"))
        await leg.over.wait()
        over = await official(carrier, lambda t: t.calls(call.sid).fetch())
        (listed,) = await official(carrier, lambda t: t.calls.list(status="completed"))
    assert over.status == "completed"
    assert over.end_time >= over.start_time
    assert int(over.duration) <= 2
    assert listed.sid == call.sid
    assert app.talks[0].messages[-1]["event"] == "stop"
    assert app.forms("/voice?call=1")[0]["CallStatus"] == "in-progress"
    told = [(form["CallStatus"], form["SequenceNumber"]) for form in app.forms("/status")]
    assert told == [("initiated", "0"), ("ringing", "1"), ("in-progress", "2"), ("completed", "3")]
    assert app.forms("/status")[-1]["SipResponseCode"] == "200"
    assert carrier.violations == []
    assert carrier.requests[0].fields["StatusCallbackEvent"] == events


@pytest.mark.parametrize(
    ("person", "status", "sip"),
    [
        (Person("busy", rings_s=0), "busy", "486"),
        (Person("reject", rings_s=0), "busy", "603"),
        (Person("no_answer"), "no-answer", "487"),
        (Person(rings_s=5), "no-answer", "487"),
        (None, "failed", "404"),
    ],
)
async def test_calls_that_nobody_takes(person: Person | None, status: str, sip: str) -> None:
    async with town() as (app, carrier):
        if person is not None:
            carrier.people[HUMAN] = person
        call = await official(
            carrier,
            lambda t: t.calls.create(
                to=HUMAN, from_=NUMBER, url=url("/voice"), status_callback=url("/status"), timeout=1
            ),
        )
        await carrier.legs[call.sid].over.wait()
        over = await official(carrier, lambda t: t.calls(call.sid).fetch())
    assert over.status == status
    (form,) = app.forms("/status")
    assert (form["CallStatus"], form["CallDuration"], form["SipResponseCode"]) == (status, "0", sip)
    assert app.forms("/voice") == []
    assert carrier.violations == []


async def test_calls_beyond_the_rate_stay_queued() -> None:
    async with LoopbackTwilioCarrier(calls_per_second=0.01) as carrier:
        carrier.add_number(NUMBER)
        carrier.people[HUMAN] = Person(rings_s=60)
        first = await official(carrier, creating())
        second = await official(carrier, creating())
        assert (await official(carrier, lambda t: t.calls(first.sid).fetch())).status == "ringing"
        assert (await official(carrier, lambda t: t.calls(second.sid).fetch())).status == "queued"
        await official(carrier, lambda t: t.calls(second.sid).update(status="canceled"))
        await carrier.legs[second.sid].over.wait()
        assert carrier.legs[second.sid].status == "canceled"
    assert carrier.violations == []


async def test_a_ringing_call_is_canceled() -> None:
    async with town() as (app, carrier):
        carrier.people[HUMAN] = Person("no_answer")
        call = await official(
            carrier,
            lambda t: t.calls.create(
                to=HUMAN, from_=NUMBER, url=url("/voice"), status_callback=url("/status"),
                status_callback_event=["ringing", "completed"],
            ),
        )  # fmt: skip
        await app.form("/status")
        await official(carrier, lambda t: t.calls(call.sid).update(status="canceled"))
        await carrier.legs[call.sid].over.wait()
    assert [form["CallStatus"] for form in app.forms("/status")] == ["ringing", "canceled"]
    assert carrier.violations == []


async def test_twiml_in_an_update_tears_the_stream_down() -> None:
    async with town(answers={"/voice": response(STREAM)}) as (app, carrier):
        carrier.people[HUMAN] = Person(mouth=says(tone(500, 300)), stays_s=0.7)
        leg = carrier.place_call(CALLER, NUMBER)
        await app.talks_begun()
        handover = response(f'<Say>One moment.</Say><Dial callerId="{NUMBER}"><Number>{HUMAN}</Number></Dial>')
        await official(carrier, lambda t: t.calls(leg.call_id).update(twiml=handover))
        await leg.over.wait()
    assert app.talks[0].messages[-1]["event"] == "stop"
    assert leg.announced == ["One moment."]
    assert leg.transferred_to == HUMAN
    assert carrier.violations == []


async def test_a_url_in_an_update_is_asked() -> None:
    async with town(answers={"/voice": response(STREAM), "/next": response("<Say>Next.</Say>")}) as (app, carrier):
        leg = carrier.place_call(CALLER, NUMBER)
        await app.talks_begun()
        await official(carrier, lambda t: t.calls(leg.call_id).update(url=url("/next"), method="POST"))
        await leg.over.wait()
    assert leg.announced == ["Next."]
    assert app.forms("/next")[0]["CallSid"] == leg.call_id


async def test_a_time_limit_ends_a_call() -> None:
    async with town(answers={"/voice": response("<Pause length='30'/>")}) as (_, carrier):
        leg = carrier.place_call(CALLER, NUMBER)
        await leg.answered.wait()
        await official(carrier, lambda t: t.calls(leg.call_id).update(time_limit=1))
        await leg.over.wait()
    assert leg.status == "completed"
    assert carrier.violations == []


async def test_a_called_leg_can_be_ordered_away_from_its_caller() -> None:
    async with town(answers={"/voice": response(f"<Dial>{HUMAN}</Dial>")}) as (_, carrier):
        carrier.people[HUMAN] = Person()
        leg = carrier.place_call(CALLER, NUMBER)
        with anyio.fail_after(5):
            while leg.joined_with is None:
                await anyio.sleep(0.01)
        other = leg.joined_with
        await official(carrier, lambda t: t.calls(other.call_id).update(twiml=response("<Say>Alone.</Say>")))
        await other.over.wait()
        await leg.over.wait()
    assert other.announced == ["Alone."]
    assert (leg.status, other.status) == ("completed", "completed")
    assert carrier.violations == []


async def test_a_call_is_recorded_and_the_recording_fetched() -> None:
    async with town(answers={"/voice": response(STREAM)}) as (app, carrier):
        leg = carrier.place_call(CALLER, NUMBER, Person(mouth=says(tone(400, 2000))))
        await app.talks_begun()
        tape = await official(
            carrier,
            lambda t: t.calls(leg.call_id).recordings.create(
                recording_channels="dual", recording_status_callback=url("/recording")
            ),
        )
        assert (tape.status, tape.channels, tape.source) == ("in-progress", 2, "StartCallRecordingAPI")
        current = "Twilio.CURRENT"
        paused = await official(
            carrier, lambda t: t.calls(leg.call_id).recordings(current).update(status="paused", pause_behavior="skip")
        )
        assert (paused.sid, paused.status) == (tape.sid, "paused")
        await official(carrier, lambda t: t.calls(leg.call_id).recordings(current).update(status="in-progress"))
        spoken = len(leg.heard)
        with anyio.fail_after(5):
            while len(leg.heard) < spoken + 1600:
                await anyio.sleep(0.02)
        leg.hang_up()
        await leg.over.wait()
        (kept,) = await official(carrier, lambda t: t.calls(leg.call_id).recordings.list())
        async with aiohttp.ClientSession() as http, http.get(leg.recordings[0] + ".wav") as nobody:
            assert nobody.status == 401
        keys = basic(carrier)
        async with aiohttp.ClientSession(headers=keys) as http, http.get(leg.recordings[0] + ".wav") as answer:
            sound = await answer.read()
    (form,) = app.forms("/recording")
    assert (form["RecordingSid"], form["RecordingStatus"], form["RecordingChannels"]) == (tape.sid, "completed", "2")
    assert form["RecordingUrl"] == leg.recordings[0]
    assert kept.status == "completed"
    assert sound[:4] == b"RIFF"
    assert len(sound) > 4 * 1600
    assert carrier.violations == [
        "GET " + leg.recordings[0].removeprefix(carrier.api_base) + ".wav: 20003: Authenticate"
    ]


async def test_a_call_may_be_recorded_from_its_beginning() -> None:
    async with town(answers={"/voice": response("<Pause/>")}) as (app, carrier):
        carrier.people[HUMAN] = Person()
        call = await official(
            carrier,
            lambda t: t.calls.create(
                to=HUMAN, from_=NUMBER, url=url("/voice"), record=True, status_callback=url("/status"),
                recording_status_callback=url("/recording"), recording_status_callback_event=["in-progress", "completed"],
                send_digits="ww42#",
            ),
        )  # fmt: skip
        leg = carrier.legs[call.sid]
        await leg.over.wait()
    assert [form["RecordingStatus"] for form in app.forms("/recording")] == ["in-progress", "completed"]
    assert app.forms("/status")[0]["RecordingUrl"] == leg.recordings[0]
    assert leg.digits_heard == "42#"


def creating(**changes: Any) -> Callable[[Client], Any]:
    fields = {"to": HUMAN, "from_": NUMBER, "url": "https://agent.example.test/voice"} | changes
    return lambda t: t.calls.create(**{name: value for name, value in fields.items() if value is not None})


@pytest.mark.parametrize(
    ("ask", "status", "code"),
    [
        (creating(to="5551234"), 400, 21211),
        (creating(to=""), 400, 21211),
        (creating(from_="Bob"), 400, 21212),
        (creating(from_="+19998887777"), 400, 21210),
        (creating(url=None), 400, 21205),
        (creating(url="agent.example.test/voice"), 400, 21205),
        (creating(url=None, twiml="<Response>"), 400, 20001),
        (creating(url=None, twiml=response("<Say>" + "x" * 4000 + "</Say>")), 400, 20001),
        (creating(timeout=601), 400, 20001),
        (creating(method="PUT"), 400, 20001),
        (creating(send_digits="hello"), 400, 20001),
        (creating(status_callback_event=["answered", "ended"]), 400, 20001),
        (creating(machine_detection="Yes"), 400, 20001),
        (creating(machine_detection_speech_threshold=10), 400, 20001),
        (creating(async_amd="on"), 400, 20001),
        (lambda t: t.calls("CA" + "0" * 32).fetch(), 404, 20404),
        (lambda t: t.calls("CA" + "0" * 32).update(status="completed"), 404, 20404),
        (lambda t: t.incoming_phone_numbers("PN" + "0" * 32).update(voice_url="https://x.test/"), 404, 20404),
        (lambda t: t.queues.create("q"), 404, 20404),
    ],
)
async def test_what_is_wrong_is_refused_and_noted(ask: Callable[[Client], Any], status: int, code: int) -> None:
    async with LoopbackTwilioCarrier() as carrier:
        carrier.add_number(NUMBER)
        assert await refused(carrier, ask) == (status, code)
    assert len(carrier.violations) == 1
    assert carrier.legs == {}


async def test_a_wrong_token_is_refused() -> None:
    async with LoopbackTwilioCarrier() as carrier:
        stranger = client(carrier, "wrong")
        with pytest.raises(TwilioRestException) as caught:
            await run_sync(lambda: stranger.calls("CA" + "0" * 32).fetch())
    assert (caught.value.status, caught.value.code) == (401, 20003)
    assert "wrong" not in str(carrier.requests) + str(carrier.violations)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (
            "To=%2B15558880000&From=%2B15550001111&Twiml=%3CResponse%2F%3E&Colour=red",
            "application/x-www-form-urlencoded",
        ),
        ("To=%2B15558880000&To=%2B15558880000", "application/x-www-form-urlencoded"),
        ('{"To": "+15558880000"}', "application/json"),
    ],
)
async def test_forms_that_no_client_writes_are_refused(body: str, kind: str) -> None:
    async with LoopbackTwilioCarrier() as carrier:
        carrier.add_number(NUMBER)
        keys = basic(carrier)
        address = f"{carrier.api_base}/2010-04-01/Accounts/{carrier.account_sid}/Calls.json"
        async with (
            aiohttp.ClientSession(headers=keys) as http,
            http.post(address, data=body, headers={"Content-Type": kind}) as answer,
        ):
            assert answer.status == 400
            assert (await answer.json())["code"] == 20001
    assert len(carrier.violations) == 1


async def test_an_update_at_the_wrong_time_is_refused() -> None:
    async with town(answers={"/voice": response("<Pause length='10'/>")}) as (_, carrier):
        carrier.people[HUMAN] = Person("no_answer")
        up = carrier.place_call(CALLER, NUMBER)
        await up.answered.wait()
        ringing = await official(carrier, creating())
        redirect = response("<Hangup/>")
        assert await refused(carrier, lambda t: t.calls(up.call_id).update(status="canceled")) == (400, 21220)
        assert await refused(carrier, lambda t: t.calls(ringing.sid).update(twiml=redirect)) == (400, 21220)
        assert await refused(carrier, lambda t: t.calls(ringing.sid).recordings.create()) == (400, 21220)
        before = list(carrier.violations)
        up.hang_up()
        await up.over.wait()
        assert await refused(carrier, lambda t: t.calls(up.call_id).update(status="completed")) == (404, 20404)
        assert carrier.violations == before


async def test_the_api_fails_when_it_is_told_to() -> None:
    async with LoopbackTwilioCarrier() as carrier:
        carrier.add_number(NUMBER)
        carrier.refuse_next(429, 20429, "Too Many Requests", retry_after=2, times=2)
        for _ in range(2):
            assert await refused(carrier, creating()) == (429, 20429)
        assert (await official(carrier, creating())).status == "queued"
    assert carrier.violations == []
    assert len(carrier.requests) == 3


async def test_an_answer_is_lost_after_the_request_was_carried_out() -> None:
    async with LoopbackTwilioCarrier() as carrier:
        carrier.add_number(NUMBER)
        carrier.refuse_next(503, done=True)
        assert await refused(carrier, creating()) == (503, 20500)
        (leg,) = carrier.legs.values()
        await leg.over.wait()
    assert leg.status == "failed"
    assert carrier.violations == []
