"""A whole call over faked parts in virtual time: greeting, turns, interruption, false alarm, tools, endings."""

from __future__ import annotations

import json

import anyio
import anyio.lowlevel
import pytest

from patter.events import (
    AgentSaid,
    CallEnded,
    CallerAcknowledged,
    CallerSaid,
    CallStarted,
    Interrupted,
    LineMeasured,
    ReplyPaused,
    ReplyReached,
    ReplyResumed,
    ToolReturned,
    UsageMeasured,
)
from patter.models import Agent, Guardrail
from patter.signals import PlayoutEnded, TextDelta, ToolRequest
from tests.support.parts import Cast, Stage, perform, set_stage
from tests.support.virtual_time import VIRTUAL_BACKEND

pytestmark = pytest.mark.anyio
GREETING = "Hello, this is Riverside Dental, how can I help you today?"


@pytest.fixture
def anyio_backend() -> object:
    return VIRTUAL_BACKEND


def agent(**changes: object) -> Agent:
    values: dict[str, object] = {"system_prompt": "Be brief.", "provider": "pipeline"}
    return Agent(**(values | changes))  # type: ignore[arg-type]


async def test_a_spoken_question_gets_a_spoken_answer_and_a_turn_that_says_how_long_it_took() -> None:
    stage = set_stage(Cast(utterances=["what time do you open"], lines=["We open at eight."]))

    async def scene(stage: Stage) -> None:
        await stage.line.silent(0.5)
        await stage.line.speaks(1.0)
        await stage.line.silent(4.0)

    await perform(stage, scene)
    said = stage.of(CallerSaid)[0]
    assert isinstance(said, CallerSaid)
    assert said.text == "what time do you open"
    assert said.recognition_at - said.speech_ended_at == pytest.approx(0.2, abs=0.03)
    assert said.transcript_at - said.recognition_at == pytest.approx(0.3, abs=0.03)
    playing = next(e for e in stage.of(ReplyReached) if isinstance(e, ReplyReached) and e.stage == "playing")
    assert playing.reached_at - said.speech_ended_at < 1.0
    answer = stage.of(AgentSaid)[-1]
    assert isinstance(answer, AgentSaid)
    assert (answer.text, answer.interrupted) == ("We open at eight.", False)
    assert [entry["role"] for entry in stage.session.history] == ["user", "assistant"]


async def test_an_interruption_stops_the_sound_at_once_and_keeps_only_what_was_heard() -> None:
    stage = set_stage(Cast(agent=agent(first_message=GREETING), utterances=["can you help me"], lines=["Yes, I can."]))

    async def scene(stage: Stage) -> None:
        await stage.line.silent(1.5)
        await stage.line.speaks(0.9)
        await stage.line.silent(3.0)

    await perform(stage, scene)
    paused, cut = stage.of(ReplyPaused)[0], stage.of(Interrupted)[0]
    assert isinstance(paused, ReplyPaused)
    assert isinstance(cut, Interrupted)
    assert stage.line.cleared_at[0] - paused.voice_began_at <= 0.2
    assert cut.heard
    assert f"{cut.heard} {cut.dropped}" == GREETING
    assert not [sent for sent, reply, _ in stage.line.played if reply == cut.reply_id and sent > paused.at]
    context = stage.responder.asked[0].messages
    assert context[0] == {"role": "assistant", "content": cut.heard}
    assert context[1]["content"] == "can you help me"


async def test_an_acknowledgement_holds_the_sound_and_lets_it_go_on_where_it_stopped() -> None:
    stage = set_stage(Cast(agent=agent(first_message=GREETING), utterances=["uh-huh"]))

    async def scene(stage: Stage) -> None:
        await stage.line.silent(1.5)
        await stage.line.speaks(0.3)
        await stage.line.silent(5.0)

    await perform(stage, scene)
    paused, resumed, said = stage.of(ReplyPaused)[0], stage.of(ReplyResumed)[0], stage.of(AgentSaid)[0]
    assert isinstance(paused, ReplyPaused)
    assert isinstance(resumed, ReplyResumed)
    assert isinstance(said, AgentSaid)
    assert resumed.why == "acknowledgement"
    assert (said.text, said.interrupted) == (GREETING, False)
    assert stage.of(CallerAcknowledged)
    assert not stage.of(CallerSaid)
    again = [at_ms for sent, _, at_ms in stage.line.played if sent >= resumed.at]
    assert again[0] == pytest.approx(paused.heard_ms, abs=1)


