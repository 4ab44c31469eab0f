"""Calls that come in on a number of the loopback Twilio: what it tells the app, and what it does with the answers."""

from __future__ import annotations

import anyio
import pytest

from patter.audio.dtmf import tones
from patter.audio.format import MULAW_8K
from patter.loopback.person import Person, says
from patter.loopback.tones import hum, tone
from patter.loopback.twilio_carrier import LoopbackTwilioCarrier
from patter.loopback.twilio_leg import Leg
from tests.loopback.app import CALLER, HUMAN, NUMBER, STREAM, Talk, listen, response, town, url

pytestmark = pytest.mark.anyio


async def test_a_call_rings_streams_and_is_reported_when_the_caller_hangs_up() -> None:
    async with town(answers={"/voice": response(STREAM)}) as (app, carrier):
        leg = carrier.place_call(CALLER, NUMBER)
        await leg.streaming.wait()
        assert leg.status == "in-progress"
        leg.press("4#")
        await app.talks_begun()
        leg.hang_up()
        await leg.over.wait()
    (talk,) = app.talks
    assert [message["event"] for message in talk.messages[:2]] == ["connected", "start"]
    assert talk.named("start")[0]["start"]["customParameters"] == {"token": "one & only"}
    assert talk.named("start")[0]["start"]["callSid"] == leg.call_id
    assert [message["dtmf"]["digit"] for message in talk.named("dtmf")] == ["4", "#"]
    assert talk.messages[-1]["stop"] == {"accountSid": carrier.account_sid, "callSid": leg.call_id}
    (voice,) = app.forms("/voice")
    assert voice["From"] == CALLER
    assert voice["To"] == NUMBER
    assert (voice["CallStatus"], voice["Direction"], voice["CallSid"]) == ("ringing", "inbound", leg.call_id)
    (end,) = app.forms("/number-status")
    assert (end["CallStatus"], end["SequenceNumber"]) == ("completed", "0")
    assert end["CallbackSource"] == "call-progress-events"
    assert int(end["CallDuration"]) <= 5
    assert carrier.violations == []


async def test_the_person_speaks_and_hears_in_real_time() -> None:
    async def talking(talk: Talk) -> None:
        await talk.play(b"\x40" * 1600)
        await talk.mark("said")
        await talk.until("mark")
        await talk.until("stop")

    async with town(answers={"/voice": response(STREAM)}, talking=talking) as (app, carrier):
        leg = carrier.place_call(CALLER, NUMBER, Person(mouth=says(tone(400, 100), after_ms=300), stays_s=1.0))
        await leg.over.wait()
    (talk,) = app.talks
    assert b"\x40" * 1600 in leg.heard
    loud = sum(1 for code in talk.heard if code not in (0x7F, 0xFF))
    assert 700 < loud <= 820
    frames_before_the_mark = [m["event"] for m in talk.messages].index("mark")
    assert frames_before_the_mark >= 5
    assert carrier.violations == []


async def test_the_call_ends_when_the_app_closes_the_stream_and_no_verb_is_left() -> None:
    async def talking(talk: Talk) -> None:
        await talk.until("media", 3)

    stream_status = STREAM.replace('/media">', f'/media" name="leg" statusCallback="{url("/stream")}">')
    async with town(answers={"/voice": response(stream_status)}, talking=talking) as (app, carrier):
        leg = carrier.place_call(CALLER, NUMBER)
        await leg.over.wait()
    assert leg.status == "completed"
    events = [(form["StreamEvent"], form["StreamName"]) for form in app.forms("/stream")]
    assert events == [("stream-started", "leg"), ("stream-stopped", "leg")]
    assert app.forms("/stream")[0]["StreamSid"] == app.talks[0].sid
    assert carrier.violations == []


async def test_the_verbs_after_the_stream_are_carried_out() -> None:
    async def talking(talk: Talk) -> None:
        await talk.until("media", 1)

    bye = f'<Say voice="Polly.Joanna">Bye.</Say><Redirect method="GET">{url("/more")}</Redirect>'
    answers = {"/voice": response(STREAM, bye), "/more": response("<Pause length='0'/>", "<Hangup/>", "<Say>No</Say>")}
    async with town(answers=answers, talking=talking) as (app, carrier):
        leg = carrier.place_call(CALLER, NUMBER)
        await leg.over.wait()
    assert leg.announced == ["Bye."]
    assert leg.heard.strip(b"\xff\x7f")
    assert any(where.startswith("/more?") for where, _ in app.told)
    assert carrier.violations == []


