"""The pipeline's hearing: recognisers of both kinds, and the next one when one fails."""

from __future__ import annotations

import anyio
import pytest

from patter.events import (
    AgentSaid,
    CallEnded,
    CallerSaid,
    CallerSpeechStarted,
    CallerSpeechStopped,
    FaultOccurred,
    Interrupted,
)
from patter.exceptions import ProviderError
from patter.models import Agent, Recovery, TurnTaking
from tests.conversations.scripted_listener import ScriptedListener
from tests.support.parts import Cast, ScriptedTranscriber, Stage, perform, set_stage
from tests.support.virtual_time import VIRTUAL_BACKEND, virtual_clock

pytestmark = pytest.mark.anyio
GREETING = "Hello, this is Riverside Dental, how can I help you today?"
GONE = ProviderError("it hung up", provider="acme", stage="stt")
AWAY = ProviderError("it cannot be reached", provider="acme", stage="stt", retryable=True)


@pytest.fixture
def anyio_backend() -> object:
    return VIRTUAL_BACKEND


def agent(**changes: object) -> Agent:
    return Agent(**({"system_prompt": "p", "provider": "pipeline"} | changes))  # type: ignore[arg-type]


def turns(stage: Stage) -> list[str]:
    return [event.text for event in stage.of(CallerSaid) if isinstance(event, CallerSaid)]


def problems(stage: Stage) -> list[str]:
    return [event.problem for event in stage.of(FaultOccurred) if isinstance(event, FaultOccurred)]


async def test_a_recogniser_that_streams_gets_every_frame_and_its_words_interrupt() -> None:
    listener = ScriptedListener(virtual_clock())
    stage = set_stage(Cast(agent=agent(first_message=GREETING), listener=listener, lines=["Yes."]))

    async def scene(stage: Stage) -> None:
        await stage.line.silent(1.5)
        listener.speech()
        await stage.line.speaks(0.4)
        listener.words("can you")
        await stage.line.speaks(0.4)
        assert stage.of(Interrupted)
        listener.ends("can you help me")
        await stage.line.silent(2.0)

    await perform(stage, scene)
    assert listener.heard_ms == pytest.approx(4300, abs=21)
    assert turns(stage) == ["can you help me"]
    assert listener.closed


async def test_a_changed_agent_settles_the_recogniser() -> None:
    listener = ScriptedListener(virtual_clock())
    stage = set_stage(Cast(agent=agent(), listener=listener))
    changed = TurnTaking(max_silence_ms=900)

    async def scene(stage: Stage) -> None:
        await anyio.sleep(0.1)
        stage.session.update(agent(turn_taking=changed))

    await perform(stage, scene)
    assert listener.settings == changed


async def test_when_one_fails_the_next_takes_over_and_hears_what_was_said_meanwhile() -> None:
    clock = virtual_clock()
    first, second = ScriptedListener(clock), ScriptedListener(clock, opening_s=0.4)
    stage = set_stage(Cast(agent=agent(), listener=first, fallback_ears=[lambda: second], lines=["Yes."]))

    async def scene(stage: Stage) -> None:
        await stage.line.silent(1.0)
        first.fails(GONE)
        await stage.line.speaks(1.0)
        assert second.heard_ms == pytest.approx(1000, abs=41)
        second.ends("are you there")
        await stage.line.silent(1.0)

    await perform(stage, scene)
    assert problems(stage) == ["it hung up"]
    assert turns(stage) == ["are you there"]
    assert first.closed


async def test_one_that_cannot_be_opened_is_passed_over_for_one_of_the_other_kind() -> None:
    clock = virtual_clock()
    listener = ScriptedListener(clock, refusal=GONE)
    local = ScriptedTranscriber(clock, ["are you there"])
    stage = set_stage(Cast(agent=agent(), listener=listener, fallback_ears=[lambda: local]))

    async def scene(stage: Stage) -> None:
        await stage.line.speaks(0.8)
        await stage.line.silent(2.0)

    await perform(stage, scene)
    assert (problems(stage), turns(stage)) == (["it hung up"], ["are you there"])


