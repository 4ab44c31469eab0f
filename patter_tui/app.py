"""The workbench application: bindings from the registry, the flush timer, modes, calls, and leaving."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from typing import Any, ClassVar

from textual.screen import ModalScreen

from patter_tui import leaving, settings
from patter_tui.actions import ACTIONS, CALL_MODES, KEY_NAMES, KEYPAD, Action, Mode, by_id
from patter_tui.desk import Options
from patter_tui.editing import Editing
from patter_tui.engine import Engine
from patter_tui.palette import Actions
from patter_tui.paths import Paths
from patter_tui.possible import possible
from patter_tui.rehearsing import Rehearsing
from patter_tui.screens.bench import Bench
from patter_tui.screens.modals import HelpPage, LeavePage
from patter_tui.serving import Serving
from patter_tui.themes import DARK, LIGHT
from patter_tui.widgets.clickable import ClickableLine
from patter_tui.widgets.pick_list import PickList

FLUSH_SECONDS = 0.1
"""Ten pictures a second: what changes in between is drawn once."""


class Workbench(Rehearsing, Serving, Editing):
    """The app. It returns the engine that has to be stopped, or None."""

    TITLE = "patter"
    CSS_PATH = "patter_tui.tcss"
    COMMANDS: ClassVar[set[Any]] = {Actions}
    ENABLE_COMMAND_PALETTE = True
    COMMAND_PALETTE_BINDING = "ctrl+p"
    PAUSE_GC_ON_SCROLL = True
    NOTIFICATION_TIMEOUT = 5

    def __init__(self, paths: Paths, options: Options, *, theme: str = "", ascii_only: bool = False) -> None:
        super().__init__(paths, options, ascii_only=ascii_only)
        self.set_class(ascii_only, "-ascii")
        self._asked_theme = theme
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
        self._bench = Bench(self.desk, self.glyphs, self.can)
        return self._bench

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
        if self.settings_problem:
            self.tell("Settings", self.settings_problem, "warning")
        if self._asked_theme and self._asked_theme not in self.available_themes:
            known = ", ".join(sorted(self.available_themes))
            self.tell("Colours", f"There is no theme {self._asked_theme}. There are: {known}.", "warning")
        gc.collect()
        gc.freeze()  # what was loaded for the start is never looked at again: without this each full pass stops the screen

    def _told_to_go(self) -> None:
        """The terminal was closed, or somebody ends this process: calls go on, an idle engine of ours does not."""
        self.editor.keep_draft()
        self.work(self._go(), "leave")

    async def _go(self) -> None:
        self._remember()
        self.exit(await leaving.go(self.desk))

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
        if "line" in wanted:
            self.work(desk.switchboard.refresh(), "line-facts")
        self.look_after_calls()
        await self.look_after_file()
        title = f"{self.glyphs.live} {self.live_calls()} - patter" if desk.state.live() else "patter"
        if title != self.title:
            self.title = title

    def start_engine(self) -> None:
        """Adopt or start the engine, then follow it."""
        self.work(self.desk.connect(), "engine")
        self.work(self.desk.watch_loading(), "loading")

    # ------------------------------------------------------------------ what can be done now

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether a key means something now: nothing before the first picture, nearly nothing where there is no room for one."""
        if not self._drawn:
            return False
        if action == "press":
            seen = self.bench.mode == "rehearse" and not self.bench.is_too_small
            return not self._asking and seen and bool(self.desk.live_call)
        if action == "quit":  # Textual's own binding of ctrl+q
            return not isinstance(self.screen, LeavePage)
        if action not in ("act", "palette_act"):
            return True
        if self._asking and action == "act" and not self.screen.is_current:
            return False
        if isinstance(self.screen, ModalScreen) and action == "act":
            return False
        return self.can(by_id(str(parameters[0])))

    def can(self, action: Action) -> bool:
        """Whether an action can be done now."""
        return possible(action, self.desk, self.bench)

    @property
    def _asking(self) -> bool:
        return isinstance(self.screen, ModalScreen)

    async def action_act(self, action_id: str) -> None:
        """Do one action of the registry."""
        done = getattr(self, f"do_{action_id}")()
        if done is not None:
            await done

    # ------------------------------------------------------------------ calls

    async def do_copy_id(self) -> None:
        """The selected call's id."""
        if self.bench.picked_call:
            await self.copy(self.bench.picked_call, "The call's id")

    def do_view_call(self) -> None:
        """Show the selected call in the panes."""
        self.bench.turn = -1
        self.work(self._view(self.bench.picked_call), "view")

    async def _view(self, call_id: str) -> None:
        row = self.desk.state.rows.get(call_id)
        outside = row is not None and row.on and not row.rehearsal
        await self.desk.view(call_id, "serve" if outside else "rehearse")
        self.bench.choose_mode("serve" if outside else "rehearse")

    def do_hang_up_selected(self) -> None:
        """Hang up the selected call."""
        if self.desk.link is not None:
            self.work(self.desk.link.call(self.bench.picked_call, "hangup"), "command", exclusive=False)

    # ------------------------------------------------------------------ where to look

    async def do_leave(self) -> None:
        """Out of the zoom, the text, or an old call; in this order."""
        bench = self.bench
        if bench.maximized is not None:
            bench.minimize()
            self.call_after_refresh(bench.redraw)
        elif bench.mode in CALL_MODES and bench.typing:
            bench.focus_main()
        elif bench.mode == "rehearse" and not self.desk.live_call and self.desk.state.shown:
            self.desk.state.shown = ""
            self.desk.dirty |= {"transcript", "turns", "status", "trace", "phone"}
            bench.redraw()
        elif bench.mode == "rehearse" and self.desk.rehearsal.own_call:
            self.desk.state.shown = self.desk.rehearsal.own_call
            bench.redraw()
        elif bench.mode in ("calls", "serve"):
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
        await self.open_editor()

    def do_mode_rehearse(self) -> None:
        """The call."""
        self.bench.choose_mode("rehearse")

    def do_mode_serve(self) -> None:
        """The line and its calls."""
        self.bench.choose_mode("serve")

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

    # ------------------------------------------------------------------ leaving

    def action_help_quit(self) -> None:
        """ctrl+c is for copying in so many terminals that it does not leave."""
        self.tell("To leave", "ctrl+q leaves. ctrl+c copies what is selected.", "information")

    async def do_quit(self) -> None:
        """Leave; ask first if calls are on."""
        await self.action_quit()

    async def action_quit(self) -> None:
        """Leave; ask first if calls are on."""
        self.editor.keep_draft()
        desk = self.desk
        if await leaving.must_ask(desk):
            number = desk.state.line.number if desk.state.line.busy else ""
            self.push_screen(LeavePage(len(desk.state.live()), bool(desk.rehearsal.own_call), number), self._left)
        else:
            await self._left("kill")

    async def _left(self, answer: str | None) -> None:
        if answer in ("leave", "drain", "kill"):
            self._remember()
            self.exit(await leaving.leave(self.desk, answer))  # type: ignore[arg-type]

    def _remember(self) -> None:
        self.remembered.theme = "" if self.theme.startswith("ansi") else self.theme
        self.remembered.agent = self.desk.agent_name
        settings.save(self.paths.home, self.remembered)

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
        elif message.view.id == "live":
            self.watch_row(message.index)
        elif message.view.id == "calls":
            self.bench.picked_call = self.desk.state.ordered()[message.index].call_id
            self.desk.dirty |= {"calls", "status"}

    def on_pick_list_opened(self, message: PickList.Opened) -> None:
        """A call was double-clicked."""
        if message.view.id == "calls":
            self.do_view_call()

    def watch_title(self, title: str) -> None:
        """The terminal's own title tells about live calls when this window is not looked at."""
        if self._driver is not None and not self.is_headless:
            self._driver.write(f"\x1b]2;{title}\x07")

    def watch_theme(self, theme_name: str) -> None:
        """New colours everywhere."""
        super()._watch_theme(theme_name)
        if self._bench is not None and self._bench.is_mounted:
            self.editor.follow_theme()
            self.call_after_refresh(self._bench.redraw)


def run(paths: Paths, options: Options, *, theme: str, ascii_only: bool, mouse: bool) -> tuple[Engine | None, bool]:
    """Open the workbench until it is left. Returns the engine to stop, if any, and whether the interface has failed."""
    app = Workbench(paths, options, theme=theme, ascii_only=ascii_only)
    left = app.run(mouse=mouse)
    return left, bool(app.return_code)
