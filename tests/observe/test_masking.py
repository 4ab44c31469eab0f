"""Masking: nothing that is to be hidden is written, in whole texts, in pieces and in what grows; figures stay to the bit."""

from __future__ import annotations

import itertools
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter.bus import Bus
from patter.clock import Clock
from patter.events import (
    KINDS,
    AgentSaid,
    CallEnded,
    CallerPartial,
    CallerSaid,
    CallStarted,
    DigitPressed,
    Event,
    FaultOccurred,
    GuidanceGiven,
    Interrupted,
    ReplyHeard,
    ReplyReached,
    ReplyStarted,
    ReplyText,
    ToolCalled,
    ToolReturned,
    TurnMeasured,
    UsageMeasured,
)
from patter.exceptions import SettingsError
from patter.models import Memory
from patter.observe.journal import Journal, read
from patter.observe.masked import Masked
from patter.observe.masking import Masking
from patter.observe.metrics import CallFold, call_metrics
from patter.observe.prices import Prices

pytestmark = pytest.mark.anyio

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "double", "forty", "ten"]
A_NUMBER = re.compile(
    rf"(?:(?<![^\W\d_])(?:{'|'.join(WORDS)}|\d+)(?![^\W\d_])[\s-]{{0,3}}){{4}}|(?:\d[\s-]{{0,3}}){{4}}", re.I
)
"""Four figures or words in a row: written down apart from the code, for the usual separators."""
TALK = st.lists(st.sampled_from([*WORDS, *"0123456789", "4242", "is", "my", "card", "fo", "ur"]), max_size=14)
GLUE = st.lists(st.sampled_from([" ", " ", "-", ", ", "", " - "]), min_size=14, max_size=14)
PLAIN = {  # texts that are no words of people: names, ids, addresses, kinds
    "call_id", "caller", "callee", "agent", "telephony", "direction", "agent_version", "provider_mode", "stt", "llm", "tts",
    "line", "answered_by", "reason", "number", "by", "url", "recording_id", "path", "scope", "source", "kind", "stage", "why",
    "tool_id", "name", "guardrail", "provider", "model", "state", "carrier", "public_url", "keeper",
}  # fmt: skip
LONG = "4242 4242"


def digits(event: Event) -> Event:
    return Masking(Memory(mask_digits=True))(event)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("My card is 4242 4242-42, ok?", "My card is •••• ••••-••, ok?"),
        ("four two four two, please", "• • • •, please"),
        ("Four double two-seven nine", "• • •-• •"),
        ("I am 42 and have one or two of room 12", "I am 42 and have one or two of room 12"),
        ("At half past ten or ten, two o'clock?", "At half past ten or ten, two o'clock?"),
        (
            "one hundred twenty five people in twenty five minutes",
            "one hundred twenty five people in twenty five minutes",
        ),
        ("[DTMF: 5]", "[DTMF: •]"),
        ("[DTMF: *4#]", "[DTMF: •••]"),
        ("٤٢٤٢", "••••"),
        ("", ""),
    ],
)
def test_numbers_of_four_digits_and_more_are_masked_and_no_shorter_ones(said: str, kept: str) -> None:
    assert digits(CallerSaid(call_id="A", turn=1, text=said)) == CallerSaid(call_id="A", turn=1, text=kept)


@given(TALK, GLUE)
def test_no_number_is_left_in_any_text(words: list[str], glue: list[str]) -> None:
    said = "".join(word + between for word, between in zip(words, glue, strict=False))
    masked = digits(CallerSaid(call_id="A", turn=1, text=said))
    assert isinstance(masked, CallerSaid)
    assert not A_NUMBER.search(masked.text)
    assert Masking(Memory(mask_digits=True)).text(masked.text) == masked.text


@given(TALK, GLUE, st.lists(st.integers(0, 80), max_size=12))
def test_no_number_is_left_in_what_comes_in_pieces(words: list[str], glue: list[str], cuts: list[int]) -> None:
    said = "".join(word + between for word, between in zip(words, glue, strict=False))
    places = [0, *sorted(cuts), len(said)]
    masking = Masking(Memory(mask_digits=True))
    written = ""
    for start, end in itertools.pairwise(places):
        piece = masking(ReplyText(call_id="A", reply_id=1, text=said[start:end]))
        heard = masking(ReplyHeard(call_id="A", reply_id=1, heard=said[:end], heard_ms=1.0))
        assert isinstance(piece, ReplyText)
        assert isinstance(heard, ReplyHeard)
        written += piece.text
        assert not A_NUMBER.search(heard.heard)
        assert not re.search(r"\d\W*\Z", heard.heard)  # nor the beginning of one
    assert not A_NUMBER.search(written)


