"""Telnyx' way in: signed webhooks in any order and number, one-time tokens bound to their call, sound both ways."""

from __future__ import annotations

import base64
import json
from typing import Any

import aiohttp
import anyio
import pytest
from nacl.signing import SigningKey

from patter.audio.format import ALAW_8K, MULAW_8K, PCM_16K, AudioFormat
from patter.builders import Carrier
from patter.bus import Bus
from patter.clock import Clock
from patter.events import CallEnded, CallStarted, CarrierRecordingSaved, FaultOccurred
from patter.providers.telnyx_rest import TelnyxRest
from patter.server import telnyx_calls
from patter.server.desk import Desk
from patter.server.telnyx_gate import REPLAY_S, Replays
from patter.server.telnyx_life import Stage
from patter.server.telnyx_routes import TelnyxRoutes
from patter.wire.telnyx import AUTH_TOKEN, CarrierWriter
from tests.support.telnyx_house import KEY, OURS, PUBLIC, PUBLIC_KEY, THEIRS, House, handle, house, leg, trouble

pytestmark = pytest.mark.anyio

CALL = leg(1)


async def test_a_call_comes_in_as_telnyx_brings_it() -> None:
    async with house() as here:
        async with here.called(CALL) as (socket, writer, session):
            order = here.commands("streaming_start")[0]
            assert here.did == ["answer 1", "streaming_start 1"]
            assert order["stream_url"].startswith("wss://voice.example.test/ws/telnyx/")
            assert (order["stream_codec"], order["stream_bidirectional_codec"]) == ("PCMU", "PCMU")
            assert (order["stream_bidirectional_mode"], order["stream_bidirectional_sampling_rate"]) == ("rtp", 8000)
            assert order["stream_auth_token"] not in order["stream_url"]
            assert (session.call.caller, session.call.callee, session.call.direction) == (THEIRS, OURS, "inbound")
            assert (session.call.telephony, session.call.custom_params) == ("telnyx", {"plan": "gold"})
            frames = [bytes([number]) * 160 for number in range(5)]
            for number, frame in enumerate(frames):
                await socket.send_str(writer.media(frame, number * 20))
            await socket.send_str(writer.dtmf("5"))
            await session.say("Hello")
            message = json.loads(await socket.receive_str(timeout=10))
            assert message == {"event": "media", "media": {"payload": base64.b64encode(b"\xff" * 160).decode()}}
            await socket.send_str(writer.stop())
            ended = await here.seen(CallEnded)
            assert (session.heard, session.digits) == (frames, ["5"])
            await here.told("call.hangup", CALL, hangup_cause="normal_clearing")
        assert ended.reason == "caller_hung_up"
        assert here.did == ["answer 1", "streaming_start 1"]


@pytest.mark.parametrize(
    ("codec", "line", "plays", "silence"),
    [
        ("PCMU", ALAW_8K, MULAW_8K, b"\xff" * 160),
        ("PCMA", ALAW_8K, ALAW_8K, b"\xd5" * 160),
        ("L16", PCM_16K, PCM_16K, bytes(640)),
        ("L16", MULAW_8K, PCM_16K, bytes(640)),
    ],
)
async def test_each_side_has_its_own_codec(codec: str, line: AudioFormat, plays: AudioFormat, silence: bytes) -> None:
    async with house(codec=codec) as here, here.called(CALL, line) as (socket, _, session):
        order = here.commands("streaming_start")[0]
        assert order["stream_bidirectional_codec"] == order["stream_codec"] == codec
        assert order["stream_bidirectional_sampling_rate"] == plays.rate
        assert session.transport.abilities.hears == line
        await session.say("Hello")
        message = json.loads(await socket.receive_str(timeout=10))
        assert base64.b64decode(message["media"]["payload"]) == silence


async def test_webhooks_that_come_twice_and_at_once_answer_and_stream_once() -> None:
    async with house() as here:
        first = here.event("call.initiated", CALL, direction="incoming", state="parked")
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(here.post, first)  # the same event, delivered again
                tasks.start_soon(here.incoming, CALL)  # the same fact in another event
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(here.told, "call.answered", CALL)
                tasks.start_soon(here.incoming, CALL)
        async with here.talking(await here.stream(), CALL) as (socket, writer, _):
            await here.told("call.answered", CALL)
            await socket.send_str(writer.stop())
            await here.seen(CallEnded)
        for _ in range(2):
            await here.told("call.hangup", CALL, hangup_cause="normal_clearing")
        await here.incoming(CALL)
        await here.told("call.answered", CALL)
        assert here.did == ["answer 1", "streaming_start 1"]
        assert here.story == ["started", "caller_hung_up"]


