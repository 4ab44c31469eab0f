"""A leg's life under any order, number and mixture of webhooks: each command at most once, one ending, sense in order."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter.server.telnyx_life import (
    FACTS,
    Deed,
    Fact,
    Life,
    Stage,
    Verdict,
    Verdicts,
    verdict_of,
    why_over,
    why_untaken,
)

BEGINNINGS = (Stage.OFFERED, Stage.DIALLED, Stage.CONSULTED, Stage.HANDED, Stage.ANNOUNCED)
ENDINGS = {Deed.END_SESSION, Deed.UNTAKEN, Deed.UNHEARD, Deed.CANCEL, Deed.FAIL, Deed.HANG_UP, Deed.REFUSE}


def run(stage: Stage, *facts: Fact) -> tuple[list[Deed], Stage]:
    life = Life(stage)
    deeds = [life.told(fact) for fact in facts]
    return [deed for deed in deeds if deed is not None], life.stage


def test_an_inbound_call_is_answered_streamed_and_ended_by_its_caller() -> None:
    deeds, stage = run(Stage.OFFERED, Fact.INITIATED, Fact.ANSWERED, Fact.SOCKET, Fact.HUNG_UP, Fact.CLOSED)
    assert deeds == [Deed.ANSWER, Deed.STREAM, Deed.END_SESSION]
    assert stage is Stage.OVER


def test_a_session_that_ends_leaves_the_carrier_time_to_say_so_itself() -> None:
    up = (Fact.INITIATED, Fact.ANSWERED, Fact.SOCKET, Fact.CLOSED)
    assert run(Stage.OFFERED, *up, Fact.HUNG_UP, Fact.OVERDUE)[0] == [Deed.ANSWER, Deed.STREAM]
    assert run(Stage.OFFERED, *up, Fact.OVERDUE, Fact.HUNG_UP)[0] == [Deed.ANSWER, Deed.STREAM, Deed.HANG_UP]


@pytest.mark.parametrize(
    ("facts", "deeds"),
    [
        ([Fact.HUNG_UP], [Deed.UNTAKEN]),
        ([Fact.INITIATED, Fact.HUNG_UP, Fact.ANSWERED], [Deed.UNTAKEN]),
        ([Fact.CANCELED, Fact.ANSWERED, Fact.HUNG_UP], [Deed.CANCEL]),
        ([Fact.OVERDUE, Fact.HUNG_UP], [Deed.CANCEL]),
        ([Fact.ANSWERED, Fact.HUNG_UP, Fact.SOCKET], [Deed.STREAM, Deed.UNHEARD]),
        ([Fact.ANSWERED, Fact.FAILED, Fact.HUNG_UP], [Deed.STREAM, Deed.FAIL]),
        ([Fact.ANSWERED, Fact.INITIATED, Fact.SOCKET, Fact.FAILED], [Deed.STREAM]),
    ],
)
def test_an_outbound_call_that_does_not_come_up_ends_once(facts: list[Fact], deeds: list[Deed]) -> None:
    assert run(Stage.DIALLED, *facts)[0] == deeds


def test_a_warm_transfer_tells_the_summary_before_it_joins() -> None:
    deeds, stage = run(Stage.CONSULTED, Fact.INITIATED, Fact.ANSWERED, Fact.SPOKEN, Fact.BRIDGED)
    assert (deeds, stage) == ([Deed.SPEAK, Deed.BRIDGE, Deed.DONE], Stage.JOINED)
    assert run(Stage.CONSULTED, Fact.HUNG_UP)[0] == [Deed.REFUSE]
    assert run(Stage.CONSULTED, Fact.ANSWERED, Fact.HUNG_UP, Fact.SPOKEN)[0] == [Deed.SPEAK, Deed.REFUSE]
    assert run(Stage.CONSULTED, Fact.SPOKEN, Fact.BRIDGED) == ([], Stage.CONSULTED)


def test_an_announcement_ends_with_its_last_word() -> None:
    assert run(Stage.ANNOUNCED, Fact.BRIDGED, Fact.SPOKEN, Fact.CANCELED) == ([Deed.DONE], Stage.OVER)
    assert run(Stage.ANNOUNCED, Fact.CANCELED, Fact.SPOKEN) == ([Deed.REFUSE], Stage.OVER)


def test_a_join_that_the_carrier_took_and_never_confirmed_counts() -> None:
    told = (Fact.ANSWERED, Fact.SPOKEN)
    assert run(Stage.CONSULTED, *told, Fact.OVERDUE) == ([Deed.SPEAK, Deed.BRIDGE, Deed.DONE], Stage.JOINED)


def test_a_cold_transfer_is_done_when_that_person_is_there() -> None:
    assert run(Stage.HANDED, Fact.INITIATED, Fact.ANSWERED, Fact.BRIDGED) == ([Deed.DONE], Stage.JOINED)
    assert run(Stage.HANDED, Fact.BRIDGED, Fact.ANSWERED, Fact.HUNG_UP) == ([Deed.DONE], Stage.OVER)
    assert run(Stage.HANDED, Fact.HUNG_UP, Fact.BRIDGED) == ([Deed.REFUSE], Stage.OVER)


@given(st.sampled_from(BEGINNINGS), st.lists(st.sampled_from(Fact), max_size=30))
def test_whatever_comes_each_deed_is_done_at_most_once_and_one_ending(stage: Stage, facts: list[Fact]) -> None:
    deeds, last = run(stage, *facts)
    assert max(Counter(deeds).values(), default=0) <= 1
    assert len(ENDINGS & set(deeds)) <= 1
    if ENDINGS & set(deeds):
        assert last is Stage.OVER
        assert deeds[-1] in ENDINGS
    if Deed.STREAM in deeds and Deed.ANSWER in deeds:
        assert deeds.index(Deed.ANSWER) < deeds.index(Deed.STREAM)
    if Deed.BRIDGE in deeds:
        assert deeds.index(Deed.SPEAK) < deeds.index(Deed.BRIDGE)


@given(st.data())
def test_webhooks_of_one_call_in_any_order_and_number_end_it(data: st.DataObject) -> None:
    webhooks = [Fact.INITIATED, Fact.ANSWERED, Fact.HUNG_UP, Fact.SPOKEN, Fact.BRIDGED]
    repeated = webhooks + data.draw(st.lists(st.sampled_from(webhooks), max_size=8))
    for stage in BEGINNINGS[:-1]:
        deeds, last = run(stage, *data.draw(st.permutations(repeated)))
        assert last is Stage.OVER
        assert max(Counter(deeds).values(), default=0) <= 1


def test_there_is_no_way_back() -> None:
    for stage in Stage:
        seen = {stage}
        front = [stage]
        while front:
            for fact in Fact:
                life = Life(front[0])
                life.told(fact)
                if life.stage is front[0]:
                    continue
                assert life.stage is not stage
                if life.stage not in seen:
                    seen.add(life.stage)
                    front.append(life.stage)
            front.pop(0)


@pytest.mark.parametrize(
    ("kind", "result", "verdict"),
    [
        ("call.machine.premium.detection.ended", "human_residence", Verdict("human")),
        ("call.machine.premium.detection.ended", "human_business", Verdict("human")),
        ("call.machine.detection.ended", "human", Verdict("human")),
        ("call.machine.premium.detection.ended", "machine", Verdict("machine", ready=False)),
        ("call.machine.premium.detection.ended", "fax_detected", Verdict("fax")),
        ("call.machine.premium.detection.ended", "silence", Verdict("unknown")),
        ("call.machine.detection.ended", "not_sure", Verdict("unknown")),
        ("call.machine.premium.greeting.ended", "beep_detected", Verdict("machine")),
        ("call.machine.premium.greeting.ended", "no_beep_detected", Verdict("machine")),
        ("call.machine.premium.greeting.ended", "prompt_ended", Verdict("machine")),
        ("call.machine.greeting.ended", "ended", Verdict("machine")),
        ("call.machine.greeting.ended", "not_sure", Verdict("machine")),
        ("call.machine.premium.detection.ended", "martian", None),
        ("call.machine.premium.greeting.ended", "human", None),
        ("call.answered", "human", None),
    ],
)
def test_a_detection_says_who_answered(kind: str, result: str, verdict: Verdict | None) -> None:
    assert verdict_of(kind, result) == verdict


def test_a_verdict_is_told_only_if_it_says_more() -> None:
    early, ready, unknown, human = (
        Verdict("machine", ready=False), Verdict("machine"), Verdict("unknown"), Verdict("human"),
    )  # fmt: skip
    for said, told in (
        ([early, ready], [early, ready]),
        ([ready, early], [ready]),
        ([early, early, ready, ready], [early, ready]),
        ([unknown, ready], [unknown, ready]),
        ([human, ready, early], [human]),
        ([early, unknown], [early]),
    ):
        verdicts = Verdicts()
        assert [verdict for verdict in said if verdicts.told(verdict)] == told


@pytest.mark.parametrize(
    ("cause", "sip", "reason"),
    [
        ("user_busy", "486", "busy"),
        ("no_answer", "480", "no_answer"),
        ("timeout", "unspecified", "no_answer"),
        ("originator_cancel", "487", "canceled"),
        ("call_rejected", "486", "busy"),
        ("call_rejected", "603", "busy"),
        ("call_rejected", "403", "failed"),
        ("not_found", "404", "failed"),
        ("normal_clearing", "200", "failed"),
        ("something_new", "", "failed"),
        ("", "", "failed"),
    ],
)
def test_an_untaken_call_says_why(cause: str, sip: str, reason: str) -> None:
    got, sentence = why_untaken(cause, sip)
    assert got == reason
    assert sentence.endswith(".")


def test_a_plain_goodbye_needs_no_cause() -> None:
    assert "normal" not in why_over("normal_clearing")
    assert "time_limit" in why_over("time_limit")


def test_the_carriers_events_are_named_as_it_names_them() -> None:
    assert all(kind.startswith(("call.", "streaming.")) for kind in FACTS)
