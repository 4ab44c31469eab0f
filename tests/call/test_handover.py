"""Transfers: the sentence before them is heard, a failed one lets the call go on, a warm one lets it go on meanwhile."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel
import pytest

from patter.control import CallControl
from patter.events import (
    AgentSaid,
    CallEnded,
    CallerSaid,
    Interrupted,
    ToolReturned,
    TransferFailed,
    TransferRequested,
)
from patter.exceptions import PatterError
from patter.models import Agent
from patter.signals import TextDelta, ToolRequest
from tests.support.parts import MS_PER_CHARACTER, Cast, Stage, set_stage
from tests.support.virtual_time import VIRTUAL_BACKEND

pytestmark = pytest.mark.anyio
NUMBER = "+15551234567"
SENTENCE = "I put you through to a colleague now."


@pytest.fixture
def anyio_backend() -> object:
    return VIRTUAL_BACKEND


def asks(number: str = NUMBER, summary: str = "", words: str = SENTENCE) -> list[TextDelta | ToolRequest]:
    arguments = {"number": number} | ({"summary": summary} if summary else {})
    said = [TextDelta(words)] if words else []
    return [*said, ToolRequest("t1", "transfer_call", json.dumps(arguments))]


def stage_of(*lines: str | list[TextDelta | ToolRequest], utterances: list[str] | None = None) -> Stage:
    return set_stage(
        Cast(
            agent=Agent("Be brief.", provider="pipeline"),
            utterances=utterances or [],
            lines=list(lines),  # type: ignore[arg-type]
        )
    )


async def play(stage: Stage, scene: Callable[[Stage], Awaitable[None]]) -> CallEnded:
    """Run the call to its own end while `scene` happens on the line."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.session.run)
        await anyio.lowlevel.checkpoint()
        await scene(stage)
    ended = stage.events[-1]
    assert isinstance(ended, CallEnded)
    return ended


async def asked_for_a_person(stage: Stage) -> None:
    stage.line.types("a person please")
    await anyio.sleep(0.5)


async def test_the_agents_sentence_is_heard_before_the_call_is_handed_over() -> None:
    stage = stage_of(asks())
    ended = await play(stage, asked_for_a_person)
    assert (ended.reason, ended.detail) == ("transferred", f"to {NUMBER}")
    [(asked_at, number, summary)] = stage.line.transfers
    assert (number, summary) == (NUMBER, "")
    sounded_at = stage.line.played[0][0]
    assert asked_at - sounded_at >= len(SENTENCE) * MS_PER_CHARACTER / 1000
    assert asked_at - sounded_at <= len(SENTENCE) * MS_PER_CHARACTER / 1000 + 1.0
    said = stage.of(AgentSaid)[-1]
    assert isinstance(said, AgentSaid)
    assert (said.text, said.interrupted) == (SENTENCE, False)
    assert not stage.of(Interrupted)
    [requested] = stage.of(TransferRequested)
    assert isinstance(requested, TransferRequested)
    assert (requested.number, requested.by, requested.warm) == (NUMBER, "agent", False)
    [returned] = stage.of(ToolReturned)
    assert isinstance(returned, ToolReturned)
    assert returned.ok


async def test_a_sentence_that_takes_for_ever_delays_the_transfer_by_ten_seconds_only() -> None:
    stage = stage_of(asks(words="word " * 200))
    ended = await play(stage, asked_for_a_person)
    assert ended.reason == "transferred"
    assert stage.line.transfers[0][0] - stage.of(TransferRequested)[0].at == pytest.approx(10.0, abs=0.1)


async def test_a_transfer_without_a_word_is_made_at_once() -> None:
    stage = stage_of(asks(words=""))
    await play(stage, asked_for_a_person)
    assert stage.line.transfers[0][0] - stage.of(TransferRequested)[0].at < 0.5


