"""The workbench application: bindings from the registry, the flush timer, and what each action does. The desk does the work."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from textual.app import App
from textual.screen import ModalScreen
from textual.widgets import Input
from textual.worker import Worker, WorkerState

from patter_tui import agents, clipboard, settings
from patter_tui.actions import ACTIONS, KEY_NAMES, KEYPAD, Action, Mode, by_id
from patter_tui.desk import Desk, Options, Severity
from patter_tui.engine import Engine
from patter_tui.figures import count
from patter_tui.link import Refused
from patter_tui.palette import Actions
from patter_tui.paths import Paths
from patter_tui.screens.bench import Bench
from patter_tui.screens.modals import AgentsPage, HelpPage, LeavePage, OverwritePage, ProblemPage
from patter_tui.themes import DARK, LIGHT
from patter_tui.views.glyphs import ASCII, UNICODE
from patter_tui.views.rows import Row, clean, pad
from patter_tui.views.transcript import text_of_call
from patter_tui.widgets.clickable import ClickableLine
from patter_tui.widgets.editor import Editor
from patter_tui.widgets.line_view import LineView
from patter_tui.widgets.pick_list import PickList

FLUSH_SECONDS = 0.1
"""Ten pictures a second: what changes in between is drawn once."""


class Workbench(App[Engine]):
    """The app. It returns the engine that has to be stopped, or None."""

    TITLE = "patter"
    CSS_PATH = "patter_tui.tcss"
    COMMANDS: ClassVar[set[Any]] = {Actions}
    ENABLE_COMMAND_PALETTE = True
    COMMAND_PALETTE_BINDING = "ctrl+p"
    PAUSE_GC_ON_SCROLL = True
    NOTIFICATION_TIMEOUT = 5

    def __init__(self, paths: Paths, options: Options, *, theme: str = "", ascii_only: bool = False) -> None:
        super().__init__()
        self.paths = paths
        self.remembered, self._settings_problem = settings.load(paths.home)
        if options.line == "phone" and self.remembered.line == "wideband":
            options = replace(options, line="wideband")
        self.desk = Desk(paths, options, self.tell)
        self.desk.agent_name = self.remembered.agent
        self._glyphs = ASCII if ascii_only else UNICODE
        self.set_class(ascii_only, "-ascii")
        self._asked_theme = theme
        self._bench: Bench | None = None
        self._compared: str | None = None
        self._counted: tuple[Path, tuple[int, int]] | None = None
        self._drawn = False
        for name in (DARK, LIGHT):
            self.register_theme(name)
        wanted = theme or self.remembered.theme
        self.theme = wanted if wanted in self.available_themes else "patter-dark"
        self._bind()

    def _bind(self) -> None:
        for action in ACTIONS:
            for key in filter(None, action.keys.split(",")):
                # a letter must reach the text that is being edited first; function and control keys are ours
                ahead = action.typing and (key.startswith(("ctrl+", "f")) and key != "f")
                self._bindings.bind(key, f"act('{action.id}')", action.label, show=False, priority=ahead)
        for digit in KEYPAD:
            self._bindings.bind(KEY_NAMES.get(digit, digit), f"press('{digit}')", show=False)

    def get_default_screen(self) -> Bench:
        """The one screen."""
        self._bench = Bench(self.desk, self._glyphs, self.possible)
        return self._bench

    @property
    def bench(self) -> Bench:
        """The screen below all questions."""
        assert self._bench is not None
        return self._bench

    # ------------------------------------------------------------------ life

    def on_mount(self) -> None:
        """Everything slow waits until the first picture is on the screen."""
        for sign in ("SIGTERM", "SIGHUP"):
            with contextlib.suppress(AttributeError, NotImplementedError, RuntimeError, ValueError):
                asyncio.get_running_loop().add_signal_handler(getattr(signal, sign), self._told_to_go)
        self.call_after_refresh(self._after_first_paint)

    def _after_first_paint(self) -> None:
        self._drawn = True
        self.bench.focus_main()
        self.set_interval(FLUSH_SECONDS, self.bench.flush)
        self.set_interval(0.25, self._look_after)
        self.start_engine()
        if self._settings_problem:
            self.tell("Settings", self._settings_problem, "warning")
        if self._asked_theme and self._asked_theme not in self.available_themes:
            known = ", ".join(sorted(self.available_themes))
            self.tell("Colours", f"There is no theme {self._asked_theme}. There are: {known}.", "warning")
        gc.collect()
        gc.freeze()  # what was loaded for the start is never looked at again: without this each full pass stops the screen

    def _told_to_go(self) -> None:
        """The terminal was closed, or somebody ends this process: calls go on, an idle engine of ours does not."""
        self.bench.query_one(Editor).keep_draft()
        if self.desk.state.live():
            self.exit(None)
        else:
            self.work(self._left("kill"), "leave")

    def start_engine(self) -> None:
        """Adopt or start the engine, then follow it."""
        self.work(self.desk.connect(), "engine")
        self.work(self.desk.watch_loading(), "loading")

    def work(self, job: Coroutine[Any, Any, Any], group: str, *, exclusive: bool = True) -> None:
        """Run a job of the app (not of a pane: it must outlive the pane)."""
        self.run_worker(job, group=group, exclusive=exclusive, exit_on_error=False)

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """A job that failed says so, and leaves its trace in the log."""
        if event.state is not WorkerState.ERROR:
            return
        error = event.worker.error
        if isinstance(error, Refused):
            self.tell("Not possible", str(error), "warning")
            return
        print(f"a job of the workbench failed ({event.worker.group}): {error!r}", file=sys.stderr)
        self.tell("Something failed", f"{type(error).__name__}: {error}. Details: {self.paths.screen_log}", "error")

    async def _look_after(self) -> None:
        """Four times a second: what the desk asked for that is no drawing."""
        desk, bench = self.desk, self.bench
        if not bench.standing:
            return
        wanted, desk.wanted = desk.wanted, set()
        if "everything" in wanted:
            self.work(desk.fill_gap(), "gap")
        elif "agents" in wanted:
            self.work(desk.refresh_agents(), "agents")
        editor = bench.query_one(Editor)
        await editor.look_at_disk()
        path = desk.agent_path
        if path is not None and (editor.agent is None or editor.agent.path != path) and bench.mode != "calls":
            if bench.mode == "agent" or bench.size.width >= 150 or editor.agent is not None:
                await self._open_editor()
            else:
                self._count_lines(path)
        before = desk.text_at_call.get(str(path))
        if editor.agent is not None and before is not self._compared:
            self._compared = before
            editor.compare(before)
        live = len(desk.state.live())
        title = f"{self._glyphs.live} {count(live, 'call')} - patter" if live else "patter"
        if title != self.title:
            self.title = title

    def _count_lines(self, path: Path) -> None:
        stamp = agents.stamp(path)
        if (path, stamp) != self._counted:
            self._counted = (path, stamp)
            self.desk.count_caller_lines(_text(path))

    async def _open_editor(self) -> None:
        path = self.desk.agent_path
        editor = self.bench.query_one(Editor)
        if path is None:
            return
        problem = await editor.open(path)
        if problem:
            self.tell("Agent", problem, "error")
            return
        if editor.draft_restored:
            self.tell(
                "Draft",
                "Unsaved text of last time is back. ctrl+s saves it, ctrl+r takes the file on disk.",
                "information",
            )
        self.desk.count_caller_lines(editor.text)
        editor.compare(self.desk.text_at_call.get(str(path)))
        if self.bench.mode == "agent":
            self.bench.focus_main()
        gc.collect()
        gc.freeze()

    # ------------------------------------------------------------------ words

    def tell(self, title: str, text: str, severity: Severity) -> None:
        """A toast; errors stay longer."""
        seconds = {"information": 4.0, "warning": 8.0, "error": 12.0}[severity]
        self.notify(clean(text), title=clean(title), severity=severity, timeout=seconds, markup=False)

    async def _copy(self, text: str, what: str) -> None:
        if await asyncio.to_thread(clipboard.by_program, text):
            self.tell("Copied", f"{what} is on the clipboard.", "information")
        elif self._driver is not None:
            self._driver.write(clipboard.escape_code(text))
            self.tell(
                "Copied", f"{what} was given to the terminal's clipboard (some terminals ignore that).", "information"
            )

    # ------------------------------------------------------------------ what can be done now

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether a key means something now: nothing before the first picture, nearly nothing where there is no room for one."""
        if not self._drawn:
            return False
        if action == "press":
            seen = self.bench.mode == "rehearse" and not self.bench.is_too_small
            return not self._asking and seen and bool(self.desk.live_call)
        if action not in ("act", "palette_act"):
            return True
        if self._asking and action == "act" and not self.screen.is_current:
            return False
        if isinstance(self.screen, ModalScreen) and action == "act":
            return False
        return self.possible(by_id(str(parameters[0])))

    @property
    def _asking(self) -> bool:
        return isinstance(self.screen, ModalScreen)

    def possible(self, action: Action) -> bool:
        desk, mode = self.desk, self.bench.mode
        if self.bench.is_too_small:
            return action.id == "quit"
        if action.scope == "agent" and mode == "rehearse":
            return self.bench.focused is not None and self.bench.focused.id == "text"
        if action.scope not in ("everywhere", mode):
            return False
        if action.id in ("dial", "simulate", "text"):
            usable = desk.status == "up" and bool(desk.agent_name) and desk.agent.get("ok", True)
            return usable and not desk.busy and not desk.live_call
        if action.id in ("interrupt", "type"):
            return bool(desk.live_call)
        if action.id == "copy":
            return desk.state.call is not None
        if action.id == "hang_up":
            return bool(desk.live_call) or desk.busy
        if action.id == "mute":
            return desk.softphone is not None and desk.phone.device != "simulated"
        if action.id == "restart":
            return desk.status in ("down", "problem")
        if action.id == "next_problem":
            return bool(self.bench.query_one(Editor).problems)
        if action.id in ("next_pane", "previous_pane"):
            return self.bench.is_narrow
        if action.id == "open":
            return len(desk.state.agents) > 1
        if action.id in ("view_call", "copy_id"):
            return bool(desk.state.rows)
        if action.id == "hang_up_selected":
            row = desk.state.rows.get(self.bench.picked_call)
            return row is not None and row.state == "live"
        return True

    # ------------------------------------------------------------------ actions

    async def action_act(self, action_id: str) -> None:
        """Do one action of the registry."""
        done = getattr(self, f"do_{action_id}")()
        if done is not None:
            await done

    def action_press(self, digit: str) -> None:
        """A key of the telephone."""
        self.work(self.desk.press(digit), "press", exclusive=False)

    def do_dial(self) -> None:
        """Call the agent with the own voice."""
        self._rehearse("sound")

    def do_simulate(self) -> None:
        """Let the simulated caller call."""
        self._rehearse("simulated")

    def do_text(self) -> None:
        """Start a typed call and go to the input line."""
        self._rehearse("text")
        self.bench.query_one("#say").focus()

    def _rehearse(self, kind: Any) -> None:
        self.bench.turn = -1
        if self.bench.mode != "rehearse":
            self.bench.choose_mode("rehearse")
        editor = self.bench.query_one(Editor)
        if editor.modified:
            self.tell(
                "Not saved", "The call uses the agent as saved: ctrl+s in the editor saves your changes.", "warning"
            )
        self.work(self.desk.rehearse(kind), "rehearsal", exclusive=False)

    def do_hang_up(self) -> None:
        """End the call."""
        self.work(self.desk.hang_up(), "command", exclusive=False)

    def do_interrupt(self) -> None:
        """Stop the agent."""
        self.work(self.desk.interrupt(), "command", exclusive=False)

    def do_mute(self) -> None:
        """Microphone off or on."""
        self.desk.mute()

    def do_type(self) -> None:
        """Go to the input line."""
        self.bench.query_one("#say").focus()

    def do_earlier_turn(self) -> None:
        """Select the turn before."""
        self._select_turn(-1)

    def do_later_turn(self) -> None:
        """Select the turn after."""
        self._select_turn(1)

    def _select_turn(self, step: int) -> None:
        call = self.desk.state.call
        last = len(call.turns) - 1 if call is not None else -1
        now = self.bench.turn if self.bench.turn >= 0 else last
        chosen = max(0, min(last, now + step))
        self.bench.turn = -1 if chosen >= last else chosen
        self.desk.dirty.add("turns")

    def do_next_pane(self) -> None:
        """The next pane of a narrow screen."""
        self._turn_pane(1)

    def do_previous_pane(self) -> None:
        """The pane before."""
        self._turn_pane(-1)

    def _turn_pane(self, step: int) -> None:
        panes = ("talk", "turns", "cost")
        self.bench.choose_pane(panes[(panes.index(self.bench.pane) + step) % len(panes)])

    def do_follow(self) -> None:
        """Back to the end of the transcript."""
        self.bench.query_one("#transcript", LineView).to_end()
        self.desk.dirty.add("transcript")

    async def do_copy(self) -> None:
        """The selection, else the whole transcript."""
        selected = self.bench.get_selected_text()
        call = self.desk.state.call
        if selected:
            await self._copy(selected, "The selection")
            self.bench.clear_selection()
        elif call is not None:
            await self._copy(text_of_call(call), "The transcript")

    async def do_copy_id(self) -> None:
        """The selected call's id."""
        if self.bench.picked_call:
            await self._copy(self.bench.picked_call, "The call's id")

    def do_view_call(self) -> None:
        """Show the selected call in the panes."""
        self.bench.turn = -1
        self.work(self._view(self.bench.picked_call), "view")

    async def _view(self, call_id: str) -> None:
        await self.desk.view(call_id)
        self.bench.choose_mode("rehearse")

    def do_hang_up_selected(self) -> None:
        """Hang up the selected call."""
        if self.desk.link is not None:
            self.work(self.desk.link.call(self.bench.picked_call, "hangup"), "command", exclusive=False)

    async def do_save(self) -> None:
        """Save the agent file, unless somebody else changed it meanwhile."""
        editor = self.bench.query_one(Editor)
        if editor.overwrites:
            self.push_screen(OverwritePage(), self._overwrite)
            return
        self._save(editor)

    def _save(self, editor: Editor) -> None:
        problem = editor.save()
        if problem:
            self.push_screen(ProblemPage("Not saved", problem, "Check the disk and the file's permissions."))
            return
        path = editor.agent.path if editor.agent is not None else None
        self.desk.count_caller_lines(editor.text)
        editor.compare(self.desk.text_at_call.get(str(path)))
        self.clear_notifications()
        note = "Calls keep the version before until the problems are mended." if editor.problems else ""
        self.tell("Saved", note or "Calls use it from the next turn on.", "warning" if note else "information")

    async def _overwrite(self, answer: str | None) -> None:
        editor = self.bench.query_one(Editor)
        if answer == "mine":
            self._save(editor)
        elif answer == "disk":
            await editor.reload()

    async def do_reload(self) -> None:
        """Take the file on disk."""
        await self.bench.query_one(Editor).reload()

    def do_next_problem(self) -> None:
        """Go to the next problem."""
        self.bench.query_one(Editor).next_problem()

    def do_open(self) -> None:
        """Choose another agent."""
        rows: list[tuple[str, Row]] = []
        for agent in self.desk.state.agents:
            name, good = str(agent.get("name", "")), agent.get("ok", True)
            sign = (self._glyphs.good, "good") if good else (self._glyphs.bad, "bad")
            file = Path(str(agent.get("path", ""))).name
            rows.append((name, ((f"{sign[0]} ", sign[1]), (pad(clean(name), 30), "text"), (clean(file), "muted"))))
        self.push_screen(AgentsPage(rows, self.desk.agent_name), self._opened)

    async def _opened(self, name: str | None) -> None:
        if not name or name == self.desk.agent_name:
            return
        self.desk.agent_name = self.remembered.agent = name
        self.desk.dirty |= {"agents", "top", "rungs"}
        if not self.desk.live_call:
            self.desk.state.shown = ""
        await self._open_editor()

    async def do_leave(self) -> None:
        """Out of the zoom, the text, or an old call; in this order."""
        bench = self.bench
        if bench.maximized is not None:
            bench.minimize()
            self.call_after_refresh(bench.redraw)
        elif bench.mode == "rehearse" and bench.typing:
            bench.focus_main()
        elif bench.mode == "rehearse" and not self.desk.live_call and self.desk.state.shown:
            self.desk.state.shown = ""
            self.desk.dirty |= {"transcript", "turns", "status", "trace", "phone"}
            bench.redraw()
        elif bench.mode == "rehearse" and self.desk.own_call:
            self.desk.state.shown = self.desk.own_call
            bench.redraw()
        elif bench.mode == "calls":
            bench.choose_mode("rehearse")

    def do_help(self) -> None:
        """The help of this mode."""
        self.push_screen(HelpPage(self.bench.mode))

    def do_keys(self) -> None:
        """The keys beside the work."""
        self.bench.show_keys_panel()

    async def do_mode_agent(self) -> None:
        """The editor."""
        self.bench.choose_mode("agent")
        await self._open_editor()

    def do_mode_rehearse(self) -> None:
        """The call."""
        self.bench.choose_mode("rehearse")

    def do_mode_calls(self) -> None:
        """The list."""
        self.bench.choose_mode("calls")

    def do_zoom(self) -> None:
        """The focused pane alone, and back."""
        bench = self.bench
        if bench.maximized is not None:
            bench.minimize()
        elif bench.focused is not None:
            bench.maximize(bench.focused, container=False)
        self.call_after_refresh(bench.redraw)

    def do_restart(self) -> None:
        """Start the engine again."""
        self.start_engine()

    def do_palette(self) -> None:
        """Find a command."""
        self.action_command_palette()

    def do_choose_theme(self) -> None:
        """Other colours."""
        self.search_themes()

    def do_switch_line(self) -> None:
        """The other line for the next rehearsal."""
        other = "phone" if self.desk.options.line == "wideband" else "wideband"
        self.desk.options = replace(self.desk.options, line=other)  # type: ignore[arg-type]
        self.remembered.line = other
        self.tell(
            "Line", f"Rehearsals use the {'telephone' if other == 'phone' else 'wideband'} line now.", "information"
        )

    def action_help_quit(self) -> None:
        """ctrl+c is for copying in so many terminals that it does not leave."""
        self.tell("To leave", "ctrl+q leaves. ctrl+c copies what is selected.", "information")

    async def do_quit(self) -> None:
        """Leave; ask first if calls are on."""
        await self.action_quit()

    async def action_quit(self) -> None:
        """Leave; ask first if calls are on."""
        self.bench.query_one(Editor).keep_draft()
        live = self.desk.state.live()
        if live and self.desk.status == "up" and (self.desk.own_call or await self.desk.engine_is_ours_alone()):
            self.push_screen(LeavePage(len(live), bool(self.desk.own_call)), self._left)
        else:
            await self._left("kill")

    async def _left(self, answer: str | None) -> None:
        if answer not in ("drain", "kill"):
            return
        self.remembered.theme = "" if self.theme.startswith("ansi") else self.theme
        self.remembered.agent = self.desk.agent_name
        settings.save(self.paths.home, self.remembered)
        self.exit(await self.desk.leave(answer))  # type: ignore[arg-type]

    # ------------------------------------------------------------------ messages of panes

    def on_clickable_line_chosen(self, message: ClickableLine.Chosen) -> None:
        """A click at an edge."""
        if message.line.id == "top":
            mode: Mode = message.name  # type: ignore[assignment]
            self.work(self.action_act(f"mode_{mode}"), "click")
        elif message.line.id == "tabs":
            self.bench.choose_pane(message.name)
        elif message.line.id == "keys":
            self.work(self.action_act(message.name), "click")

    def on_pick_list_moved(self, message: PickList.Moved) -> None:
        """Another turn or call is selected."""
        if message.view.id == "turns":
            call = self.desk.state.call
            last = len(call.turns) - 1 if call is not None else -1
            self.bench.turn = -1 if message.index >= last else message.index
            self.desk.dirty.add("turns")
        elif message.view.id == "calls":
            self.bench.picked_call = self.desk.state.ordered()[message.index].call_id
            self.desk.dirty |= {"calls", "status"}

    def on_pick_list_opened(self, message: PickList.Opened) -> None:
        """A call was double-clicked."""
        if message.view.id == "calls":
            self.do_view_call()

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """A line for the call."""
        if message.input.id != "say":
            return
        text = message.value
        message.input.value = ""
        self.work(self._enter(text), "enter", exclusive=False)

    async def _enter(self, text: str) -> None:
        try:
            await self.desk.enter(text)
        except Refused as error:
            line = self.bench.query_one("#say", Input)
            line.value = line.value or text
            line.cursor_position = len(line.value)
            self.tell("Not sent", str(error), "warning")

    def on_editor_settled(self, message: Editor.Settled) -> None:
        """The text is quiet: have it checked."""
        self.bench.query_one(Editor).compare(self.desk.text_at_call.get(str(message.path)))
        self.work(self._check(message.path, message.text), "check")

    async def _check(self, path: Path, text: str) -> None:
        if self.desk.link is None:
            return
        answer = await self.desk.link.post("/agents/validate", text=text, path=str(path))
        found = answer.get("data", {}).get("problems") or []
        self.bench.query_one(Editor).judge(text, [item for item in found if isinstance(item, dict)])
        self.desk.dirty.add("status")

    def on_editor_changed_on_disk(self) -> None:
        """Two texts: the person decides."""
        self.tell("Changed on disk", "Another program wrote this file. ctrl+s asks which one to keep.", "warning")

    def watch_title(self, title: str) -> None:
        """The terminal's own title tells about live calls when this window is not looked at."""
        if self._driver is not None and not self.is_headless:
            self._driver.write(f"\x1b]2;{title}\x07")

    def watch_theme(self, theme_name: str) -> None:
        """New colours everywhere."""
        super()._watch_theme(theme_name)
        if self._bench is not None and self._bench.is_mounted:
            self._bench.query_one(Editor).follow_theme()
            self.call_after_refresh(self._bench.redraw)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def run(paths: Paths, options: Options, *, theme: str, ascii_only: bool, mouse: bool) -> tuple[Engine | None, bool]:
    """Open the workbench until it is left. Returns the engine to stop, if any, and whether the interface has failed."""
    app = Workbench(paths, options, theme=theme, ascii_only=ascii_only)
    left = app.run(mouse=mouse)
    return left, bool(app.return_code)