async def test_keys_in_the_sound_are_heard() -> None:
    async def talking(talk: Talk) -> None:
        await talk.play(tones("15*", MULAW_8K))
        await talk.mark("pressed")
        await talk.until("mark")

    async with town(answers={"/voice": response(STREAM)}, talking=talking) as (_, carrier):
        leg = carrier.place_call(CALLER, NUMBER)
        await leg.over.wait()
    assert leg.digits_heard == "15*"


async def test_dial_joins_two_people_who_hear_each_other() -> None:
    ended = url("/ended")
    answers = {
        "/voice": response(f'<Dial action="{ended}" callerId="{NUMBER}"><Number>{HUMAN}</Number></Dial>'),
        "/ended": response("<Hangup/>"),
    }
    async with town(answers=answers) as (app, carrier):
        carrier.people[HUMAN] = Person(mouth=says(tone(700, 200)), stays_s=0.6)
        leg = carrier.place_call(CALLER, NUMBER, Person(mouth=says(hum("Hello?"))))
        await leg.over.wait()
    other = leg.joined_with
    assert other is not None
    assert (other.direction, other.caller, other.to) == ("outbound-dial", NUMBER, HUMAN)
    assert other.joined_with is leg
    assert leg.transferred_to == HUMAN
    assert leg.heard.strip(b"\xff\x7f")
    (after,) = app.forms("/ended")
    assert (after["DialCallStatus"], after["DialCallSid"]) == ("completed", other.call_id)
    assert leg.status == other.status == "completed"
    assert carrier.violations == []


@pytest.mark.parametrize(
    ("person", "status"),
    [
        (Person("busy", rings_s=0), "busy"),
        (Person("reject", rings_s=0), "busy"),
        (Person("no_answer"), "no-answer"),
        (None, "failed"),
    ],
)
async def test_dial_goes_on_when_nobody_comes(person: Person | None, status: str) -> None:
    answers = {
        "/voice": response(f'<Dial timeout="1" action="/ended">{HUMAN}</Dial>'),
        "/ended": response("<Say>Sorry.</Say>"),
    }
    async with town(answers=answers) as (app, carrier):
        if person is not None:
            carrier.people[HUMAN] = person
        leg = carrier.place_call(CALLER, NUMBER)
        await leg.over.wait()
    assert app.forms("/ended")[0]["DialCallStatus"] == status
    assert leg.announced == ["Sorry."]
    assert leg.transferred_to == ""


async def test_a_conference_joins_two_calls_and_ends_with_the_first_who_leaves() -> None:
    room = '<Dial><Conference beep="false" endConferenceOnExit="true">room 1</Conference></Dial>'
    async with town(answers={"/voice": response(room)}) as (_, carrier):
        one = carrier.place_call(CALLER, NUMBER)
        await one.answered.wait()
        two = carrier.place_call(HUMAN, NUMBER, Person(mouth=says(tone(500, 400)), stays_s=0.8))
        await two.over.wait()
        await one.over.wait()
    assert one.joined_with is two
    assert one.heard.strip(b"\xff\x7f")
    assert one.status == "completed"
    assert carrier.violations == []


async def test_a_conference_waits_for_who_starts_it_and_holds_two() -> None:
    def room(form: dict[str, str]) -> str:
        starts = "false" if form["From"] == CALLER else "true"
        return response(
            f'<Dial><Conference startConferenceOnEnter="{starts}">room 1</Conference></Dial><Say>Bye.</Say>'
        )

    async with town(answers={"/voice": room}) as (_, carrier):
        talker = Person(mouth=says(tone(500, 5000)))
        waiting = [carrier.place_call(CALLER, NUMBER, talker) for _ in range(2)]
        for leg in waiting:
            await leg.answered.wait()
        third = carrier.place_call(HUMAN, NUMBER)
        await third.over.wait()
    assert waiting[0].joined_with is None
    assert not waiting[0].heard.strip(b"\xff\x7f")
    assert third.announced == ["Bye."]
    assert "two members already" in carrier.violations[0]


