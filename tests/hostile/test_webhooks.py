"""Webhooks by strangers, and signed ones whose caller means harm, at both carriers' front doors."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import anyio
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from patter.events import CallEnded, CallStarted
from patter.server.telnyx_gate import WEBHOOK_LIMIT
from patter.wire import twiml
from tests.hostile.doors import BOTH, FORM, OURS, Place, TelnyxPlace, TwilioPlace, hostile, place, short
from tests.hostile.words import NASTY, is_plain
from tests.support import telnyx_house, twilio_house

pytestmark = pytest.mark.anyio
both = pytest.mark.parametrize("name", BOTH)

words = st.sampled_from(NASTY) | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
KINDS = (
    "call.initiated", "call.answered", "call.bridged", "call.hangup", "call.speak.ended", "call.recording.saved",
    "call.machine.detection.ended", "call.machine.greeting.ended", "streaming.started", "streaming.failed",
    "call.dtmf.received", "", "call.initiated\n", "nobody.knows",
)  # fmt: skip
FIELDS = (
    "call_control_id", "call_leg_id", "call_session_id", "client_state", "from", "to", "direction", "state", "result",
    "hangup_cause", "sip_hangup_cause", "failure_reason", "status", "recording_urls", "recording_id", "custom_headers",
    "caller_id_name", "recording_started_at", "recording_ended_at",
)  # fmt: skip
payloads = st.dictionaries(st.sampled_from(FIELDS), values, max_size=6)

# --------------------------------------------------------------------------- nobody's signature

headers = st.dictionaries(
    st.sampled_from(
        [
            "X-Twilio-Signature", "telnyx-signature-ed25519", "telnyx-timestamp", "Host", "Forwarded", "X-Forwarded-For",
            "X-Forwarded-Host", "X-Forwarded-Proto", "X-Original-URL", "X-Rewrite-URL", "X-HTTP-Method-Override", "Cookie",
            "Authorization", "Content-Type", "Accept", "Range", "Origin", "Referer", "X-Real-IP", "Upgrade",
        ]
    ),
    st.sampled_from(
        [
            "", "0", "voice.example.test", "evil.test", "localhost", "for=127.0.0.1;host=evil.test", "websocket", "null",
            "application/json", FORM, "multipart/form-data; boundary=", "9" * 60, "=" * 88,
            "Bearer x", "1700000000",
        ]
    ),
    max_size=6,
)  # fmt: skip
bodies = st.binary(max_size=300) | st.builds(lambda value: json.dumps(value).encode(), values) | st.sampled_from(
    [b"[" * 30_000, b'{"data":' * 9_000, b'{"data":{}}', b"\xff\xfe", b"9" * 5_000, b"AccountSid=" + b"%" * 500, b"&" * 900]
)  # fmt: skip


@both
@hostile
@given(told=st.lists(st.tuples(headers, bodies), max_size=6))
async def test_nothing_unsigned_is_believed(name: str, told: list[tuple[dict[str, str], bytes]]) -> None:
    async with place(name) as here:
        for given_headers, body in told:
            kind = {"Content-Type": FORM if name == "twilio" else "application/json"}
            async with here.house.client.post(
                here.address + here.hook, data=body, headers=kind | given_headers, skip_auto_headers=["Host"]
            ) as answer:
                assert answer.status in (400, 403, 413), await answer.text()
        assert here.house.events == []
        await here.serves(1)


@both
@pytest.mark.parametrize(
    "path", ["/webhooks/twilio/status", "/webhooks/telnyx/voice/", "/ws", "/api/v1/calls", "/.env"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "TRACE", "X" * 60])
async def test_there_is_nothing_else_here(name: str, path: str, method: str) -> None:
    async with place(name) as here:
        for target in (path, path + "/../../..", path + "?token=x", path + "%2f..%2f", "//" + path, path + ";a=b"):
            async with here.house.client.request(method, here.address + target) as answer:
                assert 400 <= answer.status < 500


@both
async def test_the_forwarded_headers_of_a_stranger_change_no_signature(name: str) -> None:
    lies = {
        "Host": "evil.test",
        "X-Forwarded-Host": "evil.test",
        "X-Forwarded-Proto": "http",
        "Forwarded": "host=evil.test",
    }
    async with place(name) as here:
        if isinstance(here, TelnyxPlace):
            body = here.house.event("call.initiated", telnyx_house.leg(1), direction="incoming")
            assert await here.house.post(body, **{key.replace("-", "_"): value for key, value in lies.items()}) == 200
        elif isinstance(here, TwilioPlace):
            form = here.house.form(twilio_house.sid(1))
            for host, expected in (("evil.test", 403), ("voice.example.test", 200)):
                status, _ = await here.post(here.hook, form, host=host, **lies)
                assert status == expected
            await here.give_up(1)
        await here.serves(2)


# --------------------------------------------------------------------------- signed, but the caller means harm


@both
@hostile
@given(caller=words, name_of_caller=words, sip=words)
@example(caller="\x1b]0;owned\x07\r\nGET / HTTP/1.1", name_of_caller="</Say><Dial>+19005550100</Dial>", sip="\u202e")
async def test_what_a_caller_says_about_themselves_goes_nowhere_as_it_is(
    name: str, caller: str, name_of_caller: str, sip: str
) -> None:
    said: dict[str, Any] = {"From": caller, "CallerName": name_of_caller, "SipHeader_X-Name": sip, "StirVerstat": sip}
    if name == "telnyx":
        said = {"from": caller, "caller_id_name": name_of_caller, "custom_headers": [{"name": sip, "value": sip}]}
    async with place(name) as here:
        async with here.talking(1, **said):
            [started] = [event for event in here.house.events if isinstance(event, CallStarted)]
            assert is_plain(started.caller)
            assert len(started.caller) <= 255
            assert started.callee == OURS
        for asked in here.house.api.asked:
            assert is_plain(asked.target)
        await here.serves(2)


@both
@hostile
@given(told=st.lists(st.tuples(st.sampled_from(KINDS), payloads, st.integers(1, 3)), max_size=8))
async def test_a_signed_webhook_may_hold_anything(name: str, told: list[tuple[str, dict[str, Any], int]]) -> None:
    async with place(name) as here:
        for kind, payload, number in told:
            if isinstance(here, TelnyxPlace):
                body = here.house.event(kind, telnyx_house.leg(number), **payload)
                assert await here.house.post(body) in (200, 400)
            else:
                form = {key: str(value) for key, value in payload.items()}
                status = await here.signed(number, **form)
                assert status == 200
        for event in here.house.events:
            assert isinstance(event, CallEnded | CallStarted) is False or event.call_id
        await here.serves(9)
        for number in (1, 2, 3):
            await here.give_up(number)


@pytest.mark.parametrize(
    "body",
    [b"null", b"[]", b"7", b'"x"', b"{}", b'{"data":[]}', b'{"data":{}}', b'{"data":{"event_type":[],"id":{}}}', b"{" * 20_000,
     b'{"data":{"event_type":"call.initiated","id":"a","payload":[]}}', b"\xff\xfe\x00", b"[" * 60_000, b"1" * 6_000,
     b'{"data":{"event_type":"call.initiated","id":"\\ud800","payload":{"call_leg_id":"\\udfff","call_control_id":"\\ud800"}}}',
     b'{"data":{"event_type":"call.initiated","id":"b","payload":{"call_leg_id":"../../x","call_control_id":"../hangup"}}}'],
)  # fmt: skip
async def test_a_signed_body_of_any_shape_is_answered(body: bytes) -> None:
    async with place("telnyx") as here:
        assert isinstance(here, TelnyxPlace)
        assert await here.house.post(body) in (200, 400)
        assert await here.house.post(body + b" " * WEBHOOK_LIMIT) in (400, 413)
        await here.serves(1)


@both
@pytest.mark.parametrize(
    "call_id", ["../../etc/passwd", "..", ".", "", "a/b", "CA" + "0" * 31, "\0", "x" * 4_000, "a\r\nb: c"], ids=short
)
async def test_an_id_that_could_name_a_file_elsewhere_is_no_call(name: str, call_id: str) -> None:
    async with place(name) as here:
        if isinstance(here, TelnyxPlace):
            for key in ("call_leg_id", "call_control_id"):
                body = here.house.event("call.initiated", telnyx_house.leg(1), **{key: call_id}, direction="incoming")
                assert await here.house.post(body) == 200
                await anyio.sleep(0.01)
                body = here.house.event("call.hangup", telnyx_house.leg(1), **{key: call_id})
                assert await here.house.post(body) == 200
            assert all(re.fullmatch(r"/v2/calls/[^/]+/actions/[a-z_]+", asked.target) for asked in here.house.api.asked)
        else:
            assert await here.signed(1, CallSid=call_id) == 400
        assert here.house.calls.sessions == {}
        await here.serves(2)


@both
@pytest.mark.parametrize("number", ["+15550000000", "", "<b>", "sip:a@b\r\n", "+1555" + "0" * 4_000], ids=short)
async def test_a_call_for_a_number_that_is_not_ours_is_turned_away(name: str, number: str) -> None:
    async with place(name) as here:
        if isinstance(here, TwilioPlace):
            status, text = await here.post(here.hook, here.house.form(twilio_house.sid(1), To=number))
            assert status == 200
            document = twiml.read(text)
            assert document.verbs == ("Say", "Hangup")
            assert number not in text or not number
        elif isinstance(here, TelnyxPlace):
            await here.house.incoming(telnyx_house.leg(1), to=number)
            await here.house.done("reject 1")
        await here.serves(2)


# --------------------------------------------------------------------------- again, and again


@both
async def test_a_replay_opens_no_second_call(name: str) -> None:
    async with place(name) as here:
        if isinstance(here, TelnyxPlace):
            body = here.house.event("call.initiated", telnyx_house.leg(1), direction="incoming", state="parked")
            for _ in range(5):
                assert await here.house.post(body) == 200
            await here.house.done("answer 1")
            assert await here.house.post(body, age_s=301) == 403
            assert await here.house.post(body, age_s=-400) == 403
        else:
            async with here.talking(1):
                assert await here.signed(1) == 409
            await here.ended(twilio_house.sid(1))
            assert await here.signed(1) == 409
        await here.serves(2)
        assert len([event for event in here.house.events if isinstance(event, CallStarted)]) == (
            1 if name == "telnyx" else 2
        )


@both
async def test_a_flood_of_calls_is_turned_away_at_the_limit_and_forgotten(name: str) -> None:
    async with place(name) as here:
        here.house.desk._capacity = 1
        async with here.talking(1):
            for number in range(2, 40):
                assert await here.signed(number) == 200
            await anyio.sleep(0.05)
            if isinstance(here, TelnyxPlace):
                assert {did.split()[0] for did in here.house.did[2:]} == {"reject"}
        await here.ended(twilio_house.sid(1) if name == "twilio" else telnyx_house.leg(1))
        here.house.desk._capacity = 100
        await here.serves(50)


# --------------------------------------------------------------------------- tokens of media sockets


@both
async def test_a_stream_token_lets_one_socket_in_once_and_not_for_long(name: str) -> None:
    async with place(name) as here:
        ring = await here.ring(1)
        other = await here.ring(2)
        for path in (
            ring.path + "x",
            ring.path[:-1],
            ring.path + "/",
            ring.path.upper(),
            ring.path.rpartition("/")[0] + "/" + quote("../x", safe=""),
        ):
            assert await refused(here, path, ring.headers) in (403, 404)
        async with here.up(ring):
            assert await refused(here, ring.path, ring.headers) == 403
        assert await refused(here, ring.path, ring.headers) == 403
        arrivals = here.house.routes._arrivals if name == "twilio" else here.house.routes._calls.arrivals
        arrivals._waiting = {token: replace(one, until=0.0) for token, one in arrivals._waiting.items()}
        assert await refused(here, other.path, other.headers) == 403
        await here.give_up(2)
        await here.serves(3)


@both
async def test_a_stream_token_is_for_its_own_call(name: str) -> None:
    async with place(name) as here:
        ring, other = await here.ring(1), await here.ring(2)
        async with here.socket(ring) as socket:
            await socket.send_str(ring.opening)
            await socket.send_str(other.writer.start())
            assert (await socket.receive(5)).data == 1008
        assert ring.call_id not in here.house.calls.sessions
        assert other.call_id not in here.house.calls.sessions
        async with here.up(other):
            pass
        await here.give_up(1)
        await here.serves(3)


@both
async def test_the_proof_of_another_call_opens_no_socket(name: str) -> None:
    async with place(name) as here:
        ring, other = await here.ring(1), await here.ring(2)
        assert await refused(here, ring.path, other.headers) == 403
        await here.give_up(1)
        async with here.up(other):
            pass


@both
@pytest.mark.parametrize("query", ["a=b", "token=x", "%00", "a=" + "b" * 3_000, "?" * 50], ids=short)
async def test_a_query_on_a_socket_is_no_way_in(name: str, query: str) -> None:
    async with place(name) as here:
        ring = await here.ring(1)
        assert await refused(here, f"{ring.path}?{query}", ring.headers) in (403, 101)
        assert await refused(here, f"{ring.path.rpartition('/')[0]}/x?{query}", ring.headers) == 403
        await here.give_up(1)
        await here.serves(2)


async def refused(here: Place, path: str, proof: dict[str, str]) -> int:
    """The status that opening a socket is answered with."""
    upgrade = {
        "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }  # fmt: skip
    lines = "".join(f"{key}: {value}\r\n" for key, value in (upgrade | proof).items())
    answer = await here.answer_to(f"GET {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode(), eof=True)
    return int(answer.split(b" ", 2)[1])
