"""Calls that we place on Twilio: one story each, whatever the order, number and loss of the carrier's webhooks."""

from __future__ import annotations

import anyio
import pytest
from aiohttp import web

from patter.events import CallEnded, CallPlaced, CallStarted, CarrierRecordingSaved, FaultOccurred
from patter.exceptions import CarrierError, PatterConnectionError
from patter.server import twilio_calls
from patter.server.orders import Order
from patter.server.twilio_gate import RECORDING, STATUS
from patter.signals import MachineDetected
from tests.support.rest_desk import said
from tests.support.twilio_house import (
    ACCOUNT,
    OURS,
    PUBLIC,
    THEIRS,
    House,
    agent_file,
    an_order,
    house,
    query_of,
    sid,
)

pytestmark = pytest.mark.anyio

BUSY = {"CallStatus": "busy", "SequenceNumber": "2"}


async def placed(built: House, order: Order | None = None) -> dict[str, str]:
    """The request that was made for a call."""
    await built.routes.dial(order or an_order())
    return built.orders("/Calls.json")[-1]


async def test_an_order_becomes_a_call_with_its_own_agent() -> None:
    async with house() as built:
        order = an_order(custom_params={"case": "7"}, ring_timeout_s=12.0)
        call_id = await built.routes.dial(order)
        assert (call_id, built.routes.ringing, built.story) == (sid(1), 1, ["placed"])
        [request] = built.orders("/Calls.json")
        assert (request["To"], request["From"], request["Timeout"]) == (THEIRS, OURS, "12")
        assert request["Url"].startswith(f"{PUBLIC}/webhooks/twilio/voice?call=")
        assert request["StatusCallback"].startswith(f"{PUBLIC}/webhooks/twilio/status?call=")
        assert "MachineDetection" not in request
        document = await built.asked(request["Url"], call_id, Direction="outbound-api", From=OURS, To=THEIRS)
        async with built.talking(document, call_id) as (_, _, session):
            assert built.routes.ringing == 0
            assert (session.call.direction, session.call.telephony) == ("outbound", "twilio")
            assert (session.call.caller, session.call.callee) == (OURS, THEIRS)
            assert (session.name, session.call.custom_params) == ("caller", {"case": "7"})
            await built.told(request["StatusCallback"], call_id, CallStatus="completed")
            await built.seen(CallEnded)
        assert built.story == ["placed", "started", "caller_hung_up"]


async def test_a_voicemail_asks_who_answers_and_goes_to_the_call() -> None:
    async with house() as built:
        request = await placed(built, an_order(voicemail="Please call back."))
        assert (request["MachineDetection"], request["AsyncAmd"]) == ("DetectMessageEnd", "true")
        document = await built.asked(request["Url"], sid(1))
        async with built.talking(document, sid(1)):
            assert built.calls.voicemails == ["Please call back."]


@pytest.mark.parametrize(
    ("status", "reason"),
    [("busy", "busy"), ("no-answer", "no_answer"), ("failed", "failed"), ("canceled", "canceled")],
)
async def test_a_call_that_nobody_takes_ends_with_the_carriers_reason(status: str, reason: str) -> None:
    async with house() as built:
        request = await placed(built)
        for number, before in enumerate(("initiated", "ringing")):
            await built.told(request["StatusCallback"], sid(1), CallStatus=before, SequenceNumber=str(number))
        await built.told(request["StatusCallback"], sid(1), CallStatus=status, SequenceNumber="2")
        assert built.story == ["placed", reason]
        ended = await built.seen(CallEnded)
        assert isinstance(ended, CallEnded)
        assert ended.detail
        assert (ended.call_id, ended.duration_s, built.routes.ringing) == (sid(1), 0.0, 0)


async def test_the_networks_answer_is_told_with_a_failure() -> None:
    async with house() as built:
        request = await placed(built)
        await built.told(request["StatusCallback"], sid(1), CallStatus="failed", SipResponseCode="404")
        ended = await built.seen(CallEnded)
        assert isinstance(ended, CallEnded)
        assert "404" in ended.detail


async def test_callbacks_in_any_order_and_twice_tell_one_ending() -> None:
    async with house() as built:
        request = await placed(built)
        for fields in (BUSY, BUSY, {"CallStatus": "ringing", "SequenceNumber": "1"}, {"CallStatus": "completed"}):
            await built.told(request["StatusCallback"], sid(1), **fields)
        assert built.story == ["placed", "busy"]
        document = await built.asked(request["Url"], sid(1))
        assert document.verbs == ("Hangup",)


