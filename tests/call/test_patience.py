"""Silence: an answer that does not come is apologised for, and an agent that stays silent even then ends the call."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel
import pytest

from patter.events import AgentSaid, CallEnded, CallerSaid, FaultOccurred, Interrupted, TransferRequested
from patter.exceptions import ProviderError
from patter.models import Agent, Recovery
from patter.ports import Ask
from patter.signals import Faulted, ReplyEnded, ReplyStarted, ResponderPiece, TextDelta, ToolRequest
from tests.call.scripted_engine import Scene, play, set_scene
from tests.support.parts import Cast, Stage, set_stage
from tests.support.virtual_time import VIRTUAL_BACKEND

pytestmark = pytest.mark.anyio
RECOVERY = Recovery("Sorry, something is wrong here.", "I have to hang up now.", 4_000)
QUESTION = "are you there"


@pytest.fixture
def anyio_backend() -> object:
    return VIRTUAL_BACKEND


def agent(**changes: object) -> Agent:
    return Agent(**({"system_prompt": "Be brief.", "provider": "pipeline", "recovery": RECOVERY} | changes))  # type: ignore[arg-type]


def said(scene: Scene | Stage) -> list[str]:
    return [event.text for event in scene.of(AgentSaid) if isinstance(event, AgentSaid)]


async def test_an_answer_that_does_not_come_is_apologised_for_and_then_the_call_ends_with_its_cause() -> None:
    scene = set_scene(agent())
    scene.engine.mute = True

    async def act() -> None:
        scene.line.types(QUESTION)
        await anyio.sleep(60)

    await play(scene, act)
    faults = scene.of(FaultOccurred)
    assert [(fault.stage, fault.problem) for fault in faults] == [("agent", "no answer was heard for 4 s")]
    assert scene.engine.of("speak") == [RECOVERY.apology, RECOVERY.goodbye]
    assert (scene.ended.reason, scene.ended.detail) == ("failed", "The agent stayed silent for 8 s.")
    asked = scene.of(CallerSaid)[0].at
    assert faults[0].at - asked == pytest.approx(4, abs=0.1)


async def test_an_apology_that_is_heard_gives_the_agent_another_chance() -> None:
    scene = set_scene(agent())

    async def act() -> None:
        scene.line.types(QUESTION)
        await anyio.sleep(7)
        scene.line.types(QUESTION)
        await anyio.sleep(1)
        scene.engine.says("Yes.")
        await anyio.sleep(30)

    await play(scene, act)
    assert said(scene) == [RECOVERY.apology, "Yes."]
    assert scene.ended.reason == "caller_hung_up"


async def test_an_answer_in_time_is_no_fault_however_long_it_takes() -> None:
    scene = set_scene(agent())

    async def act() -> None:
        scene.line.types(QUESTION)
        await anyio.sleep(3.8)
        scene.engine.says("Yes, " + "and this takes a long while " * 10)
        await anyio.sleep(30)

    await play(scene, act)
    assert scene.of(FaultOccurred) == []
    assert len(said(scene)) == 1


async def test_a_reply_that_breaks_off_without_an_end_is_apologised_for() -> None:
    scene = set_scene(agent())

    async def act() -> None:
        scene.line.types(QUESTION)
        await anyio.sleep(0.1)
        scene.engine.says("Yes, and", whole=False)
        await anyio.sleep(8)

    await play(scene, act)
    assert said(scene) == ["Yes, and", RECOVERY.apology]
    assert [event.dropped for event in scene.of(Interrupted)] == [""]


async def test_a_caller_who_speaks_is_not_apologised_to() -> None:
    scene = set_scene(agent())

    async def act() -> None:
        scene.line.types(QUESTION)
        await anyio.sleep(3)
        await scene.engine.hears(2.0, "u1")
        assert scene.of(FaultOccurred) == []
        scene.engine.says("Yes.")
        await anyio.sleep(5)

    await play(scene, act)
    assert said(scene) == ["Yes."]


async def test_who_asks_again_and_again_does_not_wait_for_ever() -> None:
    scene = set_scene(agent())
    scene.engine.mute = True

    async def act() -> None:
        for number in range(20):
            await scene.engine.hears(1.0, f"u{number}")
            await anyio.sleep(1.5)

    await play(scene, act)
    first, *_ = (said.at for said in scene.of(CallerSaid))
    (fault,) = scene.of(FaultOccurred)
    assert fault.at - first == pytest.approx(4 + 2 * 1.5, abs=0.2)  # 1.5 + 1.5 + 1 s of waiting; and speaking, twice
    assert scene.engine.of("speak") == [RECOVERY.apology, RECOVERY.goodbye]
    assert scene.ended.reason == "failed"
    assert scene.ended.duration_s < 25


@pytest.mark.parametrize("failing", [False, True])
async def test_who_goes_on_speaking_to_an_agent_that_listens_has_not_waited_in_vain(failing: bool) -> None:
    scene = set_scene(agent())
    scene.engine.mute = True

    async def act() -> None:
        for number in range(1, 7):
            await scene.engine.hears(1.0, f"u{number}")
            fault = [Faulted("tts", "acme", "it broke off")] if failing else []
            now = scene.clock.now()
            scene.engine.tell(ReplyStarted(number, "answer", now), *fault, ReplyEnded(number, now))
            await anyio.sleep(1.5)

    await play(scene, act)
    waits = [fault.problem for fault in scene.of(FaultOccurred) if fault.stage == "agent"]
    assert bool(waits) == failing
    assert (RECOVERY.apology in scene.engine.of("speak")) == failing


async def test_silence_that_was_asked_for_is_no_wait() -> None:
    scene = set_scene(agent())

    async def act() -> None:
        scene.line.types(QUESTION)
        await anyio.sleep(1)
        await scene.session.interrupt()
        await anyio.sleep(9)
        scene.line.types(QUESTION)
        await anyio.sleep(3)
        assert scene.of(FaultOccurred) == []
        scene.engine.says("Yes.")
        await anyio.sleep(5)

    await play(scene, act)
    assert said(scene) == ["Yes."]


async def test_who_waits_for_another_person_is_not_apologised_to() -> None:
    scene = set_scene(agent())
    scene.line.answer_s = 9.0

    async def act() -> None:
        scene.line.types("put me through")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scene.session.transfer, "+15550003333")

    await play(scene, act)
    assert scene.of(TransferRequested)
    assert scene.of(FaultOccurred) == []
    assert scene.ended.reason == "transferred"


async def test_no_limit_means_no_limit() -> None:
    scene = set_scene(agent(recovery=Recovery(silence_limit_ms=0)))
    scene.engine.mute = True

    async def act() -> None:
        scene.line.types(QUESTION)
        await anyio.sleep(600)

    await play(scene, act)
    assert scene.of(FaultOccurred) == []


async def test_a_carriers_own_voice_says_goodbye_when_the_agents_is_gone() -> None:
    scene = set_scene(agent())
    scene.line.can_announce = True

    async def act() -> None:
        scene.engine.tell(Faulted("agent", "acme", "it refuses the key", fatal=True))
        await scene.engine.aclose()
        await anyio.sleep(1)

    await play(scene, act)
    assert scene.line.announced == [RECOVERY.goodbye]
    assert (scene.ended.reason, scene.ended.detail) == ("failed", "acme: it refuses the key")


@pytest.mark.parametrize("can_announce", [True, False])
async def test_an_engine_that_cannot_be_opened_is_told_and_ends_the_call(can_announce: bool) -> None:
    scene = set_scene(agent())
    scene.line.can_announce = can_announce
    scene.engine.refusal = ProviderError("it refuses the key", provider="acme", stage="llm", fix="check ACME_KEY")

    async def act() -> None:
        await anyio.sleep(1)

    await play(scene, act)
    assert [(fault.problem, fault.fix) for fault in scene.of(FaultOccurred)] == [
        ("it refuses the key", "check ACME_KEY")
    ]
    assert scene.line.announced == ([RECOVERY.goodbye] if can_announce else [])
    assert (scene.ended.reason, scene.ended.detail) == ("failed", "acme: it refuses the key — check ACME_KEY")


async def test_an_agent_that_cannot_hear_any_more_says_so_and_hangs_up() -> None:
    scene = set_scene(agent())

    async def act() -> None:
        scene.engine.tell(Faulted("stt", "acme", "nobody hears the caller any more", fatal=True))
        await anyio.sleep(20)

    await play(scene, act)
    assert said(scene) == [RECOVERY.goodbye]
    assert (scene.ended.reason, scene.ended.detail) == ("failed", "acme: nobody hears the caller any more")


# ------------------------------------------------------------------ the pipeline


class Hanging:
    """A model that says nothing until it is left; or asks for a tool first."""

    name = "hanging"
    model = "test"

    def __init__(self, *first: ResponderPiece) -> None:
        self.first = list(first)
        self.left = 0

    async def respond(self, ask: Ask) -> AsyncIterator[ResponderPiece]:
        while self.first:
            yield self.first.pop(0)
        try:
            await anyio.sleep_forever()
        finally:
            self.left += 1

    async def aclose(self) -> None:
        """Nothing to close."""


async def run(stage: Stage, *lines: str, seconds: float = 60.0) -> CallEnded:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.session.run)
        await anyio.lowlevel.checkpoint()
        for line in lines:
            stage.line.types(line)
        await anyio.sleep(seconds)
        await stage.session.hang_up("caller_hung_up")
    ended = stage.events[-1]
    assert isinstance(ended, CallEnded)
    return ended


async def test_a_model_that_hangs_is_left_and_the_apology_is_heard_at_once() -> None:
    stage = set_stage(Cast(agent=agent(), responder=(model := Hanging())))
    await run(stage, QUESTION, seconds=8)
    assert said(stage)[-1] == RECOVERY.apology
    assert model.left == 1


async def test_a_voice_that_hangs_ends_the_call() -> None:
    stage = set_stage(Cast(agent=agent(), lines=["Yes."]))
    stage.synthesizer.delay = 600.0
    ended = await run(stage, QUESTION)
    assert (ended.reason, ended.detail) == ("failed", "The agent stayed silent for 8 s.")
    assert ended.duration_s < 20


async def test_a_slow_tool_keeps_its_reply_when_the_silence_is_apologised_for() -> None:
    async def slow(arguments: dict[str, object], context: dict[str, object]) -> str:
        await anyio.sleep(6)
        return "found"

    tool = {"name": "find", "handler": slow}
    asks: list[ResponderPiece] = [ToolRequest("t1", "find", "{}")]
    stage = set_stage(Cast(agent=agent(tools=[tool]), lines=[asks, "Here it is."]))
    await run(stage, QUESTION, seconds=20)
    assert said(stage) == [RECOVERY.apology, "Here it is."]
    assert stage.responder.asked[-1].messages[-1]["content"] == "found"


async def test_text_that_is_shown_is_no_silence() -> None:
    stage = set_stage(Cast(agent=agent(), lines=["Yes."], voice=False))
    ended = await run(stage, QUESTION)
    assert ended.reason == "caller_hung_up"
    assert not stage.of(FaultOccurred)


# ------------------------------------------------------------------ fillers


def slow_tool(seconds: float, name: str = "find") -> dict[str, object]:
    async def slow(arguments: dict[str, object], context: dict[str, object]) -> str:
        await anyio.sleep(seconds)
        return "found"

    return {"name": name, "handler": slow, "filler": "One moment, I'm looking. It is not far."}


def asking(*names: str, text: str = "") -> list[ResponderPiece]:
    return [*([TextDelta(text)] if text else []), *(ToolRequest(f"t{n}", name, "{}") for n, name in enumerate(names))]


async def test_a_slow_tool_is_bridged_by_its_filler_and_the_answer_follows_it() -> None:
    stage = set_stage(Cast(agent=agent(tools=[slow_tool(1.5)]), lines=[asking("find"), "Here it is."]))
    await run(stage, "where is it", seconds=12)
    filler, answer = [event for event in stage.of(AgentSaid) if isinstance(event, AgentSaid)]
    assert (filler.kind, filler.text, filler.turn) == ("filler", "One moment, I'm looking. It is not far.", 1)
    assert (answer.kind, answer.text) == ("answer", "Here it is.")
    spoken = [reply for _, reply, _ in stage.line.played]
    assert spoken == sorted(spoken, reverse=True)  # the filler (2) whole, then the answer (1): never through each other
    assert all("moment" not in str(message["content"]) for message in stage.responder.asked[-1].messages)


async def test_a_quick_tool_needs_no_filler() -> None:
    stage = set_stage(Cast(agent=agent(tools=[slow_tool(0.9)]), lines=[asking("find"), "Here it is."]))
    await run(stage, "where is it", seconds=8)
    assert said(stage) == ["Here it is."]


async def test_a_filler_is_not_said_while_the_agent_is_speaking_already() -> None:
    text = "I am going to look that up for you right now."
    stage = set_stage(Cast(agent=agent(tools=[slow_tool(2.0)]), lines=[asking("find", text=text), "Here it is."]))
    await run(stage, "where is it", seconds=12)
    assert said(stage) == [f"{text} Here it is."]


async def test_a_filler_is_not_said_while_the_caller_speaks() -> None:
    stage = set_stage(Cast(agent=agent(tools=[slow_tool(2.0)]), lines=[asking("find"), "Here it is."], utterances=[""]))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.session.run)
        await anyio.lowlevel.checkpoint()
        stage.line.types("where is it")
        await anyio.sleep(0.8)
        await stage.line.speaks(0.5)
        await stage.line.silent(6.0)
        await stage.session.hang_up()
    assert said(stage) == ["Here it is."]


async def test_tools_that_are_slow_together_are_bridged_once() -> None:
    tools = [slow_tool(2.0), slow_tool(2.5, "search")]
    stage = set_stage(Cast(agent=agent(tools=tools), lines=[asking("find", "search"), "Here it is."]))
    await run(stage, "where is it", seconds=12)
    assert said(stage) == ["One moment, I'm looking. It is not far.", "Here it is."]


async def test_every_engine_says_fillers() -> None:
    scene = set_scene(agent(tools=[slow_tool(2.0)]))

    async def act() -> None:
        scene.line.types("where is it")
        await anyio.sleep(0.1)
        scene.engine.asks("t1", "find")
        await anyio.sleep(3)

    await play(scene, act)
    assert scene.engine.of("speak") == ["One moment, I'm looking. It is not far."]
    assert scene.engine.of("answer") == [("t1", "found")]
