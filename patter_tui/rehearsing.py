"""Actions of a rehearsal: dial, type, press keys, interrupt, hang up, read along. The desk carries them out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from textual.widgets import Input

from patter_tui.link import Refused
from patter_tui.stage import Stage
from patter_tui.views.transcript import text_of_call
from patter_tui.widgets.line_view import LineView


class Rehearsing(Stage):
    """What can be done in and around a call."""

    def action_press(self, digit: str) -> None:
        """A key of the telephone."""
        self.work(self.desk.rehearsal.press(digit), "press", exclusive=False)

    def do_dial(self) -> None:
        """Call the agent with the own voice."""
        self._rehearse("sound")

    def do_simulate(self) -> None:
        """Let the simulated caller call."""
        self._rehearse("simulated")

    def do_try(self) -> None:
        """From the editor: let the simulated caller call."""
        self._rehearse("simulated")

    def do_text(self) -> None:
        """Start a typed call and go to the input line."""
        self._rehearse("text")
        self.bench.query_one("#say").focus()

    def _rehearse(self, kind: Any) -> None:
        self.bench.turn = -1
        if self.bench.mode != "rehearse":
            self.bench.choose_mode("rehearse")
        if self.editor.modified:
            self.tell(
                "Not saved", "The call uses the agent as saved: ctrl+s in the editor saves your changes.", "warning"
            )
        self.work(self.desk.rehearsal.start(kind), "rehearsal", exclusive=False)

    def do_hang_up(self) -> None:
        """End the call."""
        self.work(self.desk.rehearsal.hang_up(), "command", exclusive=False)

    def do_interrupt(self) -> None:
        """Stop the agent."""
        self.work(self.desk.interrupt(), "command", exclusive=False)

    def do_mute(self) -> None:
        """Microphone off or on."""
        self.desk.rehearsal.mute()

    def do_type(self) -> None:
        """Go to the input line."""
        self.bench.query_one("#say").focus()

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """A line for the call."""
        if message.input.id != "say":
            return
        text = message.value
        message.input.value = ""
        self.work(self._enter(text), "enter", exclusive=False)

    async def _enter(self, text: str) -> None:
        try:
            if self.bench.mode == "serve":
                await self._tell_agent(text.strip())
            else:
                await self.desk.rehearsal.enter(text)
        except Refused as error:
            line = self.bench.query_one("#say", Input)
            line.value = line.value or text
            line.cursor_position = len(line.value)
            self.tell("Not sent", str(error), "warning")

    async def _tell_agent(self, text: str) -> None:
        """In a call of somebody else our words are the agent's."""
        if not self.desk.live_call:
            raise Refused("There is no call to speak into.")
        if text:
            await self.desk.switchboard.say(self.desk.live_call, text)

    # ------------------------------------------------------------------ reading along

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
            await self.copy(selected, "The selection")
            self.bench.clear_selection()
        elif call is not None:
            await self.copy(text_of_call(call), "The transcript")

    def do_switch_line(self) -> None:
        """The other line for the next rehearsal."""
        other = "phone" if self.desk.options.line == "wideband" else "wideband"
        self.desk.options = replace(self.desk.options, line=other)  # type: ignore[arg-type]
        self.remembered.line = other
        self.tell(
            "Line", f"Rehearsals use the {'telephone' if other == 'phone' else 'wideband'} line now.", "information"
        )
