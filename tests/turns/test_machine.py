"""The floor's tables: complete, closed, and true to the house rules."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter.turns.machine import EAR, FLOOR, REPLY, Caller, Ear, Floor, Move, Reply, Verdict


def test_every_situation_has_a_verdict() -> None:
    assert set(FLOOR) == set(itertools.product(Ear, Caller))


def test_every_state_has_its_moves() -> None:
    assert set(REPLY) == set(Reply)
    assert set(EAR) == set(Ear)


@pytest.mark.parametrize("caller", Caller)
@pytest.mark.parametrize("ear", Ear)
def test_with_an_idle_reply_the_floor_is_the_callers(ear: Ear, caller: Caller) -> None:
    floor = Floor()
    floor.ear = ear
    assert floor.judge(caller) is Verdict.NONE


@pytest.mark.parametrize("ear", Ear)
def test_words_and_turns_always_take_the_floor_and_voice_alone_never_does(ear: Ear) -> None:
    assert FLOOR[ear, Caller.WORDS] is FLOOR[ear, Caller.TURN] is Verdict.YIELD
    assert FLOOR[ear, Caller.VOICE] is not Verdict.YIELD


@given(st.lists(st.sampled_from(Move)))
def test_a_cut_always_leaves_nothing_to_hear(moves: list[Move]) -> None:
    floor = Floor()
    for move in moves:
        floor.move(move)
    floor.move(Move.CUT)
    assert (floor.reply, floor.ear) == (Reply.IDLE, Ear.QUIET)


@given(st.lists(st.sampled_from([move for move in Move if move not in (Move.RESUME, Move.CUT)])))
def test_held_sound_stays_held_until_it_is_resumed_or_cut(moves: list[Move]) -> None:
    floor = Floor()
    for move in (Move.BEGIN, Move.SOUND, Move.HOLD, *moves):
        floor.move(move)
    assert floor.held
