"""The workbench's one screen: panes for the agent, the call and the list of calls, shown by mode and size.

It owns which pane shows what; it reads the desk's state and starts nothing itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input

from patter_tui.actions import CALL_MODES, Action, Mode
from patter_tui.call import Call, Entry
from patter_tui.carrier import problem_in
from patter_tui.desk import Desk
from patter_tui.figures import clock
from patter_tui.safe import clean
from patter_tui.store import ALL_PARTS, Phone
from patter_tui.term import MIN_COLUMNS, MIN_ROWS
from patter_tui.views import bars, calls, cost, line, live, phone, start, transcript, turns
from patter_tui.views.glyphs import Glyphs
from patter_tui.views.rows import Row, fit
from patter_tui.widgets.clickable import ClickableLine
from patter_tui.widgets.editor import Editor
from patter_tui.widgets.line_view import LineView
from patter_tui.widgets.pick_list import PickList


def _class_for(cells: int, breakpoints: list[tuple[int, str]]) -> str:
    return [name for least, name in breakpoints if cells >= least][-1]


_NOT_OURS = Phone()
"""Calls that are watched have no telephone on this desk."""


class Bench(Screen[None]):
    """All panes. `mode` and `pane` choose what is seen; `turn` is the selected turn, -1 the newest."""

    AUTO_FOCUS = ""
    ESCAPE_TO_MINIMIZE = False

    def __init__(self, desk: Desk, glyphs: Glyphs, can: Callable[[Action], bool]) -> None:
        super().__init__()
        self.HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (80, "-narrow"), (110, "-normal"), (150, "-wide")]
        self.VERTICAL_BREAKPOINTS = [(0, "-short"), (30, "-tall"), (40, "-high")]
        self.desk = desk
        self.glyphs = glyphs
        self._can = can
        self.mode: Mode = "rehearse"
        self.pane = "talk"
        self.turn = -1
        self.picked_call = ""
        self._drawn: dict[int, tuple[Entry, int, int, list[Row]]] = {}
        self._drawn_call: Call | None = None
        self._ticks = 0
        self._left_focus: Widget | None = None
        self._keys_problem = problem_in()  # the environment of a running process does not change
        self.set_classes("-mode-rehearse -mode-call -pane-talk")
        columns, lines = (
            shutil.get_terminal_size()
        )  # the right classes from the start spare the first picture a second styling
        self.add_class(_class_for(columns, self.HORIZONTAL_BREAKPOINTS), _class_for(lines, self.VERTICAL_BREAKPOINTS))

    def compose(self) -> ComposeResult:
        """Every pane once; the stylesheet hides what a mode or a size has no room for."""
        yield ClickableLine(id="top")
        yield ClickableLine(id="tabs")
        with Horizontal(id="body"):
            with Vertical(id="left"):
                yield Editor(self.desk.paths.drafts, self.glyphs, id="editor")
                yield LineView(id="phone-panel", classes="pane")
            with Vertical(id="middle"):
                yield LineView(id="line", classes="pane")
                with Vertical(id="live-box", classes="pane"):
                    yield ClickableLine(id="live-head")
                    yield PickList(id="live")
                yield LineView(id="transcript", classes="pane", follow=True)
                yield LineView(id="trace", classes="pane")
            with Vertical(id="right"):
                yield LineView(id="waterfall", classes="pane")
                with Vertical(id="turns-box", classes="pane"):
                    yield ClickableLine(id="turns-head")
                    yield PickList(id="turns")
                    yield ClickableLine(id="turns-foot")
                yield LineView(id="cost", classes="pane")
            with Vertical(id="calls-box", classes="pane"):
                yield ClickableLine(id="calls-head")
                yield PickList(id="calls")
            yield LineView(id="keys-panel", classes="pane")
        yield ClickableLine(id="summary")
        yield ClickableLine(id="phone")
        with Horizontal(id="say-box"):
            yield ClickableLine(id="say-prompt")
            yield Input(placeholder=bars.invitation(self.mode, on=False, typing=False), id="say", compact=True)
        yield ClickableLine(id="keys")
        yield LineView(id="small")

    def on_mount(self) -> None:
        """Titles that never change, and the first drawing."""
        for name, title in (
            ("transcript", "Call"), ("trace", "Events"), ("waterfall", "Turn"), ("turns-box", "Turns"), ("cost", "Cost"),
            ("calls-box", "Calls"), ("keys-panel", "Keys"), ("phone-panel", "Softphone"),
            ("line", "Line"), ("live-box", "On the line"),
        ):  # fmt: skip
            self.query_one(f"#{name}").border_title = title
        self.query_one("#say", Input).cursor_blink = False
        self.call_after_refresh(self.redraw)

    # ------------------------------------------------------------------ what is seen

    def choose_mode(self, mode: Mode) -> None:
        """Show another mode and give the keys to its main pane."""
        self.mode = mode
        if mode in CALL_MODES:
            self.desk.state.turn("serve" if mode == "serve" else "rehearse")
            self.turn = -1
        self.set_class(mode in CALL_MODES, "-mode-call", update=False)
        self._mark("mode", mode, ("agent", "rehearse", "serve", "calls"))
        self.call_after_refresh(self.focus_main)
        self.call_after_refresh(self.redraw)

    def choose_pane(self, pane: str) -> None:
        """Show another pane on a narrow screen."""
        self.pane = pane
        self._mark("pane", pane, ("talk", "turns", "cost"))
        self.call_after_refresh(self.focus_main)
        self.call_after_refresh(self.redraw)

    def _mark(self, kind: str, chosen: str, names: tuple[str, ...]) -> None:
        """Give the screen the class of the chosen one only; styles are worked out once, not once a class."""
        for name in names:
            self.set_class(name == chosen, f"-{kind}-{name}", update=False)
        self.update_node_styles()

    def focus_main(self) -> None:
        """Give the keys to the pane that a mode is about."""
        if self.mode == "agent":
            area = self.query_one(Editor).area
            if area is not None:
                area.focus()
        elif self.mode == "calls":
            self.query_one("#calls").focus()
        elif self.mode == "serve" and not (self.is_narrow and self.pane != "talk"):
            self.query_one("#live").focus()
        else:
            self.query_one("#turns" if self.pane == "turns" and self.is_narrow else "#transcript").focus()

    @property
    def is_narrow(self) -> bool:
        """Whether panes are shown one at a time."""
        return self.size.width < 110

    @property
    def is_too_small(self) -> bool:
        """Whether the terminal has no room for any pane."""
        return self.has_class("-too-small")

    @property
    def typing(self) -> bool:
        """Whether letters go into a text."""
        return self.focused is not None and (self.focused.id in ("say", "text"))

    def on_resize(self) -> None:
        """Wrap everything to the new size; say so if there is no room at all."""
        small = self.size.width < MIN_COLUMNS or self.size.height < MIN_ROWS
        if small and not self.is_too_small:
            self._left_focus = self.focused  # it gets lost, and what is typed later would be taken for commands
        elif self.is_too_small and not small:
            self.call_after_refresh(self.set_focus, self._left_focus)
        self.set_class(small, "-too-small")
        self.call_after_refresh(self.redraw)

    # ------------------------------------------------------------------ drawing

    def redraw(self) -> None:
        """Draw every visible pane."""
        self.desk.dirty |= ALL_PARTS
        self.flush()

    @property
    def standing(self) -> bool:
        """Whether the panes are there: at the end they go before the timers do."""
        return self.is_attached and self.is_running and bool(self.query("#small"))

    def flush(self) -> None:
        """Draw what changed since the last time; called ten times a second."""
        if not self.standing:
            return
        self._ticks += 1
        dirty = self.desk.dirty
        self.desk.dirty = set()
        if self._ticks % 10 == 0:
            dirty |= {"top", "clock"}
        if not dirty:
            return
        with self.app.batch_update():
            if self.is_too_small:
                self._draw_small()
                return
            for names, depends, draw in self._panes():
                if dirty & depends and any(self.query_one(f"#{name}").region for name in names):
                    draw()

    def _panes(self) -> tuple[tuple[tuple[str, ...], set[str], Callable[[], None]], ...]:
        """Of each drawing: its widgets, what it depends on, and how it is made."""
        words = {"transcript", "status", "agents", "rungs", "line"}
        return (
            (("top",), {"top", "agents", "calls", "line"}, self._draw_top),
            (("line",), {"line", "agents", "clock"}, self._draw_line),
            (("live",), {"calls", "clock"}, self._draw_live),
            (("tabs",), {"transcript", "status"}, self._draw_tabs),
            (("transcript",), words | {"phone"} if self.desk.state.call is None else words, self._draw_transcript),
            (("trace",), {"trace", "status"}, self._draw_trace),
            (("waterfall", "turns"), {"turns", "transcript"}, self._draw_turns),
            (("cost",), {"turns", "clock"}, self._draw_cost),
            (("calls",), {"calls", "clock"}, self._draw_calls),
            (("phone", "phone-panel"), {"phone", "status", "clock"}, self._draw_phone),
            (("summary",), {"turns"}, self._draw_summary),
            (("say",), {"status"}, self._draw_say),
            (("keys-panel",), {"top"}, self._draw_keys_panel),
            (("keys",), {"status", "top", "agents"}, self._draw_keys),
        )

    def _draw_small(self) -> None:
        text = f"patter needs {MIN_COLUMNS}×{MIN_ROWS}, this terminal has {self.size.width}×{self.size.height}"
        self.query_one("#small", LineView).show(
            [((fit(text, max(1, self.size.width - 1)), "warn"),), (("ctrl+q quits", "muted"),)]
        )

    def _draw_top(self) -> None:
        view = self.query_one("#top", ClickableLine)
        listed = self.desk.state.live()
        on: dict[Mode, int] = {"calls": len(listed), "serve": sum(not row.rehearsal for row in listed)}
        row, places = bars.top(
            self.mode, view.text_width, self.desk.agent_name, self.desk.status, on, self.desk.now(), self.glyphs,
            self.desk.state.line,
        )  # fmt: skip
        view.lay(row, places)

    def _draw_tabs(self) -> None:
        view = self.query_one("#tabs", ClickableLine)
        view.lay(*bars.tabs(self.pane, view.text_width, self.query_one("#transcript", LineView).at_end))

    def _draw_keys(self) -> None:
        view = self.query_one("#keys", ClickableLine)
        view.lay(*bars.keys(self.mode, view.text_width, self._can))

    def _draw_transcript(self) -> None:
        view = self.query_one("#transcript", LineView)
        call, width = self.desk.state.call, view.text_width
        if call is None:
            view.border_title, view.border_subtitle = "Call", ""
            self._drawn.clear()
            if self.mode == "serve" and self.desk.status == "up":
                agent = self.desk.state.line.agent or self.desk.agent_name
                coming = self.desk.state.shown  # its journal is on the way
                view.show([] if coming else live.empty(self.desk.state.line, agent, width))
                return
            calling = self.desk.rehearsal.phone.state in ("starting", "ringing")
            waiting: list[Row] = [
                (),
                ((f"  {self.glyphs.busy} calling {clean(self.desk.agent_name)}", "text"), ("   b cancels", "muted")),
            ]
            view.show(waiting if calling else start.rows(self._ready(), self.desk.rehearsal.phone, width, self.glyphs))
            return
        if call is not self._drawn_call:
            self._drawn_call = call
            self._drawn.clear()
            view.show([])
        rows: list[Row] = []
        for entry in call.entries:
            known = self._drawn.get(id(entry))
            if known is None or known[0] is not entry or known[1] != entry.rev or known[2] != width:
                known = (entry, entry.rev, width, transcript.entry_rows(entry, width, self.glyphs))
                self._drawn[id(entry)] = known
            rows += known[3]
        view.border_title = Content(self._call_title(call, width))  # a plain text would be read as markup
        view.border_subtitle = Content(fit(clean(call.call_id), 20) if view.at_end else "f follows the end")
        view.show(rows)

    def _call_title(self, call: Call, width: int) -> str:
        state = f"ended {clock(call.ended_at)}" if call.ended_at else "in call" if call.started_at else "ringing"
        used = f" {self.glyphs.dot} ".join(dict.fromkeys(filter(None, (call.stt, call.llm, call.tts))))
        parts = [part for part in (call.agent, state, used) if part]
        return fit(clean(f" {self.glyphs.rule} ".join(parts)), max(10, width - 4))

    def _ready(self) -> start.Ready:
        desk, row = self.desk, self.desk.agent
        rejected = desk.state.rejected.get(desk.agent_name)
        problem, fix, where = (str(row.get(name) or "") for name in ("problem", "fix", "line"))
        if row.get("ok", True):
            problem, fix, where = (rejected.problem, rejected.fix, str(rejected.line)) if rejected else ("", "", "")
        elif not problem:
            problem = "the file cannot be used"
        return start.Ready(
            desk.agent_name, str(row.get("first_message") or ""), problem, int(where or 0),
            desk.rehearsal.caller_line_count, desk.status, desk.detail, desk.state.rungs, row, fix,
        )  # fmt: skip

    def _draw_trace(self) -> None:
        view = self.query_one("#trace", LineView)
        call = self.desk.state.call
        view.show(transcript.trace_rows(call, view.text_width, max(1, view.size.height)) if call is not None else [])

    def _draw_turns(self) -> None:
        call = self.desk.state.call or Call("")
        index = self.turn if 0 <= self.turn < len(call.turns) else len(call.turns) - 1
        view = self.query_one("#turns", PickList)
        head = self.query_one("#turns-head", ClickableLine)
        rows, head_row, foot_row = turns.table(call, index, view.text_width, self.glyphs)
        view.lay(rows, index)
        if not rows:
            view.show(turns.empty(view.text_width))
        head.lay(head_row, ())
        self.query_one("#turns-foot", ClickableLine).lay(foot_row, ())
        fall = self.query_one("#waterfall", LineView)
        turn = call.turns[index] if call.turns else None
        fall.border_title = "Turn" if turn is None else f"Turn {turns.label(turn)}"
        fall.show(turns.waterfall(turn, fall.text_width, self.glyphs))

    def _draw_cost(self) -> None:
        view = self.query_one("#cost", LineView)
        view.show(cost.rows(self.desk.state.call or Call(""), view.text_width, self.desk.now()))

    def _draw_calls(self) -> None:
        view = self.query_one("#calls", PickList)
        head = self.query_one("#calls-head", ClickableLine)
        listed = self.desk.state.ordered()
        if not listed:
            head.lay((), ())
            view.lay([], 0)
            view.show(calls.empty(view.text_width))
            return
        ids = [row.call_id for row in listed]
        index = ids.index(self.picked_call) if self.picked_call in ids else 0
        self.picked_call = ids[index]
        head.lay(calls.head(view.text_width), ())
        view.lay(calls.rows(self.desk.state, index, view.text_width, self.desk.now(), self.glyphs), index)

    def _draw_line(self) -> None:
        view = self.query_one("#line", LineView)
        state, now = self.desk.state.line, self.desk.now()
        rows = line.rows(state, view.text_width, now, self.glyphs, self.desk.agent_name, self._keys_problem)
        if self.has_class("-short"):
            rows = rows[: 1 if self.has_class("-tiny") else 2]
        height = len(rows) + view.gutter.height
        if view.styles.height is None or view.styles.height.value != height:
            view.styles.height = height  # a layout only when the line itself has changed
        view.show(rows)

    def _draw_live(self) -> None:
        view, listed = self.query_one("#live", PickList), self.desk.switchboard.rows()
        ids = [row.call_id for row in listed]
        watched = self.desk.state.shown_on("serve")
        index = ids.index(watched) if watched in ids else 0
        self.query_one("#live-head", ClickableLine).lay(live.head(view.text_width) if listed else (), ())
        view.lay(live.rows(listed, index, view.text_width, self.desk.now(), self.glyphs), index)
        if not listed:
            view.show([(("  no calls yet", "muted"),)])

    def _draw_phone(self) -> None:
        desk, now = self.desk, self.desk.now()
        ours = _NOT_OURS if self.mode == "serve" else desk.rehearsal.phone
        strip = self.query_one("#phone", ClickableLine)
        strip.lay(phone.line(desk.state.call, ours, strip.text_width, now, self.glyphs), ())
        panel = self.query_one("#phone-panel", LineView)
        panel.show(phone.panel(desk.state.call, ours, panel.text_width, now, self.glyphs))

    def _draw_summary(self) -> None:
        call = self.desk.state.call or Call("")
        view = self.query_one("#summary", ClickableLine)
        turn = call.turns[-1] if call.turns else None
        view.lay(turns.summary(turn, call, view.text_width, self.glyphs), ())

    def _draw_say(self) -> None:
        view = self.query_one("#say", Input)
        on = bool(self.desk.live_call)
        view.placeholder = bars.invitation(self.mode, on=on, typing=self.typing)
        self.query_one("#say-prompt", ClickableLine).lay(
            ((f" {self.glyphs.prompt} ", "accent" if on else "muted"),), ()
        )

    def show_keys_panel(self) -> None:
        """Show the keys beside the work, in place of the figures, or hide them again."""
        self.toggle_class("-keys-shown")
        self.call_after_refresh(self.redraw)

    def _draw_keys_panel(self) -> None:
        view = self.query_one("#keys-panel", LineView)
        view.show(bars.help_rows(self.mode, max(20, view.text_width)))
