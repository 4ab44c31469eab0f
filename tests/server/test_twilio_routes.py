"""The carrier's way in: signed webhooks, one-time tokens bound to their call, and sound both ways on the media socket."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import anyio
import pytest
from twilio.request_validator import RequestValidator

from patter.audio.format import MULAW_8K, PCM_16K, AudioChunk
from patter.events import CallEnded, CallStarted, FaultOccurred
from patter.server import media_socket
from patter.wire.twilio import CarrierWriter
from patter.wire.twiml import read
from tests.support.fake_calls import FakeSession
from tests.support.serving import Rig, serving

pytestmark = pytest.mark.anyio

SID = "CA" + "0123456789abcdef" * 2
STREAM = "MZ" + "0" * 32


def form_of(dial: dict[str, str], **changes: str) -> dict[str, str]:
    form = {
        "CallSid": SID,
        "AccountSid": dial["account_sid"],
        "From": dial["from"],
        "To": dial["to"],
        "CallStatus": "ringing",
        "ApiVersion": "2010-04-01",
        "Direction": "inbound",
        "Caller": "",
        "ToCity": "São Paulo & more",
    }
    return form | changes


async def webhook(
    rig: Rig, dial: dict[str, str], form: dict[str, str], *, path: str = "", **headers: str
) -> tuple[int, str]:
    """Posts a webhook signed by Twilio's own library."""
    url = dial["webhook_url"] + path
    signature = RequestValidator(dial["auth_token"]).compute_signature(url, form)
    given = {"X-Twilio-Signature": signature, "Content-Type": "application/x-www-form-urlencoded", "Authorization": ""}
    async with rig.client.post(url, data=urlencode(form), headers=given | headers) as answer:
        return answer.status, await answer.text()


async def answered(rig: Rig, dial: dict[str, str], **changes: str) -> str:
    """The media address that the webhook answers with."""
    status, text = await webhook(rig, dial, form_of(dial, **changes))
    assert status == 200, text
    stream = read(text).stream
    assert stream is not None
    return stream.url


def media(rig: Rig, url: str, dial: dict[str, str]) -> Any:
    """Opens a media socket, signed by Twilio's own library."""
    signature = RequestValidator(dial["auth_token"]).compute_signature(url, {})
    return rig.client.ws_connect(url, headers={"Authorization": "", "X-Twilio-Signature": signature})


@asynccontextmanager
async def on_the_line(
    rig: Rig, line: str = "phone"
) -> AsyncIterator[tuple[aiohttp.ClientWebSocketResponse, CarrierWriter, FakeSession]]:
    """A call that is up: its socket, the carrier's writer and the session."""
    dial = (await rig.rehearse(line))["dial"]
    events = rig.bus.subscribe()
    async with media(rig, await answered(rig, dial), dial) as socket:
        audio = PCM_16K if line == "wideband" else MULAW_8K
        writer = CarrierWriter(STREAM, dial["account_sid"], SID, audio)
        await socket.send_str(writer.connected())
        await socket.send_str(writer.start({"caller": "me"}))
        await rig.seen(CallStarted, events, call_id=SID)
        yield socket, writer, rig.calls.sessions[SID]


async def test_a_call_comes_in_as_twilio_brings_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        events = rig.bus.subscribe()
        async with on_the_line(rig) as (socket, writer, session):
            started = await rig.seen(CallStarted, events)
            assert isinstance(started, CallStarted)
            assert (started.line, started.caller, started.custom_params) == (
                "mulaw/8000", "+15005550001", {"caller": "me"},
            )  # fmt: skip
            frames = [bytes([number]) * 160 for number in range(5)]
            for number, frame in enumerate(frames):
                await socket.send_str(writer.media(frame, number * 20))
            await socket.send_str(writer.dtmf("5"))
            _, said = await rig.post(f"/api/v1/calls/{SID}/say", {"text": "Hello"})
            assert said == {"data": {}}
            with anyio.fail_after(10):
                message = json.loads(await socket.receive_str())
            assert (message["event"], message["streamSid"]) == ("media", STREAM)
            assert base64.b64decode(message["media"]["payload"]) == b"\xff" * 160
            await socket.send_str(writer.stop())
            ended = await rig.seen(CallEnded, events, call_id=SID)
            assert isinstance(ended, CallEnded)
            assert ended.reason == "caller_hung_up"
            assert session.heard == frames
            assert session.digits == ["5"]


