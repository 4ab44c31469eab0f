"""A public address for a port of this machine, by a tunnel program that the user has: cloudflared, or ngrok's agent.

It owns that program's process, its options and what its output means; it refuses to know what is served on the port.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio

from patter.exceptions import PatterConnectionError

log = logging.getLogger(__name__)

START_S = 20.0  # both are up within five seconds on a usual line
END_S = 3.0  # cloudflared waits half a minute for open requests; ours have been ended by now
LAST_WORDS_S = 1.0  # what a program says as it ends may come after its end
LINE_LIMIT = 16_384  # bytes of a line that are looked at
DETAIL_LIMIT = 300  # characters of a program's complaint that we pass on

_CLOUDFLARE_HOST = re.compile(r"https://([a-z0-9]+(?:-[a-z0-9]+)+\.trycloudflare\.com)\b")  # not api.trycloudflare.com
_CLOUDFLARE_UP = re.compile(
    r"\bregistered\b", re.IGNORECASE
)  # "Registered tunnel connection", in older ones the other way
_CLOUDFLARE_GONE = "Unauthorized: Tunnel not found"  # a quick tunnel was taken away while this machine slept
_NGROK_HOST = re.compile(r"https://([a-z0-9-]+(?:\.[a-z0-9-]+)+)")
_OWN_HOST = "or give webhook_url a public host of your own"
_NONE = (
    "a tunnel needs cloudflared (no account needed: https://github.com/cloudflare/cloudflared/releases) "
    f"or ngrok (https://ngrok.com/download): install one of them, {_OWN_HOST}"
)
_HINTS = {
    "429 Too Many Requests": f"this network has asked for too many quick tunnels: wait some minutes, {_OWN_HOST}",
    "ERR_NGROK_4018": "give ngrok its token: ngrok config add-authtoken TOKEN (from https://dashboard.ngrok.com)",
    "ERR_NGROK_105": "ngrok does not know its token: ngrok config add-authtoken TOKEN (from https://dashboard.ngrok.com)",
    "ERR_NGROK_108": "ngrok runs elsewhere for this account: end that one first",
    "ERR_NGROK_334": "ngrok serves this address elsewhere: end that one first",
    "no such host": "check this machine's network and DNS",
}


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A tunnel that is up. `host` is its public name (TLS on port 443); `lost` is set if it breaks down for good."""

    host: str
    program: str
    lost: anyio.Event


@asynccontextmanager
async def open_tunnel(port: int, *, start_s: float = START_S) -> AsyncIterator[Tunnel]:
    """A tunnel to `port` of 127.0.0.1, by the first program that brings one up; ended on leaving.

    Raises PatterConnectionError with what to do if there is no such program or none brings a tunnel up in `start_s`."""
    failures: list[str] = []
    for program in PROGRAMS:
        path = shutil.which(program.name)
        if path is None:
            continue
        child = _Child(program)
        try:
            transport = await _start([path, *program.arguments(port)], child)
        except OSError as error:
            failures.append(f"{program.name} cannot be started: {error.strerror}")
            continue
        try:
            with anyio.move_on_after(start_s):
                await child.settled.wait()
            if await child.usable():
                log.info("the tunnel is up", extra={"program": program.name, "host": child.host})
                yield Tunnel(child.host, program.name, child.lost)
                return
            failures.append(child.complaint())
        finally:
            await _end(transport, child)
    raise PatterConnectionError("; ".join(failures) or _NONE)


async def _start(command: list[str], child: _Child) -> asyncio.SubprocessTransport:
    options: dict[str, Any] = {"start_new_session": True}  # ctrl+c ends us first, and us alone: calls say goodbye by it
    if sys.platform == "win32":
        options = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    transport, _ = await asyncio.get_running_loop().subprocess_exec(
        lambda: child, *command, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, **options
    )
    return transport


async def _end(transport: asyncio.SubprocessTransport, child: _Child) -> None:
    """End the process and wait until it is gone."""
    child.ending = True
    with anyio.CancelScope(shield=True):
        for end in (transport.terminate, transport.kill):
            if child.exited.is_set():
                break
            end()
            with anyio.move_on_after(END_S):
                await child.exited.wait()
        transport.close()


# --------------------------------------------------------------------------- what the programs take and say


@dataclass(frozen=True, slots=True)
class _Said:
    """What a line of output means: a public host, that the way is open, that it is gone, or a complaint."""

    host: str = ""
    up: bool = False
    gone: bool = False
    complaint: str = ""