async def test_a_call_that_was_hung_up_is_not_answered_when_its_first_webhook_comes_late() -> None:
    async with house() as here:
        await here.told("call.hangup", CALL, hangup_cause="originator_cancel")
        await here.incoming(CALL)
        await here.incoming(leg(2))
        await here.done("answer 2")
        await here.told("call.hangup", leg(2), hangup_cause="originator_cancel")
        await here.told("call.answered", leg(2))
        assert here.did == ["answer 2"]
        assert here.story == ["started", "caller_hung_up"]


async def test_a_caller_who_leaves_before_the_stream_opens_is_in_history_once() -> None:
    async with house() as here:
        await here.incoming(CALL)
        await here.told("call.answered", CALL)
        order = await here.stream()
        for _ in range(2):
            await here.told("call.hangup", CALL, hangup_cause="normal_clearing")
        ended = await here.seen(CallEnded, call_id=CALL)
        assert (ended.reason, ended.detail) == ("caller_hung_up", "The call ended before its media stream was open.")
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await here.socket(order["stream_url"])
        assert here.story == ["started", "caller_hung_up"]
        assert here.calls.sessions == {}


async def test_a_carriers_hang_up_ends_the_call_even_if_the_socket_stays() -> None:
    async with house() as here, here.called(CALL):
        await here.told("call.hangup", CALL, hangup_cause="time_limit")
        ended = await here.seen(CallEnded)
        assert (ended.reason, "time_limit" in ended.detail) == ("caller_hung_up", True)


async def test_an_agents_hang_up_is_told_to_the_carrier() -> None:
    async with house() as here, here.called(CALL) as (socket, _, session):
        await session.transport.hang_up()
        await here.done("answer 1", "streaming_start 1", "hangup 1")
        while (await socket.receive(timeout=10)).type is aiohttp.WSMsgType.TEXT:
            pass
        assert socket.close_code == 1000


async def test_a_call_whose_line_was_lost_is_hung_up_at_the_carrier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(telnyx_calls._LIMITS, Stage.CLOSING, 0.0)
    async with house() as here:
        async with here.called(CALL) as (socket, _, _session):
            await socket.close()
            assert (await here.seen(CallEnded)).reason == "line_lost"
        await here.done("answer 1", "streaming_start 1", "hangup 1")


# ------------------------------------------------------------------------------- who is let in


@pytest.mark.parametrize(
    "how",
    [
        {"key": SigningKey(bytes(32))},
        {"age_s": 301.0},
        {"age_s": -301.0},
        {"telnyx_signature_ed25519": ""},
        {"telnyx_signature_ed25519": "é"},
        {"telnyx_signature_ed25519": base64.b64encode(bytes(64)).decode()},
        {"telnyx_timestamp": ""},
        {"telnyx_timestamp": "1e9"},
        {"telnyx_timestamp": "9" * 400},
    ],
)
async def test_a_webhook_without_proof_is_refused(how: dict[str, Any]) -> None:
    async with house() as here:
        assert await here.post(here.event("call.initiated", CALL, direction="incoming"), **how) == 403
        await here.incoming(leg(2))
        await here.done("answer 2")


async def test_signatures_of_five_minutes_are_still_good() -> None:
    async with house() as here:
        for age_s in (295.0, -295.0):
            assert await here.post(here.event("call.bridged", CALL), age_s=age_s) == 200


async def test_a_replay_is_answered_and_ignored() -> None:
    async with house() as here:
        body = here.event("call.hangup", CALL, hangup_cause="normal_clearing")
        async with here.called(CALL):
            assert [await here.post(body), await here.post(body)] == [200, 200]
            await here.seen(CallEnded)
        assert here.story == ["started", "caller_hung_up"]


