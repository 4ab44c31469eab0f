"""What somebody who follows a call may do to it: mute the agent and speak in its place, and tell the model something."""

from __future__ import annotations

import anyio
import pytest

from patter.events import AgentMuted, AgentSaid, CallEnded, CallerSaid, FaultOccurred, GuidanceGiven, ToolCalled
from patter.models import Agent
from patter.signals import TextDelta, ToolRequest
from tests.support.parts import Cast, Stage, perform, set_stage
from tests.support.virtual_time import VIRTUAL_BACKEND

pytestmark = pytest.mark.anyio
GREETING = "Hello, this is Riverside Dental, how can I help you today?"


@pytest.fixture
def anyio_backend() -> object:
    return VIRTUAL_BACKEND


async def test_a_muted_agent_stops_at_once_and_says_only_what_it_is_given() -> None:
    words = ["what time do you open", "are you there"]
    stage = set_stage(Cast(Agent("Be brief.", first_message=GREETING), [*words], ["Yes, I am here."]))

    async def scene(stage: Stage) -> None:
        await stage.line.silent(1.0)
        await stage.session.mute(True)
        await stage.session.mute(True)
        await stage.line.speaks(1.0)
        await stage.line.silent(3.0)
        await stage.session.say("This is Ann, one moment.")
        await stage.line.silent(30.0)  # longer than any answer may be owed
        await stage.session.mute(False)
        await stage.line.speaks(1.0)
        await stage.line.silent(4.0)

    await perform(stage, scene)
    assert [(event.muted, event.by) for event in stage.of(AgentMuted)] == [(True, "operator"), (False, "operator")]
    assert [event.text for event in stage.of(CallerSaid)] == words
    said = [(event.kind, event.text, event.interrupted) for event in stage.of(AgentSaid)]
    assert said[0][0] == "greeting"
    assert said[0][2]
    assert said[1:] == [("say", "This is Ann, one moment.", False), ("answer", "Yes, I am here.", False)]
    assert stage.of(FaultOccurred) == []


async def test_a_muted_agent_uses_no_tool() -> None:
    stage = set_stage(Cast(lines=[[TextDelta("Bye."), ToolRequest("t1", "end_call", '{"reason": "done"}')]]))

    async def scene(stage: Stage) -> None:
        await stage.session.mute(True)
        await stage.session.read("Please hang up.")
        await stage.line.silent(5.0)

    await perform(stage, scene)
    assert stage.of(ToolCalled) == []
    assert [event.reason for event in stage.of(CallEnded)] == ["operator_ended"]


async def test_guidance_is_told_to_the_model_and_to_the_world_and_not_to_the_caller() -> None:
    cast = Cast(lines=["We open at eight."])
    stage = set_stage(cast)

    async def scene(stage: Stage) -> None:
        await stage.session.guide("Offer a discount.", by="Ann")
        await stage.session.guide("  ")
        await anyio.sleep(0.1)
        await stage.session.read("When do you open?")
        await stage.line.silent(3.0)

    await perform(stage, scene)
    assert [(event.text, event.by) for event in stage.of(GuidanceGiven)] == [("Offer a discount.", "Ann")]
    assert stage.responder.asked[-1].system_prompt.endswith("\n\nOffer a discount.")
    assert [event.text for event in stage.of(AgentSaid)] == ["We open at eight."]