@dataclass(frozen=True, slots=True)
class _Program:
    """A tunnel program: its name, its arguments for a port, and how to read a line of its output."""

    name: str
    arguments: Callable[[int], list[str]]
    read: Callable[[str], _Said]


def _cloudflared_arguments(port: int) -> list[str]:
    # a config file of the user's own tunnels would send our callers to what they serve
    return ["tunnel", "--config", os.devnull, "--no-autoupdate", "--url", f"http://127.0.0.1:{port}"]


def _read_cloudflared(line: str) -> _Said:
    """Its log: `2026-11-22T16:44:36Z INF |  https://four-words-make-one.trycloudflare.com  |`; a last error stands bare."""
    found = _CLOUDFLARE_HOST.search(line)
    if found:
        return _Said(host=found[1])
    _, level, text = [*line.split(" ", 2), "", ""][:3]
    if level == "ERR" or level not in ("INF", "WRN", "DBG"):
        text = text if level == "ERR" else line
        return _Said(complaint="" if "was empty" in text else text, gone=_CLOUDFLARE_GONE in text)
    return _Said(up=level == "INF" and _CLOUDFLARE_UP.search(text) is not None)


def _ngrok_arguments(port: int) -> list[str]:
    return ["http", f"127.0.0.1:{port}", "--log", "stdout", "--log-format", "json"]


def _read_ngrok(line: str) -> _Said:
    """Its log, one JSON object a line; an error before the log begins stands bare."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return _Said(complaint=line.removeprefix("ERROR:").strip())
    if not isinstance(said, dict):
        return _Said()
    url, error = said.get("url"), said.get("err")
    if said.get("msg") == "started tunnel" and isinstance(url, str):
        found = _NGROK_HOST.fullmatch(url)
        return _Said(host=found[1], up=True) if found else _Said()
    if said.get("lvl") in ("eror", "crit") and isinstance(error, str) and error != "<nil>":
        return _Said(complaint=error)
    return _Said()


PROGRAMS = (
    _Program("cloudflared", _cloudflared_arguments, _read_cloudflared),  # first: it needs no account
    _Program("ngrok", _ngrok_arguments, _read_ngrok),
)


class _Child(asyncio.SubprocessProtocol):
    """A tunnel program that runs: what it has said so far, and whether it is still there."""

    def __init__(self, program: _Program) -> None:
        self._program = program
        self._rest = b""
        self._complaints: list[str] = []
        self._up = False
        self.ending = False
        self.host = ""
        self.settled = anyio.Event()  # it is up, or it never will be
        self.lost = anyio.Event()
        self.exited = anyio.Event()
        self._silent = anyio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Output: read by whole lines."""
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[:LINE_LIMIT]
        for line in lines:
            self._hear(line[:LINE_LIMIT].decode(errors="replace").strip())

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """No more output."""
        if self._rest:
            self._hear(self._rest.decode(errors="replace").strip())
            self._rest = b""
        self._silent.set()

    def process_exited(self) -> None:
        """It has ended."""
        self.exited.set()
        self._lose()

    def _hear(self, line: str) -> None:
        said = self._program.read(line) if line else _Said()
        self.host = self.host or said.host
        self._up = self._up or said.up
        if said.complaint:
            self._complaints = [*self._complaints[-9:], said.complaint]
        if said.gone and self._up:  # before that, Cloudflare's edge may just not have heard of it yet
            self._lose()
        elif self.host and self._up:
            self.settled.set()

    def _lose(self) -> None:
        if self.ending:
            return
        if self.host and self._up and not self.lost.is_set():
            log.warning("the tunnel is lost", extra={"program": self._program.name, "detail": self.complaint()})
        self.lost.set()
        self.settled.set()

    async def usable(self) -> bool:
        """Whether calls can come through. A program that gave an address and never complained is taken at its word."""
        if self.exited.is_set():
            with anyio.move_on_after(LAST_WORDS_S):
                await self._silent.wait()
        return bool(self.host) and not self.lost.is_set() and (self._up or not self._complaints)

    def complaint(self) -> str:
        """One sentence: what went wrong, and what to do if we know."""
        name, said = self._program.name, " ".join(self._complaints)
        detail = " ".join((self._complaints or [""])[-1].split())[:DETAIL_LIMIT]
        happened = "ended" if self.exited.is_set() else "brought no tunnel up"
        hint = next((hint for sign, hint in _HINTS.items() if sign in said), "")
        if self.host and not hint and not self.exited.is_set():
            hint = "does a firewall keep it from port 7844?" if name == "cloudflared" else ""
        return f"{name} {happened}" + (f" ({detail})" if detail else "") + (f" — {hint}" if hint else "")