async def test_a_failed_transfer_is_told_to_the_model_and_the_call_goes_on() -> None:
    stage = stage_of(asks(), "Nobody is there, I am sorry.", "At eight.")
    stage.line.refusal = "Nobody took the call."

    async def scene(stage: Stage) -> None:
        stage.line.types("a person please")
        await anyio.sleep(6.0)
        stage.line.types("when do you open")
        await anyio.sleep(3.0)
        stage.line.leaves()

    ended = await play(stage, scene)
    assert ended.reason == "caller_hung_up"
    [failed] = stage.of(TransferFailed)
    assert isinstance(failed, TransferFailed)
    assert (failed.number, failed.problem) == (NUMBER, "Nobody took the call.")
    [returned] = stage.of(ToolReturned)
    assert isinstance(returned, ToolReturned)
    assert (returned.ok, json.loads(returned.output)) == (False, {"error": "Nobody took the call."})
    assert [entry["text"] for entry in stage.session.history if entry["role"] == "assistant"] == [
        f"{SENTENCE} Nobody is there, I am sorry.",
        "At eight.",
    ]


@pytest.mark.parametrize("number", ["112", "", "+0123", "colleague"])
async def test_a_wrong_number_reaches_no_carrier(number: str) -> None:
    stage = stage_of(asks(number), "Which number?")

    async def scene(stage: Stage) -> None:
        stage.line.types("a person please")
        await anyio.sleep(5.0)
        stage.line.leaves()

    ended = await play(stage, scene)
    assert ended.reason == "caller_hung_up"
    assert stage.line.transfers == []
    assert not stage.of(TransferRequested)
    [returned] = stage.of(ToolReturned)
    assert isinstance(returned, ToolReturned)
    assert not returned.ok


async def test_a_warm_transfer_lets_the_conversation_go_on_until_it_is_decided() -> None:
    stage = stage_of(asks(summary="Ada has toothache."), "It will not take long.", "At eight.")
    stage.line.answer_s = 12.0

    async def scene(stage: Stage) -> None:
        stage.line.types("a person please")
        await anyio.sleep(4.0)
        stage.line.types("how long will it take")
        await anyio.sleep(4.0)

    ended = await play(stage, scene)
    assert ended.reason == "transferred"
    assert [(number, summary) for _, number, summary in stage.line.transfers] == [(NUMBER, "Ada has toothache.")]
    assert len(stage.of(CallerSaid)) == 2
    assert stage.session.history[-1]["text"] == "It will not take long."
    requested = stage.of(TransferRequested)[0]
    assert isinstance(requested, TransferRequested)
    assert requested.warm
    assert ended.at - requested.at == pytest.approx(12.0, abs=0.1)


async def test_a_warm_transfer_that_nobody_takes_gives_the_tool_its_result_then() -> None:
    stage = stage_of(asks(summary="Ada has toothache."), "Nobody answers.")
    stage.line.answer_s, stage.line.refusal = 20.0, "Nobody answered."

    async def scene(stage: Stage) -> None:
        stage.line.types("a person please")
        await anyio.sleep(25.0)
        stage.line.leaves()

    await play(stage, scene)
    [returned] = stage.of(ToolReturned)
    assert isinstance(returned, ToolReturned)
    assert not returned.ok
    assert returned.ms == pytest.approx(20_000, abs=100)
    assert stage.session.history[-1]["text"] == f"{SENTENCE} Nobody answers."


async def test_a_caller_who_hangs_up_during_a_warm_transfer_ends_the_call_and_the_wait() -> None:
    stage = stage_of(asks(summary="Ada has toothache."))
    stage.line.answer_s = 60.0

    async def scene(stage: Stage) -> None:
        stage.line.types("a person please")
        await anyio.sleep(5.0)
        stage.line.leaves()

    ended = await play(stage, scene)
    assert ended.reason == "caller_hung_up"
    assert ended.duration_s < 9.0
    assert not stage.of(TransferFailed)


@pytest.mark.parametrize("summary", ["", "Ada has toothache."])
async def test_a_stream_that_ends_because_of_the_transfer_is_no_hang_up(summary: str) -> None:
    stage = stage_of(asks(summary=summary))
    stage.line.leaves_first = True
    ended = await play(stage, asked_for_a_person)
    assert ended.reason == "transferred"


async def test_a_second_transfer_is_refused_while_one_is_under_way() -> None:
    stage = stage_of()
    stage.line.answer_s = 5.0
    refused: list[str] = []

    async def scene(stage: Stage) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stage.session.transfer, NUMBER, "operator", "Ada.")
            await anyio.sleep(1.0)
            try:
                await stage.session.transfer("+15557654321")
            except PatterError as error:
                refused.append(str(error))

    ended = await play(stage, scene)
    assert refused == [f"The call is being transferred to {NUMBER} already: wait until that is decided."]
    assert (ended.detail, len(stage.line.transfers)) == (f"to {NUMBER}", 1)


