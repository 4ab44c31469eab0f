"""Our own call to the agent, by softphone or typed: it starts, takes our words and keys, and ends. It owns the softphone.

It refuses to know calls of other people; of the screen it knows only which parts have changed.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from patter_tui.agents import caller_lines
from patter_tui.link import Refused
from patter_tui.softphone import Softphone
from patter_tui.store import ALL_PARTS, Phone

if TYPE_CHECKING:
    from patter_tui.desk import Desk

Kind = Literal["sound", "simulated", "text"]


class Rehearsal:
    """One rehearsal after the other. `own_call` is the id of the one that is on, "" if there is none."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.phone = Phone()
        self.softphone: Softphone | None = None
        self.own_call = ""
        self.text_at_call: dict[str, str] = {}
        self.caller_line_count = 0

    @property
    def busy(self) -> bool:
        """Whether a rehearsal of ours is on."""
        return bool(self.own_call) or self.phone.state != "off"

    def count_caller_lines(self, text: str) -> None:
        """Know how many lines the simulated caller has."""
        count = len(caller_lines(text))
        if count != self.caller_line_count:
            self.caller_line_count = count
            self._desk.dirty.add("agents")

    # ------------------------------------------------------------------ from start to end

    async def start(self, kind: Kind) -> None:
        """Start a rehearsal and, unless it is typed, run the softphone until it ends. Raises Refused."""
        desk = self._desk
        if desk.link is None or self.busy or not desk.agent_name:
            return
        path = desk.agent_path
        text = await asyncio.to_thread(_read_text, path)
        lines = caller_lines(text)
        if kind == "simulated" and not lines:
            raise Refused(
                'The simulated caller has nothing to say: add `[rehearsal] caller = ["…"]` to the agent file.'
            )
        self.text_at_call[str(path)] = text
        if kind != "text":
            self.phone = Phone(state="starting", device=kind, sound=self.phone.sound)
            desk.dirty |= {"phone", "status"}
        try:
            line = "text" if kind == "text" else desk.options.line
            answer = await desk.link.post("/rehearsals", agent=desk.agent_name, line=line)
        except Refused:
            self.phone.state = "off"
            desk.dirty |= ALL_PARTS
            raise
        data = answer.get("data", {})
        known = {str(rung.get("note")) for rung in desk.state.rungs.values()}
        for note in data.get("notes") or []:
            if note not in known:  # what listens, answers and speaks stands on the start page and in the transcript
                desk.notify("Rehearsal", str(note), "warning")
        if kind == "text":
            self.own(str(data.get("call_id") or ""))
            return
        await self._run_softphone({"do": "dial", "dial": data.get("dial"), "device": kind, "caller": lines})

    async def _run_softphone(self, dial: dict[str, Any]) -> None:
        desk = self._desk
        desk.state.show("", "rehearse")
        desk.dirty |= ALL_PARTS
        self.softphone = Softphone(self._hear_phone, desk.paths.screen_log, desk.options.softphone_command)
        try:
            await self.softphone.run(dial)
        finally:
            self.softphone = None
            self.phone.state = "off"
            desk.dirty |= ALL_PARTS

    def _hear_phone(self, message: dict[str, Any]) -> None:
        desk, phone = self._desk, self.phone
        phone.take(message)
        desk.dirty.add("phone")
        kind = message.get("is")
        if kind == "in_call":
            self.own(phone.call_id)
        elif kind in ("error", "device_lost") or (kind == "ready" and phone.problem and phone.device == "sound"):
            desk.notify("Sound", f"{phone.problem} {phone.fix}".strip(), "warning")
        if kind != "levels":
            desk.dirty |= {"status", "top"}

    def own(self, call_id: str) -> None:
        """This call is ours: show it where rehearsals are shown."""
        if call_id:
            self.own_call = call_id
            self._desk.state.show(call_id, "rehearse")
            self._desk.dirty |= ALL_PARTS

    def started(self, call_id: str) -> None:
        """A rehearsal has begun on the engine: while our softphone dials, it is ours."""
        if self.phone.state != "off" and not self.own_call:
            self.own(call_id)

    def over(self) -> None:
        """Our call has ended."""
        self.own_call = ""
        self._desk.dirty |= ALL_PARTS

    def lose_engine(self) -> None:
        """The engine is gone, and our call with it."""
        self.own_call = ""
        if self.softphone is not None:
            self.softphone.send(do="quit")

    # ------------------------------------------------------------------ what we do in it

    async def hang_up(self) -> None:
        """End the shown call; our own telephone call is ended by its telephone. Raises Refused."""
        desk = self._desk
        if self.softphone is not None and desk.state.shown in ("", self.own_call):
            self.softphone.send(do="hang_up")
        elif desk.link is not None and desk.live_call:
            await desk.link.call(desk.live_call, "hangup")

    def mute(self) -> None:
        """Switch the microphone of the softphone off or on."""
        if self.softphone is not None:
            self.phone.muted = not self.phone.muted
            self.softphone.send(do="mute", on=self.phone.muted)
            self._desk.dirty.add("phone")

    async def press(self, digit: str) -> None:
        """Press a telephone key as the caller. Raises Refused."""
        desk = self._desk
        if self.softphone is not None:
            self.softphone.send(do="digit", digit=digit)
        elif desk.link is not None and desk.live_call:
            await desk.link.call(desk.live_call, "digits", digits=digit)

    async def enter(self, text: str) -> None:
        """A line of the input: "/say …" makes the agent speak it, anything else is the caller's. Raises Refused."""
        desk, words = self._desk, text.strip()
        if not words:
            return
        if desk.link is None:
            raise Refused("There is no engine: ctrl+e starts it.")
        if not desk.live_call:
            raise Refused("There is no call: press Esc, then d, s or t to start one.")
        if words == "/say" or words.startswith("/say "):
            line = words[4:].strip()
            if not line:
                raise Refused("Write what the agent shall say: /say One moment, please.")
            await desk.link.call(desk.live_call, "say", text=line)
        else:
            await desk.link.call(desk.live_call, "text", text=words)


def _read_text(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
