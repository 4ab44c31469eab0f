"""Who answered: a message for machines, to its last word; nothing at all changes for people."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel
import pytest

from patter.events import (
    AgentSaid,
    CallEnded,
    CallerPartial,
    CallerSaid,
    CallerSpeechStarted,
    Interrupted,
    MachineDetected,
    ToolCalled,
    UsageMeasured,
)
from patter.exceptions import PatterError
from patter.models import Agent, Guardrail
from patter.signals import TextDelta, ToolRequest
from tests.support.parts import MS_PER_CHARACTER, Cast, Stage, set_stage
from tests.support.virtual_time import VIRTUAL_BACKEND

pytestmark = pytest.mark.anyio
GREETING = "Hello, this is Riverside Dental, I am calling about your appointment, do you have a minute?"
MESSAGE = "This is Riverside Dental for {name}. Please call us back. Thank you."
SPOKEN = "This is Riverside Dental for Ada. Please call us back. Thank you."


@pytest.fixture
def anyio_backend() -> object:
    return VIRTUAL_BACKEND


def outbound(**changes: object) -> Agent:
    values: dict[str, object] = {
        "system_prompt": "Be brief.",
        "provider": "pipeline",
        "first_message": GREETING,
        "variables": {"name": "Ada"},
    }
    return Agent(**(values | changes))  # type: ignore[arg-type]


async def play(stage: Stage, scene: Callable[[Stage], Awaitable[None]]) -> CallEnded:
    """Run the call to its own end while `scene` happens on the line."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.session.run)
        await anyio.lowlevel.checkpoint()
        await scene(stage)
    ended = stage.events[-1]
    assert isinstance(ended, CallEnded)
    return ended


def last_said(stage: Stage) -> AgentSaid:
    said = stage.of(AgentSaid)[-1]
    assert isinstance(said, AgentSaid)
    return said


async def test_a_machine_gets_the_message_word_for_word_after_the_beep_and_the_call_ends_when_it_was_heard() -> None:
    stage = set_stage(Cast(agent=outbound(), voicemail=MESSAGE))

    async def scene(stage: Stage) -> None:
        await stage.line.silent(1.0)
        stage.line.answers("machine", ready=False)
        await stage.line.speaks(3.0)  # the machine's greeting goes on
        stage.line.answers("machine")

    ended = await play(stage, scene)
    assert ended.reason == "voicemail_left"
    assert (last_said(stage).text, last_said(stage).kind, last_said(stage).interrupted) == (SPOKEN, "say", False)
    cut = stage.of(Interrupted)
    assert len(cut) == 1
    assert stage.line.hung_up
    ready_at = stage.of(MachineDetected)[1].at
    assert ended.at - ready_at >= (len(SPOKEN) - 2) * MS_PER_CHARACTER / 1000  # not when it was sent, when it was heard
    assert not [sent for sent, _, _ in stage.line.played if cut[0].at < sent < ready_at]  # silent while it greets
    assert not stage.of(CallerSaid, CallerSpeechStarted)


async def test_the_greeting_of_a_machine_is_no_turn_and_its_noise_cuts_no_message() -> None:
    stage = set_stage(Cast(agent=outbound(), voicemail=MESSAGE, utterances=["please leave a message", "beep"]))

    async def scene(stage: Stage) -> None:
        await stage.line.speaks(1.0)  # it has begun to greet before anybody knows
        stage.line.answers("machine", ready=False)
        await stage.line.silent(2.0)
        stage.line.answers("machine")
        await stage.line.silent(0.5)
        stage.line.presses("5")
        stage.line.types("hello?")
        await stage.line.speaks(2.0)

    ended = await play(stage, scene)
    assert ended.reason == "voicemail_left"
    assert last_said(stage).text == SPOKEN
    assert stage.responder.asked == []
    assert not stage.of(CallerSaid)


