"""`patter-tui serve`: opens the phone line on the background engine and reads its calls aloud as lines. The engine carries them.

Leaving (Ctrl+C, a closed terminal) ends nothing: the engine serves on until `patter-tui serve --stop`.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from typing import Any

from patter.events import LineChanged
from patter_tui import leaving
from patter_tui import paths as places
from patter_tui.figures import count
from patter_tui.headless import engine_side
from patter_tui.headless.engine_side import Events
from patter_tui.headless.orders import WrongUse, add_line_options, agent_named, line_order, routes_named
from patter_tui.headless.pages import JsonPage, Page, TextPage
from patter_tui.line import PhoneLine, line_after, line_from_json
from patter_tui.link import Link, Refused
from patter_tui.paths import Paths
from patter_tui.store import row_from_json

STOP = "`patter-tui serve --stop`"

EPILOG = """\
Keys come from the environment: TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN, or TELNYX_API_KEY, TELNYX_CONNECTION_ID,
TELNYX_PUBLIC_KEY; the number from TWILIO_PHONE_NUMBER, TELNYX_PHONE_NUMBER or PATTER_PHONE_NUMBER.
Exit codes: 0 done (also when left with Ctrl+C), 1 failed or (--status) not open, 2 cannot be done as asked.
"""


def main(arguments: Sequence[str]) -> int:
    """Run `patter-tui serve`; returns the exit code."""
    options = _parser().parse_args(arguments)
    page: Page = JsonPage(sys.stdout) if options.json else TextPage(sys.stdout, numbered=True)
    paths = places.find(options.home)
    command = Serve(options, paths, page)
    return engine_side.run(command.run, command.left, page.problem)


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="patter-tui serve", description="Take real calls with an agent, in the background.", epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.add_argument("agent", nargs="?", default="", metavar="AGENT", help="an agent's name or file")
    made.add_argument("routes", nargs="*", default=[], metavar="NUMBER=AGENT", help="further numbers and their agents")
    made.add_argument("--number", default="", metavar="+1…", help="your number to serve on")
    made.add_argument("--recording", action="store_true", help="record calls, here and at the carrier")
    made.add_argument("--keep-webhook", action="store_true", help="do not point the number's webhook here")
    made.add_argument("--restore", action="store_true", help="put the number's former webhook back at the end")
    made.add_argument("--voicemail", default="", metavar="TEXT", help="what calls of ours leave on machines")
    made.add_argument("--detach", action="store_true", help="return as soon as the line is open")
    what = made.add_mutually_exclusive_group()
    what.add_argument("--stop", action="store_true", help="close the line; calls that are on go on")
    what.add_argument("--status", action="store_true", help="say what is served and which calls are on")
    made.add_argument("--now", action="store_true", help="with --stop: end calls too, after a goodbye")
    add_line_options(made)
    return made


class Serve:
    """One run of the command."""

    def __init__(self, options: argparse.Namespace, paths: Paths, page: Page) -> None:
        self._options, self._paths, self._page = options, paths, page
        self._asked = False

    async def run(self) -> int:
        """Do what was asked. Raises WrongUse, Missing, EngineUnavailable, Refused, Lost."""
        if self._options.status:
            return await self._status()
        if self._options.stop:
            return await self._stop()
        if not self._options.agent:
            raise WrongUse("Which agent shall answer? `patter-tui serve AGENT` takes a name or a file.")
        return await self._serve()

    async def left(self) -> int:
        """Somebody pressed Ctrl+C: say what goes on without us."""
        if self._asked:
            self._page.note("left", f"The engine serves on, and calls go on. {STOP} ends that.")
        return 0

    # ------------------------------------------------------------------ serving

    async def _serve(self) -> int:
        options, paths, page = self._options, self._paths, self._page
        places.prepare(paths)
        agent, routes = agent_named(options.agent, paths), routes_named(options.routes, paths)
        order = line_order(options, agent, routes, options.number) | {
            "recording": options.recording, "take_number": not options.keep_webhook, "restore": options.restore,
            "voicemail": options.voicemail,
        }  # fmt: skip
        found = await engine_side.find(paths)
        engine = await engine_side.start(paths)
        started = found is None or found.pid != engine.pid
        page.note("engine", f"process {engine.pid}, {'started' if started else 'was running'}")
        link = Link(engine)
        async with engine_side.following(link) as events:
            began = time.time()
            try:
                opened = await self._open(link, events, order)
            except Refused:
                if started:
                    await leaving.release(link, paths, engine, watchers=1)
                raise
            if not opened:
                if started:
                    await leaving.release(link, paths, engine, watchers=1)
                return 1
            if options.detach:
                return 0
            for data in (await link.get("/calls/active")).get("data") or []:
                row = row_from_json(data)
                if row.started_at < began:  # of the others the events tell
                    page.call_on(row)
            page.note("ready", f"Ring the number to talk to the agent. Ctrl+C leaves it serving, {STOP} ends it.")
            return await self._read_aloud(events)

    async def _open(self, link: Link, events: Events, order: dict[str, Any]) -> bool:
        line = line_from_json((await link.post("/line", **order)).get("data") or {})
        self._asked = True
        line = await engine_side.opened(link, events, line, self._page.line)
        return line.state == "open"

    async def _read_aloud(self, events: Events) -> int:
        """Until the line is closed from elsewhere and the last call on it is over."""
        closed = False
        while True:
            event = await events.next()
            self._page.event(event)
            if isinstance(event, LineChanged):
                closed = event.state in ("off", "problem")
                if event.state == "problem":
                    return 1
            if closed and not self._page.state.live():
                return 0

    # ------------------------------------------------------------------ stop and status

    async def _stop(self) -> int:
        engine = await engine_side.find(self._paths)
        link = Link(engine) if engine is not None else None
        if link is None or engine is None or (await engine_side.line_of(link)).state == "off":
            self._page.note("line", "nothing is served")
            return 0
        async with engine_side.following(link) as events:
            await link.delete("/line", when="now" if self._options.now else "idle")
            on = len((await link.get("/calls/active")).get("data") or [])
            line = await self._closed(events, wait_for_calls=self._options.now or not on)
            self._page.line(line)
            if on and line.state == "closing":
                self._page.note(
                    "calls", f"{count(on, 'call')} on: `patter-tui calls` lists them, --stop --now ends them"
                )
            if await leaving.release(link, self._paths, engine, watchers=1):
                self._page.note("engine", f"it stops too{', after the last call' if on else ''}")
        return 0

    async def _closed(self, events: Events, *, wait_for_calls: bool) -> PhoneLine:
        """The line once it takes no more calls; with `wait_for_calls`, once the last one is over too."""
        line, enough = PhoneLine("open"), ("off", "problem") if wait_for_calls else ("off", "problem", "closing")
        try:
            async with asyncio.timeout(engine_side.OPENING_SECONDS):
                while line.state not in enough:
                    line = line_after(line, await events.next_line())
        except TimeoutError:
            raise Refused("The line is still closing: `patter-tui serve --status` says how far it is.") from None
        return line

    async def _status(self) -> int:
        engine = await engine_side.find(self._paths)
        if engine is None:
            self._page.line(line_from_json({}))
            return 1
        link = Link(engine)
        line = await engine_side.line_of(link)
        self._page.line(line)
        for row in (await link.get("/calls/active")).get("data") or []:
            self._page.call_on(row_from_json(row))
        return 0 if line.state == "open" else 1
