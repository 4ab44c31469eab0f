"""The life of an engine process: take the home, listen, tell others, serve until asked to stop, leave nothing behind.

It owns the order of a start and of an end, the signals and the exit codes; it refuses to know which parts calls are made of.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from patter.bus import Bus
from patter.clock import Clock
from patter.event_loop import QUICK
from patter.exceptions import SettingsError
from patter.server.api_port import PROTOCOL
from patter.server.app import Server, Setup
from patter.server.desk import Foresight, OpenCall
from patter.server.home import Home, HomeTaken, HomeUnusable
from patter.server.kept import Kept
from patter.server.line_desk import Join, no_carriers
from patter.server.listener import PortInUse, listen
from patter.server.log import start_log, stop_log
from patter.server.stop_signals import stop_signals

log = logging.getLogger(__name__)

EXIT_UNUSABLE = 2  # what was asked cannot be done: the port, the home, the agents directory
EXIT_TAKEN = 3  # an engine runs here already


@dataclass(frozen=True, slots=True)
class Parts:
    """What the top of the house gives: calls, what is ready, and how to make it ready."""

    open_call: OpenCall
    rungs: Callable[[], dict[str, Any]]
    warm: Callable[[], Awaitable[None]]
    join: Join = no_carriers
    foresight: Foresight | None = None
    kept: Kept | None = None


Build = Callable[[Path, Bus, Clock], AbstractAsyncContextManager[Parts]]
"""(home, bus, clock) → the parts, for as long as the engine runs."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the engine was asked for. `linger_s`: stop when alone for that long (None: never)."""

    home: Path
    agents_dir: Path
    version: str
    port: int = 0
    agent_files: tuple[Path, ...] = ()
    linger_s: float | None = None


def host(options: Options, build: Build) -> int:
    """Run an engine until it is asked to stop; returns the process's exit code."""
    if not options.agents_dir.is_dir():
        return _complain(
            EXIT_UNUSABLE, f"There is no directory {options.agents_dir}: make it, or give another --agents."
        )
    home = Home(options.home)
    try:
        home.take()
        listener = listen(options.port)
    except HomeTaken as taken:
        return _complain(EXIT_TAKEN, str(taken))
    except (HomeUnusable, PortInUse) as problem:
        home.release()
        return _complain(EXIT_UNUSABLE, str(problem))
    try:
        handler = start_log(home.log)
    except OSError as error:
        listener.close()
        home.release()
        return _complain(EXIT_UNUSABLE, f"The log {home.log} cannot be written: {error.strerror}.")
    try:
        anyio.run(_serve, options, home, listener, build, backend_options=QUICK)
    except SettingsError as problem:
        return _complain(EXIT_UNUSABLE, str(problem))
    except Exception:
        log.exception("the engine failed")
        return _complain(1, f"The engine failed; {home.log} says where.")
    finally:
        listener.close()
        home.release()
        stop_log(handler)
    return 0


def _complain(code: int, sentence: str) -> int:
    print(f"patter.engine: {sentence}", file=sys.stderr)
    return code


async def _serve(options: Options, home: Home, listener: socket.socket, build: Build) -> None:
    clock = Clock()
    bus = Bus(clock)
    engine_id = secrets.token_hex(8)
    setup = Setup(
        home=home.path,
        agents_dir=options.agents_dir,
        token=secrets.token_urlsafe(32),
        engine_id=engine_id,
        version=options.version,
        agent_files=options.agent_files,
    )
    async with (
        build(home.path, bus, clock) as parts,
        Server(
            setup, listener, bus, clock, parts.open_call, parts.rungs, parts.join, parts.foresight, parts.kept
        ) as server,
        _tasks(server, parts, options.linger_s),
    ):
        home.announce(_info(server))
        _tell({"listening": server.url, "engine_id": engine_id})
        log.info("the engine listens", extra={"engine_id": engine_id})
        if sys.platform != "win32":
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a terminal that closes drops no call
        with stop_signals(server.shut_down):  # however often they come: the end is bounded
            await server.wait_stopped()
        log.info("the engine stops", extra={"engine_id": engine_id})


@asynccontextmanager
async def _tasks(server: Server, parts: Parts, linger_s: float | None) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_warm, parts)
        if linger_s is not None:
            tasks.start_soon(_stop_when_alone, server, linger_s)
        yield
        tasks.cancel_scope.cancel()


async def _warm(parts: Parts) -> None:
    try:
        await parts.warm()
        calm_collector()
    except Exception:  # calls load what they need; their errors reach the user
        log.exception("the embedded engines could not be loaded")


async def _stop_when_alone(server: Server, linger_s: float) -> None:
    """Stop when nobody has followed the events and no call has been up for `linger_s`."""
    while True:
        with anyio.move_on_after(linger_s) as waiting:
            await server.events.wait_change()
        if waiting.cancelled_caught and not server.events.readers and not server.desk.count and not server.line.in_use:
            server.shut_down()
            return


def _info(server: Server) -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "port": server.port,
        "token": server.setup.token,
        "engine_id": server.setup.engine_id,
        "version": server.setup.version,
        "protocol": PROTOCOL,
        "started_at": server.started_at,
        "agents_dir": str(server.agents.directory),
    }


def _tell(line: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # whoever started us may be gone, and calls matter more
        print(json.dumps(line), flush=True)


def calm_collector() -> None:
    """Leave what is loaded by now out of the garbage collector's rounds, and let it go round less often.

    The sound of a reply is kept as many small objects: by default that makes a busy engine walk through all it has loaded
    dozens of times a second (5 to 10 % of its processor time at fifty calls)."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