@given(TALK, GLUE, st.integers(0, 60))
def test_a_number_that_is_cut_by_an_interruption_is_masked_on_both_sides(
    words: list[str], glue: list[str], cut: int
) -> None:
    said = "".join(word + between for word, between in zip(words, glue, strict=False))
    heard, dropped = said[:cut], said[cut:]
    masking = Masking(Memory(mask_digits=True))
    event = Interrupted(call_id="A", turn=1, reply_id=1, heard=heard, dropped=dropped, heard_ms=1.0)
    turn = TurnMeasured(
        call_id="A", turn=1, reply_id=1, kind="answer", closed=True, user_text="", agent_text=heard.strip(), segments={},
        total_ms=0.0,
    )  # fmt: skip
    masked, measured = masking(event), masking(turn)
    assert isinstance(masked, Interrupted)
    assert isinstance(measured, TurnMeasured)
    assert not A_NUMBER.search(masked.heard + masked.dropped)
    assert measured.agent_text == masked.heard.strip()


def test_every_fact_that_holds_words_is_masked_and_no_other_changes() -> None:
    """A new fact with a text must be put on one of the two sides."""
    for name, kind in KINDS.items():
        values: dict[str, Any] = {}
        for item in fields(kind):
            kinds = str(item.type)
            if kinds.startswith("str") and item.name not in PLAIN:
                values[item.name] = LONG
            elif kinds.startswith("dict"):
                values[item.name] = {"custom": LONG} if item.name == "custom_params" else {"x": 4242.5}
            elif "str" in kinds or "Literal" in kinds or kinds in ("EndReason", "ReplyStageName"):
                values[item.name] = (
                    (LONG,) if kinds.startswith("tuple") else LONG if kinds.startswith("str") else "dtmf"
                )
            elif kinds in ("int", "float"):
                values[item.name] = 4242
            else:
                values[item.name] = True
        if name in ("MemoryChanged", "LineChanged", "AgentRejected", "AgentChanged"):
            continue  # of the engine itself: nobody's words
        event = kind(**values)
        masked = digits(event)
        for item in fields(kind):
            before, after = getattr(event, item.name), getattr(masked, item.name)
            hidden = item.name == "custom_params" or (before == LONG and item.name not in PLAIN)
            assert (after != before and "4" not in str(after)) if hidden else after == before, (name, item.name)


def test_keys_and_the_values_of_tools_are_masked_but_no_ids() -> None:
    assert digits(DigitPressed(call_id="A", digit="5")) == DigitPressed(call_id="A", digit="•")
    called = digits(
        ToolCalled(call_id="4242", turn=1, tool_id="c4242", name="pay", arguments=r'{"card":42424242,"n":3,"x":"4242"}')
    )
    assert isinstance(called, ToolCalled)
    assert (called.call_id, called.tool_id) == ("4242", "c4242")
    assert called.arguments == '{"card": "••••••••", "n": 3, "x": "••••"}'
    returned = digits(ToolReturned(call_id="A", tool_id="t", name="pay", ok=True, output="ref 98-7654", ms=12345.0))
    assert returned == ToolReturned(call_id="A", tool_id="t", name="pay", ok=True, output="ref ••-••••", ms=12345.0)
    started = CallStarted(
        call_id="A", caller="+15551230001", custom_params={"account": "778899", "n": 12345, "deep": ["4242"]}
    )
    assert digits(started) == replace(started, custom_params={"account": "••••••", "n": "•••••", "deep": ["••••"]})


def test_patterns_hide_their_matches_and_all_that_may_become_one() -> None:
    masking = Masking(Memory(mask=(r"(?i)miller", r"\b[A-Z]{2}\d+\b")))
    assert masking.text("Mrs Miller has ref AB12 and room 4242.") == "Mrs •••••• has ref •••• and room 4242."
    whole = AgentSaid(call_id="A", turn=1, reply_id=1, text="Hi Mil", dropped="ler!", interrupted=True)
    assert masking(whole) == replace(whole, text="Hi •••", dropped="•••!")
    for event in (
        CallerPartial(call_id="A", text="I am Mil"),
        ReplyText(call_id="A", reply_id=1, text="Mil"),
        ReplyHeard(call_id="A", reply_id=1, heard="Hello Mil", heard_ms=1.0),
        CallerSaid(call_id="A", turn=1, text="I am Mil", pending=True),
    ):
        assert "Mil" not in str(masking(event))
    guided = GuidanceGiven(call_id="A", text="Be kind to M\u00fcller and miller")
    assert masking(guided) == replace(guided, text="Be kind to M\u00fcller and ••••••")
    hidden = masking(ToolCalled(call_id="A", turn=1, tool_id="t", name="x", arguments=r'{"n": "\u004diller"}'))
    assert "iller" not in str(hidden)


