"""A simulated caller's manners, step by step."""

from __future__ import annotations

from patter.softphone.protocol import CallerLine
from patter.softphone.script import FINISHED_MS, GREETING_MS, LEAVE_MS, PATIENCE_MS, STEP_MS, CallerScript


class Talk:
    """A caller whose lines take `line_ms` to say."""

    def __init__(self, *lines: CallerLine, line_ms: float = 400.0) -> None:
        self.script, self.line_ms = CallerScript(lines), line_ms
        self.now, self.speaking_until = 0.0, 0.0
        self.said: list[tuple[str, float]] = []

    def passes(self, ms: float, loud: bool = False) -> None:
        end = self.now + ms
        while self.now < end:
            line = self.script.step(loud, self.now < self.speaking_until)
            self.now += STEP_MS
            if line is not None:
                self.said.append((line.text, self.now))
                self.speaking_until = self.now + self.line_ms


def test_the_caller_waits_until_the_agent_has_finished() -> None:
    talk = Talk(CallerLine("one"), CallerLine("two"))
    talk.passes(1_000)
    talk.passes(2_000, loud=True)
    talk.passes(FINISHED_MS - 40)  # a pause between sentences
    talk.passes(1_000, loud=True)
    assert talk.said == []
    talk.passes(FINISHED_MS)
    spoke_at = 1_000 + 2_000 + FINISHED_MS - 40 + 1_000 + FINISHED_MS
    assert talk.said == [("one", spoke_at)]
    talk.passes(5_000)
    assert len(talk.said) == 1
    talk.passes(500, loud=True)
    talk.passes(FINISHED_MS)
    assert [text for text, _ in talk.said] == ["one", "two"]


def test_an_interruption_comes_so_long_after_the_agent_began() -> None:
    talk = Talk(CallerLine("one"), CallerLine("wait", after_ms=1_200))
    talk.passes(100, loud=True)
    talk.passes(FINISHED_MS)
    talk.passes(400 + 600)
    began = talk.now
    talk.passes(3_000, loud=True)
    assert talk.said[1] == ("wait", began + 1_220)


def test_what_is_said_after_the_interruption_waits_for_a_new_answer() -> None:
    talk = Talk(CallerLine("wait", after_ms=500), CallerLine("and now"))
    talk.passes(520 + 300, loud=True)  # the agent stops in the middle of the caller's words
    talk.passes(3_000)
    assert [text for text, _ in talk.said] == ["wait"]
    talk.passes(1_000, loud=True)
    talk.passes(FINISHED_MS)
    assert [text for text, _ in talk.said] == ["wait", "and now"]


def test_without_a_greeting_the_caller_begins() -> None:
    talk = Talk(CallerLine("hello?"))
    talk.passes(GREETING_MS + 20)
    assert talk.said == [("hello?", GREETING_MS)]


def test_without_an_answer_the_caller_goes_on_and_leaves_in_the_end() -> None:
    talk = Talk(CallerLine("one"), CallerLine("two", after_ms=100))
    talk.passes(GREETING_MS + 400 + PATIENCE_MS + 40)
    assert [text for text, _ in talk.said] == ["one", "two"]
    assert not talk.script.done
    talk.passes(400 + PATIENCE_MS)
    assert talk.script.done


def test_the_caller_leaves_some_silence_after_the_last_answer() -> None:
    talk = Talk(CallerLine("bye"))
    talk.passes(100, loud=True)
    talk.passes(FINISHED_MS + 400 + 200)
    talk.passes(500, loud=True)
    talk.passes(LEAVE_MS - 20)
    assert not talk.script.done
    talk.passes(20)
    assert talk.script.done
