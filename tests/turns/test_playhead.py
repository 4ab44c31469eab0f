"""The ledger against a carrier that plays in real time, with latency both ways, clears and gaps."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patter.signals import PlayoutAdvanced, PlayoutEnded, PlayoutStarted
from patter.turns.playhead import OVERDUE_MS, Playhead


def test_sound_after_sound_is_expected_when_the_one_before_ends() -> None:
    head = Playhead()
    assert head.sent(1, 0, 200, now=10.0) == pytest.approx(10.0)
    assert head.sent(1, 200, 300, now=10.05) == pytest.approx(10.2)
    assert head.sent(1, 500, 20, now=10.05) == pytest.approx(10.5)
    assert head.queued_ms(10.05) == pytest.approx(470)


def test_the_clock_moves_the_ear_until_all_is_heard() -> None:
    head = Playhead()
    head.sent(1, 0, 200, now=10.0)
    assert head.heard_ms(1, 10.0) == 0.0
    assert head.heard_ms(1, 10.15) == pytest.approx(150)
    assert head.heard_ms(1, 99.0) == pytest.approx(200)


def test_a_pending_mark_holds_the_ear() -> None:
    head = Playhead()
    head.sent(1, 0, 60, now=10.0)
    name = head.mark(1)
    head.sent(1, 60, 400, now=10.0)
    assert head.heard_ms(1, 10.3) == pytest.approx(60)
    head.marked(name, 10.3)
    assert head.heard_ms(1, 10.4) == pytest.approx(160)


def test_the_first_mark_tells_when_the_sound_started_at_the_ear() -> None:
    head = Playhead()
    head.sent(7, 0, 60, now=10.0)
    name = head.mark(7)
    said = head.marked(name, 10.16)
    assert said == (PlayoutStarted(7, pytest.approx(10.1)), PlayoutAdvanced(7, pytest.approx(60), 10.16))


def test_the_next_reply_is_expected_after_the_measured_way_to_the_ear() -> None:
    head = Playhead()
    head.sent(1, 0, 60, now=10.0)
    head.marked(head.mark(1, last=True), 10.16)
    assert head.sent(2, 0, 60, now=20.0) == pytest.approx(20.1)


def test_a_reply_ends_when_its_last_mark_comes_back() -> None:
    head = Playhead()
    head.sent(1, 0, 100, now=10.0)
    first, last = head.mark(1), head.mark(1, last=True)
    assert PlayoutEnded(1, 10.12) not in head.marked(first, 10.12)
    assert head.marked(last, 10.12)[-1] == PlayoutEnded(1, 10.12)


def test_a_finished_reply_without_sound_ends_without_having_started() -> None:
    head = Playhead()
    assert head.marked(head.mark(3, last=True), 10.0) == (PlayoutEnded(3, 10.0),)


def test_marks_of_a_cleared_epoch_do_not_mean_heard() -> None:
    head = Playhead()
    head.sent(1, 0, 60, now=10.0)
    early = head.mark(1)
    head.sent(1, 60, 5_000, now=10.0)
    late = head.mark(1, last=True)
    head.marked(early, 10.06)
    assert head.cleared(10.5) == (1, pytest.approx(500))
    assert head.marked(late, 10.52) == ()
    assert head.heard_ms(1, 11.0) == pytest.approx(500)
    assert head.queued_ms(10.5) == 0.0


def test_a_clear_before_anything_was_heard_counts_nothing() -> None:
    head = Playhead()
    head.sent(1, 0, 1_000, now=10.0)
    assert head.cleared(10.0) == (1, 0.0)
    assert Playhead().cleared(5.0) == (0, 0.0)


def test_a_clear_names_the_reply_at_the_ear_and_not_the_one_queued_behind_it() -> None:
    head = Playhead()
    head.sent(1, 0, 300, now=10.0)
    head.sent(2, 0, 300, now=10.0)
    assert head.cleared(10.1) == (1, pytest.approx(100))
    assert head.heard_ms(2, 11.0) == 0.0


def test_a_reply_resumed_after_a_clear_goes_on_on_its_own_timeline_and_starts_again() -> None:
    head = Playhead()
    head.sent(1, 0, 2_000, now=10.0)
    heard = head.cleared(10.7)[1]
    head.sent(1, heard, 60, now=12.0)
    name = head.mark(1)
    head.sent(1, heard + 60, 1_240, now=12.0)
    assert head.heard_ms(1, 12.0) == pytest.approx(700)
    assert head.marked(name, 12.06)[0] == PlayoutStarted(1, pytest.approx(12.0))
    assert head.heard_ms(1, 12.5) == pytest.approx(1_200)


def test_a_reply_replayed_from_before_the_cut_never_counts_back() -> None:
    head = Playhead()
    head.sent(1, 0, 2_000, now=10.0)
    head.cleared(10.7)
    head.sent(1, 500, 1_500, now=12.0)
    assert head.heard_ms(1, 12.1) == pytest.approx(700)
    assert head.heard_ms(1, 12.3) == pytest.approx(800)


def test_a_mark_that_overtook_a_lost_one_counts_for_both() -> None:
    head = Playhead()
    head.sent(1, 0, 60, now=10.0)
    head.mark(1, last=True)
    head.sent(2, 0, 60, now=10.0)
    kinds = [type(item) for item in head.marked(head.mark(2), 10.12)]
    assert kinds == [PlayoutStarted, PlayoutAdvanced, PlayoutEnded, PlayoutStarted, PlayoutAdvanced]


def test_an_unknown_mark_says_nothing() -> None:
    head = Playhead()
    head.sent(1, 0, 60, now=10.0)
    assert head.marked("somebody else's", 10.1) == ()


def test_a_lost_mark_holds_nothing_up_for_ever() -> None:
    head = Playhead()
    head.sent(1, 0, 100, now=10.0)
    head.mark(1, last=True)
    assert head.overdue(10.1 + OVERDUE_MS / 1000 - 0.01) == ()
    said = head.overdue(10.1 + OVERDUE_MS / 1000 + 0.01)
    assert [type(item) for item in said] == [PlayoutStarted, PlayoutAdvanced, PlayoutEnded]


# ------------------------------------------------------------------- against a simulated carrier


@dataclass
class Carrier:
    """Plays what arrives `up` seconds after it was sent; its marks take `down` seconds back."""

    up: float
    down: float
    queue: list[tuple[str, int, float, float]] = field(default_factory=list)  # (mark, reply, at_ms, ms) in order
    inbox: list[tuple[float, int, tuple[str, int, float, float]]] = field(default_factory=list)
    outbox: list[tuple[float, int, str]] = field(default_factory=list)
    at: float = 0.0
    serial: int = 0
    heard: dict[int, float] = field(default_factory=dict)

    def receive(self, what: tuple[str, int, float, float], now: float) -> None:
        self.serial += 1
        heapq.heappush(self.inbox, (now + self.up, self.serial, what))

    def _echo(self, name: str) -> None:
        self.serial += 1
        heapq.heappush(self.outbox, (self.at + self.down, self.serial, name))

    def run(self, until: float) -> None:
        while self.inbox and self.inbox[0][0] <= until:
            arrives, _, what = heapq.heappop(self.inbox)
            self._play(arrives)
            if what[0] == "clear":
                for name, _, _, ms in self.queue:
                    if ms == 0.0:
                        self._echo(name)
                self.queue.clear()
            else:
                self.queue.append(what)
            self._play(arrives)
        self._play(until)

    def _play(self, until: float) -> None:
        while self.queue:
            name, reply, at_ms, ms = self.queue[0]
            if ms == 0.0:
                self._echo(name)
                self.queue.pop(0)
                continue
            room = (until - self.at) * 1000
            if room <= 0:
                return
            played = min(room, ms)
            self.at += played / 1000
            self.heard[reply] = max(self.heard.get(reply, 0.0), at_ms + played)
            if played == ms:
                self.queue.pop(0)
            else:
                self.queue[0] = (name, reply, at_ms + played, ms - played)
                return
        self.at = max(self.at, until)


class Line:
    """The ledger and the carrier side by side, with a mark after 60 ms and then every 400 ms."""

    def __init__(self, up: float, down: float) -> None:
        self.head, self.carrier, self.now = Playhead(), Carrier(up, down), 0.0
        self.sent: dict[int, float] = {}
        self.unmarked, self.reply, self.said = 340.0, 1, []

    def step(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until - 1e-9:
            self.now = min(until, self.now + 0.01)
            self.carrier.run(self.now)
            while self.carrier.outbox and self.carrier.outbox[0][0] <= self.now:
                self.said += self.head.marked(heapq.heappop(self.carrier.outbox)[2], self.now)
            self.check()

    def play(self, ms: float) -> None:
        while ms > 0:
            piece = min(ms, 400.0 - self.unmarked)
            at_ms = self.sent.get(self.reply, 0.0)
            expected = self.head.sent(self.reply, at_ms, piece, self.now)
            assert expected >= self.now
            self.carrier.receive(("", self.reply, at_ms, piece), self.now)
            self.sent[self.reply] = at_ms + piece
            self.unmarked += piece
            ms -= piece
            if self.unmarked >= 400.0:
                self._mark()

    def _mark(self, last: bool = False) -> None:
        self.carrier.receive((self.head.mark(self.reply, last=last), self.reply, 0.0, 0.0), self.now)
        self.unmarked = 0.0

    def finish(self) -> None:
        self._mark(last=True)
        self.reply += 1
        self.unmarked = 340.0

    def clear(self) -> None:
        reply, heard = self.head.cleared(self.now)
        self.carrier.receive(("clear", 0, 0.0, 0.0), self.now)
        self.sent[reply] = heard
        self.reply += 1
        self.unmarked = 340.0

    def check(self) -> None:
        for reply, sent in self.sent.items():
            believed, true = self.head.heard_ms(reply, self.now), self.carrier.heard.get(reply, 0.0)
            assert abs(believed - true) <= 100.0, (reply, believed, true)
            assert believed <= sent + 1e-6


steps = st.lists(
    st.one_of(
        st.tuples(st.just("play"), st.sampled_from([20.0, 35.0, 60.0, 250.0, 1_000.0, 4_300.0])),
        st.tuples(st.just("wait"), st.sampled_from([0.01, 0.02, 0.06, 0.3, 1.1])),
        st.tuples(st.just("finish"), st.just(0.0)),
        st.tuples(st.just("clear"), st.just(0.0)),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(steps=steps, up=st.sampled_from([0.0, 0.02, 0.04]), down=st.sampled_from([0.0, 0.02, 0.04]))
def test_the_ledger_is_within_100_ms_of_a_real_ear(steps: list[tuple[str, float]], up: float, down: float) -> None:
    line = Line(up, down)
    for verb, amount in steps:
        if verb == "play":
            line.play(amount)
        elif verb == "wait":
            line.step(amount)
        elif verb == "finish":
            line.finish()
        else:
            line.clear()
    line.finish()
    line.step(min(3.0, line.head.queued_ms(line.now) / 1000 + 0.2))


@settings(max_examples=100, deadline=None)
@given(steps=steps)
def test_every_reply_starts_and_ends_at_most_once_and_in_that_order(steps: list[tuple[str, float]]) -> None:
    line = Line(0.02, 0.02)
    finished: set[int] = set()
    for verb, amount in steps:
        if verb == "play":
            line.play(amount)
        elif verb == "wait":
            line.step(amount)
        elif verb == "finish":
            finished.add(line.reply)
            line.finish()
        else:
            finished.difference_update(range(1, 99))
            line.clear()
    line.step(line.head.queued_ms(line.now) / 1000 + 0.2)
    for reply in line.sent:
        mine = [item for item in line.said if item.reply_id == reply]
        assert sum(isinstance(item, PlayoutStarted) for item in mine) <= 1
        assert sum(isinstance(item, PlayoutEnded) for item in mine) == (reply in finished) or reply not in finished
        heard = [item.heard_ms for item in mine if isinstance(item, PlayoutAdvanced)]
        assert heard == sorted(heard)
        if mine:
            assert isinstance(mine[0], (PlayoutStarted, PlayoutEnded))