async def test_a_call_may_be_over_before_the_order_is_confirmed() -> None:
    async with house() as built:

        async def at_once(form: dict[str, str]) -> None:
            await built.told(form["StatusCallback"], sid(1), **BUSY)

        built.on_create = at_once
        assert await built.routes.dial(an_order()) == sid(1)
        assert (built.story, built.routes.ringing) == (["placed", "busy"], 0)


async def test_a_call_may_be_answered_before_the_order_is_confirmed() -> None:
    async with house() as built, anyio.create_task_group() as tasks:
        go_on = anyio.Event()

        async def slowly(_: dict[str, str]) -> None:
            await go_on.wait()

        built.on_create = slowly
        tasks.start_soon(built.routes.dial, an_order())
        await built.until(lambda: built.orders("/Calls.json"))
        [request] = built.orders("/Calls.json")
        document = await built.asked(request["Url"], sid(1))
        async with built.talking(document, sid(1)):
            assert built.story == ["placed", "started"]
            go_on.set()
        await built.seen(CallEnded)
        assert built.story == ["placed", "started", "line_lost"]


async def test_of_an_order_that_was_sent_twice_one_call_remains() -> None:
    async with house() as built:

        async def lost(_: dict[str, str]) -> web.Response | None:
            return said(503) if built.made == 1 else None

        built.on_create = lost
        assert await built.routes.dial(an_order()) == sid(2)
        request = built.orders("/Calls.json")[-1]
        assert (await built.asked(request["Url"], sid(1))).verbs == ("Hangup",)
        await built.told(request["StatusCallback"], sid(1), CallStatus="completed")
        assert (await built.asked(request["Url"], sid(2))).stream is not None
        assert built.story == ["placed"]


async def test_of_an_order_that_was_sent_twice_the_call_that_was_answered_remains() -> None:
    async with house() as built:

        async def lost(form: dict[str, str]) -> web.Response | None:
            if built.made == 2:
                return None
            assert (await built.asked(form["Url"], sid(1))).stream is not None
            return said(503)

        built.on_create = lost
        assert await built.routes.dial(an_order()) == sid(1)
        await built.until(lambda: built.orders(f"/Calls/{sid(2)}.json"))
        assert built.orders(f"/Calls/{sid(2)}.json") == [{"Status": "completed"}]
        assert [event.call_id for event in built.events if isinstance(event, CallPlaced)] == [sid(1)]


async def test_a_telephone_that_rings_for_nobody_is_let_go() -> None:
    async with house() as built:
        request = await placed(built)
        await built.told(request["StatusCallback"], sid(1), CallStatus="initiated")
        await built.told(request["StatusCallback"], sid(7), CallStatus="ringing")
        await built.until(lambda: built.orders(f"/Calls/{sid(7)}.json"))
        assert built.orders(f"/Calls/{sid(7)}.json") == [{"Status": "completed"}]
        await built.told(f"{PUBLIC}/webhooks/twilio/status?call=of-nobody", sid(8), CallStatus="initiated")
        await built.until(lambda: built.orders(f"/Calls/{sid(8)}.json"))
        async with built.talking(await built.asked(request["Url"], sid(1)), sid(1)):
            await built.told(request["StatusCallback"], sid(1), CallStatus="ringing")  # late: the call is up
        for number in (1, 9):
            await built.told(request["StatusCallback"], sid(number), CallStatus="ringing")
        await built.until(lambda: built.orders(f"/Calls/{sid(9)}.json"))
        assert built.orders(f"/Calls/{sid(1)}.json") == []


async def test_a_call_whose_confirmation_was_lost_is_a_call() -> None:
    async with house() as built:

        async def lost(form: dict[str, str]) -> web.Response:
            if built.made == 1:
                assert (await built.asked(form["Url"], sid(1))).stream is not None
            return said(503)

        built.on_create = lost
        assert await built.routes.dial(an_order()) == sid(1)
        assert built.story == ["placed"]


async def test_an_order_that_the_carrier_refuses_is_no_call() -> None:
    async with house() as built:

        async def refused(_: dict[str, str]) -> web.Response:
            return said(400, code=21211, message="Invalid 'To' Phone Number", status=400)

        built.on_create = refused
        with pytest.raises(CarrierError) as problem:
            await built.routes.dial(an_order())
        assert problem.value.code == "21211"
        assert ACCOUNT.auth_token not in str(problem.value)
        assert (built.events, built.routes.ringing) == ([], 0)
        [request] = built.orders("/Calls.json")
        assert (await built.asked(request["Url"], sid(1))).verbs == ("Hangup",)


@pytest.mark.parametrize("changes", [{"to": "911"}, {"to": "+1 415"}, {"caller": ""}, {"to": "+1415\n5550123"}])
async def test_only_numbers_are_dialled(changes: dict[str, str]) -> None:
    async with house() as built:
        with pytest.raises(ValueError, match=r"E\.164"):
            await built.routes.dial(an_order(**changes))
        assert (built.api.asked, built.routes.ringing) == ([], 0)