def test_an_event_may_come_again_when_its_signature_would_be_refused_anyway() -> None:
    now = [1_000.0]
    replays = Replays(Clock(ticks=lambda: now[0], wall=lambda: now[0]))
    assert [replays.fresh("a"), replays.fresh("a"), replays.fresh("b")] == [True, False, True]
    now[0] += REPLAY_S - 1
    assert replays.fresh("a") is False
    now[0] += 1
    assert [replays.fresh("a"), replays.fresh("a"), replays.fresh("b")] == [True, False, True]


@pytest.mark.parametrize("key", ["", "  ", "abc", "QUJD", PUBLIC_KEY[:-4]])
async def test_routes_need_the_accounts_public_key(key: str) -> None:
    bus = Bus(Clock())
    async with aiohttp.ClientSession() as http:
        carrier = Carrier("telnyx", "1", "KEY", public_key=key)
        desk = Desk(bus, lambda *_, **__: pytest.fail("no call"))
        with pytest.raises(ValueError, match="Keys & Credentials"):
            TelnyxRoutes(desk, House(1), Clock(), carrier, PUBLIC, bus=bus, rest=TelnyxRest(http, "KEY"))


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"null", 400),
        (b"\xff\xfe", 400),
        (b"[" * 60_000, 400),
        (b'{"data":[]}', 400),
        (b'{"data":{"event_type":7,"id":"x"}}', 400),
        (b'{"data":{"event_type":"call.initiated"}}', 400),
        (b'{"data":{"event_type":"call.initiated","id":"x","payload":[]}}', 200),
        (b'{"data":{"event_type":"call.conversation.ended","id":"y","payload":{"call_control_id":"v3:x"}}}', 200),
        (b" " * 65_537, 413),
    ],
)
async def test_what_is_no_event_is_refused_or_ignored(body: bytes, status: int) -> None:
    async with house() as here:
        assert await here.post(body) == status
        assert here.did == []


HOSTILE: list[Any] = [
    None, True, 7, -1e308, [], {}, [[]], {"a": 1}, "", "\0", "../../etc/passwd", "<script>alert(1)</script>", "é" * 9_000,
    "\ud800", "a\r\nb", "%2e%2e%2f", "AAAA", "=" * 30, "v3:" + "x" * 600,
]  # fmt: skip


@pytest.mark.parametrize(
    "field",
    ["call_control_id", "call_leg_id", "client_state", "from", "to", "direction", "hangup_cause", "result", "status"],
)
@pytest.mark.parametrize("kind", ["call.initiated", "call.answered", "call.hangup", "call.speak.ended"])
async def test_nothing_in_a_field_is_answered_with_a_failure(kind: str, field: str) -> None:
    async with house() as here:
        for value in HOSTILE:
            payload = {"direction": "incoming"} | {field: value}
            assert await here.post(here.event(kind, CALL, **payload)) == 200
        for event in here.events:
            json.dumps(str(event)).encode()


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "x" * 65, "a b", "", "a\n", "<b>"])
async def test_a_call_whose_id_could_not_name_a_file_is_rejected(name: str) -> None:
    async with house() as here:
        await here.incoming(CALL, call_leg_id=name)
        await here.incoming(CALL, call_leg_id=name)
        await here.done("reject 1")
        assert here.commands("reject")[0]["cause"] == "CALL_REJECTED"
        await here.told("call.answered", CALL, call_leg_id=name)
        assert here.did == ["reject 1"]


async def test_calls_that_nobody_answers_are_rejected_once() -> None:
    async with house() as here:
        for _ in range(2):
            await here.incoming(CALL, to="+15559999999")
        await here.done("reject 1")
        here.file = None
        await here.incoming(leg(2))
        await here.done("reject 1", "reject 2")
        assert [order["cause"] for order in here.commands("reject")] == ["CALL_REJECTED"] * 2
        assert here.story == []


async def test_a_busy_desk_lets_the_caller_hear_the_busy_tone() -> None:
    async with house(capacity=1) as here, here.called(CALL):
        await here.incoming(leg(2))
        await here.until(lambda: here.commands("reject"))
        assert here.commands("reject")[0]["cause"] == "USER_BUSY"


# ------------------------------------------------------------------------------- the media socket