async def test_words_that_are_understood_after_the_verdict_do_not_count_and_nothing_more_is_transcribed() -> None:
    stage = set_stage(Cast(agent=outbound(), voicemail=MESSAGE, utterances=["please leave a message"]))

    async def scene(stage: Stage) -> None:
        await stage.line.speaks(1.0)
        await stage.line.silent(0.3)  # the recogniser is at work
        stage.line.answers("machine", ready=False)
        await anyio.lowlevel.checkpoint()
        heard_ms = stage.transcriber.heard_ms
        await stage.line.speaks(3.0)
        stage.line.answers("machine")
        await stage.line.speaks(2.0)
        assert stage.transcriber.heard_ms - heard_ms <= 20

    ended = await play(stage, scene)
    assert ended.reason == "voicemail_left"
    assert not stage.of(CallerPartial, CallerSaid)
    assert len(stage.of(CallerSpeechStarted)) == 1


async def test_a_verdict_that_comes_only_when_the_machine_listens_is_enough() -> None:
    stage = set_stage(Cast(agent=outbound(), voicemail=MESSAGE))

    async def scene(stage: Stage) -> None:
        await anyio.sleep(2.0)
        stage.line.answers("machine")
        stage.line.answers("machine")  # its webhook comes twice

    ended = await play(stage, scene)
    assert (ended.reason, last_said(stage).text) == ("voicemail_left", SPOKEN)
    assert len(stage.of(MachineDetected)) == 1
    assert stage.synthesizer.spoken[-3:] == ["This is Riverside Dental for Ada.", "Please call us back.", "Thank you."]
    detected = [event for event in stage.of(UsageMeasured) if getattr(event, "model", "") == "amd"]
    assert [getattr(event, "amounts", None) for event in detected] == [{"calls": 1.0}]


async def test_a_carrier_that_never_hears_the_beep_delays_the_message_by_thirty_seconds_only() -> None:
    stage = set_stage(Cast(agent=outbound(first_message=""), voicemail=MESSAGE))

    async def scene(stage: Stage) -> None:
        stage.line.answers("machine", ready=False)

    ended = await play(stage, scene)
    assert ended.reason == "voicemail_left"
    assert stage.line.played[0][0] - stage.of(MachineDetected)[0].at == pytest.approx(30.0, abs=0.2)


@pytest.mark.parametrize("answered_by", ["human", "unknown"])
async def test_a_person_is_neither_kept_waiting_nor_disturbed_by_the_verdict(answered_by: str) -> None:
    told = set_stage(Cast(agent=outbound(), utterances=["yes I do"], voicemail=MESSAGE))
    untold = set_stage(Cast(agent=outbound(), utterances=["yes I do"]))
    heard = []
    for stage, answer in ((told, answered_by), (untold, "")):

        async def scene(stage: Stage, answer: str = answer) -> None:
            await stage.line.silent(1.0)
            if answer:
                stage.line.answers(answer)  # type: ignore[arg-type]
            await stage.line.silent(4.0)
            await stage.line.speaks(0.6)
            await stage.line.silent(3.0)
            stage.line.leaves()

        began = stage.clock.now()
        ended = await play(stage, scene)
        assert (ended.reason, ended.detail) == ("caller_hung_up", "")
        heard.append(
            [(type(event), round(event.at - began, 3)) for event in stage.of(AgentSaid, CallerSaid, Interrupted)]
        )
    assert heard[0] == heard[1]
    assert len(told.of(MachineDetected)) == 1


async def test_without_a_message_the_call_ends_as_answered_by_a_machine() -> None:
    stage = set_stage(Cast(agent=outbound()))

    async def scene(stage: Stage) -> None:
        await anyio.sleep(1.0)
        stage.line.answers("machine", ready=False)

    ended = await play(stage, scene)
    assert ended.reason == "machine_answered"
    assert "no message" in ended.detail
    assert ended.duration_s == pytest.approx(1.0, abs=0.1)


async def test_a_fax_gets_nothing() -> None:
    stage = set_stage(Cast(agent=outbound(), voicemail=MESSAGE))

    async def scene(stage: Stage) -> None:
        await anyio.sleep(1.0)
        stage.line.answers("fax", ready=False)

    ended = await play(stage, scene)
    assert (ended.reason, ended.detail) == ("machine_answered", "A fax machine answered.")


