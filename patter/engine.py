"""`python -m patter.engine`: the background process that carries the calls and answers on loopback.

It owns the command line and the one place where server, workshop and watchers are joined; it refuses to know any of them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NoReturn, Unpack

import aiohttp
import anyio
import anyio.to_thread

from patter.assembly import Workshop
from patter.builders import Keys
from patter.bus import Bus
from patter.clock import Clock
from patter.exchange import join
from patter.models import Agent
from patter.observe.prices import Prices
from patter.ports import CallInfo, Transport
from patter.records import Records
from patter.server.desk import CallSession, Casting, Desk
from patter.server.front_door import Joined, LineSettings
from patter.server.home import usual_home
from patter.server.host import Options, Parts, host
from patter.server.twilio_routes import Files
from patter.server.version import installed_version
from patter.settings import load

EPILOG = """\
The engine stays until it is asked to stop: Ctrl+C, SIGTERM, or POST /api/v1/shutdown. With --linger it also stops by
itself once nobody has followed its events and no call has been up for that many seconds. Its home holds engine.json
(address and token), engine.log and calls/. Exit codes: 0 stopped, 1 failed, 2 cannot be done as asked, 3 runs already.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the engine of these command-line arguments; returns the exit code."""
    options = _options(arguments)
    return host(options, _parts)


def _options(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m patter.engine", description="Carries the calls, in the background.", epilog=EPILOG
    )
    parser.add_argument("--agents", type=Path, required=True, metavar="DIR", help="the directory of agent files")
    parser.add_argument("--agent", type=Path, action="append", default=[], metavar="FILE", help="one more agent file")
    parser.add_argument("--home", type=Path, metavar="DIR", help="where state is kept (default: $PATTER_HOME)")
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1 (default: any free one)")
    parser.add_argument("--linger", type=float, metavar="SECONDS", help="stop when alone for so long")
    chosen = parser.parse_args(arguments)
    if not 0 <= chosen.port <= 65_535:
        parser.error("--port must be from 0 to 65535")
    if chosen.linger is not None and not 1 <= chosen.linger <= 86_400:
        parser.error("--linger must be from 1 to 86400 seconds")
    try:
        Keys.of_environment()
    except ValueError as error:
        parser.error(f"the environment cannot be used: {error}")
    return Options(
        home=chosen.home or usual_home(),
        agents_dir=chosen.agents.expanduser().absolute(),
        version=installed_version(),
        port=chosen.port,
        agent_files=tuple(chosen.agent),
        linger_s=chosen.linger,
    )


@asynccontextmanager
async def _parts(home: Path, bus: Bus, clock: Clock) -> AsyncIterator[Parts]:
    """Joins the watchers to the bus and the workshop to the server."""
    settings = await anyio.to_thread.run_sync(load, home)
    prices = await anyio.to_thread.run_sync(partial(Prices.load, file=settings.prices))
    stt_model = os.environ.get("PATTER_STT_MODEL", "")
    async with (
        Records(home, bus, clock, prices, settings) as records,
        Workshop(bus, clock, keys=Keys.of_environment(), stt_model=stt_model) as workshop,
        aiohttp.ClientSession() as http,
    ):

        def open_call(call: CallInfo, agent: Agent, transport: Transport, **cast: Unpack[Casting]) -> CallSession:
            workshop.check(agent)
            session = workshop.open_call(call, agent, transport, taps=records.taps(call, transport), **cast)
            records.watch(session)
            return session

        def joined(settings: LineSettings, desk: Desk, files: Files) -> Joined:
            return join(settings, desk, files, clock, bus, http)

        yield Parts(open_call, workshop.rungs, workshop.warm, joined, workshop, records.kept())


def _leave(code: int) -> NoReturn:
    """End the process, whatever threads the modules of users have left running."""
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    _leave(main())
