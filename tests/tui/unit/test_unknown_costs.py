"""What has no known price is never shown as nothing."""

from __future__ import annotations

from typing import Any

from patter import events as ev
from patter_tui.call import Call
from patter_tui.call_events import take
from patter_tui.figures import usd
from patter_tui.store import State, apply, row_from_json
from patter_tui.views import cost, live
from patter_tui.views.glyphs import UNICODE

C: dict[str, Any] = {"call_id": "c"}


def shown(rows: Any) -> str:
    return "\n".join("".join(text for text, _ in row) for row in rows)


def test_a_least_cost_says_so() -> None:
    assert usd(0.0143, least=True) == "$0.0143+"
    assert usd(0.0, least=True) == "unknown"
    assert usd(0.0) == "$0"


def test_the_cost_pane_names_who_is_not_counted() -> None:
    call = Call("c")
    take(call, ev.CallStarted(**C, at=1.0, telephony="loopback"))
    take(call, ev.UsageMeasured(**C, at=2.0, turn=1, stage="stt", provider="mystery", amounts={"audio_seconds": 3.0}))
    take(call, ev.CostMeasured(**C, at=3.0, cost={"llm": 0.02, "total": 0.02}, unpriced=("mystery",)))
    text = shown(cost.rows(call, 60, 61.0))
    assert "unknown" in text
    assert "$0.0200+" in text
    assert "No price known for mystery" in text


def test_live_rows_show_unknown_and_why_a_call_ended() -> None:
    state = State()
    apply(state, ev.CallStarted(**C, seq=1, at=1.0, telephony="acme", caller="+15551230000"))
    apply(state, ev.CostMeasured(**C, seq=2, at=2.0, cost={"total": 0.0}, unpriced=("acme/inbound",)))
    assert "unknown" in shown(live.rows(state.ordered(), 0, 80, 10.0, UNICODE))
    apply(state, ev.BudgetSpent(**C, seq=3, at=3.0, scope="call", limit_usd=0.5, spent_usd=0.5))
    apply(state, ev.CallEnded(**C, seq=4, at=4.0, reason="budget_spent"))
    assert "budget" in shown(live.rows(state.ordered(), 0, 80, 10.0, UNICODE))
    assert any("$0.5000" in entry.text for entry in state.calls["c"].entries)


def test_the_engines_row_tells_who_is_not_counted() -> None:
    assert row_from_json({"call_id": "c", "unpriced": ["mystery"]}).unpriced == ("mystery",)
