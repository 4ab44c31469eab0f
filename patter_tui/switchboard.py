"""The phone line and the calls on it as the workbench steers them: open, close, dial, watch, transfer. It owns no widget.

What a carrier does with an order comes back as events; here is only the asking.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from patter_tui.carrier import is_number, keys_in, plain_number
from patter_tui.line import line_from_json
from patter_tui.link import Link, Refused
from patter_tui.store import CallRow

if TYPE_CHECKING:
    from patter_tui.desk import Desk

ENDED_SHOWN = 30
"""Ended calls listed below the ones that are on; all of them stand in the list of calls."""


class Switchboard:
    """The line of one engine."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def _link(self) -> Link:
        if self._desk.link is None:
            raise Refused("There is no engine: ctrl+e starts it.")
        return self._desk.link

    # ------------------------------------------------------------------ the line

    async def refresh(self) -> None:
        """Fetch the line anew. Raises Refused."""
        if self._desk.link is not None:
            self._take((await self._desk.link.get("/line")).get("data"))

    def _take(self, data: Any) -> None:
        if isinstance(data, dict):
            self._desk.state.line = line_from_json(data)
            self._desk.dirty |= {"line", "top", "status"}

    async def open(
        self, agent: str, number: str, host: str, port: int, *, recording: bool, take_number: bool, restore: bool
    ) -> None:
        """Open the line with the carrier keys of the environment. Raises Refused, Missing.

        `host` is this machine's public name and `port` where it leads to; without a host a tunnel is opened."""
        body: dict[str, Any] = keys_in().to_json() | {
            "agent": agent, "number": _number(number), "host": host, "tunnel": not host, "port": port if host else 0,
            "recording": recording, "take_number": take_number, "restore": restore,
        }  # fmt: skip
        self._take((await self._link().post("/line", **body)).get("data"))

    async def close(self, when: Literal["idle", "now"]) -> None:
        """No new calls; those that are on go on ("idle") or end ("now"). Raises Refused."""
        self._take((await self._link().delete("/line", when=when)).get("data"))

    # ------------------------------------------------------------------ calls

    def rows(self) -> list[CallRow]:
        """Calls that are on, newest first, then the last ended ones that were no rehearsals."""
        listed = self._desk.state.ordered()
        ended = [row for row in listed if not row.on and not row.rehearsal]
        return [row for row in listed if row.on] + ended[:ENDED_SHOWN]

    async def dial(self, number: str, agent: str, voicemail: str) -> str:
        """Place a call; its id. Raises Refused."""
        answer = await self._link().post("/calls", agent=agent, to=_number(number), voicemail=voicemail.strip())
        return str(answer.get("data", {}).get("call_id") or "")

    async def hang_up(self, call_id: str) -> None:
        """End a call, or give it up while it rings. Raises Refused."""
        await self._link().call(call_id, "hangup")

    async def transfer(self, call_id: str, number: str, summary: str) -> None:
        """Hand a call to somebody, who is told the summary first if there is one. Raises Refused."""
        await self._link().call(call_id, "transfer", number=_number(number), summary=summary.strip())

    async def press(self, call_id: str, digits: str) -> None:
        """Press keys on the line, as the agent. Raises Refused."""
        await self._link().call(call_id, "digits", digits=digits.strip())

    async def say(self, call_id: str, text: str) -> None:
        """The agent says a sentence word for word. Raises Refused."""
        await self._link().call(call_id, "say", text=text)


def _number(text: str) -> str:
    number = plain_number(text)
    if not is_number(number):
        raise Refused(f"{text or 'Nothing'} is no number that a carrier can dial: write it like +15551234567.")
    return number