async def test_a_cough_without_words_resumes_and_is_no_turn() -> None:
    stage = set_stage(Cast(agent=agent(first_message=GREETING), utterances=[""]))

    async def scene(stage: Stage) -> None:
        await stage.line.silent(1.0)
        await stage.line.speaks(0.25)
        await stage.line.silent(5.0)

    await perform(stage, scene)
    assert [type(event) for event in stage.of(ReplyPaused, ReplyResumed, Interrupted, CallerSaid)] == [
        ReplyPaused,
        ReplyResumed,
    ]


async def test_a_reply_that_ends_in_the_ear_just_when_it_is_held_silences_nothing_after_it() -> None:
    stage = set_stage(Cast(agent=agent(first_message=GREETING), utterances=["hello there"], lines=["Hello to you."]))

    async def scene(stage: Stage) -> None:
        await stage.line.silent(1.5)
        await stage.line.speaks(0.24)
        assert stage.of(ReplyPaused)
        stage.line.signal(PlayoutEnded(1, stage.clock.now()))  # was on its way when the sound was stopped
        await stage.line.speaks(0.3)
        await stage.line.silent(4.0)

    await perform(stage, scene)
    said = stage.of(AgentSaid)[-1]
    assert isinstance(said, AgentSaid)
    assert (said.text, said.interrupted) == ("Hello to you.", False)
    assert not stage.of(ReplyResumed)  # there was nothing left to resume
    assert [reply for _, reply, _ in stage.line.played][-1] == 2


async def test_words_that_go_on_before_the_answer_is_heard_replace_it() -> None:
    stage = set_stage(
        Cast(utterances=["I would like to book", "a table"], lines=["Sure.", "A table it is."], thinking_s=1.0)
    )

    async def scene(stage: Stage) -> None:
        await stage.line.speaks(0.8)
        await stage.line.silent(0.9)
        await stage.line.speaks(0.6)
        await stage.line.silent(5.0)

    await perform(stage, scene)
    assert [event.text for event in stage.of(CallerSaid) if isinstance(event, CallerSaid)] == [
        "I would like to book",
        "a table",
    ]
    assert stage.responder.asked[-1].messages[-1]["content"] == "I would like to book a table"
    assert {reply for _, reply, _ in stage.line.played} == {2}


async def test_a_typed_line_takes_the_floor_at_once() -> None:
    stage = set_stage(Cast(agent=agent(first_message=GREETING), lines=["Of course."]))

    async def scene(stage: Stage) -> None:
        await anyio.sleep(1.0)
        stage.line.types("stop please")
        await anyio.sleep(3.0)

    await perform(stage, scene)
    assert [type(event) for event in stage.of(Interrupted, CallerSaid)] == [Interrupted, CallerSaid]
    assert stage.session.history[-1]["text"] == "Of course."


async def test_digits_pressed_quickly_are_one_entry() -> None:
    stage = set_stage(Cast(lines=["Thank you."]))

    async def scene(stage: Stage) -> None:
        for digit in "4711":
            stage.line.presses(digit)
            await anyio.sleep(0.3)
        await anyio.sleep(4.0)

    await perform(stage, scene)
    assert [event.text for event in stage.of(CallerSaid) if isinstance(event, CallerSaid)] == ["[DTMF: 4711]"]


