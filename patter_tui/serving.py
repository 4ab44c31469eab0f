"""Actions of Serve mode: open and close the line, place calls, watch them, step in. The switchboard carries them out."""

from __future__ import annotations

from typing import Any

from patter_tui.carrier import PORT, TITLES, Keys, Missing, bare_host, is_number, keys_in, plain_number
from patter_tui.figures import count
from patter_tui.safe import clean
from patter_tui.screens.forms import YES_NO, Answers, Field, Form
from patter_tui.screens.modals import ClosePage, ProblemPage
from patter_tui.stage import Stage


class Serving(Stage):
    """What can be done with the phone line and the calls on it."""

    _chosen_by_hand = False

    # ------------------------------------------------------------------ the line

    def do_open_line(self) -> None:
        """Ask how to serve, then open the line."""
        try:
            keys = keys_in()
        except Missing as problem:
            self.push_screen(ProblemPage("No carrier", str(problem), "Set them where you start patter-tui."))
            return
        if not self.desk.agent.get("ok", True):
            self.tell("Agent", f"{self.desk.agent_name} cannot be used yet: F2 shows why.", "warning")
            return
        self.push_screen(self._line_form(keys), self._open_line)

    def _line_form(self, keys: Keys) -> Form:
        title = f"Serve with {TITLES[keys.carrier]}"
        about = (
            "Who rings the number reaches the agent, once its webhook points here. The carrier finds this machine "
            "by its public host; without one a tunnel is opened (cloudflared or ngrok)."
        )
        fields = (
            Field("agent", "agent", self.desk.agent_name, choices=self._agents()),
            Field("number", "number", keys.number, "+15551234567, one of yours"),
            Field("host", "public host", keys.host, "empty: a tunnel"),
            Field("port", "local port", str(PORT), "the port that the public host leads to"),
            Field("recording", "record calls", "no", choices=YES_NO),
            Field("take", "point it here", "yes", choices=YES_NO),
            Field("restore", "restore at end", "yes", choices=YES_NO),
        )
        return Form(title, about, fields, "serves", _line_is_wrong)

    def _agents(self) -> list[str]:
        good = [str(row.get("name", "")) for row in self.desk.state.agents if row.get("ok", True)]
        return good or [self.desk.agent_name]

    def _open_line(self, answers: Answers | None) -> None:
        if answers is not None:
            self.work(self._opened_line(answers), "line")

    async def _opened_line(self, answers: Answers) -> None:
        try:
            await self.desk.switchboard.open(
                answers["agent"], answers["number"], bare_host(answers["host"]), int(answers["port"] or PORT),
                recording=answers["recording"] == "yes", take_number=answers["take"] == "yes",
                restore=answers["restore"] == "yes",
            )  # fmt: skip
        except Missing as problem:
            self.tell("No carrier", str(problem), "warning")

    def do_close_line(self) -> None:
        """Close the line; ask first if calls are on."""
        live = [row for row in self.desk.state.live() if not row.rehearsal]
        if live:
            self.push_screen(ClosePage(len(live)), self._close_line)
        else:
            self._close_line("idle")

    def _close_line(self, answer: str | None) -> None:
        if answer in ("idle", "now"):
            self.work(self.desk.switchboard.close(answer), "line")  # type: ignore[arg-type]

    # ------------------------------------------------------------------ calls

    def do_place_call(self) -> None:
        """Ask whom to call, then call."""
        fields = (
            Field("number", "number", "", "+15551234567"),
            Field("agent", "agent", self.desk.state.line.agent or self.desk.agent_name, choices=self._agents()),
            Field("voicemail", "on a machine", "", "what to say after the beep; empty: nothing"),
        )
        self.push_screen(Form("Call somebody", "", fields, "calls", _number_is_wrong), self._place_call)

    def _place_call(self, answers: Answers | None) -> None:
        if answers is not None:
            self.work(self._dial(answers), "command", exclusive=False)

    async def _dial(self, answers: Answers) -> None:
        call_id = await self.desk.switchboard.dial(answers["number"], answers["agent"], answers["voicemail"])
        self._chosen_by_hand = False
        if call_id:
            await self._watch(call_id)

    def do_hang_up_watched(self) -> None:
        """End the watched call."""
        self._command(self.desk.switchboard.hang_up(self._watched))

    def do_transfer(self) -> None:
        """Ask to whom, then hand the call over."""
        call_id = self._watched
        fields = (
            Field("number", "number", "", "+15551234567"),
            Field("summary", "tell them", "", "a summary they hear first; empty: connect at once"),
        )

        def transfer(answers: Answers | None) -> None:
            if answers is not None:
                self._command(self.desk.switchboard.transfer(call_id, answers["number"], answers["summary"]))

        self.push_screen(Form("Transfer", self._about_watched(), fields, "transfers", _number_is_wrong), transfer)

    def do_send_digits(self) -> None:
        """Ask which keys, then press them."""
        call_id = self._watched

        def press(answers: Answers | None) -> None:
            if answers is not None:
                self._command(self.desk.switchboard.press(call_id, answers["digits"]))

        fields = (Field("digits", "keys", "", "0-9, *, # (w waits half a second)"),)
        self.push_screen(Form("Press keys", self._about_watched(), fields, "presses", _digits_are_wrong), press)

    def _about_watched(self) -> str:
        row = self.desk.state.rows.get(self._watched)
        return f"The call with {clean(row.other)}, {clean(row.agent)}." if row is not None else ""

    def do_say(self) -> None:
        """Go to the input line."""
        self.bench.query_one("#say").focus()

    @property
    def _watched(self) -> str:
        return self.desk.state.shown_on("serve")

    def _command(self, job: Any) -> None:
        self.work(job, "command", exclusive=False)

    # ------------------------------------------------------------------ watching

    def watch_row(self, index: int) -> None:
        """Watch the call of a row of the list."""
        listed = self.desk.switchboard.rows()
        if index < len(listed):
            self._chosen_by_hand = True
            self.work(self._watch(listed[index].call_id), "watch")

    async def _watch(self, call_id: str) -> None:
        self.bench.turn = -1
        await self.desk.view(call_id, "serve")

    def look_after_calls(self) -> None:
        """Watch a call that comes while none is watched; one that was chosen by hand stays until it is left."""
        if self.bench.mode != "serve":
            return
        listed = self.desk.switchboard.rows()
        watched = self.desk.state.rows.get(self._watched)
        gone = watched is None or watched not in listed
        better = watched is not None and not watched.on and not self._chosen_by_hand and listed and listed[0].on
        if listed and (gone or better):
            self._chosen_by_hand = False
            self.work(self._watch(listed[0].call_id), "watch")

    def live_calls(self) -> str:
        """How many calls are on, for the terminal's title."""
        return count(len(self.desk.state.live()), "call")


def _number_is_wrong(answers: Answers) -> str:
    if is_number(plain_number(answers["number"])):
        return ""
    return "A number is needed, written with its country: +15551234567."


def _line_is_wrong(answers: Answers) -> str:
    port = answers["port"]
    if port and not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65_535):
        return "The local port is a number from 1 to 65535."
    return _number_is_wrong(answers)


def _digits_are_wrong(answers: Answers) -> str:
    digits = answers["digits"]
    return "" if digits and len(digits) <= 32 and set(digits) <= set("0123456789*#wW") else "Up to 32 of 0-9, * and #."
