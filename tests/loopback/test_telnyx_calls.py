"""Calls through the loopback Telnyx, commanded by Telnyx' own client and told by webhooks its own library verifies."""

from __future__ import annotations

import io
import wave
from base64 import b64encode
from typing import Any

import aiohttp
import anyio
import numpy as np
import pytest
from telnyx import APIStatusError

from patter.audio.format import MULAW_8K
from patter.loopback.misbehaviour import Misbehaviour
from patter.loopback.person import Person, says
from patter.loopback.tones import tone
from tests.loopback.telnyx_office import BOSS, OURS, THEIRS, hears, office, pitch

pytestmark = pytest.mark.anyio

STATE = b64encode(b"call 7").decode()


async def refused(doing: Any) -> str:
    """The code Telnyx' own client reads from the refusal."""
    with pytest.raises(APIStatusError) as caught:
        await doing
    body: Any = caught.value.body
    return str(body["errors"][0]["code"])


async def heard(leg: Any, ms: float) -> bytes:
    """What the person heard, once there is that much of it."""
    size = leg.line.format.bytes_for(ms)
    with anyio.fail_after(10):
        while len(leg.heard) < size:
            await anyio.sleep(0.01)
    return bytes(leg.heard[:size])


# --------------------------------------------------------------------------- calls that come in


async def test_a_call_comes_in_is_answered_and_hung_up_by_the_caller() -> None:
    async with office() as here:
        leg = here.carrier.place_call(THEIRS, OURS)
        began = await here.event("call.initiated")
        assert began.payload | {"direction": "incoming", "state": "parked", "from": THEIRS, "to": OURS} == began.payload
        assert began.payload["call_leg_id"] == leg.call_id
        assert began.payload["client_state"] is None
        assert began.typed.data.payload.from_ == THEIRS
        answer = await here.client.calls.actions.answer(leg.handle, client_state=STATE)
        assert answer.data is not None
        assert answer.data.result == "ok"
        answered = await here.event("call.answered")
        assert answered.payload["client_state"] == STATE
        assert answered.payload["state"] == "answered"
        await leg.answered.wait()
        leg.hang_up()
        ended = await here.event("call.hangup")
        assert ended.payload["hangup_cause"] == "normal_clearing"
        assert ended.payload["hangup_source"] == "caller"
        assert ended.payload["sip_hangup_cause"] == "200"
        assert ended.typed.data.payload.state == "hangup"
        await leg.over.wait()
        assert leg.status == "hangup"
        assert here.types() == ["call.initiated", "call.answered", "call.hangup"]
        assert here.carrier.violations == []


async def test_a_call_can_be_rejected_refused_by_hanging_up_or_given_up_by_the_caller() -> None:
    async with office() as here:
        legs = [here.carrier.place_call(THEIRS, OURS) for _ in range(3)]
        for leg in legs:
            await here.event("call.initiated", call_control_id=leg.handle)
        await here.client.calls.actions.reject(legs[0].handle, cause="USER_BUSY")
        await here.client.calls.actions.hangup(legs[1].handle)
        legs[2].hang_up()
        causes = [(await here.event("call.hangup", call_control_id=leg.handle)).payload for leg in legs]
        assert [(payload["hangup_cause"], payload["sip_hangup_cause"]) for payload in causes] == [
            ("user_busy", "486"),
            ("call_rejected", "603"),
            ("originator_cancel", "487"),
        ]
        assert here.carrier.violations == []


async def test_a_person_leaves_by_themselves() -> None:
    async with office() as here:
        leg = here.carrier.place_call(THEIRS, OURS, Person(stays_s=0.1))
        await here.answered(leg)
        await here.event("call.hangup", hangup_source="caller")


# --------------------------------------------------------------------------- calls we make


async def test_a_dialled_person_answers_and_we_hang_up() -> None:
    async with office() as here:
        here.carrier.people[THEIRS] = Person()
        answer = await here.client.calls.dial(
            connection_id=here.carrier.connection_id, to=THEIRS, from_=OURS, client_state=STATE
        )
        assert answer.data is not None
        assert answer.data.is_alive is False
        leg = here.carrier.legs[answer.data.call_leg_id]
        assert answer.data.call_control_id == leg.handle
        began = await here.event("call.initiated")
        assert (began.payload["direction"], began.payload["state"]) == ("outgoing", "bridging")
        await here.event("call.answered", client_state=STATE)
        assert (await here.client.calls.retrieve_status(leg.handle)).data.is_alive  # type: ignore[union-attr]
        await here.client.calls.actions.hangup(leg.handle)
        assert (await here.event("call.hangup")).payload["hangup_source"] == "caller"
        assert here.carrier.violations == []