@pytest.mark.parametrize(
    ("after_s", "left"), [(1.0, "The message was not left."), (4.0, "The message was not heard whole.")]
)
async def test_a_machine_that_hangs_up_first_has_not_heard_the_message(after_s: float, left: str) -> None:
    stage = set_stage(Cast(agent=outbound(), voicemail=MESSAGE))

    async def scene(stage: Stage) -> None:
        stage.line.answers("machine", ready=False)
        await anyio.sleep(min(after_s, 3.0))
        if after_s > 3.0:
            stage.line.answers("machine")
            await anyio.sleep(after_s - 3.0)
        stage.line.leaves()

    ended = await play(stage, scene)
    assert (ended.reason, ended.detail) == ("caller_hung_up", left)


async def test_the_carriers_own_word_that_the_line_is_gone_says_so_too() -> None:
    stage = set_stage(Cast(agent=outbound(), voicemail=MESSAGE))

    async def scene(stage: Stage) -> None:
        stage.line.answers("machine")
        await anyio.sleep(1.0)
        await stage.session.hang_up("caller_hung_up", "Normal clearing.")

    ended = await play(stage, scene)
    assert ended.detail == "Normal clearing. The message was not heard whole."


async def test_the_message_is_not_screened() -> None:
    rail = Guardrail("no-callbacks", blocked_terms=["call us back"], replacement="Nothing.")
    stage = set_stage(Cast(agent=outbound(guardrails=[rail]), voicemail=MESSAGE))

    async def scene(stage: Stage) -> None:
        stage.line.answers("machine")

    await play(stage, scene)
    assert last_said(stage).text == SPOKEN


async def test_tools_that_were_asked_for_are_not_started_for_a_machine() -> None:
    ran: list[object] = []
    tool = {"name": "note", "description": "", "parameters": {}, "handler": lambda *given: ran.append(given)}
    asks: list[TextDelta | ToolRequest] = [TextDelta("One moment. "), ToolRequest("t1", "note", "{}")]
    stage = set_stage(
        Cast(agent=outbound(first_message="", tools=[tool]), voicemail=MESSAGE, lines=[list(asks)], thinking_s=0.5)
    )

    async def scene(stage: Stage) -> None:
        stage.line.types("please leave a message")
        await anyio.sleep(0.49)
        stage.line.answers("machine", ready=False)
        await anyio.sleep(2.0)
        stage.line.answers("machine")

    ended = await play(stage, scene)
    assert ended.reason == "voicemail_left"
    assert ran == []
    assert not stage.of(ToolCalled)


async def test_a_goodbye_said_to_a_machines_greeting_does_not_keep_the_message_from_being_left() -> None:
    bye: list[TextDelta | ToolRequest] = [TextDelta("I will try again. Goodbye!"), ToolRequest("t1", "end_call", "{}")]
    stage = set_stage(Cast(agent=outbound(first_message=""), voicemail=MESSAGE, lines=[list(bye)]))

    async def scene(stage: Stage) -> None:
        stage.line.types("nobody is home")
        await anyio.sleep(0.8)
        stage.line.answers("machine")

    ended = await play(stage, scene)
    assert (ended.reason, last_said(stage).text) == ("voicemail_left", SPOKEN)


async def test_nobody_outside_can_talk_to_a_machine_or_cut_the_message() -> None:
    stage = set_stage(Cast(agent=outbound(), voicemail=MESSAGE))

    async def scene(stage: Stage) -> None:
        stage.line.answers("machine")
        await anyio.sleep(1.0)
        with pytest.raises(PatterError, match="machine"):
            await stage.session.say("Hello?")
        await stage.session.interrupt()
        await stage.session.hang_up_after_goodbye("handler_ended")
        await stage.session.say_goodbye("We are closing.", "engine_stopped")

    ended = await play(stage, scene)
    assert (ended.reason, last_said(stage).text) == ("voicemail_left", SPOKEN)


async def test_what_was_to_be_said_before_is_not_taken_for_the_message() -> None:
    stage = set_stage(Cast(agent=outbound(first_message=""), voicemail=MESSAGE))

    async def scene(stage: Stage) -> None:
        await anyio.sleep(0.5)
        stage.line.answers("machine")
        await stage.session.say("One more thing.")

    ended = await play(stage, scene)
    assert ended.reason == "voicemail_left"
    assert [event.text for event in stage.of(AgentSaid) if isinstance(event, AgentSaid) and event.text] == [SPOKEN]


