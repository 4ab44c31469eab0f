"""Answering machine detection at the loopback Twilio: who answered, told in time, and what was left after the beep."""

from __future__ import annotations

from base64 import b64encode

import aiohttp
import pytest

from patter.loopback.person import Person
from patter.loopback.tones import tone
from patter.loopback.twilio_carrier import LoopbackTwilioCarrier
from patter.loopback.twilio_leg import Leg
from tests.loopback.app import HUMAN, NUMBER, STREAM, App, Talk, response, town, url

pytestmark = pytest.mark.anyio
MESSAGE = b"\x40" * 1600
VERDICT = "/amd"


async def dial(carrier: LoopbackTwilioCarrier, **changes: str) -> Leg:
    """Create a call with asynchronous detection, as an app would."""
    form = {
        "To": HUMAN, "From": NUMBER, "Url": url("/voice"), "MachineDetection": "DetectMessageEnd", "AsyncAmd": "true",
        "AsyncAmdStatusCallback": url(VERDICT),
    } | changes  # fmt: skip
    form = {name: value for name, value in form.items() if value}
    keys = b64encode(f"{carrier.account_sid}:{carrier.auth_token}".encode()).decode()
    address = f"{carrier.api_base}/2010-04-01/Accounts/{carrier.account_sid}/Calls.json"
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Basic {keys}"}) as http,
        http.post(address, data=form) as answer,
    ):
        assert answer.status == 201
        return carrier.legs[(await answer.json())["sid"]]


async def test_a_machine_is_reported_when_it_has_beeped_and_keeps_the_message() -> None:
    apps: list[App] = []

    async def leave_a_message(talk: Talk) -> None:
        await talk.play(b"\x20" * 320)  # too early: the greeting is still playing
        await talk.until("media", 10)
        await apps[0].form(VERDICT)
        await talk.play(MESSAGE)
        await talk.mark("left")
        await talk.until("mark")

    async with town(answers={"/voice": response(STREAM)}, talking=leave_a_message) as (app, carrier):
        apps.append(app)
        carrier.people[HUMAN] = Person("machine", greeting=tone(300, 600), judged_after_s=0.2)
        leg = await dial(carrier)
        await leg.over.wait()
    (form,) = app.forms(VERDICT)
    assert form["AnsweredBy"] == leg.answered_by == "machine_end_beep"
    assert int(form["MachineDetectionDuration"]) >= 1200
    assert form["CallSid"] == leg.call_id
    assert MESSAGE in leg.heard
    assert b"\x20" not in leg.heard
    beep = app.talks[0].heard[: 8 * 1400].strip(b"\xff")
    assert len(beep) > 8 * 1000
    assert carrier.violations == []


async def test_a_machine_without_a_beep_is_known_by_its_silence() -> None:
    async with town(answers={"/voice": response(STREAM)}) as (app, carrier):
        carrier.people[HUMAN] = Person("machine", greeting=tone(300, 200), beep=False, judged_after_s=0)
        leg = await dial(carrier, MachineDetectionSpeechEndThreshold="500")
        assert (await app.form(VERDICT))["AnsweredBy"] == "machine_end_silence"
        leg.hang_up()
        await leg.over.wait()
    assert carrier.violations == []


@pytest.mark.parametrize(
    ("person", "mode", "verdict"),
    [
        (Person(), "DetectMessageEnd", "human"),
        (Person(judged_as="fax"), "DetectMessageEnd", "fax"),
        (Person(judged_as="unknown"), "Enable", "unknown"),
        (Person("machine", greeting=tone(300, 5000)), "Enable", "machine_start"),
        (Person("machine", judged_as="human"), "DetectMessageEnd", "human"),
        (Person(judged_as="machine"), "DetectMessageEnd", "machine_end_beep"),
    ],
)
async def test_others_are_told_early(person: Person, mode: str, verdict: str) -> None:
    person.judged_after_s = 0.05
    async with town(answers={"/voice": response(STREAM)}) as (app, carrier):
        carrier.people[HUMAN] = person
        leg = await dial(carrier, MachineDetection=mode)
        form = await app.form(VERDICT)
        assert form["AnsweredBy"] == verdict
        assert int(form["MachineDetectionDuration"]) < 4000
        leg.hang_up()
        await leg.over.wait()


async def test_synchronous_detection_holds_the_webhook_back() -> None:
    async with town(answers={"/voice": response("<Hangup/>")}) as (app, carrier):
        carrier.people[HUMAN] = Person("machine", judged_after_s=0)
        leg = await dial(carrier, AsyncAmd="", AsyncAmdStatusCallback="")
        await leg.over.wait()
    assert app.forms("/voice")[0]["AnsweredBy"] == "machine_end_beep"
    assert app.forms(VERDICT) == []


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"SendDigits": "1"}, "turns MachineDetection off"),
        ({"MachineDetection": ""}, "no effect without MachineDetection"),
        ({"AsyncAmdStatusCallback": ""}, "nobody is told"),
        ({"StatusCallbackEvent": "completed"}, "no effect without StatusCallback"),
        ({"Twiml": "<Response/>"}, "no effect beside a Url"),
    ],
)
async def test_orders_that_contradict_themselves_are_noted(changes: dict[str, str], why: str) -> None:
    async with town(answers={"/voice": response("<Pause/>")}) as (_, carrier):
        carrier.people[HUMAN] = Person(judged_after_s=0)
        leg = await dial(carrier, **changes)
        await leg.over.wait()
    assert any(why in violation for violation in carrier.violations)