async def test_somebody_who_hears_nothing_hangs_up() -> None:
    async with town(answers={"/voice": response("<Pause length='30'/>")}) as (_, carrier):
        leg = carrier.place_call(CALLER, NUMBER, Person(silence_s=0.2))
        await leg.over.wait()
    assert leg.status == "completed"


async def test_a_caller_who_gives_up_while_it_rings_is_reported_canceled() -> None:
    carriers: list[LoopbackTwilioCarrier] = []

    def hang_up_first(form: dict[str, str]) -> str:
        carriers[0].legs[form["CallSid"]].hang_up()
        return response(STREAM)

    async with town(answers={"/voice": hang_up_first}) as (app, carrier):
        carriers.append(carrier)
        leg = carrier.place_call(CALLER, NUMBER)
        await leg.over.wait()
    assert app.talks == []
    assert app.forms("/number-status")[0]["CallStatus"] == leg.status == "canceled"
    assert carrier.violations == []


async def test_keys_pressed_at_one_telephone_are_heard_at_the_other() -> None:
    async with town(answers={"/voice": response(f"<Dial>{HUMAN}</Dial>")}) as (_, carrier):
        carrier.people[HUMAN] = Person(stays_s=0.3)
        leg = carrier.place_call(CALLER, NUMBER)
        leg.press("9")  # nobody notices
        with anyio.fail_after(5):
            while leg.joined_with is None:
                await anyio.sleep(0.01)
        leg.press("77")
        await leg.over.wait()
    assert leg.joined_with.digits_heard == "77"


async def test_keys_may_be_played_by_a_verb() -> None:
    async with town(answers={"/voice": response('<Play digits="ww1"/>', "<Play>/hello.wav</Play>")}) as (_, carrier):
        leg = carrier.place_call(CALLER, NUMBER)
        await leg.over.wait()
    assert leg.digits_heard == "1"
    assert leg.announced == [url("/hello.wav")]


async def test_a_failure_of_the_test_comes_out_as_it_is_and_the_calls_end() -> None:
    legs: list[Leg] = []

    async def fail() -> None:
        async with town(answers={"/voice": response(STREAM)}) as (_, carrier):
            legs.append(carrier.place_call(CALLER, NUMBER))
            await legs[0].streaming.wait()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert legs[0].status == "completed"


async def test_a_test_that_runs_out_of_time_leaves_nothing_behind() -> None:
    with anyio.move_on_after(1.0) as scope:
        async with town(answers={"/voice": response(STREAM)}) as (_, carrier):
            leg = carrier.place_call(CALLER, NUMBER)
            await leg.over.wait()
    assert scope.cancelled_caught
    assert leg.streaming.is_set()


def test_a_carrier_that_was_not_started_says_so() -> None:
    carrier = LoopbackTwilioCarrier()
    carrier.add_number(NUMBER)
    with pytest.raises(RuntimeError, match="start the carrier first"):
        carrier.place_call(CALLER, NUMBER)
    with pytest.raises(RuntimeError, match="start the carrier first"):
        carrier.refuse_next(500, 20500, "Oops")


async def test_a_number_without_a_webhook_turns_calls_away() -> None:
    async with LoopbackTwilioCarrier() as carrier:
        carrier.add_number(NUMBER)
        leg = carrier.place_call(CALLER, NUMBER)
        await leg.over.wait()
        with pytest.raises(ValueError, match="no number of this account"):
            carrier.place_call(CALLER, HUMAN)
    assert leg.status == "failed"
    assert "no VoiceUrl" in carrier.violations[0]


async def test_a_rejected_call_was_never_answered() -> None:
    async with town(answers={"/voice": response('<Reject reason="busy"/>')}) as (app, carrier):
        leg = carrier.place_call("anonymous", NUMBER)
        await leg.over.wait()
    assert leg.status == "busy"
    assert not leg.answered.is_set()
    assert app.forms("/number-status")[0]["CallDuration"] == "0"


async def test_the_fallback_is_asked_when_the_webhook_fails() -> None:
    answers = {"/voice": "<Response><Say>", "/spare": response("<Say>One moment.</Say>")}
    async with town(answers=answers) as (app, carrier):
        carrier.numbers[NUMBER].voice_fallback_url = url("/spare")
        leg = carrier.place_call(CALLER, NUMBER)
        await leg.over.wait()
    assert leg.announced == ["One moment."]
    assert app.forms("/spare")[0]["ErrorCode"] == "12100"
    assert "12100" in carrier.violations[0]