async def test_one_that_has_heard_words_may_fail_now_and_then_in_a_long_call() -> None:
    clock = virtual_clock()
    opened: list[ScriptedListener] = []

    def make() -> ScriptedListener:
        opened.append(ScriptedListener(clock))
        return opened[-1]

    stage = set_stage(Cast(agent=agent(), listener=make(), fallback_ears=[make, make], lines=["Yes."] * 6))

    async def scene(stage: Stage) -> None:
        for number in range(6):
            await stage.line.silent(1.0)
            opened[-1].ends(f"word {number}")
            await stage.line.silent(1.0)
            opened[-1].fails(AWAY)
        await stage.line.silent(1.0)

    await perform(stage, scene)
    assert turns(stage) == [f"word {number}" for number in range(6)]
    assert problems(stage) == ["it cannot be reached"] * 6


async def test_an_outage_of_some_seconds_ends_no_call_and_what_was_said_meanwhile_is_heard_after_it() -> None:
    clock, began = virtual_clock(), anyio.current_time()
    opened: list[ScriptedListener] = []

    def make() -> ScriptedListener:
        out = 1.0 <= anyio.current_time() - began < 3.5
        opened.append(ScriptedListener(clock, opening_s=0.3, refusal=AWAY if out else None))
        return opened[-1]

    stage = set_stage(Cast(agent=agent(), fallback_ears=[make] * 4, listener=make(), lines=["Yes."]))

    async def scene(stage: Stage) -> None:
        await stage.line.silent(1.0)
        opened[0].fails(AWAY)
        await stage.line.speaks(4.5)
        opened[-1].ends("are you there")
        await stage.line.silent(1.0)
        assert opened[-1].heard_ms == pytest.approx(5500, abs=61)

    await perform(stage, scene)
    assert len(opened) == 5
    assert turns(stage) == ["are you there"]


async def test_one_that_fails_before_it_has_heard_anything_is_out_in_the_end() -> None:
    clock = virtual_clock()
    opened: list[ScriptedListener] = []

    def make() -> ScriptedListener:
        opened.append(ScriptedListener(clock))
        return opened[-1]

    stage = set_stage(Cast(agent=agent(), listener=make(), fallback_ears=[make, make]))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.session.run)
        for _ in range(3):
            await anyio.sleep(1.0)
            opened[-1].fails(AWAY)
        await anyio.sleep(30.0)
    assert len(opened) == 3
    assert "nobody hears the caller any more" in problems(stage)[-1]


@pytest.mark.parametrize("at_once", [True, False])
async def test_when_nobody_hears_the_caller_any_more_the_agent_says_goodbye(at_once: bool) -> None:
    listener = ScriptedListener(virtual_clock(), refusal=GONE if at_once else None)
    recovery = Recovery(goodbye="I cannot hear you. Goodbye.")
    stage = set_stage(Cast(agent=agent(first_message=GREETING, recovery=recovery), listener=listener))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.session.run)
        await anyio.sleep(1.0)
        if not at_once:
            listener.fails(GONE)
        await anyio.sleep(30.0)
    ended = stage.events[-1]
    assert isinstance(ended, CallEnded)
    assert (ended.reason, ended.detail) == ("failed", "acme: nobody hears the caller any more: it hung up")
    last = stage.of(AgentSaid)[-1]
    assert isinstance(last, AgentSaid)
    assert (last.text, last.interrupted) == ("I cannot hear you. Goodbye.", False)
    assert "it hung up" in problems(stage)[0]


async def test_speech_is_told_when_it_begins_and_ends_and_as_an_utterance() -> None:
    stage = set_stage(Cast(agent=agent(), utterances=["hello there"]))

    async def scene(stage: Stage) -> None:
        await stage.line.silent(0.5)
        await stage.line.speaks(0.8)
        await stage.line.silent(1.5)

    await perform(stage, scene)
    began, stopped, turn = stage.of(CallerSpeechStarted)[0], stage.of(CallerSpeechStopped)[0], stage.of(CallerSaid)[0]
    assert isinstance(began, CallerSpeechStarted)
    assert isinstance(stopped, CallerSpeechStopped)
    assert isinstance(turn, CallerSaid)
    assert stopped.ended_at - began.began_at == pytest.approx(0.8, abs=0.04)
    assert turn.text == "hello there"
    assert began.at < stopped.at <= turn.transcript_at <= turn.at