@pytest.mark.parametrize(
    ("person", "cause", "sip"),
    [
        (Person(answers="busy"), "user_busy", "486"),
        (Person(answers="reject"), "call_rejected", "603"),
        (Person(answers="no_answer"), "timeout", "487"),
    ],
)
async def test_a_call_that_is_not_answered_ends_with_its_cause(person: Person, cause: str, sip: str) -> None:
    async with office() as here:
        here.carrier.people[THEIRS] = person
        await here.dialled(timeout_secs=5)
        ended = await here.event("call.hangup")
        assert (ended.payload["hangup_cause"], ended.payload["sip_hangup_cause"]) == (cause, sip)
        assert here.types() == ["call.initiated", "call.hangup"]


async def test_a_ringing_call_can_be_taken_back() -> None:
    async with office() as here:
        here.carrier.people[THEIRS] = Person(rings_s=30)
        leg = await here.dialled()
        await here.event("call.initiated")
        await here.client.calls.actions.hangup(leg.handle)
        assert (await here.event("call.hangup")).payload["hangup_cause"] == "originator_cancel"


async def test_a_number_nobody_is_at_is_not_found() -> None:
    async with office() as here:
        await here.dialled("+14155550999")
        assert (await here.event("call.hangup")).payload["hangup_cause"] == "not_found"


# --------------------------------------------------------------------------- answering machines

GREETING = tone(300, 300)


@pytest.mark.parametrize(
    ("person", "mode", "verdicts"),
    [
        (Person(judged_after_s=0.1), "premium", [("premium.detection.ended", "human_residence")]),
        (Person(judged_after_s=0.1, judged_as="fax"), "premium", [("premium.detection.ended", "fax_detected")]),
        (Person(judged_after_s=0.1, judged_as="unknown"), "detect", [("detection.ended", "not_sure")]),
        (
            Person("machine", greeting=GREETING, judged_after_s=0.2),
            "premium",
            [("premium.detection.ended", "machine"), ("premium.greeting.ended", "beep_detected")],
        ),
        (
            Person("machine", greeting=GREETING, judged_after_s=0.2, beep=False),
            "premium",
            [("premium.detection.ended", "machine"), ("premium.greeting.ended", "no_beep_detected")],
        ),
        (
            Person("machine", greeting=GREETING, judged_after_s=9.0),
            "premium",
            [("premium.greeting.ended", "beep_detected")],
        ),
        (Person("machine", greeting=GREETING, judged_after_s=0.2), "detect", [("detection.ended", "machine")]),
        (
            Person("machine", greeting=GREETING, judged_after_s=0.2),
            "detect_beep",
            [("detection.ended", "machine"), ("greeting.ended", "beep_detected")],
        ),
        (
            Person("machine", greeting=GREETING, judged_after_s=0.2),
            "greeting_end",
            [("detection.ended", "machine"), ("greeting.ended", "ended")],
        ),
    ],
)
async def test_machine_detection_says_what_its_mode_says(person: Person, mode: Any, verdicts: list[Any]) -> None:
    async with office() as here:
        here.carrier.people[THEIRS] = person
        await here.dialled(answering_machine_detection=mode)
        events = [await here.event(f"call.machine.{kind}") for kind, _ in verdicts]
        assert [event.payload["result"] for event in events] == [result for _, result in verdicts]
        assert here.types() == ["call.initiated", "call.answered", *(event.type for event in events)]


# --------------------------------------------------------------------------- commands in a call


async def test_the_carrier_speaks_a_hum_as_long_as_the_text_and_tells_when_it_was_heard() -> None:
    async with office() as here:
        leg = here.carrier.place_call(THEIRS, OURS)
        await here.answered(leg)
        await here.client.calls.actions.speak(leg.handle, payload="Hello you.", voice="Telnyx.KokoroTTS.af")
        started = await here.event("call.speak.started")
        assert "from" not in started.payload
        ended = await here.event("call.speak.ended", status="completed")
        assert "to" not in ended.payload
        assert leg.announced == ["Hello you."]
        loud = bytes(leg.heard).strip(b"\xff")
        assert MULAW_8K.ms_of(len(loud)) == pytest.approx(600, abs=20)
        assert pitch(loud, MULAW_8K) == pytest.approx(180, abs=5)