BAD_ANSWERS = [
    ("<Response><Sy>Hello</Sy></Response>", "<Sy> is no verb"),
    ('<Response><Say volume="11">Hello</Say></Response>', "no attribute 'volume'"),
    ("<Response><Dial>5551234</Dial></Response>", "13223"),
    (f'<Response><Dial callerId="+19990000000">{HUMAN}</Dial></Response>', "13214"),
    ('<Response><Connect><Stream url="wss://agent.example.test/nowhere"/></Connect></Response>', "31920"),
    ('<Response><Connect><Stream url="ws://agent.example.test/media"/></Connect></Response>', "31922"),
    (STREAM, "12100"),
    ("<Response><Say></Say></Response>", "<Say> is empty"),
    ("<Response><Hangup/><Say>" + "a" * 4097 + "</Say></Response>", "longer than 4096"),
    ('<Response><Redirect method="PUT">/status</Redirect></Response>', "not one of GET, POST"),
    ("<Response><Connect/></Response>", "connects to nothing"),
    ("<Response><Dial/></Response>", "names nobody"),
    ("<Response><Connect><Room>x</Room></Connect></Response>", "may not hold <Room>"),
    (f"<Response><Dial><Number>{HUMAN}</Number><Number>{CALLER}</Number></Dial></Response>", "the first <Number>"),
    ('<Response><Connect><Stream url="wss://agent.example.test/media?a=b"/></Connect></Response>', "12100"),
    ("<Response><Say>Hi</Say><Reject/></Response>", "<Reject> has no effect"),
]


@pytest.mark.parametrize(("answer", "why"), BAD_ANSWERS, ids=[why for _, why in BAD_ANSWERS])
async def test_what_the_carrier_would_not_take_is_noted(answer: str, why: str) -> None:
    async def talking(talk: Talk) -> None:
        return

    async with town(answers={"/voice": answer}, talking=talking) as (_, carrier):
        carrier.people[HUMAN] = Person("busy", rings_s=0)
        leg = carrier.place_call(CALLER, NUMBER)
        await leg.over.wait()
    assert any(why in violation for violation in carrier.violations), carrier.violations


@pytest.mark.parametrize(("status", "kind", "why"), [(500, "text/xml", "answered 500"), (200, "text/plain", "12300")])
async def test_a_webhook_that_fails_ends_the_call(status: int, kind: str, why: str) -> None:
    async with town(answers={"/voice": response("<Say>Hi</Say>")}, status=status, content_type=kind) as (_, carrier):
        leg = carrier.place_call(CALLER, NUMBER)
        await leg.over.wait()
    assert leg.status == "failed"
    assert why in carrier.violations[0]


async def test_an_empty_answer_ends_the_call() -> None:
    async with town() as (_, carrier):
        leg = carrier.place_call(CALLER, NUMBER)
        await leg.over.wait()
    assert leg.status == "completed"
    assert carrier.violations == []


async def test_what_is_said_wrongly_on_the_socket_is_noted() -> None:
    async def talking(talk: Talk) -> None:
        await talk.socket.send_bytes(b"sound")
        await talk.socket.send_str("{}")
        await talk.play(b"RIFF1234")
        await talk.socket.send_str('{"event":"media","streamSid":"MZ1","media":{"payload":"/w=="}}')
        await talk.until("media", 2)
        await talk.socket.close(code=1011)

    async with town(answers={"/voice": response(STREAM)}, talking=talking) as (_, carrier):
        leg = carrier.place_call(CALLER, NUMBER)
        await leg.over.wait()
    wrong = "\n".join(carrier.violations)
    assert all(word in wrong for word in ("binary", "event", "WAV", "MZ1", "31921"))


async def test_many_calls_at_once() -> None:
    async with town(answers={"/voice": response(STREAM)}, talking=listen) as (app, carrier):
        legs = [carrier.place_call(CALLER, NUMBER, Person(stays_s=0.3)) for _ in range(8)]
        async with anyio.create_task_group() as tasks:
            for leg in legs:
                tasks.start_soon(leg.over.wait)
    assert len({talk.sid for talk in app.talks}) == 8
    assert {leg.status for leg in legs} == {"completed"}
    assert carrier.violations == []
