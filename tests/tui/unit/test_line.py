"""The phone line: how it is read, what events change of it, and how it looks."""

from __future__ import annotations

from typing import Any

import pytest

from patter import events as ev
from patter_tui.line import PhoneLine, line_after, line_from_json
from patter_tui.store import CallRow, State, apply
from patter_tui.views import line as view
from patter_tui.views import live
from patter_tui.views.glyphs import ASCII, UNICODE
from patter_tui.views.rows import Row, plain, width_of

OPEN = PhoneLine(
    "open", carrier="twilio", number="+15550100", public_url="https://calm-river.trycloudflare.com", agent="desk", tunnel=True,
    recording=True, since=1000.0, routes=(("+15550100", "desk"), ("+15550111", "sales")), notes=("Led elsewhere before.",),
)  # fmt: skip
PROBLEM = PhoneLine("problem", "Twilio does not know these keys.", "Check TWILIO_AUTH_TOKEN.", number="+15550100")


def text(rows: list[Row]) -> str:
    return "\n".join(plain(row) for row in rows)


def test_an_answer_of_the_engine_becomes_a_line() -> None:
    data: dict[str, Any] = {
        "state": "open", "number": "+15550100", "agent": "desk", "recording": True, "problem": None, "since": 5, "news": 1,
        "routes": [{"number": "+15550111", "agent": "sales"}, "nonsense"], "notes": ["hear, hear"],
    }  # fmt: skip
    line = line_from_json(data)
    assert (line.state, line.problem, line.since, line.recording) == ("open", "", 5.0, True)
    assert line.all_routes == (("+15550100", "desk"), ("+15550111", "sales"))
    assert line_from_json({}) == PhoneLine()


def test_an_event_changes_what_it_tells_and_keeps_the_rest() -> None:
    after = line_after(OPEN, ev.LineChanged(call_id="", state="closing", number="+15550100", agent="desk"))
    assert (after.state, after.recording, after.routes) == ("closing", True, OPEN.routes)
    assert after.busy
    assert not PROBLEM.busy


def test_the_state_follows_the_lines_events() -> None:
    state = State()
    assert apply(state, ev.LineChanged(call_id="", state="starting", number="+15550100", seq=1)) == {"line"}
    assert (state.line.state, state.line.number) == ("starting", "+15550100")


@pytest.mark.parametrize("width", [56, 62, 76, 100])
@pytest.mark.parametrize("line", [PhoneLine(), OPEN, PROBLEM, PhoneLine("starting"), PhoneLine("closing")])
def test_the_line_fits_its_pane(line: PhoneLine, width: int) -> None:
    for glyphs in (UNICODE, ASCII):
        rows = view.rows(line, width, 1060.0, glyphs, "desk", "")
        assert 1 <= len(rows) <= view.MOST_ROWS
        assert all(width_of(row) <= width for row in rows)


def test_an_open_line_says_number_agent_address_and_recording() -> None:
    said = text(view.rows(OPEN, 76, 1060.0, UNICODE, "desk", ""))
    for part in (
        "open",
        "Twilio +15550100 to desk",
        "https://calm-river",
        "(tunnel)",
        "recording",
        "01:00",
        "+15550111 to sales",
    ):
        assert part in said


def test_a_broken_line_says_what_to_do() -> None:
    said = text(view.rows(PROBLEM, 60, 0.0, UNICODE, "desk", ""))
    assert "✗ Twilio does not know these keys." in said
    assert "fix: Check TWILIO_AUTH_TOKEN." in said


def test_a_closed_line_says_how_to_open_it_or_why_it_cannot_be() -> None:
    assert "s  take real calls with desk" in text(view.rows(PhoneLine(), 60, 0.0, UNICODE, "desk", ""))
    assert "TWILIO_AUTH_TOKEN is not set" in text(
        view.rows(PhoneLine(), 60, 0.0, UNICODE, "desk", "TWILIO_AUTH_TOKEN is not set.")
    )


CALLS = [
    CallRow("a", "desk", "+15550100", "+15559990000", "outbound", state="ringing", started_at=1000.0),
    CallRow(
        "b", "desk", "+447700900123", "+15550100", "inbound", "mulaw/8000", started_at=1000.0, turns=3, cost_total=0.031
    ),
    CallRow("c", "desk", "+15550100", "+15559990001", "outbound", state="ended", reason="busy"),
    CallRow("d", "desk", "+1555", "+15550100", "outbound", state="live", answered_by="machine", started_at=1000.0),
    CallRow("e", "desk", "keyboard", "desk", "test", "text", started_at=1000.0),
]


@pytest.mark.parametrize("width", [54, 60, 62, 76, 100])
def test_calls_on_the_line_keep_their_columns(width: int) -> None:
    rows = [live.head(width), *live.rows(CALLS, 1, width, 1072.0, UNICODE)]
    assert len({width_of(row) for row in rows}) == 1
    assert width_of(rows[0]) <= width


def test_calls_on_the_line_say_how_they_are_and_with_whom() -> None:
    said = [plain(row) for row in live.rows(CALLS, 1, 100, 1072.0, UNICODE)]
    assert "… ringing" in said[0]
    assert "out +15559990000" in said[0]
    assert said[1].startswith("▸ ● in call")
    assert all(part in said[1] for part in ("in  +447700900123", "01:12", "3", "$0.0310"))
    assert "✗ busy" in said[2]
    assert "● machine" in said[3]
    assert "typed" in said[4]


def test_the_first_page_says_which_number_to_ring() -> None:
    assert "Ring +15550100 and desk answers." in text(live.empty(OPEN, "desk", 60))
    assert "take real calls with desk" in text(live.empty(PhoneLine(), "desk", 60))
