"""Goodbyes: what ends a call is heard first, and neither the caller nor a lost voice keeps the call from ending."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel
import pytest

from patter.events import AgentSaid, CallEnded, CallerSaid, Interrupted
from patter.models import Agent
from tests.support.parts import MS_PER_CHARACTER, Cast, Stage, set_stage
from tests.support.virtual_time import VIRTUAL_BACKEND

pytestmark = pytest.mark.anyio
GOODBYE = "We are closing now. Please call again tomorrow. Goodbye."
LONG = "This goes on for a long while, because there is much to tell about our opening hours and our prices."


@pytest.fixture
def anyio_backend() -> object:
    return VIRTUAL_BACKEND


def stage_of(greeting: str = LONG, *, voice: bool = True, utterances: list[str] | None = None) -> Stage:
    agent = Agent("Be brief.", provider="pipeline", first_message=greeting)
    return set_stage(Cast(agent=agent, voice=voice, utterances=utterances or []))


async def play(stage: Stage, scene: Callable[[Stage], Awaitable[None]]) -> CallEnded:
    """Run the call to its own end while `scene` happens on the line."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.session.run)
        await anyio.lowlevel.checkpoint()
        await scene(stage)
    ended = stage.events[-1]
    assert isinstance(ended, CallEnded)
    return ended


async def say_goodbye(stage: Stage) -> None:
    await anyio.sleep(1.0)
    await stage.session.say_goodbye(GOODBYE, "engine_stopped", "The phone line was closed.")


async def test_a_goodbye_cuts_what_is_being_said_and_is_heard_to_its_end() -> None:
    stage = stage_of()
    ended = await play(stage, say_goodbye)
    assert (ended.reason, ended.detail) == ("engine_stopped", "The phone line was closed.")
    said = [event for event in stage.of(AgentSaid) if isinstance(event, AgentSaid)]
    assert [(event.text == GOODBYE, event.interrupted) for event in said] == [(False, True), (True, False)]
    assert ended.duration_s == pytest.approx(1.0 + (len(GOODBYE) - 2) * MS_PER_CHARACTER / 1000, abs=0.5)


async def test_the_caller_speaking_does_not_keep_the_line_open() -> None:
    stage = stage_of(utterances=["wait a minute please"])

    async def scene(stage: Stage) -> None:
        await say_goodbye(stage)
        await stage.line.speaks(1.5)
        stage.line.types("hello?")

    ended = await play(stage, scene)
    assert ended.reason == "engine_stopped"
    assert len(stage.of(Interrupted)) == 1
    assert not stage.of(CallerSaid)
    assert stage.session.history[-1]["text"] == GOODBYE


async def test_a_caller_who_hangs_up_during_the_goodbye_has_hung_up() -> None:
    stage = stage_of()

    async def scene(stage: Stage) -> None:
        await say_goodbye(stage)
        await anyio.sleep(1.0)
        stage.line.leaves()

    assert (await play(stage, scene)).reason == "caller_hung_up"


@pytest.mark.parametrize("voice", [True, False])
async def test_without_a_voice_the_goodbye_ends_the_call_all_the_same(voice: bool) -> None:
    stage = stage_of("", voice=voice)
    stage.synthesizer.breaks_after_ms = 400
    ended = await play(stage, say_goodbye)
    assert ended.reason == "engine_stopped"
    assert ended.duration_s < 3.0


async def test_a_voice_that_never_begins_is_not_waited_for() -> None:
    stage = stage_of("")
    stage.synthesizer.delay = 600.0
    ended = await play(stage, say_goodbye)
    assert ended.duration_s == pytest.approx(11.0, abs=0.5)


async def test_nothing_to_say_ends_the_call_at_once() -> None:
    stage = stage_of()

    async def scene(stage: Stage) -> None:
        await stage.session.say_goodbye("  ", "operator_ended")

    ended = await play(stage, scene)
    assert ended.reason == "operator_ended"
    assert ended.duration_s < 0.1


async def test_a_second_goodbye_does_not_cut_the_first() -> None:
    stage = stage_of()

    async def scene(stage: Stage) -> None:
        await say_goodbye(stage)
        await anyio.sleep(0.5)
        await stage.session.say_goodbye("Bye bye.", "operator_ended")

    ended = await play(stage, scene)
    assert (ended.reason, stage.session.history[-1]["text"]) == ("engine_stopped", GOODBYE)


async def test_a_goodbye_that_the_caller_answers_is_taken_back() -> None:
    stage = stage_of("Goodbye then, and have a very nice day!")

    async def scene(stage: Stage) -> None:
        await anyio.sleep(0.5)
        await stage.session.hang_up_after_goodbye("agent_ended")
        stage.line.types("one more question")
        await anyio.sleep(60.0)
        stage.line.leaves()

    assert (await play(stage, scene)).reason == "caller_hung_up"


async def test_a_goodbye_that_is_stopped_ends_the_call() -> None:
    stage = stage_of("Goodbye then, and have a very nice day!")

    async def scene(stage: Stage) -> None:
        await anyio.sleep(0.5)
        await stage.session.hang_up_after_goodbye("agent_ended")
        await stage.session.interrupt()

    ended = await play(stage, scene)
    assert ended.reason == "agent_ended"
    assert ended.duration_s < 1.0
