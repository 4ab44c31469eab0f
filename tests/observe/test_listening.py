"""Live listening: both voices where the caller's ear has them, whoever joins late, and whoever is slow."""

from __future__ import annotations

import anyio
import numpy as np
import pytest

from patter.audio.format import PCM_8K, AudioChunk
from patter.observe.listening import BEHIND, Listener, Listening
from patter.ports import Abilities, AudioTap, CallInfo

pytestmark = pytest.mark.anyio
FRAME = 160  # samples of 20 ms
START = 1_000.0


class Line:
    """Only what a listening asks of a transport."""

    def __init__(self, *, sound: bool = True) -> None:
        self.abilities = Abilities(PCM_8K, PCM_8K) if sound else Abilities(None, None)


def sound(level: int, ms: int) -> AudioChunk:
    return AudioChunk(np.full(8 * ms, level, np.int16).tobytes(), PCM_8K)


def caller(tap: AudioTap, frames: int, first: int = 0) -> None:
    """So many frames of level 100, 101, …, each received when it is over."""
    for number in range(first, first + frames):
        tap.caller(sound(100 + number, 20), START + 0.02 * (number + 1))


async def heard(listener: Listener) -> np.ndarray:
    listener.close()
    blocks = [block async for block in listener]
    return np.frombuffer(b"".join(blocks), np.int16).reshape(-1, 2)


def joined(listening: Listening) -> Listener:
    listener = listening.join("CA1")
    assert listener is not None
    return listener


async def test_the_agent_stands_where_the_ear_has_it_and_what_was_cut_is_silence() -> None:
    listening = Listening()
    (tap,) = listening.taps(CallInfo("CA1"), Line())  # type: ignore[arg-type]
    listener = joined(listening)
    caller(tap, 1)
    tap.agent(sound(7, 100), START + 0.06)
    tap.agent(sound(8, 100), START + 0.16)
    caller(tap, 9, first=1)
    tap.cut(START + 0.22)
    caller(tap, 10, first=10)
    both = await heard(listener)
    assert len(both) == 20 * FRAME
    assert both[0, 0] == 100
    assert both[-1, 0] == 119
    agent = both[:, 1]
    assert np.flatnonzero(agent)[0] == pytest.approx(8 * 60, abs=1)
    assert set(agent[480:1280]) == {7}
    assert set(agent[1281:1759]) == {8}
    assert not agent[1761:].any()


async def test_who_joins_in_the_middle_of_a_reply_hears_the_rest_of_it() -> None:
    listening = Listening()
    (tap,) = listening.taps(CallInfo("CA1"), Line())  # type: ignore[arg-type]
    caller(tap, 1)
    tap.agent(sound(7, 1_000), START + 0.02)
    caller(tap, 9, first=1)
    listener = joined(listening)
    caller(tap, 60, first=10)
    agent = (await heard(listener))[:, 1]
    assert agent[0] == 7
    assert np.count_nonzero(agent) == pytest.approx(8 * 820, abs=2)


async def test_listeners_come_and_go_and_the_call_ends_for_all_of_them() -> None:
    listening = Listening()
    assert listening.join("CA1") is None
    assert listening.taps(CallInfo("CA0"), Line(sound=False)) == ()  # type: ignore[arg-type]
    (tap,) = listening.taps(CallInfo("CA1"), Line())  # type: ignore[arg-type]
    first, second = joined(listening), joined(listening)
    caller(tap, 5)
    listening.leave("CA1", first)
    caller(tap, 5, first=5)
    tap.close(START + 1)
    with anyio.fail_after(5):
        assert [len(block) for block in [block async for block in first]] == [5 * FRAME * 4]
        assert len([block async for block in second]) == 2
    assert listening.join("CA1") is None


async def test_a_slow_listener_loses_the_oldest_and_is_told_how_much() -> None:
    listening = Listening()
    (tap,) = listening.taps(CallInfo("CA1"), Line())  # type: ignore[arg-type]
    listener = joined(listening)
    caller(tap, 5 * (BEHIND + 3))
    both = await heard(listener)
    assert listener.left_out == 3
    assert both[0, 0] == 115