async def test_a_stream_token_is_good_once_and_only_with_its_secret() -> None:
    async with house() as here:
        await here.incoming(CALL)
        await here.told("call.answered", CALL)
        order = await here.stream()
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await here.socket(PUBLIC + "/ws/telnyx/guessed")
        assert refused.value.status == 403
        async with here.talking(order, CALL):
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await here.socket(order["stream_url"], **{AUTH_TOKEN: order["stream_auth_token"]})
        await here.incoming(leg(2))
        await here.told("call.answered", leg(2))
        other = await here.stream(2)
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await here.socket(other["stream_url"], **{AUTH_TOKEN: order["stream_auth_token"]})


@pytest.mark.parametrize("wrong", ["call", "secret", "codec", "order", "noise"])
async def test_a_stream_that_is_not_the_calls_is_closed_and_the_call_fails_at_once(wrong: str) -> None:
    async with house() as here:
        await here.incoming(CALL)
        await here.told("call.answered", CALL)
        order = await here.stream()
        async with here.socket(order["stream_url"]) as socket:
            writer = CarrierWriter("stream-1", handle(leg(2) if wrong == "call" else CALL))
            if wrong == "secret":
                await socket.send_str(writer.connected("another"))
            elif wrong == "codec":
                await socket.send_str(writer.start().replace("PCMU", "G722"))
            elif wrong == "order":
                await socket.send_str(writer.media(b"\xff" * 160, 0))
            elif wrong == "noise":
                await socket.send_bytes(b"\0")
            else:
                await socket.send_str(writer.start())
            message = await socket.receive(timeout=10)
            assert (message.type, socket.close_code) == (aiohttp.WSMsgType.CLOSE, 1008)
        await here.done("answer 1", "streaming_start 1", "hangup 1")
        assert here.story == ["started", "fault", "failed"]


async def test_a_call_whose_agent_cannot_be_put_together_is_told_and_hung_up() -> None:
    async with house() as here:
        here.calls.refusal = "The agent has no voice."
        await here.incoming(CALL)
        await here.told("call.answered", CALL)
        order = await here.stream()
        async with here.socket(order["stream_url"]) as socket:
            await socket.send_str(CarrierWriter("stream-1", handle(CALL)).start())
            while (await socket.receive(timeout=10)).type is aiohttp.WSMsgType.TEXT:
                pass
        await here.done("answer 1", "streaming_start 1", "hangup 1")
        assert here.story == ["started", "fault", "failed"]


async def test_noise_on_the_socket_ends_no_call() -> None:
    async with house() as here, here.called(CALL) as (socket, writer, session):
        for noise in ("{", "[]", '{"event":"media"}', '{"event":"media","media":{"payload":"%%%"}}', "\0", "{}"):
            await socket.send_str(noise)
        await socket.send_bytes(b"binary")
        await socket.send_str(writer.dtmf("1"))
        await here.until(lambda: session.digits)


# ------------------------------------------------------------------------------- when the carrier does not do it


async def test_a_stream_that_the_carrier_cannot_open_fails_the_call() -> None:
    async with house() as here:
        await here.incoming(CALL)
        await here.told("call.answered", CALL)
        await here.stream()
        for _ in range(2):
            await here.told("streaming.failed", CALL, failure_reason="connection refused")
        await here.done("answer 1", "streaming_start 1", "hangup 1")
        fault = await here.seen(FaultOccurred)
        assert "connection refused" in fault.problem
        assert here.story == ["started", "fault", "failed"]


@pytest.mark.parametrize("action", ["answer", "streaming_start"])
@pytest.mark.parametrize(
    ("code", "story"),
    [
        ("90018", ["started", "caller_hung_up"]),
        ("10015", ["started", "fault", "failed"]),
        ("90046", ["started", "fault", "failed"]),
    ],
)
async def test_a_command_that_is_refused_ends_the_call_with_a_reason(action: str, code: str, story: list[str]) -> None:
    async def refuse(_: dict[str, Any]) -> Any:
        return trouble(422, code)

    async with house() as here:
        here.on[action] = refuse
        await here.incoming(CALL)
        if action == "streaming_start":
            await here.told("call.answered", CALL)
        await here.until(lambda: here.commands(action))
        if "fault" in story:
            await here.until(lambda: here.commands("hangup"))
        await here.told("call.hangup", CALL, hangup_cause="normal_clearing")
        await here.until(lambda: here.story == story)
        assert "KEY-of-this-test" not in str(here.events)


