"""Whatever happens on a line, in whatever order: the call ends exactly once, with a reason that fits what was heard."""

from __future__ import annotations

from typing import Any, get_args

import anyio
import anyio.lowlevel
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from patter.events import AgentSaid, CallEnded, CallerSaid, EndReason, MachineDetected
from patter.exceptions import PatterError
from patter.models import Agent
from patter.signals import PlayoutAdvanced, PlayoutEnded, PlayoutStarted, TextDelta, ToolRequest
from tests.support.parts import Cast, Stage, set_stage
from tests.support.virtual_time import run_virtual

MESSAGE = "This is Riverside Dental. Please call us back."
GREETING = "Hello, this is Riverside Dental."
TRANSFER = '{"number": "+15551234567", "summary": "Ada."}'

STEPS = st.one_of(
    st.tuples(st.just("verdict"), st.sampled_from(["machine", "machine", "human", "fax", "unknown"]), st.booleans()),
    st.tuples(st.just("speaks"), st.sampled_from([0.2, 0.6, 1.5])),
    st.tuples(st.just("waits"), st.sampled_from([0.0, 0.02, 0.4, 3.0, 31.0])),
    st.tuples(st.sampled_from(["types", "presses", "leaves", "breaks", "strays", "hang up"])),
    st.tuples(st.sampled_from(["say", "interrupt", "goodbye", "after goodbye", "transfer", "warm transfer"])),
)


async def do(stage: Stage, step: tuple[Any, ...]) -> None:
    """One thing that a caller, a carrier, a vendor or somebody in the workbench does."""
    line, session = stage.line, stage.session
    match step:
        case ("verdict", answered_by, ready):
            line.answers(answered_by, ready=ready)
        case ("speaks", seconds):
            await line.speaks(seconds)
            await line.silent(0.3)
        case ("waits", seconds):
            await anyio.sleep(seconds)
        case ("types",):
            line.types("who is there")
        case ("presses",):
            line.presses("1")
        case ("leaves",):
            line.leaves()
        case ("breaks",):
            stage.synthesizer.breaks_after_ms = 400
        case ("strays",):  # marks that come back late, or twice
            now = stage.clock.now()
            for signal in (PlayoutStarted(99, now), PlayoutAdvanced(99, 10.0, now), PlayoutEnded(99, now)):
                line.signal(signal)
        case ("hang up",):
            await session.hang_up("operator_ended")
        case ("say",):
            await session.say("One more thing.")
        case ("interrupt",):
            await session.interrupt()
        case ("goodbye",):
            await session.say_goodbye("Goodbye now.", "engine_stopped")
        case ("after goodbye",):
            await session.hang_up_after_goodbye("handler_ended")
        case ("transfer",):
            await session.transfer("+15551234567")
        case ("warm transfer",):
            await session.transfer("+15551234567", summary="Ada.", failed=lambda: None)


async def live(steps: list[tuple[Any, ...]], carrier: dict[str, Any], voice: bool) -> Stage:
    asks: list[TextDelta | ToolRequest] = [TextDelta("A moment."), ToolRequest("t1", "transfer_call", TRANSFER)]
    stage = set_stage(
        Cast(
            agent=Agent("Be brief.", provider="pipeline", first_message=GREETING),
            utterances=["please leave a message", "beep", "hello"],
            lines=["Yes.", list(asks)],
            voicemail=MESSAGE,
            voice=voice,
        )
    )
    for name, value in carrier.items():
        setattr(stage.line, name, value)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.session.run)
        await anyio.lowlevel.checkpoint()
        for step in steps:
            try:
                await do(stage, step)
            except PatterError:
                continue  # it says why it cannot: that is an answer
        with anyio.move_on_after(250.0):  # longer than any limit of ours
            while not stage.of(CallEnded) and stage.of(MachineDetected):
                await anyio.sleep(1.0)
        stage.line.leaves()
    return stage


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=st.lists(STEPS, max_size=10),
    carrier=st.fixed_dictionaries(
        {
            "can_announce": st.booleans(),
            "refusal": st.sampled_from(["", "The carrier refused it."]),
            "answer_s": st.sampled_from([0.0, 0.3, 20.0]),
            "leaves_first": st.booleans(),
        }
    ),
    voice=st.booleans(),
)
def test_a_call_ends_once_with_a_reason_that_fits_what_was_heard(
    steps: list[tuple[Any, ...]], carrier: dict[str, Any], voice: bool
) -> None:
    stage = run_virtual(live, steps, carrier, voice)
    [ended] = stage.of(CallEnded)
    assert isinstance(ended, CallEnded)
    assert stage.events[-1] is ended
    assert ended.reason in get_args(EndReason)
    assert ended.reason != "engine_stopped" or ("goodbye",) in steps
    assert ended.reason != "failed" or (("breaks",) in steps and "stayed silent" in ended.detail)
    assert stage.line.hung_up
    event(ended.reason)

    verdicts = [seen for seen in stage.of(MachineDetected) if isinstance(seen, MachineDetected)]
    machine = next((seen for seen in verdicts if seen.answered_by in ("machine", "fax")), None)
    said = [seen for seen in stage.of(AgentSaid) if isinstance(seen, AgentSaid)]
    if ended.reason in ("voicemail_left", "machine_answered"):
        assert machine is not None
    if ended.reason == "voicemail_left":
        assert (said[-1].text, said[-1].interrupted) == (MESSAGE, False) or stage.line.announced == [MESSAGE]
    if ended.reason == "transferred":
        assert stage.line.transfers
    if machine is not None:
        assert not [seen for seen in stage.of(CallerSaid) if seen.seq > machine.seq and ("goodbye",) not in steps]