async def test_speech_that_is_cut_off_by_the_end_says_so() -> None:
    async with office() as here:
        leg = here.carrier.place_call(THEIRS, OURS)
        await here.answered(leg)
        await here.client.calls.actions.speak(leg.handle, payload="A long story. " * 20, voice="female")
        await here.event("call.speak.started")
        leg.hang_up()
        await here.event("call.speak.ended", status="call_hangup")


async def test_keys_are_pressed_both_ways() -> None:
    async with office() as here:
        leg = here.carrier.place_call(THEIRS, OURS)
        await here.answered(leg)
        await here.client.calls.actions.send_dtmf(leg.handle, digits="1w2W#", duration_millis=100)
        leg.press("4*")
        await here.event("call.dtmf.received", digit="4")
        await here.event("call.dtmf.received", digit="*")
        assert leg.digits_heard == "12#"


async def test_a_recording_has_both_sides_and_is_told_without_the_control_id() -> None:
    async with office() as here, aiohttp.ClientSession() as http:
        leg = here.carrier.place_call(THEIRS, OURS, Person(mouth=says(tone(400, 5_000))))
        await here.answered(leg)
        await here.client.calls.actions.start_recording(leg.handle, channels="dual", format="wav")
        await here.client.calls.actions.speak(leg.handle, payload="Recorded.", voice="female")
        await here.event("call.speak.ended")
        leg.hang_up()
        saved = await here.event("call.recording.saved")
        assert "call_control_id" not in saved.payload
        assert saved.payload["call_leg_id"] == leg.call_id
        assert saved.typed.data.payload.recording_urls.wav == leg.recordings[0]
        async with http.get(leg.recordings[0]) as answer:
            content = await answer.read()
        with wave.open(io.BytesIO(content)) as file:
            assert (file.getnchannels(), file.getframerate()) == (2, 8000)
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
        assert np.abs(samples[:, 0]).max() > 3000
        assert np.abs(samples[:, 1]).max() > 1000


async def test_a_recording_can_be_stopped_before_the_end() -> None:
    async with office() as here:
        leg = here.carrier.place_call(THEIRS, OURS)
        await here.answered(leg)
        await here.client.calls.actions.start_recording(leg.handle, channels="single", format="wav")
        await heard(leg, 100)
        await here.client.calls.actions.stop_recording(leg.handle)
        await here.event("call.recording.saved", channels="single")
        assert leg.alive


# --------------------------------------------------------------------------- two people


async def test_a_transfer_rings_somebody_else_and_the_two_hear_each_other() -> None:
    async with office() as here:
        here.carrier.people[BOSS] = Person(mouth=says(tone(700, 5_000)))
        leg = here.carrier.place_call(THEIRS, OURS, Person(mouth=says(tone(400, 9_000))))
        await here.answered(leg)
        await here.client.calls.actions.transfer(leg.handle, to=BOSS, target_leg_client_state=STATE)
        began = await here.event("call.initiated", to=BOSS)
        assert began.payload["client_state"] == STATE
        assert began.payload["call_session_id"] == leg.session_id
        boss = here.carrier.legs[began.payload["call_leg_id"]]
        await here.event("call.bridged", call_control_id=boss.handle)
        await here.event("call.bridged", call_control_id=leg.handle)
        assert leg.transferred_to == BOSS
        assert leg.joined_with is boss
        await hears(boss, 400)
        await hears(leg, 700)
        leg.press("5")
        assert boss.digits_heard == "5"
        boss.hang_up()
        await here.event("call.hangup", call_control_id=boss.handle)
        await here.event("call.hangup", call_control_id=leg.handle)
        assert here.carrier.violations == []


async def test_a_transfer_nobody_takes_leaves_the_caller_where_he_was() -> None:
    async with office() as here:
        here.carrier.people[BOSS] = Person(answers="busy")
        leg = here.carrier.place_call(THEIRS, OURS)
        await here.answered(leg)
        await here.client.calls.actions.transfer(leg.handle, to=BOSS)
        await here.event("call.hangup", to=BOSS, hangup_cause="user_busy")
        assert leg.alive
        assert leg.joined_with is None


