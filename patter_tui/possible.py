"""Which actions mean something now. A table of conditions on what is shown and what is going on; it does nothing."""

from __future__ import annotations

from collections.abc import Callable

from patter_tui.actions import Action, applies
from patter_tui.desk import Desk
from patter_tui.screens.bench import Bench
from patter_tui.widgets.editor import Editor

Condition = Callable[[Desk, Bench], bool]


def possible(action: Action, desk: Desk, bench: Bench) -> bool:
    """Whether an action can be done in this mode and this moment."""
    if bench.is_too_small:
        return action.id == "quit"
    if action.scope == "agent" and bench.mode == "rehearse":
        return bench.focused is not None and bench.focused.id == "text"  # the editor beside the call has its own keys
    if action.scope != "everywhere" and not applies(action, bench.mode):
        return False
    condition = _CONDITIONS.get(action.id)
    return condition is None or condition(desk, bench)


def _can_start(desk: Desk, _: Bench) -> bool:
    usable = desk.status == "up" and bool(desk.agent_name) and bool(desk.agent.get("ok", True))
    return usable and not desk.rehearsal.busy and not desk.live_call


def _in_call(desk: Desk, _: Bench) -> bool:
    return bool(desk.live_call)


def _any_calls(desk: Desk, _: Bench) -> bool:
    return bool(desk.state.rows)


def _picked_is_live(desk: Desk, bench: Bench) -> bool:
    row = desk.state.rows.get(bench.picked_call)
    return row is not None and row.on


def _watched_is(*states: str) -> Condition:
    def so(desk: Desk, _: Bench) -> bool:
        row = desk.state.rows.get(desk.state.shown_on("serve"))
        return row is not None and row.state in states

    return so


def _line_is(*states: str) -> Condition:
    return lambda desk, _: desk.status == "up" and desk.state.line.state in states


def _narrow(_: Desk, bench: Bench) -> bool:
    return bench.is_narrow


_CONDITIONS: dict[str, Condition] = {
    "dial": _can_start,
    "simulate": _can_start,
    "try": _can_start,
    "text": _can_start,
    "interrupt": _in_call,
    "type": _in_call,
    "copy": lambda desk, _: desk.state.call is not None,
    "hang_up": lambda desk, _: bool(desk.live_call) or desk.rehearsal.busy,
    "open_line": _line_is("off", "problem"),
    "close_line": _line_is("starting", "open"),
    "place_call": _line_is("open"),
    "hang_up_watched": _watched_is("ringing", "live"),
    "transfer": _watched_is("live"),
    "send_digits": _watched_is("live"),
    "say": _watched_is("live"),
    "mute": lambda desk, _: desk.rehearsal.softphone is not None and desk.rehearsal.phone.device != "simulated",
    "restart": lambda desk, _: desk.status in ("down", "problem"),
    "next_problem": lambda _, bench: bool(bench.query_one(Editor).problems),
    "next_pane": _narrow,
    "previous_pane": _narrow,
    "open": lambda desk, _: len(desk.state.agents) > 1,
    "view_call": _any_calls,
    "copy_id": _any_calls,
    "hang_up_selected": _picked_is_live,
}