async def test_a_verdict_during_the_last_goodbye_changes_nothing() -> None:
    stage = set_stage(Cast(agent=outbound(), voicemail=MESSAGE))

    async def scene(stage: Stage) -> None:
        await anyio.sleep(1.0)
        await stage.session.say_goodbye("We are closing.", "engine_stopped")
        stage.line.answers("machine")

    ended = await play(stage, scene)
    assert (ended.reason, last_said(stage).text) == ("engine_stopped", "We are closing.")


# --------------------------------------------------------------------------- a voice that fails


async def test_without_a_voice_the_carrier_says_the_message() -> None:
    stage = set_stage(Cast(agent=outbound(), voicemail=MESSAGE, voice=False))
    stage.line.can_announce, stage.line.answer_s = True, 0.3

    async def scene(stage: Stage) -> None:
        stage.line.answers("machine")

    ended = await play(stage, scene)
    assert ended.reason == "voicemail_left"
    assert stage.line.announced == [SPOKEN]


async def test_a_voice_that_breaks_off_is_replaced_by_the_carriers_which_says_all_of_it() -> None:
    stage = set_stage(Cast(agent=outbound(first_message=""), voicemail=MESSAGE))
    stage.line.can_announce, stage.line.leaves_first = True, True  # the stream ends before the carrier's answer
    stage.synthesizer.breaks_after_ms = 2000

    async def scene(stage: Stage) -> None:
        stage.line.answers("machine")

    ended = await play(stage, scene)
    assert ended.reason == "voicemail_left"
    assert "the voice is gone" in ended.detail
    assert stage.line.announced == [SPOKEN]


async def test_a_machine_that_hangs_up_on_the_carriers_voice_has_not_heard_the_message() -> None:
    stage = set_stage(Cast(agent=outbound(), voicemail=MESSAGE, voice=False))
    stage.line.can_announce, stage.line.answer_s, stage.line.refusal = True, 4.0, "The caller hung up."

    async def scene(stage: Stage) -> None:
        stage.line.answers("machine")
        await anyio.sleep(3.0)
        await stage.session.hang_up("caller_hung_up")

    ended = await play(stage, scene)
    assert (ended.reason, ended.detail) == ("caller_hung_up", "The message was not heard whole.")


@pytest.mark.parametrize(("can_announce", "refusal"), [(False, ""), (True, "The carrier refused it.")])
async def test_with_no_voice_at_all_the_message_is_not_left_and_the_end_says_why(
    can_announce: bool, refusal: str
) -> None:
    stage = set_stage(Cast(agent=outbound(first_message=""), voicemail=MESSAGE))
    stage.line.can_announce, stage.line.refusal = can_announce, refusal
    stage.synthesizer.breaks_after_ms = 0

    async def scene(stage: Stage) -> None:
        stage.line.answers("machine")

    ended = await play(stage, scene)
    assert ended.reason == "machine_answered"
    assert "the voice is gone" in ended.detail
    assert refusal in ended.detail


async def test_a_voice_that_never_begins_is_not_waited_for() -> None:
    stage = set_stage(Cast(agent=outbound(first_message=""), voicemail=MESSAGE))
    stage.line.can_announce = True
    stage.synthesizer.delay = 600.0

    async def scene(stage: Stage) -> None:
        stage.line.answers("machine")

    ended = await play(stage, scene)
    assert (ended.reason, stage.line.announced) == ("voicemail_left", [SPOKEN])
    assert ended.duration_s == pytest.approx(10.0, abs=0.5)


async def test_a_message_longer_than_any_mailbox_ends_nevertheless() -> None:
    stage = set_stage(Cast(agent=outbound(first_message=""), voicemail="word " * 1000))

    async def scene(stage: Stage) -> None:
        stage.line.answers("machine")

    ended = await play(stage, scene)
    assert ended.reason == "machine_answered"
    assert "not heard whole" in ended.detail