async def test_a_tool_runs_once_and_its_result_reaches_the_model() -> None:
    calls: list[dict[str, object]] = []

    def find(arguments: dict[str, object], context: dict[str, object]) -> dict[str, object]:
        calls.append(arguments)
        return {"slots": ["nine", "ten"]}

    tool = {
        "name": "find_slots",
        "description": "",
        "parameters": {"type": "object", "properties": {"day": {"type": "string"}}},
        "handler": find,
    }
    asks = [TextDelta("One moment. "), ToolRequest("t1", "find_slots", '{"day": "tuesday"}')]
    stage = set_stage(
        Cast(agent=agent(tools=[tool]), utterances=["any slots on tuesday"], lines=[list(asks), "Nine or ten."])
    )

    async def scene(stage: Stage) -> None:
        await stage.line.speaks(0.8)
        await stage.line.silent(6.0)

    await perform(stage, scene)
    assert calls == [{"day": "tuesday"}]
    returned = stage.of(ToolReturned)[0]
    assert isinstance(returned, ToolReturned)
    assert returned.ok
    assert stage.session.history[-1]["text"] == "One moment. Nine or ten."
    result = stage.responder.asked[1].messages[-1]
    assert result["role"] == "tool"
    assert json.loads(result["content"]) == {"slots": ["nine", "ten"]}


async def test_a_goodbye_is_heard_before_the_agent_hangs_up() -> None:
    goodbye: list[TextDelta | ToolRequest] = [
        TextDelta("Goodbye!"),
        ToolRequest("t1", "end_call", '{"reason": "done"}'),
    ]
    stage = set_stage(Cast(utterances=["bye"], lines=[list(goodbye)]))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.session.run)
        await anyio.lowlevel.checkpoint()
        await stage.line.speaks(0.5)
        await stage.line.silent(3.0)
    ended, said = stage.of(CallEnded)[0], stage.of(AgentSaid)[0]
    assert isinstance(ended, CallEnded)
    assert isinstance(said, AgentSaid)
    assert ended.reason == "agent_ended"
    assert (said.text, said.interrupted) == ("Goodbye!", False)
    assert stage.line.hung_up


async def test_nothing_blocked_is_ever_synthesised() -> None:
    rail = Guardrail("no-diagnosis", blocked_terms=["you have cancer"], replacement="Please ask the doctor.")
    stage = set_stage(
        Cast(
            agent=agent(guardrails=[rail]), utterances=["what is it"], lines=["Well. You have\ncancer I think. Really."]
        )
    )

    async def scene(stage: Stage) -> None:
        await stage.line.speaks(0.5)
        await stage.line.silent(6.0)

    await perform(stage, scene)
    assert not any("cancer" in text for text in stage.synthesizer.spoken)
    assert stage.synthesizer.spoken[-1] == "Please ask the doctor."


async def test_the_caller_hanging_up_ends_the_call_with_that_reason() -> None:
    stage = set_stage(Cast(agent=agent(first_message=GREETING)))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.session.run)
        await anyio.sleep(1.0)
        stage.line.leaves()
    kinds = [type(event) for event in stage.events]
    assert kinds[0] is CallStarted
    assert kinds[-1] is CallEnded
    told = [kind for kind in kinds if kind is not UsageMeasured]
    assert told[-4:] == [Interrupted, AgentSaid, LineMeasured, CallEnded]
    assert stage.events[-1].reason == "caller_hung_up"  # type: ignore[attr-defined]


async def test_a_part_that_breaks_ends_the_call_as_failed_and_closes_the_line() -> None:
    stage = set_stage(Cast(utterances=["hello"], lines=[[None]]))  # type: ignore[list-item]

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.session.run)
        await anyio.lowlevel.checkpoint()
        await stage.line.speaks(0.5)
        await stage.line.silent(2.0)
    ended = stage.events[-1]
    assert isinstance(ended, CallEnded)
    assert ended.reason == "failed"
    assert stage.line.hung_up


async def test_a_changed_agent_answers_the_next_turn() -> None:
    stage = set_stage(Cast(lines=["One.", "Two."]))

    async def scene(stage: Stage) -> None:
        stage.line.types("first")
        await anyio.sleep(3.0)
        stage.session.update(agent(system_prompt="Be long."), "v2")
        stage.line.types("second")
        await anyio.sleep(3.0)

    await perform(stage, scene)
    assert [ask.system_prompt for ask in stage.responder.asked] == ["Be brief.", "Be long."]
