"""Strangers and broken carriers at Twilio's routes: nothing answers 5xx, nothing hangs, and no call comes of it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from patter.events import CallEnded, CallStarted
from patter.server import answers
from patter.server.twilio_gate import AMD, CONSULT, FORM, RECORDING, STATUS, VOICE
from patter.wire.twilio import CarrierWriter
from patter.wire.twilio_signature import HEADER, sign
from tests.support.twilio_house import ACCOUNT, OURS, PUBLIC, STREAM, House, an_order, house, sid

pytestmark = pytest.mark.anyio

PATHS = (VOICE, STATUS, RECORDING, AMD, CONSULT)
NASTY = (
    "", " ", "\0", "\n", "../../etc/passwd", "%00", "<Response><Dial>+19005550100</Dial></Response>", "';--", "é" * 300,
    "CA" + "g" * 32, sid(1), sid(1).upper(), "٣" * 34, "completed", "machine_end_beep", "https://a.test/\r\nX: y", "9" * 400,
)  # fmt: skip
FIELDS = (
    "CallSid", "From", "To", "CallStatus", "AnsweredBy", "RecordingUrl", "RecordingSid", "RecordingStatus", "SequenceNumber",
    "RecordingDuration", "SipResponseCode", "CallDuration", "Direction",
)  # fmt: skip

sensible = st.fixed_dictionaries(
    {}, optional={"CallSid": st.just(sid(1)), "To": st.just(OURS), "From": st.just("+14155550123")}
)
words = st.sampled_from(NASTY) | st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
forms = st.builds(
    lambda junk, good: junk | good, st.dictionaries(st.sampled_from(FIELDS) | words, words, max_size=8), sensible
)
queries = st.dictionaries(st.sampled_from(("call", "leg", "step", "x")), words, max_size=3)
patient = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


async def send(built: House, path: str, query: dict[str, str], form: dict[str, str]) -> int:
    """A webhook that the account has signed."""
    target = path + (f"?{urlencode(query)}" if query else "")
    form = form | {"AccountSid": ACCOUNT.sid}
    headers = {
        HEADER: sign(PUBLIC + target, form, ACCOUNT.auth_token),
        "Content-Type": "application/x-www-form-urlencoded",
    }
    async with built.client.post(
        built.address + target, data=urlencode(form), headers=headers, allow_redirects=False
    ) as answer:
        await answer.read()
        return answer.status


@patient
@given(st.lists(st.tuples(st.sampled_from(PATHS), queries, forms), max_size=12))
async def test_a_carrier_that_has_lost_its_mind_breaks_nothing(
    webhooks: list[tuple[str, dict[str, str], dict[str, str]]],
) -> None:
    async with house() as built:
        call_id = await built.routes.dial(an_order(detect_machine=True))
        for path, query, form in webhooks:
            assert await send(built, path, query, form) in (200, 204, 400, 403, 404, 409)
        assert built.story[0] == "placed"
        assert built.story.count("placed") == 1
        assert len([event for event in built.events if isinstance(event, CallEnded)]) <= 1
        assert built.routes.ringing == (1 if built.story == ["placed"] else 0)
        await built.routes.cancel(call_id)


@patient
@given(
    st.sampled_from(PATHS),
    st.binary(max_size=200) | st.builds(lambda form: urlencode(form).encode(), forms),
    st.sampled_from(["application/x-www-form-urlencoded", "application/json", "text/xml", "", "multipart/form-data"]),
    words,
)
async def test_whatever_is_not_signed_is_refused(path: str, body: bytes, kind: str, signature: str) -> None:
    async with house() as built:
        headers = {"Content-Type": kind, HEADER: quote(signature)}
        async with built.client.post(built.address + path, data=body, headers=headers) as answer:
            assert answer.status in (400, 403)
        assert built.events == []


JUNK = (
    "{", "[]", "null", "7", '"start"', '{"event":"media"}', '{"event":"media","media":{"payload":"%%%"}}', "\0", "{" * 5_000,
    '{"event":"start","start":"now"}', '{"event":"start","start":{"streamSid":[],"callSid":{},"accountSid":null}}',
    '{"event":"mark","mark":{"name":"nobody asked"}}', '{"event":"dtmf","dtmf":{"digit":"<b>"}}', '{"event":{"a":1}}',
    '{"event":"media","media":{"payload":"////","chunk":"-1"}}', '{"event":"media","media":{"payload":"////","chunk":9}}',
    '{"event":"stop","stop":[]}', '{"event":"stop","stop":{}}', '{"event":"connected"}', '{"event":"' + "x" * 3_000 + '"}',
)  # fmt: skip
messages = st.lists(st.sampled_from(JUNK) | st.text(max_size=40) | st.binary(max_size=40), max_size=15)


async def say(socket: aiohttp.ClientWebSocketResponse, texts: list[str | bytes]) -> None:
    for text in texts:
        if socket.closed:
            return
        if isinstance(text, bytes):
            await socket.send_bytes(text)
        else:
            await socket.send_str(text.encode(errors="replace").decode())


@patient
@given(messages)
async def test_a_stream_that_begins_with_noise_never_becomes_a_call(texts: list[Any]) -> None:
    async with house() as built:
        document = await built.incoming(sid(1))
        assert document.stream is not None
        async with built.socket(document.stream.url) as socket:
            with suppress(ConnectionError):  # the server may have hung up on us
                await say(socket, texts)
        assert built.calls.sessions == {}


@patient
@given(messages)
async def test_noise_in_a_call_ends_it_once_at_most(texts: list[Any]) -> None:
    async with house() as built:
        async with built.talking(await built.incoming(sid(1)), sid(1)) as (socket, writer, _):
            with suppress(ConnectionError):
                await say(socket, [*texts, writer.start(), writer.stop(), writer.media(b"\xff" * 160, 0)])
            await built.seen(CallEnded)
        assert built.story == ["started", "caller_hung_up"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
async def test_other_methods_are_none(method: str) -> None:
    async with house() as built:
        for path in PATHS:
            async with built.client.request(method, built.address + path) as answer:
                assert answer.status == 405


@pytest.mark.parametrize(
    "target",
    [
        "/webhooks/twilio/voice/../voice", "/webhooks/twilio/voice%00", "/webhooks/twilio/%2e%2e/voice",
        "//webhooks/twilio/voice", "/ws/twilio/%2e%2e%2f",
        "/ws/twilio/" + "x" * 5_000, "/webhooks/twilio/voice?" + "a=1&" * 1_500, "/?%ff=%fe",
        "/webhooks/twilio/voice?call=%ff%fe%00",
    ],
)  # fmt: skip
async def test_odd_addresses_lead_nowhere(target: str) -> None:
    async with house() as built:
        host, _, port = built.address.removeprefix("http://").partition(":")
        for method in ("GET", "POST"):
            async with await anyio.connect_tcp(host, int(port)) as stream:
                head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
                await stream.send(head.encode())
                with anyio.fail_after(10):
                    status = (await stream.receive()).split(b" ", 2)[1]
            assert status in (b"400", b"403", b"404", b"405"), (method, target)


@pytest.mark.parametrize("sent", [b"", b"CallSid=CA"])
async def test_a_body_that_trickles_is_given_up(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "BODY_SECONDS", 0.1)
    async with house() as built:
        host, _, port = built.address.removeprefix("http://").partition(":")
        async with await anyio.connect_tcp(host, int(port)) as stream:
            head = f"POST {VOICE} HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\nContent-Length: 900\r\n\r\n"
            await stream.send(head.encode() + sent)
            with anyio.fail_after(10):
                assert (await stream.receive()).startswith(b"HTTP/1.1 400 ")


async def test_a_giant_or_endless_body_is_not_read() -> None:
    async with house() as built:
        host, _, port = built.address.removeprefix("http://").partition(":")
        for length in ("Content-Length: 99999999", "Transfer-Encoding: chunked"):
            async with await anyio.connect_tcp(host, int(port)) as stream:
                head = f"POST {VOICE} HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\n{length}\r\n\r\n"
                chunk = b"1000\r\n" + b"x" * 4096 + b"\r\n" if "chunked" in length else b"x" * 4096
                with suppress(anyio.BrokenResourceError):  # it may be cut off in the middle
                    await stream.send(head.encode())
                    for _ in range(1_000):
                        await stream.send(chunk)
                with anyio.fail_after(10), suppress(anyio.BrokenResourceError):
                    assert (await stream.receive()).startswith(b"HTTP/1.1 413 ")


async def test_a_media_stream_is_opened_by_websockets_only_and_keeps_its_token() -> None:
    async with house() as built:
        document = await built.incoming(sid(1))
        assert document.stream is not None
        path = document.stream.url.removeprefix("wss://voice.example.test")
        async with built.client.get(built.address + path) as answer:
            assert answer.status == 400
        async with built.talking(document, sid(1)):
            pass


@pytest.mark.parametrize("signed", ["", "wss://voice.example.test", "wss://evil.example.test/ws/twilio/x"])
async def test_a_media_socket_that_the_account_has_not_signed_is_refused(signed: str) -> None:
    async with house() as built:
        document = await built.incoming(sid(1))
        assert document.stream is not None
        path = document.stream.url.removeprefix("wss://voice.example.test")
        headers = {HEADER: sign(signed, {}, ACCOUNT.auth_token)} if signed else {}
        for _ in range(2):  # and the token is gone
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await built.client.ws_connect(built.address + path, headers=headers)
            assert refused.value.status == 403


@pytest.mark.parametrize("spelled", ["wss://{}{}", "https://{}{}", "wss://{}:443{}", "https://{}:443{}", "wss://{}{}/"])
async def test_the_socket_may_be_signed_in_every_spelling_of_a_carrier(spelled: str) -> None:
    async with house() as built:
        document = await built.incoming(sid(1))
        assert document.stream is not None
        path = document.stream.url.removeprefix("wss://voice.example.test")
        url = spelled.format("voice.example.test", path)
        headers = {HEADER: sign(url, {}, ACCOUNT.auth_token)}
        async with built.client.ws_connect(built.address + path, headers=headers) as socket:
            await socket.send_str(CarrierWriter(STREAM, ACCOUNT.sid, sid(1)).start())
            await built.seen(CallStarted)


async def test_a_caller_is_one_short_line_whatever_the_carrier_says() -> None:
    async with house() as built:
        document = await built.asked(PUBLIC + VOICE, sid(1), From="sip:" + "x" * 400 + "\n\0@evil\u202e")
        async with built.talking(document, sid(1)) as (_, _, session):
            assert session.call.caller == "sip:" + "x" * 251
    async with house() as built:
        document = await built.asked(PUBLIC + VOICE, sid(1), From="anonymous\r\n\0\u202e")
        async with built.talking(document, sid(1)) as (_, _, session):
            assert session.call.caller == "anonymous"


async def test_no_refusal_and_no_log_line_holds_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    async with house() as built:
        document = await built.incoming(sid(1))
        assert document.stream is not None
        token = document.stream.url.rpartition("/")[2]
        status, text = await built.post(PUBLIC + VOICE, built.form(sid(2)), token="wrong")
        assert status == 403
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await built.client.ws_connect(f"{built.address}/ws/twilio/{token}")
    ours = [str(record.__dict__) for record in caplog.records if record.name.startswith("patter.")]
    assert len(ours) >= 2
    for secret in (ACCOUNT.auth_token, token):
        assert secret not in text
        assert not [line for line in ours if secret in line]
    assert ACCOUNT.auth_token not in repr(ACCOUNT)