async def test_whoever_does_not_wait_gets_refusals_at_once_and_the_rest_by_its_event() -> None:
    stage = stage_of()
    stage.line.answer_s, stage.line.refusal = 5.0, "Busy."
    failures: list[float] = []

    async def scene(stage: Stage) -> None:
        await stage.session.transfer(NUMBER, failed=lambda: failures.append(stage.clock.now()))
        assert not stage.of(TransferFailed)
        with pytest.raises(PatterError, match="already"):
            await stage.session.transfer(NUMBER, failed=lambda: None)
        await anyio.sleep(6.0)
        stage.line.leaves()

    await play(stage, scene)
    assert failures == [stage.of(TransferFailed)[0].at]


async def test_a_line_without_a_carrier_says_so_at_once() -> None:
    stage = stage_of()
    stage.line.can_transfer = False

    async def scene(stage: Stage) -> None:
        with pytest.raises(PatterError, match="no carrier"):
            await stage.session.transfer(NUMBER, failed=lambda: None)
        stage.line.leaves()

    await play(stage, scene)
    assert not stage.of(TransferRequested, TransferFailed)


async def test_a_failed_transfer_may_be_tried_again() -> None:
    stage = stage_of()
    stage.line.refusal = "Busy."

    async def scene(stage: Stage) -> None:
        with pytest.raises(PatterError, match="Busy"):
            await stage.session.transfer(NUMBER)
        stage.line.refusal = ""
        await stage.session.transfer(NUMBER)

    ended = await play(stage, scene)
    assert ended.reason == "transferred"


async def test_whoever_waits_for_a_transfer_hears_that_the_call_ended() -> None:
    stage = stage_of()
    stage.line.answer_s = 60.0

    async def scene(stage: Stage) -> None:
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                with pytest.raises(PatterError, match="ended before"):
                    await stage.session.transfer(NUMBER, summary="Ada.")

            tasks.start_soon(wait)
            await anyio.sleep(2.0)
            await stage.session.hang_up()
        with pytest.raises(PatterError, match="over"):
            await stage.session.transfer(NUMBER)

    ended = await play(stage, scene)
    assert ended.reason == "operator_ended"


async def test_keys_pressed_before_the_transfer_are_one_entry_all_the_same() -> None:
    stage = stage_of(asks(words="word " * 40), "Thank you.")

    async def scene(stage: Stage) -> None:
        stage.line.types("a person please")
        await anyio.sleep(2.0)
        for digit in "4711":
            stage.line.presses(digit)
            await anyio.sleep(0.3)

    ended = await play(stage, scene)
    said = [event.text for event in stage.of(CallerSaid) if isinstance(event, CallerSaid)]
    assert said == ["a person please", "[DTMF: 4711]"]
    assert ended.reason == "transferred"
    assert stage.of(Interrupted)


async def test_a_handlers_answer_is_heard_before_its_transfer() -> None:
    stage = stage_of("I will put you through, one moment please.")
    control = CallControl("CA1", transfer=lambda number, summary: wish(stage, control, number, summary))

    async def scene(stage: Stage) -> None:
        stage.line.types("a person please")
        await anyio.sleep(0.05)  # while the handler is still at work
        await control.transfer(NUMBER)
        assert control.ended
        assert stage.line.transfers == []

    ended = await play(stage, scene)
    assert ended.reason == "transferred"
    assert stage.session.history[-1]["text"] == "I will put you through, one moment please."


async def test_a_handler_may_try_again_when_nobody_took_the_call() -> None:
    stage = stage_of("One moment.", "Again.")
    stage.line.refusal = "Nobody answered."
    control = CallControl("CA1", transfer=lambda number, summary: wish(stage, control, number, summary))

    async def scene(stage: Stage) -> None:
        await control.transfer(NUMBER, summary="Ada.")
        await anyio.sleep(1.0)
        assert not control.is_transferred
        stage.line.refusal = ""
        await control.transfer(NUMBER)

    ended = await play(stage, scene)
    assert ended.reason == "transferred"
    assert [summary for _, _, summary in stage.line.transfers] == ["Ada.", ""]


async def wish(stage: Stage, control: CallControl, number: str, summary: str) -> None:
    await stage.session.transfer(number, "handler", summary, failed=control.transfer_failed)