async def test_calls_on_their_way_count_against_the_limit() -> None:
    async with house(capacity=2) as built:
        await built.routes.dial(an_order())
        await built.routes.dial(an_order())
        with pytest.raises(PatterConnectionError, match="busy"):
            await built.routes.dial(an_order())


async def test_many_calls_at_once_keep_their_own_agents() -> None:
    async with house() as built, anyio.create_task_group() as tasks:
        for number in range(12):
            tasks.start_soon(built.routes.dial, an_order(to=f"+1415555{number:04}", file=agent_file(f"agent-{number}")))
        await built.until(lambda: len(built.story) == 12)
        requests = built.orders("/Calls.json")
        by_number = {event.callee: event for event in built.events if isinstance(event, CallPlaced)}
        for request in requests:
            told = by_number[request["To"]]
            document = await built.asked(request["Url"], told.call_id)
            async with built.talking(document, told.call_id) as (_, _, session):
                assert (session.call.callee, session.name) == (request["To"], told.agent)
                assert session.name == f"agent-{int(request['To'][-4:])}"


async def test_a_token_lets_one_call_in_and_a_lost_answer_is_given_again() -> None:
    async with house() as built:
        request = await placed(built)
        first = await built.asked(request["Url"], sid(1))
        again = await built.asked(request["Url"], sid(1))
        assert first.stream is not None
        assert again.stream is not None
        assert first.stream.url == again.stream.url
        assert (await built.asked(request["Url"], sid(9))).verbs == ("Hangup",)
        async with built.talking(again, sid(1)):
            status, _ = await built.post(request["Url"], built.form(sid(1)))
            assert status == 409
        status, _ = await built.post(request["Url"], built.form(sid(1)))
        assert status == 409


async def test_a_person_who_hangs_up_at_once_ends_the_call() -> None:
    async with house() as built:
        request = await placed(built)
        document = await built.asked(request["Url"], sid(1))
        await built.told(request["StatusCallback"], sid(1), CallStatus="completed", CallDuration="1")
        assert built.story == ["placed", "caller_hung_up"]
        assert document.stream is not None
        with pytest.raises(Exception, match="403"):
            await built.socket(document.stream.url)


# --------------------------------------------------------------------------- giving up


async def test_a_ringing_call_can_be_given_up() -> None:
    async with house() as built:
        request = await placed(built)
        await built.routes.cancel(sid(1))
        assert built.orders(f"/Calls/{sid(1)}.json") == [{"Status": "completed"}]
        await built.told(request["StatusCallback"], sid(1), CallStatus="canceled")
        assert (built.story, built.routes.ringing) == (["placed", "canceled"], 0)
        assert (await built.asked(request["Url"], sid(1))).verbs == ("Hangup",)


async def test_giving_up_a_call_that_is_over_or_unknown_does_nothing() -> None:
    async with house() as built:

        async def gone(_: dict[str, str]) -> web.Response:
            return said(400, code=21220, message="Call is not in-progress", status=400)

        built.on_update = gone
        await placed(built)
        await built.routes.cancel(sid(1))
        await built.routes.cancel(sid(1))
        await built.routes.cancel(sid(7))
        assert built.story == ["placed", "canceled"]
        assert len(built.orders(f"/Calls/{sid(1)}.json")) == 1


@pytest.mark.parametrize(("status", "reason"), [("busy", "busy"), ("completed", "caller_hung_up")])
async def test_a_lost_callback_is_asked_for(status: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twilio_calls, "LATE_S", 0.0)
    monkeypatch.setattr(twilio_calls, "ASK_EVERY_S", 0.0)
    async with house() as built:
        built.status = "ringing"
        await placed(built, an_order(ring_timeout_s=0.0))
        await built.until(lambda: [asked for asked in built.api.asked if asked.method == "GET"])
        assert built.routes.ringing == 1
        built.status = status
        await built.seen(CallEnded, reason=reason)


# --------------------------------------------------------------------------- who answered


@pytest.mark.parametrize(
    ("said_by_carrier", "verdict"),
    [
        ("human", MachineDetected("human", True)),
        ("fax", MachineDetected("fax", True)),
        ("unknown", MachineDetected("unknown", True)),
        ("machine_start", MachineDetected("machine", False)),
        ("machine_end_beep", MachineDetected("machine", True)),
        ("machine_end_silence", MachineDetected("machine", True)),
        ("machine_end_other", MachineDetected("machine", True)),
    ],
)
@pytest.mark.parametrize("early", [True, False], ids=["before the stream", "in the call"])
async def test_a_verdict_reaches_the_call(said_by_carrier: str, verdict: MachineDetected, early: bool) -> None:
    async with house() as built:
        request = await placed(built, an_order(detect_machine=True))
        url = request["AsyncAmdStatusCallback"]
        if early:
            await built.told(url, sid(1), AnsweredBy=said_by_carrier)
        document = await built.asked(request["Url"], sid(1))
        async with built.talking(document, sid(1)) as (_, _, session):
            if not early:
                await built.told(url, sid(1), AnsweredBy=said_by_carrier)
            await built.until(lambda: session.verdicts)
            assert session.verdicts == [verdict]


