"""The pipeline's answers: begun early, tried once more, apologised for, and never without the results of their tools."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from patter.audio.format import PCM_16K
from patter.conversations.pipeline import Pipeline
from patter.events import AgentSaid, CallerSaid, FaultOccurred, ReplyReached, ToolCalled, UsageMeasured
from patter.exceptions import ProviderError
from patter.models import Agent, Guardrail, Recovery
from patter.ports import Ask, Brief, CallInfo
from patter.signals import ConversationSignal, ReplyText, ResponderPiece, TextDelta, TokensUsed, ToolRequest
from tests.conversations.scripted_listener import ScriptedListener
from tests.support.parts import Cast, Line, LinesResponder, Stage, perform, set_stage
from tests.support.virtual_time import VIRTUAL_BACKEND, virtual_clock

LINE = PCM_16K
pytestmark = pytest.mark.anyio
APOLOGY = "Sorry. That was my fault."
BUSY = ProviderError("too many requests", provider="acme", stage="llm", retryable=True)


@pytest.fixture
def anyio_backend() -> object:
    return VIRTUAL_BACKEND


def agent(**changes: object) -> Agent:
    values: dict[str, object] = {"system_prompt": "Be brief.", "provider": "pipeline", "recovery": Recovery(APOLOGY)}
    return Agent(**(values | changes))  # type: ignore[arg-type]


def said(stage: Stage) -> list[str]:
    return [event.text for event in stage.of(AgentSaid) if isinstance(event, AgentSaid)]


def problems(stage: Stage) -> list[str]:
    return [event.problem for event in stage.of(FaultOccurred) if isinstance(event, FaultOccurred)]


def typing(*lines: str, seconds: float = 4.0) -> Callable[[Stage], Awaitable[None]]:
    async def scene(stage: Stage) -> None:
        for line in lines:
            stage.line.types(line)
            await anyio.sleep(seconds)

    return scene


# ------------------------------------------------------------------ a failing model


async def test_a_model_that_fails_before_it_said_anything_is_asked_once_more_and_that_is_told() -> None:
    stage = set_stage(Cast(agent=agent(), lines=[[BUSY], "Here I am."]))
    await perform(stage, typing("hello"))
    assert (said(stage), problems(stage)) == (["Here I am."], ["too many requests"])


@pytest.mark.parametrize(
    ("lines", "asked"),
    [
        pytest.param([[BUSY], [BUSY]], 2, id="failing twice"),
        pytest.param([[ProviderError("wrong key", provider="acme", stage="llm")]], 1, id="not worth another try"),
        pytest.param([[ProviderError("down", provider="acme", retryable=True, tries=2)]], 1, id="tried twice already"),
        pytest.param(
            [[ProviderError("busy", provider="acme", retryable=True, retry_after_s=20)]], 1, id="busy for too long"
        ),
    ],
)
async def test_then_it_apologises_in_the_agents_own_words_that_no_guardrail_changes(
    lines: list[list[ProviderError]], asked: int
) -> None:
    rail = Guardrail("no-fault", blocked_terms=["my fault"])
    stage = set_stage(Cast(agent=agent(guardrails=[rail]), lines=[*lines, "Now it works."]))
    await perform(stage, typing("hello", "and now"))
    assert said(stage) == [APOLOGY, "Now it works."]
    assert len(stage.responder.asked) == asked + 1
    assert len(problems(stage)) == asked
    assert stage.responder.asked[-1].messages[1] == {"role": "assistant", "content": APOLOGY}


async def test_a_model_that_was_silent_for_long_is_not_waited_for_again() -> None:
    stage = set_stage(Cast(agent=agent(), lines=[[BUSY]], thinking_s=5.0))
    await perform(stage, typing("hello", seconds=9))
    assert said(stage) == [APOLOGY]
    assert len(stage.responder.asked) == 1


async def test_half_a_sentence_is_not_said_and_nothing_is_said_twice() -> None:
    stage = set_stage(Cast(agent=agent(), lines=[[TextDelta("We open at eight. And we cl"), BUSY]]))
    await perform(stage, typing("hello"))
    assert said(stage) == [f"We open at eight. {APOLOGY}"]
    assert len(stage.responder.asked) == 1


async def test_after_a_guardrail_has_spoken_nobody_apologises() -> None:
    rail = Guardrail("rail", blocked_terms=["secret"], replacement="No.")
    stage = set_stage(Cast(agent=agent(guardrails=[rail]), lines=[[TextDelta("A secret. "), BUSY]]))
    await perform(stage, typing("hello"))
    assert said(stage) == ["No."]


# ------------------------------------------------------------------ a failing voice


async def test_a_sentence_that_fails_before_it_sounds_is_tried_once_more() -> None:
    stage = set_stage(Cast(agent=agent(), lines=["We open at eight."]))
    stage.synthesizer.failures = [ProviderError("it hung up", provider="tone", stage="tts", retryable=True)]
    await perform(stage, typing("hello"))
    assert stage.synthesizer.spoken == ["We open at eight."] * 2
    assert (said(stage), problems(stage)) == (["We open at eight."], ["it hung up"])
    characters = [e.amounts for e in stage.of(UsageMeasured) if isinstance(e, UsageMeasured) and e.stage == "tts"]
    assert characters == [{"characters": 17.0}]  # what was refused is not paid


async def test_a_voice_that_is_gone_leaves_the_text() -> None:
    stage = set_stage(Cast(agent=agent(), lines=["We open at eight. Come in."]))
    stage.synthesizer.failures = [ProviderError("wrong key", provider="tone", stage="tts")]
    await perform(stage, typing("hello"))
    assert stage.synthesizer.spoken == ["We open at eight."]
    assert said(stage) == ["We open at eight. Come in."]
    assert problems(stage) == ["wrong key"]


# ------------------------------------------------------------------ tools and interruptions


def tool(seconds: float, calls: list[Any]) -> dict[str, Any]:
    async def find(arguments: dict[str, Any], context: dict[str, Any]) -> str:
        calls.append(arguments)
        await anyio.sleep(seconds)
        return "nine or ten"

    return {"name": "find", "handler": find}


@pytest.mark.parametrize("tool_s", [3.0, 0.9])
async def test_a_result_that_comes_after_an_interruption_reaches_the_next_question_exactly_once(tool_s: float) -> None:
    calls: list[Any] = []
    asks: list[ResponderPiece] = [TextDelta("Let me look. "), ToolRequest("t1", "find", '{"day": 2}')]
    stage = set_stage(Cast(agent=agent(tools=[tool(tool_s, calls)]), lines=[asks, "Sure.", "At nine or ten."]))

    async def scene(stage: Stage) -> None:
        stage.line.types("any slots")
        await anyio.sleep(0.6)
        stage.line.types("no wait")
        await anyio.sleep(4)
        stage.line.types("well?")
        await anyio.sleep(4)

    await perform(stage, scene)
    assert calls == [{"day": 2}]
    assert len(stage.of(ToolCalled)) == 1
    second, third = (ask.messages for ask in stage.responder.asked[1:])
    results = [[str(m["content"]) for m in messages if m["role"] == "tool"] for messages in (second, third)]
    assert "still running" in results[0][0]
    assert results[1] == ["nine or ten"]
    assert said(stage)[-1] == "At nine or ten."


# ------------------------------------------------------------------ eager answers


class Eager(LinesResponder):
    """Has one line for each time it is asked, and tells how many answers were given up."""

    def __init__(self, *lines: Line, delay: float) -> None:
        super().__init__(delay=delay)
        self.each, self.given_up = list(lines), 0

    async def respond(self, ask: Ask) -> AsyncIterator[ResponderPiece]:
        self._lines, whole = [self.each.pop(0)], False
        try:
            async for piece in super().respond(ask):
                yield piece
            whole = True
        finally:
            self.given_up += not whole


def eager(*lines: Line, delay: float = 0.5, first_message: str = "") -> tuple[Stage, ScriptedListener, Eager]:
    listener, responder = ScriptedListener(virtual_clock()), Eager(*lines, delay=delay)
    stage = set_stage(Cast(agent=agent(first_message=first_message), listener=listener, responder=responder))
    return stage, listener, responder


async def test_an_answer_begun_early_is_heard_sooner_and_not_before_the_turn_is_certain() -> None:
    stage, listener, responder = eager("We open at eight.")

    async def scene(stage: Stage) -> None:
        listener.speech()
        listener.words("when do you open")
        listener.likely("when do you open")
        await anyio.sleep(1.0)
        assert len(responder.asked) == 1
        assert not stage.of(ReplyReached)
        listener.ends("When do you open?")
        await anyio.sleep(3.0)

    await perform(stage, scene)
    assert said(stage) == ["We open at eight."]
    assert len(responder.asked) == 1
    turn = stage.of(CallerSaid)[0]
    token = next(event for event in stage.of(ReplyReached) if isinstance(event, ReplyReached))
    assert token.reached_at - turn.at < 0.01


@pytest.mark.parametrize("goes_on", [True, False])
async def test_other_words_are_answered_afresh(goes_on: bool) -> None:
    stage, listener, responder = eager("At eight.", "On Sunday at ten.")

    async def scene(stage: Stage) -> None:
        listener.speech()
        listener.likely("when do you open")
        await anyio.sleep(0.3)
        if goes_on:
            listener.unlikely()
        await anyio.sleep(0.3)
        listener.ends("when do you open on sunday")
        await anyio.sleep(3.0)

    await perform(stage, scene)
    assert said(stage) == ["On Sunday at ten."]
    assert [ask.messages[-1]["content"] for ask in responder.asked] == [
        "when do you open",
        "when do you open on sunday",
    ]
    assert responder.given_up == (1 if goes_on else 0)
    assert len(responder.asked[1].messages) == 1  # nothing of the draft is in the context


async def test_a_tool_that_an_early_answer_wants_does_not_run_before_the_turn_is_certain() -> None:
    stage, listener, _ = eager([ToolRequest("t1", "find", "{}"), TokensUsed(10, 2)], "At eight.", delay=0.1)
    calls: list[Any] = []
    stage.session.update(agent(tools=[tool(0.1, calls)]))

    async def scene(stage: Stage) -> None:
        listener.speech()
        listener.likely("when do you open")
        await anyio.sleep(1.0)
        assert (calls, stage.of(ToolCalled)) == ([], [])
        assert [event.amounts["input_tokens"] for event in tokens(stage)] == [10]  # what is spent is told at once
        listener.ends("when do you open")
        await anyio.sleep(3.0)

    await perform(stage, scene)
    assert len(calls) == 1
    assert said(stage) == ["At eight."]
    assert [event.amounts["input_tokens"] for event in tokens(stage)] == [10]


def tokens(stage: Stage) -> list[UsageMeasured]:
    return [event for event in stage.of(UsageMeasured) if isinstance(event, UsageMeasured) and event.stage == "llm"]


async def test_an_early_answer_that_failed_is_asked_for_once_more() -> None:
    stage, listener, responder = eager([BUSY], "At eight.", delay=0.1)

    async def scene(stage: Stage) -> None:
        listener.speech()
        listener.likely("when do you open")
        await anyio.sleep(1.0)
        assert problems(stage) == []
        listener.ends("when do you open")
        await anyio.sleep(3.0)

    await perform(stage, scene)
    assert (said(stage), problems(stage)) == (["At eight."], ["too many requests"])
    assert len(responder.asked) == 2


async def test_an_answer_begun_before_the_agent_was_interrupted_is_not_used() -> None:
    greeting = "Hello, this is Riverside Dental, how can I help you today?"
    stage, listener, responder = eager("Wrong.", "Right.", first_message=greeting)

    async def scene(stage: Stage) -> None:
        await anyio.sleep(1.5)
        listener.speech()
        await anyio.sleep(0.2)
        listener.likely("stop it")
        await anyio.sleep(0.3)
        listener.ends("stop it")
        await anyio.sleep(3.0)

    await perform(stage, scene)
    assert said(stage)[-1] == "Right."
    heard = said(stage)[0]
    assert responder.asked[-1].messages[0] == {"role": "assistant", "content": heard}
    assert heard != greeting


async def test_leaving_the_call_stops_what_was_begun_early() -> None:
    clock, responder = virtual_clock(), Eager("At eight.", delay=60)
    listener = ScriptedListener(clock)
    pipeline = Pipeline(responder=responder, clock=clock, listener=listener)
    said: list[ConversationSignal] = []
    async with anyio.create_task_group() as tasks:
        await pipeline.start(Brief(CallInfo("CA1"), agent(), LINE, LINE, lambda _, text: (text, None)), tasks)
        listener.likely("when do you open")
        await anyio.sleep(1.0)
        assert len(responder.asked) == 1
        await pipeline.aclose()
        said += [signal async for signal in pipeline.signals()]
    assert responder.given_up == 1
    assert not [signal for signal in said if isinstance(signal, ReplyText)]


async def test_asking_that_has_effects_is_not_done_early() -> None:
    clock, responder = virtual_clock(), Eager("At eight.", delay=0.5)
    listener = ScriptedListener(clock)
    pipeline = Pipeline(responder=responder, clock=clock, listener=listener, drafts=False)
    async with anyio.create_task_group() as tasks:
        await pipeline.start(Brief(CallInfo("CA1"), agent(), LINE, LINE, lambda _, text: (text, None)), tasks)
        listener.likely("when do you open")
        await anyio.sleep(1.0)
        assert responder.asked == []
        await pipeline.aclose()