async def test_a_hang_up_closes_the_carriers_socket(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig, on_the_line(rig) as (socket, _, _session):
        assert (await rig.post(f"/api/v1/calls/{SID}/hangup"))[0] == 200
        with anyio.fail_after(10):
            async for _ in socket:
                pass
        assert socket.close_code == 1000


async def test_a_socket_that_breaks_is_a_lost_line(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        events = rig.bus.subscribe()
        async with on_the_line(rig) as (socket, _, _session):
            await socket.close()
            ended = await rig.seen(CallEnded, events, call_id=SID)
            assert isinstance(ended, CallEnded)
            assert ended.reason == "line_lost"


async def test_the_wideband_line_carries_pcm(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig, on_the_line(rig, "wideband") as (socket, writer, session):
        assert session.transport.abilities.hears == PCM_16K
        await socket.send_str(writer.media(b"\x01\x00" * 320, 0))
        await rig.post(f"/api/v1/calls/{SID}/say", {"text": "Hello"})
        with anyio.fail_after(10):
            message = json.loads(await socket.receive_str())
        assert len(base64.b64decode(message["media"]["payload"])) == 640
        assert session.heard == [b"\x01\x00" * 320]


async def test_noise_on_the_socket_ends_no_call(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig, on_the_line(rig) as (socket, writer, session):
        for noise in (
            "{",
            "[]",
            '{"event":"media"}',
            '{"event":"media","media":{"payload":"%%%"}}',
            '{"event":7}',
            "\0",
        ):
            await socket.send_str(noise)
        await socket.send_bytes(b"binary")
        await socket.send_str(writer.dtmf("1"))
        await socket.send_str(writer.media(b"\x7f" * 160, 20))
        await rig.post(f"/api/v1/calls/{SID}/say", {"text": "Hello"})
        with anyio.fail_after(10):
            await socket.receive_str()
        assert session.heard == [b"\x7f" * 160]


@pytest.mark.parametrize("path", ["", "?line=42&x=%20y"])
async def test_requests_signed_by_twilios_library_are_accepted(path: str, tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        dial = (await rig.rehearse("phone"))["dial"]
        status, text = await webhook(rig, dial, form_of(dial), path=path)
        assert status == 200
        assert read(text).stream is not None


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Twilio-Signature": ""},
        {"X-Twilio-Signature": "AAAAAAAAAAAAAAAAAAAAAAAAAAA="},
        {"X-Twilio-Signature": "é"},
    ],
)
async def test_an_unsigned_webhook_is_refused(headers: dict[str, str], tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        dial = (await rig.rehearse("phone"))["dial"]
        assert (await webhook(rig, dial, form_of(dial), **headers))[0] == 403
        assert (await webhook(rig, dial | {"auth_token": "f" * 32}, form_of(dial)))[0] == 403


async def test_a_changed_or_foreign_webhook_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        dial = (await rig.rehearse("phone"))["dial"]
        form = form_of(dial)
        signature = RequestValidator(dial["auth_token"]).compute_signature(dial["webhook_url"], form)
        given = {"X-Twilio-Signature": signature}
        assert (await webhook(rig, dial, form | {"To": "+15005561111"}, **given))[0] == 403
        assert (await webhook(rig, dial, form, path="?x=1", **given))[0] == 403
        assert (await webhook(rig, dial, form_of(dial, AccountSid="AC" + "9" * 32)))[0] == 403
        status = dial | {"webhook_url": dial["webhook_url"].replace("voice", "status")}
        assert (await webhook(rig, status, form, **given))[0] == 403
        assert (await webhook(rig, status, form_of(dial, CallStatus="completed")))[0] == 204


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"To": "+15005569999"}, 404),
        ({"To": ""}, 404),
        ({"CallSid": ""}, 400),
        ({"CallSid": "../../etc"}, 400),
        ({"CallSid": SID + "\n"}, 400),
    ],
)
async def test_calls_that_lead_nowhere_are_refused(changes: dict[str, str], status: int, tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        dial = (await rig.rehearse("phone"))["dial"]
        got, text = await webhook(rig, dial, form_of(dial, **changes))
        assert got == status
        assert "error" in json.loads(text)


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"a=1", "application/json", 400),
        (b"\xff=\xff", "application/x-www-form-urlencoded", 400),
        (b"&".join(b"a%d=1" % n for n in range(500)), "application/x-www-form-urlencoded", 400),
        (b"a=" + b"x" * 100_000, "application/x-www-form-urlencoded", 413),
        (b"", "application/x-www-form-urlencoded", 403),
    ],
    ids=["json", "binary", "many fields", "giant", "empty"],
)
async def test_forms_that_are_none_are_refused(body: bytes, kind: str, status: int, tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        url = rig.server.url + "/webhooks/twilio/voice"
        async with rig.client.post(url, data=body, headers={"Content-Type": kind}) as answer:
            assert answer.status == status


async def test_a_stream_token_works_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        dial = (await rig.rehearse("phone"))["dial"]
        url = await answered(rig, dial)
        async with media(rig, url, dial):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await media(rig, url, dial)
            assert refused.value.status == 403


@pytest.mark.parametrize("token", ["", "x", "..%2f..", "A" * 32])
async def test_a_guessed_stream_token_is_refused(token: str, tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await rig.client.ws_connect(f"{rig.server.url}/ws/twilio/{token}")
        assert refused.value.status in (403, 404)


async def test_a_webhook_that_is_asked_again_gets_the_same_answer(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        dial = (await rig.rehearse("phone"))["dial"]
        first, second = await answered(rig, dial), await answered(rig, dial)
        assert first == second
        async with media(rig, first, dial):
            pass
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await media(rig, second, dial)


async def test_a_replayed_webhook_of_a_call_that_was_up_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        dial = (await rig.rehearse("phone"))["dial"]
        async with on_the_line(rig):
            assert (await webhook(rig, dial, form_of(dial)))[0] == 409
            events = rig.bus.subscribe()
            await rig.post(f"/api/v1/calls/{SID}/hangup")
            await rig.seen(CallEnded, events)
        assert (await webhook(rig, dial, form_of(dial)))[0] == 409


@pytest.mark.parametrize(
    "messages",
    [
        [CarrierWriter(STREAM, "{account}", "CA" + "f" * 32).start()],
        [CarrierWriter(STREAM, "AC" + "f" * 32, SID).start()],
        [CarrierWriter(STREAM, "{account}", SID).media(b"\xff" * 160, 0)],
        [CarrierWriter(STREAM, "{account}", SID).stop()],
        ["{"],
        ["x" * 100_000],
        ['{"event":"start","start":{"streamSid":"MZ","accountSid":"AC","callSid":"' + SID + '"}}'],
        [CarrierWriter(STREAM, "{account}", SID).connected()] * 6,
    ],
    ids=["call", "account", "media first", "stop first", "json", "giant", "format", "never starts"],
)
async def test_a_stream_that_is_not_the_answered_call_is_closed(messages: list[str], tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        dial = (await rig.rehearse("phone"))["dial"]
        async with media(rig, await answered(rig, dial), dial) as socket:
            for message in messages:
                await socket.send_str(message.replace("{account}", dial["account_sid"]))
            with anyio.fail_after(10):
                await socket.receive()
            assert socket.close_code in (1008, 1009)
        assert rig.calls.sessions == {}


async def test_a_stream_that_says_nothing_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_socket, "START_SECONDS", 0.05)
    async with serving(tmp_path) as rig:
        dial = (await rig.rehearse("phone"))["dial"]
        async with media(rig, await answered(rig, dial), dial) as socket:
            with anyio.fail_after(10):
                await socket.receive()
            assert socket.close_code == 1008


async def test_an_agent_that_cannot_be_run_ends_the_call_with_the_reason(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        dial = (await rig.rehearse("phone"))["dial"]
        rig.calls.refusal = "not in this version"
        events = rig.bus.subscribe()
        async with media(rig, await answered(rig, dial), dial) as socket:
            await socket.send_str(CarrierWriter(STREAM, dial["account_sid"], SID).start())
            fault = await rig.seen(FaultOccurred, events, call_id=SID)
            assert isinstance(fault, FaultOccurred)
            assert fault.problem == "not in this version"
            ended = await rig.seen(CallEnded, events, call_id=SID)
            assert isinstance(ended, CallEnded)
            assert (ended.reason, ended.detail) == ("failed", "not in this version")
        _, calls = await rig.get("/api/v1/calls")
        assert [(row["agent"], row["reason"]) for row in calls["data"]] == [("desk", "failed")]


async def test_a_full_or_stopping_engine_tells_the_caller(tmp_path: Path) -> None:
    async with serving(tmp_path, capacity=1) as rig:
        dial = (await rig.rehearse("phone"))["dial"]
        await rig.text_call()
        status, text = await webhook(rig, dial, form_of(dial))
        assert status == 200
        assert read(text).verbs == ("Say", "Hangup")
        rig.server.shut_down("idle")
        status, text = await webhook(rig, dial, form_of(dial))
        assert "stopping" in text


async def test_the_carriers_word_that_a_call_is_over_ends_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        dial = (await rig.rehearse("phone"))["dial"]
        status = dial | {"webhook_url": dial["webhook_url"].replace("voice", "status")}
        url = await answered(rig, dial)
        assert (await webhook(rig, status, form_of(dial, CallStatus="canceled")))[0] == 204
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await media(rig, url, dial)
        async with on_the_line(rig):
            events = rig.bus.subscribe()
            assert (await webhook(rig, status, form_of(dial, CallStatus="in-progress")))[0] == 204
            assert (await webhook(rig, status, form_of(dial, CallStatus="completed")))[0] == 204
            ended = await rig.seen(CallEnded, events, call_id=SID)
            assert isinstance(ended, CallEnded)
            assert ended.reason == "caller_hung_up"


async def test_a_carrier_that_reads_nothing_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_socket, "UNREAD_LIMIT", 100_000)
    second = AudioChunk(MULAW_8K.quiet(1000), MULAW_8K)
    async with serving(tmp_path) as rig:
        events = rig.bus.subscribe()
        async with on_the_line(rig) as (socket, _, session):
            assert socket._conn is not None
            assert socket._conn.protocol is not None
            pipe = socket._conn.protocol.transport
            assert isinstance(pipe, asyncio.Transport)
            pipe.pause_reading()
            for _ in range(2_000):  # at once: more than the buffers of any system and ours together
                session.transport.play(second, 1, 0.0)
            ended = await rig.seen(CallEnded, events, call_id=SID)
            assert isinstance(ended, CallEnded)
            assert ended.reason == "line_lost"
            pipe.resume_reading()
