"""`patter-tui call`: rings somebody with an agent and reads the call aloud as lines. The engine carries the call.

A line is opened for it if none is open, and closed again afterwards. Leaving (Ctrl+C) does not end the call.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from patter.events import CallEnded, CallStarted
from patter_tui import leaving
from patter_tui import paths as places
from patter_tui.call import CALM_ENDS
from patter_tui.engine import Engine
from patter_tui.headless import engine_side
from patter_tui.headless.engine_side import Events
from patter_tui.headless.orders import add_line_options, agent_named, line_order, number_named
from patter_tui.headless.pages import JsonPage, Page, TextPage
from patter_tui.line import PhoneLine, line_from_json
from patter_tui.link import Link, Refused
from patter_tui.paths import Paths

EPILOG = (
    "Exit codes: 0 the call was answered and ended as people end calls, 1 it was not, 2 it cannot be placed as asked."
)


def main(arguments: Sequence[str]) -> int:
    """Run `patter-tui call`; returns the exit code."""
    options = _parser().parse_args(arguments)
    page: Page = JsonPage(sys.stdout) if options.json else TextPage(sys.stdout, numbered=False)
    command = PlaceCall(options, places.find(options.home), page)
    return engine_side.run(command.run, command.left, page.problem)


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="patter-tui call", description="Call somebody: the agent talks, you read along.", epilog=EPILOG
    )
    made.add_argument("number", metavar="NUMBER", help="whom to call, as +15551234567")
    made.add_argument("agent", metavar="AGENT", help="an agent's name or file")
    made.add_argument("--from", dest="caller", default="", metavar="+1…", help="which of your numbers calls")
    made.add_argument("--first", default="", metavar="TEXT", help="what the agent says first in this call")
    made.add_argument("--voicemail", default="", metavar="TEXT", help="what to say after a machine's beep")
    made.add_argument("--detect-machine", action="store_true", help="ask the carrier whether a machine answered")
    made.add_argument("--ring", type=float, default=30.0, metavar="SECONDS", help="how long to let it ring (30)")
    add_line_options(made)
    return made


class PlaceCall:
    """One run of the command."""

    def __init__(self, options: argparse.Namespace, paths: Paths, page: Page) -> None:
        self._options, self._paths, self._page = options, paths, page
        self._link: Link | None = None
        self._opened = False
        self._call_id = ""
        self._rings = False

    async def run(self) -> int:
        """Place the call and follow it to its end. Raises WrongUse, Missing, EngineUnavailable, Refused, Lost."""
        options, paths = self._options, self._paths
        places.prepare(paths)
        to, agent = number_named(options.number, "The number"), agent_named(options.agent, paths)
        caller = number_named(options.caller, "The --from number") if options.caller else ""
        found = await engine_side.find(paths)
        line = await engine_side.line_of(Link(found)) if found is not None else PhoneLine()
        order = {}
        if line.state not in ("open", "starting"):
            order = line_order(options, agent, {}, caller) | {"take_number": False}
        engine = await engine_side.start(paths)
        link = self._link = Link(engine)
        async with engine_side.following(link) as events:
            try:
                if not await self._line_is_open(link, events, line, order):
                    return 1
                placed = await link.post(
                    "/calls", agent=agent, to=to, voicemail=options.voicemail, first_message=options.first,
                    machine_detection=options.detect_machine, ring_timeout_s=options.ring, **{"from": caller},
                )  # fmt: skip
                self._rings = True
                self._call_id = str(placed.get("data", {}).get("call_id") or "")
                return await self._read_aloud(events)
            finally:
                await self._clean_up(link, engine, started=found is None or found.pid != engine.pid)

    async def left(self) -> int:
        """Somebody pressed Ctrl+C: say what goes on without us."""
        if self._call_id:
            self._page.note("left", f"The call goes on. `patter-tui hangup {self._call_id}` ends it.")
        if self._opened and self._rings:
            self._page.note("left", "The line that was opened for it stays open. `patter-tui serve --stop` closes it.")
        return 1

    async def _line_is_open(self, link: Link, events: Events, line: PhoneLine, order: dict[str, object]) -> bool:
        if order:
            self._opened = True
            line = line_from_json((await link.post("/line", **order)).get("data") or {})
        elif line.state == "open":
            return True
        return (await engine_side.opened(link, events, line, self._page.line)).state == "open"

    async def _clean_up(self, link: Link, engine: Engine, *, started: bool) -> None:
        """A line of our own takes no more calls and closes after this one; an engine that nobody needs stops.

        A call that rings would be given up with its line: that one stays."""
        if self._rings:
            return
        try:
            if self._opened:
                await link.delete("/line", when="idle")
            if started or self._opened:
                await leaving.release(link, self._paths, engine, watchers=1)
        except Refused:
            return  # it is gone already

    async def _read_aloud(self, events: Events) -> int:
        answered = False
        while True:
            event = await events.next()
            if event.call_id != self._call_id:
                continue
            self._rings = self._rings and not isinstance(event, CallStarted | CallEnded)
            answered = answered or isinstance(event, CallStarted)
            if isinstance(event, CallEnded):
                return self._ended(event, answered)
            self._page.event(event)

    def _ended(self, event: CallEnded, answered: bool) -> int:
        row = self._page.state.rows.get(event.call_id)
        cost = None if row is None or (row.unpriced and not row.cost_total) else row.cost_total  # None: not known
        self._page.event(event)
        code = 0 if answered and event.reason in CALM_ENDS else 1
        self._page.result(
            call_id=event.call_id, answered=answered, reason=event.reason, duration_s=event.duration_s, cost_usd=cost,
            exit_code=code,
        )  # fmt: skip
        return code