@pytest.mark.parametrize(("action", "code"), [("answer", "10015"), ("streaming_start", "90045")])
async def test_a_command_that_was_done_though_its_answer_was_lost_ends_no_call(action: str, code: str) -> None:
    async with house() as here:

        async def done_before(_: dict[str, Any]) -> Any:
            if action == "answer":
                await here.told("call.answered", CALL)
            return trouble(422, code)

        here.on[action] = done_before
        await here.incoming(CALL)
        if action == "streaming_start":
            await here.told("call.answered", CALL)
        async with here.talking(await here.stream(), CALL) as (socket, writer, session):
            await socket.send_str(writer.dtmf("1"))
            await here.until(lambda: session.digits)
            assert here.story == ["started"]


async def test_a_hang_up_that_the_carrier_did_not_take_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(telnyx_calls._LIMITS, Stage.CLOSING, 0.0)
    refusals = [trouble(422, "10036")]

    async def refuse(_: dict[str, Any]) -> Any:
        return refusals.pop() if refusals else None

    async with house() as here:
        here.on["hangup"] = refuse
        async with here.called(CALL) as (_, _, session):
            await session.hang_up()
            await session.transport.hang_up()
            await here.done("answer 1", "streaming_start 1", "hangup 1", "hangup 1")


@pytest.mark.parametrize("stage", [Stage.ANSWERING, Stage.OPENING])
async def test_a_carrier_that_says_no_more_does_not_leave_the_caller_in_silence(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(telnyx_calls._LIMITS, stage, 0.0)
    async with house() as here:
        await here.incoming(CALL)
        if stage is Stage.OPENING:
            await here.told("call.answered", CALL)
        ended = await here.seen(CallEnded)
        assert ended.reason == "failed"
        await here.until(lambda: here.commands("hangup"))


async def test_calls_on_their_way_are_hung_up_when_the_desk_closes() -> None:
    async with house() as here:
        await here.incoming(CALL)
        await here.told("call.answered", CALL)
        await here.stream()
    assert here.did == ["answer 1", "streaming_start 1", "hangup 1"]


# ------------------------------------------------------------------------------- recordings


async def test_the_carrier_records_and_tells_where_once() -> None:
    saved = {
        "call_control_id": None, "recording_id": "rec-1", "channels": "dual",
        "recording_started_at": "2026-11-20T09:15:02.100000Z", "recording_ended_at": "2026-11-20T09:15:14.600000Z",
        "recording_urls": {"wav": "https://s3.example.test/a.wav", "mp3": "https://s3.example.test/a.mp3"},
    }  # fmt: skip
    async with house(record=True) as here:
        async with here.called(CALL) as (socket, writer, _):
            await here.until(lambda: here.commands("record_start"))
            order = here.commands("record_start")[0]
            assert (order["channels"], order["format"]) == ("dual", "wav")
            await socket.send_str(writer.stop())
            await here.seen(CallEnded)
        for _ in range(2):
            await here.told("call.recording.saved", CALL, **saved)
        await here.told("call.recording.saved", leg(7), **saved)
        await here.told(
            "call.recording.saved", CALL, recording_urls={"wav": "file:///etc/passwd"}, recording_id="rec-2"
        )
        found = [event for event in here.events if isinstance(event, CarrierRecordingSaved)]
    assert [(event.call_id, event.url, event.recording_id, event.duration_s) for event in found] == [
        (CALL, "https://s3.example.test/a.wav", "rec-1", 12.5)
    ]


async def test_a_recording_that_is_refused_ends_no_call() -> None:
    async def refuse(_: dict[str, Any]) -> Any:
        return trouble(422, "90020")

    async with house(record=True) as here:
        here.on["record_start"] = refuse
        async with here.called(CALL):
            fault = await here.seen(FaultOccurred)
            assert (fault.stage, fault.provider, bool(fault.fix)) == ("recording", "telnyx", True)
        started = [event for event in here.events if isinstance(event, CallStarted)]
        assert len(started) == 1


def test_the_test_signs_as_the_documents_example_does() -> None:
    body = b'{"data":{"event_type":"call.initiated"}}'
    signed = base64.b64encode(KEY.sign(b"1760000000|" + body).signature).decode()
    assert PUBLIC_KEY == "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
    assert signed == "UIEcOeqTo4MKspXBsVJIK3/7+ncnEUOrSDh7+dZUsTAOWSVYBwe3lBRys+n+hEvzldT9ql71YgVDNiM3TqCqBg=="