async def test_a_second_leg_is_dialled_told_and_bridged() -> None:
    async with office() as here:
        here.carrier.people[BOSS] = Person()
        leg = here.carrier.place_call(THEIRS, OURS)
        await here.answered(leg)
        boss = await here.dialled(BOSS, link_to=leg.handle, client_state=STATE)
        assert boss.session_id == leg.session_id
        await here.event("call.answered", call_control_id=boss.handle)
        await here.client.calls.actions.speak(boss.handle, payload="A caller.", voice="female")
        await here.event("call.speak.ended", call_control_id=boss.handle, status="completed")
        await here.client.calls.actions.bridge(leg.handle, call_control_id_to_bridge_with=boss.handle)
        await here.event("call.bridged", call_control_id=boss.handle)
        assert leg.joined_with is boss
        assert boss.announced == ["A caller."]
        leg.hang_up()
        await here.event("call.hangup", call_control_id=boss.handle)


async def test_a_leg_that_parks_stays_when_the_other_leaves() -> None:
    async with office() as here:
        here.carrier.people[BOSS] = Person(stays_s=0.1)
        leg = here.carrier.place_call(THEIRS, OURS)
        await here.answered(leg)
        await here.client.calls.actions.transfer(leg.handle, to=BOSS, park_after_unbridge="self")
        await here.event("call.hangup", to=BOSS)
        assert leg.alive
        assert leg.joined_with is None


# --------------------------------------------------------------------------- what comes too early or too late


async def test_commands_are_refused_in_the_wrong_moment() -> None:
    async with office() as here:
        do = here.client.calls.actions
        leg = here.carrier.place_call(THEIRS, OURS)
        await here.event("call.initiated")
        assert await refused(do.start_streaming(leg.handle, stream_url="wss://voice.example.test/ws/1")) == "90034"
        assert await refused(do.speak(leg.handle, payload="Hi", voice="female")) == "90034"
        assert await refused(do.start_recording(leg.handle, channels="dual", format="wav")) == "90020"
        await do.answer(leg.handle)
        assert await refused(do.answer(leg.handle)) == "10015"
        assert await refused(do.stop_streaming(leg.handle)) == "90048"
        assert await refused(do.hangup("v3:nobody")) == "90015"
        assert len(here.carrier.violations) == 6
        leg.hang_up()
        await leg.over.wait()
        assert await refused(do.hangup(leg.handle)) == "90018"
        assert len(here.carrier.violations) == 6


async def test_an_outgoing_call_is_not_answered_by_us() -> None:
    async with office() as here:
        here.carrier.people[THEIRS] = Person(rings_s=30)
        leg = await here.dialled()
        assert await refused(here.client.calls.actions.answer(leg.handle)) == "90102"


# --------------------------------------------------------------------------- webhooks


async def test_webhooks_come_twice_with_one_id_on_request() -> None:
    async with office(Misbehaviour(duplicate_webhooks=True)) as here:
        leg = here.carrier.place_call(THEIRS, OURS)
        await here.event("call.initiated", 2)
        assert here.events[0].id == here.events[1].id
        leg.hang_up()
        await here.event("call.hangup", 2)


async def test_a_webhook_is_repeated_after_a_failure_with_a_higher_attempt() -> None:
    async with office() as here:
        here.answers = [503, 429]
        here.carrier.place_call(THEIRS, OURS)
        third = await here.event("call.initiated", 3)
        assert [event.attempt for event in here.events] == [1, 2, 3]
        assert len({event.id for event in here.events}) == 1
        await here.carrier.settled()
        assert third.attempt == 3
        assert [delivery.status for delivery in here.carrier.deliveries] == [503, 429, 200]
        assert here.carrier.violations == [
            "call.initiated was answered with 503",
            "call.initiated was answered with 429",
        ]


async def test_a_webhook_that_is_turned_down_is_not_repeated() -> None:
    async with office() as here:
        here.answers = [403]
        leg = here.carrier.place_call(THEIRS, OURS)
        await here.event("call.initiated")
        leg.hang_up()
        await here.event("call.hangup")
        assert here.types() == ["call.initiated", "call.hangup"]
        assert here.carrier.violations == ["call.initiated was answered with 403"]


async def test_a_call_can_have_webhooks_of_its_own() -> None:
    async with office() as here:
        here.carrier.people[THEIRS] = Person()
        leg = await here.dialled(
            webhook_url="https://voice.example.test/elsewhere",
            webhook_urls={"call.hangup": ["https://voice.example.test/webhooks/telnyx/voice"]},
        )
        await leg.answered.wait()
        leg.hang_up()
        await here.event("call.hangup")
        await here.carrier.settled()
        assert [(d.event_type, d.url.rpartition("/")[2], d.status) for d in here.carrier.deliveries] == [
            ("call.initiated", "elsewhere", 404),
            ("call.answered", "elsewhere", 404),
            ("call.hangup", "voice", 200),
        ]
