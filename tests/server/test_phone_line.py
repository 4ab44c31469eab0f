"""The books of a phone line: verdicts find their call, and every call that was placed is told once and ends once."""

from __future__ import annotations

from pathlib import Path

from patter.agentfile import AgentFile
from patter.bus import Bus
from patter.clock import Clock
from patter.events import CallEnded, CallPlaced, Event
from patter.models import Agent
from patter.ports import AnsweredBy
from patter.server import phone_line
from patter.server.orders import Order
from patter.server.phone_line import Lines, Placed, Ringing

ORDER = Order("+14155550123", "+15551234567", AgentFile(Path("a"), "caller", Agent("Be kind."), None, (), "", ""))


class Handset:
    """A line that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, bool]] = []

    def machine_detected(self, answered_by: AnsweredBy, ready: bool) -> None:
        self.told.append((answered_by, ready))


def test_a_verdict_is_told_at_once_to_a_line_that_is_up() -> None:
    lines, line = Lines(), Handset()
    lines.up("one", line)
    lines.machine_detected("one", "machine", ready=False)
    lines.machine_detected("two", "human")
    assert line.told == [("machine", False)]
    assert lines.find("one") is line


def test_verdicts_wait_for_their_line_in_order() -> None:
    lines, line = Lines(), Handset()
    for ready in (False, True):
        lines.machine_detected("one", "machine", ready)
    lines.up("one", line)
    assert line.told == [("machine", False), ("machine", True)]


def test_what_is_over_is_forgotten() -> None:
    lines, line = Lines(), Handset()
    lines.machine_detected("one", "human")
    lines.down("one")
    lines.up("one", line)
    lines.down("one")
    lines.down("one")
    lines.machine_detected("one", "fax")
    assert (line.told, lines.find("one")) == ([], None)


def test_verdicts_of_calls_that_never_come_do_not_pile_up() -> None:
    lines, line = Lines(), Handset()
    for number in range(phone_line.HELD + 5):
        for _ in range(phone_line.VERDICTS + 5):
            lines.machine_detected(f"call {number}", "human")
    lines.up("call 0", line)
    assert line.told == []
    lines.up(f"call {phone_line.HELD}", line)
    assert len(line.told) == phone_line.VERDICTS


class Books:
    """Calls on their way, and what was told of them."""

    def __init__(self) -> None:
        bus = Bus(Clock())
        self.told: list[str] = []
        bus.add_sink(self._note)
        self.ringing = Ringing(bus, "twilio")

    def _note(self, event: Event) -> None:
        assert isinstance(event, (CallPlaced, CallEnded))
        self.told.append(f"{event.call_id} {'placed' if isinstance(event, CallPlaced) else event.reason}")

    def place(self) -> Placed:
        return self.ringing.place(ORDER)


def test_a_call_is_told_when_its_id_is_known_and_ends_once() -> None:
    books = Books()
    placed = books.place()
    assert (books.told, len(books.ringing)) == ([], 1)
    assert books.ringing.known(placed, "one")
    assert books.ringing.known(placed, "one")
    assert not books.ringing.known(placed, "another")
    assert (books.ringing.find("one"), books.ringing.by_token(placed.token)) == (placed, placed)
    for call_id in ("another", "one", "one"):
        books.ringing.ended(placed, call_id, "busy")
    assert books.told == ["one placed", "one busy"]
    assert (books.ringing.find("one"), books.ringing.by_token(placed.token), len(books.ringing)) == (None, None, 0)


def test_an_ending_that_comes_before_the_id_is_kept_for_it() -> None:
    books = Books()
    placed = books.place()
    for number in range(phone_line.EARLY + 5):
        books.ringing.ended(placed, f"id {number}", "no_answer")
    assert books.told == []
    books.ringing.known(placed, "id 2")
    assert books.told == ["id 2 placed", "id 2 no_answer"]


def test_a_call_that_came_up_is_its_sessions() -> None:
    books = Books()
    placed = books.place()
    books.ringing.known(placed, "one")
    books.ringing.came_up(placed)
    books.ringing.ended(placed, "one", "busy")
    assert (books.told, len(books.ringing), placed.closed.is_set()) == (["one placed"], 0, True)


def test_an_order_that_was_refused_is_no_call() -> None:
    books = Books()
    placed = books.place()
    books.ringing.refused(placed)
    books.ringing.ended(placed, "one", "busy")
    assert (books.told, books.ringing.by_token(placed.token)) == ([], None)


def test_tokens_cannot_be_guessed_from_each_other() -> None:
    books = Books()
    tokens = {books.place().token for _ in range(100)}
    assert len(tokens) == 100
    assert min(map(len, tokens)) >= 32
