"""Which of the vendor's sound and words are one reply, and where it ends: in virtual time, without a socket."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from patter.audio.format import MULAW_8K, AudioChunk
from patter.conversations.stored_agent_replies import QUIET_S, SOUNDLESS_S, TAIL_S, UNSAID_S, Replies
from patter.signals import (
    ConversationSignal,
    Guarded,
    ReplyAudio,
    ReplyEnded,
    ReplyKind,
    ReplyReached,
    ReplyStarted,
    ReplyText,
    ReplyWithdrawn,
)
from tests.support.virtual_time import VIRTUAL_BACKEND, virtual_clock

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> object:
    return VIRTUAL_BACKEND


class Book:
    """Replies, and all that they told."""

    def __init__(
        self, *, sound: bool = True, screen: Callable[[str, str], tuple[str, str | None]] | None = None
    ) -> None:
        self.clock = virtual_clock()
        self.began = self.clock.now()
        self.told: list[ConversationSignal] = []
        self.instead: list[tuple[str, ReplyKind]] = []
        self.unsaid: list[str] = []
        self.replies = Replies(
            self.clock,
            self.told.append,
            screen or (lambda _, text: (text, None)),
            sound=sound,
            replace=lambda text, kind: self.instead.append((text, kind)),
            unsaid=self.unsaid.append,
            ended=lambda: None,
        )

    def sound(self, event_id: int | None, ms: float = 1000.0, spoken: str = "") -> None:
        self.replies.sound(AudioChunk(MULAW_8K.quiet(ms), MULAW_8K), spoken, event_id)

    @property
    def ended(self) -> list[tuple[int, float]]:
        """(reply, seconds since the beginning) of every end."""
        ends = [said for said in self.told if isinstance(said, ReplyEnded)]
        return [(said.reply_id, round(said.at - self.began, 2)) for said in ends]

    @property
    def kinds(self) -> list[str]:
        return [said.kind for said in self.told if isinstance(said, ReplyStarted)]

    def heard(self, reply_id: int) -> float:
        """How many ms of sound of a reply were told."""
        return sum(said.chunk.ms for said in self.told if isinstance(said, ReplyAudio) and said.reply_id == reply_id)

    def text(self, reply_id: int) -> list[str]:
        return [said.text for said in self.told if isinstance(said, ReplyText) and said.reply_id == reply_id]


async def test_a_reply_ends_when_its_sound_must_have_been_heard_and_nothing_followed() -> None:
    book = Book()
    book.replies.words("Hello.", 1)
    book.sound(1)
    await anyio.sleep(0.2)
    book.sound(1)
    await anyio.sleep(10)
    assert book.ended == [(1, 2.0 + QUIET_S)]


async def test_a_reply_ends_soon_after_its_last_word_where_the_vendor_aligns_them() -> None:
    book = Book()
    book.replies.words("Hello you.", 1)
    book.sound(1, spoken="Hello ")
    book.sound(1, spoken="you.")
    await anyio.sleep(0.1)
    book.sound(1, 100.0)  # the silence behind it
    await anyio.sleep(10)
    assert book.ended == [(1, round(0.1 + TAIL_S, 2))]
    assert book.text(1) == ["Hello", "you."]


async def test_the_vendors_own_word_for_the_end_is_taken() -> None:
    book = Book()
    book.replies.words("Hello.", 1)
    book.sound(1)
    book.replies.complete(1)
    await anyio.sleep(10)
    assert book.ended == [(1, TAIL_S)]


async def test_another_reply_ends_the_one_before() -> None:
    book = Book()
    book.replies.words("Let me see.", 1)
    book.sound(1)
    book.replies.words("It is noon.", 2)
    assert book.ended == [(1, 0.0)]
    book.sound(2)
    book.sound(1)  # late: it is over, and the caller hears another one
    assert (book.kinds[:2], book.heard(2)) == (["greeting", "answer"], 1000.0)


async def test_sound_before_its_words_is_one_reply_with_them() -> None:
    book = Book()
    book.sound(4)
    book.replies.words("Hello.", 4)
    book.sound(4)
    assert (len(book.kinds), book.text(1), book.heard(1)) == (1, ["Hello."], 2000.0)


async def test_a_server_that_numbers_every_piece_of_sound_or_none_speaks_in_one_reply() -> None:
    book = Book()
    for number in (1, 2, 3):
        if number == 1:
            book.replies.words("Hello.", 1)
        book.sound(number)
    book.sound(None)
    assert (len(book.kinds), book.heard(1)) == (1, 4000.0)
    book.replies.turn()
    book.sound(7)
    book.replies.words("Again.", 7)
    assert (book.kinds, book.text(2)) == (["greeting", "answer"], ["Again."])


async def test_an_interruption_voids_what_is_older_and_what_had_begun_under_its_number() -> None:
    book = Book()
    book.replies.words("A long story.", 2)
    book.sound(2)
    book.replies.interrupted(3)
    book.sound(2)
    book.sound(1)
    assert [said.reply_id for said in book.told if isinstance(said, ReplyWithdrawn)] == [1]
    assert book.heard(1) == 1000.0
    book.sound(3)  # the answer to a typed turn has the interruption's number
    book.replies.interrupted(3)
    book.sound(3)
    assert book.heard(2) == 1000.0
    assert [said.reply_id for said in book.told if isinstance(said, ReplyWithdrawn)] == [1, 2]


async def test_a_reply_that_was_heard_long_ago_is_not_withdrawn() -> None:
    book = Book()
    book.replies.words("Hello.", 1)
    book.sound(1)
    await anyio.sleep(10)
    book.replies.interrupted(5)
    assert not [said for said in book.told if isinstance(said, ReplyWithdrawn)]


async def test_what_was_cut_stays_cut() -> None:
    book = Book()
    book.replies.words("A long story.", 1)
    book.sound(1)
    assert book.replies.cut(1) is True
    assert book.replies.cut(1) is False
    book.sound(1)
    book.replies.words("A long story, continued.", 1)
    await anyio.sleep(10)
    assert (book.heard(1), book.ended) == (1000.0, [])


async def test_sound_after_an_end_that_was_assumed_too_early_is_heard_all_the_same() -> None:
    book = Book()
    book.replies.words("Hello.", 1)
    book.sound(1)
    await anyio.sleep(5)
    book.sound(1)
    await anyio.sleep(5)
    assert [reply for reply, _ in book.ended] == [1, 2]
    assert book.heard(2) == 1000.0


async def test_words_without_sound_are_an_end_too() -> None:
    book = Book()
    book.replies.words("Hello.", 1)
    await anyio.sleep(20)
    assert (book.ended, book.text(1)) == ([(1, SOUNDLESS_S)], ["Hello."])


async def test_numbers_that_are_read_out_longer_than_they_are_written_lose_no_words() -> None:
    book = Book()
    book.replies.words("It is €1 in all.", 1)
    book.sound(1, spoken="It is one euro")
    book.sound(1, spoken=" in all.")
    await anyio.sleep(5)
    assert " ".join(book.text(1)) == "It is €1 in all."
    book.replies.turn()
    book.replies.words("Thirty three thousand three hundred.", 2)
    book.sound(2, spoken="33,300.")
    await anyio.sleep(5)
    last = [said for said in book.told if isinstance(said, ReplyAudio)][-1]
    assert (last.text, last.chunk.data) == ("thousand three hundred.", b"")
    assert " ".join(book.text(2)) == "Thirty three thousand three hundred."


async def test_a_guardrail_that_trips_late_withdraws_what_sounds() -> None:
    book = Book(screen=lambda _, text: ("Sorry.", "rude") if "damn" in text else (text, None))
    book.sound(1)
    book.replies.words("damn it", 1)
    book.sound(1)
    assert [said.by for said in book.told if isinstance(said, ReplyWithdrawn)] == ["guardrail"]
    assert [said.guardrail for said in book.told if isinstance(said, Guarded)] == ["rude"]
    assert (book.heard(1), book.instead, book.text(1)) == (1000.0, [("Sorry.", "greeting")], [])


async def test_a_replacement_that_trips_again_is_not_replaced() -> None:
    book = Book(screen=lambda _, text: ("Sorry.", "all"))
    book.replies.ask("Sorry.", "answer")
    book.replies.words("Sorry.", 1)
    assert (book.instead, book.ended) == ([], [(1, 0.0)])


async def test_what_was_asked_for_and_never_came_is_told() -> None:
    book = Book()
    book.replies.ask("Goodbye.", "say")
    assert book.replies.busy_until > book.clock.now()
    await anyio.sleep(30)
    assert (book.ended, book.unsaid) == ([(1, UNSAID_S)], ["Goodbye."])


async def test_what_was_asked_for_and_taken_back_is_neither_heard_nor_told_as_unsaid() -> None:
    book = Book()
    book.replies.ask("Goodbye.", "say")
    book.replies.cut(1)
    book.replies.words("Goodbye.", 1)
    book.sound(1)
    await anyio.sleep(30)
    assert (book.heard(1), book.ended, book.unsaid) == (0, [], [])


async def test_the_callers_turn_takes_the_place_of_what_was_taken_back() -> None:
    book = Book()
    book.replies.ask("Goodbye.", "say")
    book.replies.cut(1)
    book.replies.turn()
    book.replies.words("Of course.", 3)
    assert (book.kinds, book.text(2)) == (["say", "answer"], [])
    book.sound(3)
    assert book.text(2) == ["Of course."]


async def test_a_caller_who_speaks_after_the_last_sound_interrupts_nothing() -> None:
    book = Book()
    book.replies.words("Hello.", 1)
    book.sound(1)
    await anyio.sleep(0.9)
    book.replies.settle()
    assert book.ended == []
    await anyio.sleep(0.2)
    book.replies.settle()
    assert book.ended == [(1, 1.1)]


async def test_a_line_without_sound_has_the_words_at_once() -> None:
    book = Book(sound=False)
    book.replies.words("Hello.", 1)
    book.sound(1)
    assert book.text(1) == ["Hello."]
    await anyio.sleep(3)
    assert (book.ended, book.heard(1)) == ([(1, QUIET_S)], 0)


async def test_every_stage_is_reached_once_and_in_order() -> None:
    book = Book()
    book.sound(1)
    book.replies.words("Hello.", 1)
    book.sound(1)
    stages = [said.stage for said in book.told if isinstance(said, ReplyReached)]
    assert stages == ["first_token", "first_sentence", "first_audio"]


async def test_a_second_conversation_numbers_anew_and_may_be_muted_until_the_caller_speaks() -> None:
    book = Book()
    book.replies.words("Hello.", 9)
    book.replies.interrupted(12)
    book.replies.restart(muted=True)
    book.replies.words("Hello.", 1)
    book.sound(1)
    book.replies.turn()
    book.sound(1)
    book.replies.words("Noon.", 3)
    book.sound(3)
    assert (book.heard(2), book.text(2)) == (1000.0, ["Noon."])
