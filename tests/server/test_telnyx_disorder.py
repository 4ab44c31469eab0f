"""Telnyx' routes under webhooks in any order and number: no command twice, one ending a call, and never a failure."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patter.events import CallEnded, CallPlaced, CallStarted
from patter.exceptions import PatterError
from patter.server import telnyx_control
from tests.support.telnyx_house import BOSS, House, an_order, house, leg

KINDS: list[tuple[str, dict[str, Any]]] = [
    ("call.initiated", {"direction": "incoming", "state": "parked"}),
    ("call.initiated", {"direction": "outgoing", "state": "bridging"}),
    ("call.answered", {}),
    ("call.bridged", {}),
    ("call.hangup", {"hangup_cause": "normal_clearing"}),
    ("call.hangup", {"hangup_cause": "user_busy"}),
    ("call.speak.ended", {"status": "completed"}),
    ("call.machine.premium.detection.ended", {"result": "machine"}),
    ("call.machine.premium.greeting.ended", {"result": "beep_detected"}),
    ("call.recording.saved", {"call_control_id": None, "recording_urls": {"wav": "https://a/b"}}),
    ("streaming.started", {}),
    ("streaming.failed", {"failure_reason": "refused"}),
    ("streaming.stopped", {}),
    ("call.dtmf.received", {"digit": "1"}),
]
STEPS = st.lists(st.tuples(st.integers(1, 3), st.sampled_from(range(len(KINDS))), st.booleans()), max_size=25)
ONCE = ("answer", "streaming_start", "reject", "speak", "bridge", "hangup")


async def tell(here: House, steps: list[tuple[int, int, bool]]) -> None:
    """Tell it of leg 1 (placed), leg 2 (comes in) and leg 3 (whatever the webhooks make of it); some webhooks twice."""
    for number, kind, twice in steps:
        name, payload = KINDS[kind]
        body = here.event(name, leg(number), **payload)
        for _ in range(2 if twice else 1):
            assert await here.post(body) == 200


def check(here: House) -> None:
    did = Counter(here.did)
    assert [name for name, times in did.items() if times > 1 and name.startswith(ONCE)] == []
    assert not {f"answer {n}" for n in (1, 2, 3)} & {f"reject {n}" for n in (1, 2, 3)} & set(did)
    for kind in (CallPlaced, CallStarted, CallEnded):
        counted = Counter(event.call_id for event in here.events if isinstance(event, kind))
        assert max(counted.values(), default=0) <= 1
    for event in here.events:
        if isinstance(event, CallEnded):
            later = here.events[here.events.index(event) + 1 :]
            assert not [
                other
                for other in later
                if isinstance(other, (CallPlaced, CallStarted)) and other.call_id == event.call_id
            ]


@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
def test_whatever_the_carrier_says_of_calls_on_their_way_is_done_once(steps: list[tuple[int, int, bool]]) -> None:
    async def run() -> House:
        async with house() as here:
            await here.routes.dial(an_order(detect_machine=True))
            await here.incoming(leg(2))
            await tell(here, steps)
        return here

    check(here := anyio.run(run))
    placed = {event.call_id for event in here.events if isinstance(event, CallPlaced)}
    assert placed <= {event.call_id for event in here.events if isinstance(event, CallEnded)}


@settings(max_examples=40, deadline=None)
@given(steps=STEPS, summary=st.sampled_from(["", "Ada"]))
def test_whatever_the_carrier_says_of_a_transfer_it_is_decided_once(
    steps: list[tuple[int, int, bool]], summary: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(telnyx_control, "RING_S", 5.0)
        check(anyio.run(transferring, steps, summary))


async def transferring(steps: list[tuple[int, int, bool]], summary: str) -> House:
    """The call of leg 2 is handed over while all that is told; leg 1 is the person of a warm transfer."""
    async with house() as here, here.called(leg(2)) as (_, _, session), anyio.create_task_group() as tasks:

        async def transfer() -> None:
            with suppress(PatterError):
                await session.transfer(BOSS, summary=summary)

        tasks.start_soon(transfer)
        await here.until(lambda: here.commands("calls", "transfer"))
        for order in here.commands("transfer"):
            here.states[leg(1)] = order["target_leg_client_state"]
        await tell(here, steps)
        tasks.cancel_scope.cancel()
    return here
