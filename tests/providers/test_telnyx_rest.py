"""Telnyx' REST API: what we ask for is what Telnyx' own client would ask for, and its refusals say what to do."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import httpx
import pytest
import telnyx

from patter.exceptions import CarrierError
from patter.loopback.person import Person
from patter.providers.telnyx_rest import GONE, TelnyxLeg, TelnyxRest
from tests.loopback.telnyx_office import HOST, THEIRS, Office, office
from tests.loopback.telnyx_office import OURS as OFFICE
from tests.support.rest_desk import Asked, RestDesk, said

pytestmark = pytest.mark.anyio

KEY = "KEY0123456789ABCDEF_abcdefghijklmnopqrstuv"
CONNECTION = "2411111111111111111"
CONTROL = "v3:AbC-dEf_123/4"
HUMAN, OURS = "+14155550123", "+14155550199"
HOOK = "https://voice.example.test/webhooks/telnyx/voice"
LEG = {"call_control_id": CONTROL, "call_leg_id": "leg-1", "call_session_id": "session-1", "is_alive": False}


@asynccontextmanager
async def rest(desk: RestDesk) -> AsyncIterator[TelnyxRest]:
    async with desk.open() as (http, address):
        yield TelnyxRest(http, KEY, address, sleep=desk.sleep)


def as_theirs(asked: Asked) -> tuple[str, str, list[tuple[str, str]], Any]:
    return asked.method, asked.path, asked.query, json.loads(asked.body) if asked.body else None


async def test_telnyx_own_client_asks_for_the_same() -> None:
    desk = RestDesk(said(200, data=LEG | {"application_name": "front desk"}))
    async with rest(desk) as ours:
        await ours.dial(connection_id=CONNECTION, to=HUMAN, caller=OURS, command_id="c-1", ring_timeout_s=25.4)
        await ours.dial(
            connection_id=CONNECTION,
            to=HUMAN,
            caller=OURS,
            client_state="czE=",
            webhook_url=HOOK,
            detect_machine=True,
            command_id="c-2",
            link_to="v3:other",
        )
        await ours.command(CONTROL, "answer", command_id="c-3", client_state="czE=")
        await ours.command(
            CONTROL,
            "streaming_start",
            command_id="c-4",
            stream_url="wss://voice.example.test/ws/telnyx/t",
            stream_track="inbound_track",
            stream_bidirectional_mode="rtp",
            stream_bidirectional_codec="L16",
            stream_bidirectional_sampling_rate=16000,
            stream_auth_token="one-time",
        )
        await ours.command(CONTROL, "speak", command_id="c-5", payload="Hi", voice="female", language="en-US")
        await ours.command(CONTROL, "bridge", command_id="c-6", call_control_id="v3:other")
        await ours.command(CONTROL, "transfer", command_id="c-7", to=HUMAN, **{"from": OURS})
        await ours.command(CONTROL, "send_dtmf", command_id="c-8", digits="12w#")
        await ours.command(CONTROL, "record_start", command_id="c-9", channels="dual", format="wav")
        await ours.command(CONTROL, "reject", command_id="c-10", cause="USER_BUSY")
        await ours.command(CONTROL, "hangup", command_id="c-11", client_state=None)
        await ours.application(CONNECTION)
        await ours.set_webhook(CONNECTION, HOOK)
        await ours.number(OURS)
    asked: list[tuple[str, str, list[tuple[str, str]], Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else None
        asked.append((request.method, request.url.path, sorted(request.url.params.multi_items()), body))
        return httpx.Response(200, json={"data": {}})

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        theirs = telnyx.Telnyx(api_key=KEY, http_client=client)
        theirs.calls.dial(connection_id=CONNECTION, to=HUMAN, from_=OURS, command_id="c-1", timeout_secs=25)
        theirs.calls.dial(
            connection_id=CONNECTION,
            to=HUMAN,
            from_=OURS,
            client_state="czE=",
            webhook_url=HOOK,
            answering_machine_detection="premium",
            command_id="c-2",
            link_to="v3:other",
            timeout_secs=30,
        )
        do = theirs.calls.actions
        do.answer(CONTROL, command_id="c-3", client_state="czE=")
        do.start_streaming(
            CONTROL,
            command_id="c-4",
            stream_url="wss://voice.example.test/ws/telnyx/t",
            stream_track="inbound_track",
            stream_bidirectional_mode="rtp",
            stream_bidirectional_codec="L16",
            stream_bidirectional_sampling_rate=16000,
            stream_auth_token="one-time",
        )
        do.speak(CONTROL, command_id="c-5", payload="Hi", voice="female", language="en-US")
        do.bridge(CONTROL, command_id="c-6", call_control_id_to_bridge_with="v3:other")
        do.transfer(CONTROL, command_id="c-7", to=HUMAN, from_=OURS)
        do.send_dtmf(CONTROL, command_id="c-8", digits="12w#")
        do.start_recording(CONTROL, command_id="c-9", channels="dual", format="wav")
        do.reject(CONTROL, command_id="c-10", cause="USER_BUSY")
        do.hangup(CONTROL, command_id="c-11")
        theirs.call_control_applications.retrieve(CONNECTION)
        theirs.call_control_applications.retrieve(CONNECTION)  # its change needs the name too
        theirs.call_control_applications.update(CONNECTION, application_name="front desk", webhook_event_url=HOOK)
        theirs.phone_numbers.list(filter={"phone_number": OURS[1:]})
    for mine, its in zip(desk.asked, asked, strict=True):
        assert as_theirs(mine) == its


async def test_the_key_opens_the_door() -> None:
    desk = RestDesk(said(200, data={}))
    async with rest(desk) as ours:
        await ours.application(CONNECTION)
    assert desk.asked[0].headers["Authorization"] == f"Bearer {KEY}"
    assert desk.asked[0].target == f"/v2/call_control_applications/{CONNECTION}"


async def test_a_new_leg_has_three_names() -> None:
    async with rest(RestDesk(said(200, data=LEG))) as ours:
        leg = await ours.dial(connection_id=CONNECTION, to=HUMAN, caller=OURS)
    assert leg == TelnyxLeg(CONTROL, "leg-1", "session-1")


@pytest.mark.parametrize("data", [None, [], {}, LEG | {"call_leg_id": None}, LEG | {"call_session_id": 7}])
async def test_a_leg_without_its_names_is_an_error(data: Any) -> None:
    async with rest(RestDesk(said(200, data=data))) as ours:
        with pytest.raises(CarrierError, match="does not name the call"):
            await ours.dial(connection_id=CONNECTION, to=HUMAN, caller=OURS)


async def test_a_command_that_is_sent_again_keeps_its_id_and_the_next_has_another() -> None:
    desk = RestDesk(said(503), said(429, {"x-ratelimit-reset": "2"}), said(200, data={"result": "ok"}))
    async with rest(desk) as ours:
        assert await ours.command(CONTROL, "answer") == {"result": "ok"}
        assert await ours.command(CONTROL, "hangup") == {"result": "ok"}
    ids = [json.loads(asked.body)["command_id"] for asked in desk.asked]
    assert ids[0] == ids[1] == ids[2] != ids[3]
    assert all(ids)
    assert desk.waits[1] == 2.0
    assert desk.asked[0].target == "/v2/calls/v3%3AAbC-dEf_123%2F4/actions/answer"


async def test_a_dial_that_is_sent_again_keeps_its_id() -> None:
    desk = RestDesk(said(500), said(200, data=LEG))
    async with rest(desk) as ours:
        await ours.dial(connection_id=CONNECTION, to=HUMAN, caller=OURS)
    first, second = (json.loads(asked.body)["command_id"] for asked in desk.asked)
    assert first == second != ""


async def test_a_number_is_ours_only_if_it_is_the_very_number() -> None:
    rows = [{"phone_number": OURS + "0"}, None, {"phone_number": OURS, "id": "1", "connection_id": CONNECTION}]
    async with rest(RestDesk(said(200, data=rows))) as ours:
        assert await ours.number(OURS) == rows[2]
        assert await ours.number(HUMAN) is None
    async with rest(RestDesk(said(200, data={}))) as ours:
        assert await ours.number(OURS) is None


@pytest.mark.parametrize("number", ["", "911", "4155550123", "+0155", "+1 415 555", "sip:a@b", "+14155550123,9", None])
async def test_a_number_that_is_not_e164_never_reaches_telnyx(number: Any) -> None:
    desk = RestDesk(said(200, data=LEG))
    async with rest(desk) as ours:
        with pytest.raises(ValueError, match=r"E\.164"):
            await ours.dial(connection_id=CONNECTION, to=number, caller=OURS)
        with pytest.raises(ValueError, match=r"E\.164"):
            await ours.dial(connection_id=CONNECTION, to=HUMAN, caller=number)
        with pytest.raises(ValueError, match=r"E\.164"):
            await ours.number(number)
        if number is not None:  # None means: not given
            with pytest.raises(ValueError, match=r"E\.164"):
                await ours.command(CONTROL, "transfer", to=number)
    assert desk.asked == []


@pytest.mark.parametrize("state", ["s-12", "é", "a", 7])
async def test_a_client_state_that_is_not_base64_never_reaches_telnyx(state: Any) -> None:
    desk = RestDesk(said(200, data=LEG))
    async with rest(desk) as ours:
        with pytest.raises(ValueError, match="client_state"):
            await ours.dial(connection_id=CONNECTION, to=HUMAN, caller=OURS, client_state=state)
        with pytest.raises(ValueError, match="client_state"):
            await ours.command(CONTROL, "answer", client_state=state)
    assert desk.asked == []


@pytest.mark.parametrize(("seconds", "sent"), [(0.2, 5), (30.0, 30), (10_000.0, 600)])
async def test_ringing_stays_within_what_telnyx_takes(seconds: float, sent: int) -> None:
    desk = RestDesk(said(200, data=LEG))
    async with rest(desk) as ours:
        await ours.dial(connection_id=CONNECTION, to=HUMAN, caller=OURS, ring_timeout_s=seconds)
    assert json.loads(desk.asked[0].body)["timeout_secs"] == sent


@pytest.mark.parametrize(
    ("status", "code", "title", "todo"),
    [
        (401, "10009", "Authentication failed", "TELNYX_API_KEY"),
        (401, "20002", "API Key revoked", "TELNYX_API_KEY"),
        (401, "", "", "TELNYX_API_KEY"),
        (403, "10010", "Authorization failed", "the number that is called from"),
        (403, "10010", "Unverified origination number D51", "call from a number of this Telnyx account"),
        (403, "10010", "Dialed number is not included in whitelisted countries D13", "this country"),
        (403, "10010", "No Outbound Profile assigned D38", "assign an outbound voice profile"),
        (403, "20012", "Account inactive", "out of funds"),
        (403, "10038", "Feature not permitted", "verified"),
        (404, "10005", "Resource not found", "TELNYX_CONNECTION_ID"),
        (422, "10002", "Invalid phone number", "E.164"),
        (422, "10015", "Invalid value for connection_id (Call Control App ID)", "TELNYX_CONNECTION_ID"),
        (422, "10016", "Phone number must be in +E.164 format", "E.164"),
        (422, "90018", "Call has already ended", "ended"),
        (422, "90034", "Call has not been answered yet", "wait for that first"),
        (422, "90042", "Outbound voice profile channels limit exceeded", "too many calls"),
        (422, "90046", "Media Streaming Failed.", "wss://"),
        (422, "99999", "Something new", "its message says which"),
        (429, "10011", "Too many requests", "try again in a moment"),
        (503, "10037", "Service unavailable", "try again in a moment"),
    ],
)
async def test_a_refusal_says_what_to_do(status: int, code: str, title: str, todo: str) -> None:
    problem = {"code": code, "title": title, "detail": "More of it.", "meta": {"url": "https://developers.telnyx.com"}}
    desk = RestDesk(said(status, errors=[problem, {"code": "10001"}]))
    async with rest(desk) as ours:
        with pytest.raises(CarrierError) as caught:
            await ours.dial(connection_id=CONNECTION, to=HUMAN, caller=OURS)
    error = caught.value
    assert (error.status, error.code) == (status, code)
    assert todo in error.fix
    assert title in str(error)
    assert "More of it." in str(error)
    assert KEY not in str(error)
    assert len(desk.asked) == (3 if status in (429, 503) else 1)


async def test_a_number_that_we_may_not_call_from_is_told_from_one_that_cannot_be_called() -> None:
    for field, todo in (("/from", "number of this Telnyx account"), ("/to", "check that it exists")):
        problem = {"code": "10002", "title": "Invalid phone number", "source": {"pointer": field}}
        async with rest(RestDesk(said(422, errors=[problem]))) as ours:
            with pytest.raises(CarrierError) as caught:
                await ours.dial(connection_id=CONNECTION, to=HUMAN, caller=OURS)
        assert todo in caught.value.fix


async def test_the_field_that_is_wrong_is_named() -> None:
    problem = {"code": "10032", "title": "Invalid value", "detail": "Invalid value", "source": {"pointer": "/codec"}}
    async with rest(RestDesk(said(422, errors=[problem]))) as ours:
        with pytest.raises(CarrierError, match=r"error 10032: Invalid value \(/codec\)"):
            await ours.command(CONTROL, "answer")


@pytest.mark.parametrize("errors", [None, [], "x", [7], [{"code": {}, "title": 7, "source": "x"}]])
async def test_an_error_of_another_shape_is_told_by_its_status(errors: Any) -> None:
    async with rest(RestDesk(said(422, errors=errors))) as ours:
        with pytest.raises(CarrierError, match="it answered 422 — Telnyx does not take"):
            await ours.command(CONTROL, "answer")


async def test_a_call_that_is_over_is_known_by_its_code() -> None:
    async with rest(RestDesk(said(422, errors=[{"code": "90018", "title": "Call has already ended"}]))) as ours:
        with pytest.raises(CarrierError) as caught:
            await ours.command(CONTROL, "hangup")
    assert caught.value.code in GONE


async def test_an_id_cannot_lead_elsewhere() -> None:
    desk = RestDesk(said(200, data={}))
    async with rest(desk) as ours:
        for control, action in ((".", "answer"), ("", "answer"), (CONTROL, "..")):
            with pytest.raises(ValueError, match="is no id"):
                await ours.command(control, action)
        with pytest.raises(ValueError, match="connection id"):
            await ours.application("..")
    assert desk.asked == []


async def test_no_key_in_the_client() -> None:
    async with aiohttp.ClientSession() as http:
        ours = TelnyxRest(http, f" {KEY}\n")
        assert KEY not in repr(ours)
        assert KEY not in repr(vars(ours))


# --------------------------------------------------------------------------- against a carrier that takes no nonsense


@asynccontextmanager
async def ours_at(here: Office) -> AsyncIterator[TelnyxRest]:
    async def at_once(seconds: float) -> None:
        """Nobody waits in a test."""

    async with aiohttp.ClientSession() as http:
        yield TelnyxRest(http, here.carrier.api_key, here.carrier.api_base, sleep=at_once)


async def test_a_whole_call_by_commands() -> None:
    async with office() as here, ours_at(here) as ours:
        here.carrier.people[THEIRS] = Person()
        hook = f"https://{HOST}/webhooks/telnyx/voice"
        call = await ours.dial(
            connection_id=here.carrier.connection_id,
            to=THEIRS,
            caller=OFFICE,
            client_state="czE=",
            webhook_url=hook,
            detect_machine=True,
        )
        leg = here.carrier.legs[call.call_leg_id]
        with pytest.raises(CarrierError) as early:
            await ours.command(call.call_control_id, "speak", payload="Hi", voice="female", language="en-US")
        assert early.value.code == "90034"
        here.carrier.violations.clear()
        answered = await here.event("call.answered")
        assert answered.payload["client_state"] == "czE="
        await ours.command(
            call.call_control_id,
            "streaming_start",
            stream_url=f"wss://{HOST}/ws/1",
            stream_bidirectional_mode="rtp",
            stream_bidirectional_codec="PCMU",
        )
        await ours.command(call.call_control_id, "send_dtmf", digits="12w#")
        await ours.command(call.call_control_id, "record_start", channels="dual", format="wav")
        await here.event("call.machine.premium.detection.ended", result="human_residence")
        await ours.command(call.call_control_id, "hangup")
        await leg.over.wait()
        assert leg.digits_heard.startswith("12")
        with pytest.raises(CarrierError) as late:
            await ours.command(call.call_control_id, "hangup")
        assert late.value.code in GONE
        assert here.carrier.violations == []


async def test_an_answer_that_is_lost_does_nothing_twice() -> None:
    async with office() as here, ours_at(here) as ours:
        here.carrier.people[THEIRS] = Person()
        here.carrier.refuse_next(502, "10007", "lost", times=2, done=True)
        call = await ours.dial(connection_id=here.carrier.connection_id, to=THEIRS, caller=OFFICE)
        assert list(here.carrier.legs) == [call.call_leg_id]
        await here.event("call.answered")
        here.carrier.refuse_next(429, "10011", "slow down", retry_after=1, done=True)
        await ours.command(call.call_control_id, "send_dtmf", digits="7")
        assert here.carrier.legs[call.call_leg_id].digits_heard == "7"
        assert here.carrier.violations == []


async def test_the_account_of_a_carrier() -> None:
    async with office(skew_s=600.0) as here, ours_at(here) as ours:
        row = await ours.number(OFFICE)
        assert row is not None
        assert row["connection_id"] == here.carrier.connection_id
        assert await ours.number("+14155559999") is None
        await ours.set_webhook(here.carrier.connection_id, "https://new.example.test/hook")
        application = await ours.application(here.carrier.connection_id)
        assert application["webhook_event_url"] == here.carrier.webhook_url == "https://new.example.test/hook"
        assert ours.skew_s == pytest.approx(600.0, abs=2.0)
        assert here.carrier.violations == []


async def test_what_a_carrier_refuses() -> None:
    async with office() as here, ours_at(here) as ours, aiohttp.ClientSession() as http:
        stranger = TelnyxRest(http, "KEYwrong", here.carrier.api_base)
        with pytest.raises(CarrierError, match="TELNYX_API_KEY"):
            await stranger.number(OFFICE)
        with pytest.raises(CarrierError, match="TELNYX_CONNECTION_ID"):
            await ours.application("999")
        with pytest.raises(CarrierError, match="TELNYX_CONNECTION_ID"):
            await ours.dial(connection_id="999", to=THEIRS, caller=OFFICE)
        with pytest.raises(CarrierError, match="number of this Telnyx account"):
            await ours.dial(connection_id=here.carrier.connection_id, to=THEIRS, caller="+14155550777")