@given(st.text("ab1 ", max_size=30), st.lists(st.sampled_from(["a.?b", "b+", "1(?=a)", "a b", r"(?<!a)1"]), max_size=3))
def test_no_match_of_a_pattern_is_left(said: str, patterns: list[str]) -> None:
    masked = Masking(Memory(mask=tuple(patterns))).text(said)
    assert len(masked) == len(said) or "•" in masked
    for pattern in patterns:
        assert not any(match.group().strip("•") for match in re.finditer(pattern, masked))


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"memory\.mask"):
        Masking(Memory(mask=("(",)))


def a_call() -> list[Event]:
    """A call in which everybody says numbers."""
    return [
        CallStarted(call_id="A", at=1.0, provider_mode="pipeline", telephony="twilio"),
        CallerSaid(call_id="A", at=3.0, turn=1, text="my card is 4242 4242", speech_ended_at=2.5, transcript_at=2.9),
        UsageMeasured(call_id="A", at=3.0, turn=1, stage="stt", provider="deepgram", amounts={"audio_seconds": 1.7}),
        ReplyStarted(call_id="A", at=3.0, turn=1, reply_id=1),
        ReplyText(call_id="A", at=3.1, reply_id=1, text="You said 42"),
        ReplyText(call_id="A", at=3.1, reply_id=1, text="42 4242."),
        ReplyReached(call_id="A", at=3.3, reply_id=1, stage="playing", reached_at=3.29),
        UsageMeasured(call_id="A", at=3.3, turn=1, stage="tts", provider="openai", model="tts-1", amounts={"characters": 19.0}),
        ReplyHeard(call_id="A", at=4.0, reply_id=1, heard="You said 42", heard_ms=700.0),
        Interrupted(call_id="A", at=4.1, turn=1, reply_id=1, heard="You said 42", dropped="42 4242.", heard_ms=800.0),
        AgentSaid(call_id="A", at=4.1, turn=1, reply_id=1, text="You said 42", dropped="42 4242.", interrupted=True),
        FaultOccurred(call_id="A", at=4.2, stage="llm", provider="openai", problem="he said 4242 4242"),
        CallerSaid(call_id="A", at=6.0, turn=2, text="[DTMF: 4]", source="dtmf"),
        CallEnded(call_id="A", at=7.0, reason="caller_hung_up", duration_s=6.0),
    ]  # fmt: skip


@pytest.mark.parametrize("memory", [Memory(mask_digits=True), Memory(mask_digits=True, mask=("card", "[a-z]+ said"))])
async def test_a_masked_journal_gives_the_same_figures_to_the_bit(tmp_path: Path, memory: Memory) -> None:
    bus, prices = Bus(Clock()), Prices.load()
    masked, journal, live = Masked(Masking(memory)), Journal(tmp_path), CallFold("A", prices)
    masked.add(journal)
    bus.add_sink(masked)
    measured: list[TurnMeasured] = []
    for event in a_call():
        bus.publish(event)
        measured += live.feed(event)
    await masked.aclose()
    await anyio.to_thread.run_sync(journal.close)
    kept = read(journal.path("A"))
    assert [event.seq for event in kept] == list(range(1, len(a_call()) + 1))
    text = journal.path("A").read_text("utf-8")
    assert not re.search(r"42|DTMF: 4", text)
    again = CallFold("A", prices)
    remeasured = [turn for event in kept for turn in again.feed(event)]
    blank: Any = {"user_text": "", "agent_text": ""}
    assert [replace(turn, seq=0, **blank) for turn in remeasured] == [
        replace(turn, seq=0, **blank) for turn in measured
    ]
    one, other = call_metrics(again), call_metrics(live)
    assert [replace(turn, **blank) for turn in one.turns] == [replace(turn, **blank) for turn in other.turns]
    assert replace(one, turns=()) == replace(other, turns=())


async def test_a_pattern_without_an_end_holds_up_no_call_and_lets_nothing_through() -> None:
    given: list[Event] = []
    masked = Masked(Masking(Memory(mask=(r"(?:x|xx)*(?:x|xx)*(?:x|xx)*y[^y]*z",))))
    masked.add(given.append)
    said = "x" * 3_000 + "y"
    events = [CallerSaid(call_id="A", turn=number, text=said) for number in range(10)]
    for event in events:
        masked(event)
    late = 0.0
    with anyio.fail_after(30):
        while len(given) < len(events):
            before = anyio.current_time()
            await anyio.sleep(0.01)
            late = max(late, anyio.current_time() - before)
    assert late < 1.0
    assert [event.turn for event in given if isinstance(event, CallerSaid)] == list(range(10))
    assert all(isinstance(event, CallerSaid) and "x" not in event.text for event in given)
    await masked.aclose()