async def test_a_verdict_on_no_call_of_ours_is_nothing() -> None:
    async with house() as built:
        request = await placed(built, an_order(detect_machine=True))
        await built.told(request["StatusCallback"], sid(1), **BUSY)
        await built.told(request["AsyncAmdStatusCallback"], sid(1), AnsweredBy="human")
        await built.told(f"{PUBLIC}/webhooks/twilio/amd", sid(2), AnsweredBy="machine_end_beep")
        await built.told(f"{PUBLIC}/webhooks/twilio/amd", sid(2), AnsweredBy="<script>")
        document = await built.incoming(sid(2))
        async with built.talking(document, sid(2)) as (_, _, session):
            assert session.verdicts == []


# --------------------------------------------------------------------------- recording


async def test_a_recording_begins_with_the_call_and_is_told_once() -> None:
    async with house(record=True) as built:
        document = await built.incoming(sid(1))
        async with built.talking(document, sid(1)):
            await built.until(lambda: built.orders(f"/Calls/{sid(1)}/Recordings.json"))
        [request] = built.orders(f"/Calls/{sid(1)}/Recordings.json")
        assert request["RecordingStatusCallback"] == PUBLIC + RECORDING
        assert request["RecordingChannels"] == "dual"
        saved = {
            "RecordingSid": "RE" + "1" * 32,
            "RecordingStatus": "completed",
            "RecordingUrl": "https://api.example.test/RE1",
            "RecordingDuration": "42",
        }
        await built.told(PUBLIC + RECORDING, sid(1), **saved | {"RecordingStatus": "in-progress"})
        for _ in range(2):
            await built.told(PUBLIC + RECORDING, sid(1), **saved)
        assert [event for event in built.events if isinstance(event, CarrierRecordingSaved)] == [
            await built.seen(
                CarrierRecordingSaved,
                call_id=sid(1),
                url="https://api.example.test/RE1",
                recording_id="RE" + "1" * 32,
                duration_s=42.0,
            )
        ]


@pytest.mark.parametrize(
    "fields",
    [
        {"RecordingUrl": "javascript:alert(1)"},
        {"RecordingUrl": "https://a.test/" + "x" * 3_000},
        {"RecordingUrl": ""},
        {"RecordingStatus": "absent"},
    ],
)
async def test_a_recording_without_an_address_is_not_told(fields: dict[str, str]) -> None:
    async with house() as built:
        saved = {"RecordingSid": "RE1", "RecordingStatus": "completed", "RecordingUrl": "https://a.test/1"}
        await built.told(PUBLIC + RECORDING, sid(1), **saved | fields)
        assert built.events == []


async def test_a_call_goes_on_without_a_recording_that_is_refused() -> None:
    async with house(record=True) as built:
        built.api.answers = [said(400, code=20001, message="Recording is not allowed", status=400)]
        async with built.talking(await built.incoming(sid(1)), sid(1)) as (_, _, session):
            fault = await built.seen(FaultOccurred, call_id=sid(1))
            assert isinstance(fault, FaultOccurred)
            assert (fault.stage, fault.provider) == ("carrier", "twilio")
            assert fault.fix
            assert not session.said


# --------------------------------------------------------------------------- our address


async def test_a_new_public_address_is_the_one_that_counts() -> None:
    async with house() as built:
        built.routes.public = "https://other.example.test/"
        assert built.routes.public == "https://other.example.test"
        request = await placed(built)
        assert request["Url"].startswith("https://other.example.test/webhooks/twilio/voice?call=")
        assert query_of(request["Url"]).keys() == {"call"}
        document = await built.asked(request["Url"], sid(1))
        assert document.stream is not None
        assert document.stream.url.startswith("wss://other.example.test/ws/twilio/")
        status, _ = await built.post(PUBLIC + STATUS, built.form(sid(1), CallStatus="busy"))
        assert status == 403


async def test_a_stopping_engine_tells_the_person_who_answers() -> None:
    async with house() as built:
        request = await placed(built)
        built.desk.stopping = True
        document = await built.asked(request["Url"], sid(1))
        assert document.verbs == ("Say", "Hangup")
        assert [event for event in built.events if isinstance(event, CallStarted)] == []
