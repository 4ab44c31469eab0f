"""How long a start takes and how much memory it needs, beside a bare interpreter, a bare Textual app and a bare aiohttp server.

Run: `python -m tests.benchmarks.startup [--runs 7]`. Rounds take turns, so that neighbours disturb all rows alike. On a busy
machine the smallest figure says most about us, the median about the neighbours.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from signal import SIGTERM

from tests.benchmarks.processes import Neighbours, cpu_ms, rss_mb, run, spread
from tests.benchmarks.terminal import Terminal

BARS = {  # what a row may be at most, in ms or MB
    "import patter": 200,
    "patter-tui --help": 200,
    "patter-tui 80x24: first text": 600,
    "patter-tui 120x40: first text": 600,
    "patter-tui 80x24: MB when connected": 60,
    "patter-tui 120x40: MB when connected": 60,
    "patter-tui 120x40: MB with editor open": 60,
}
BARE_TEXTUAL = """
from textual.app import App
from textual.widgets import Static
class Bare(App):
    def compose(self):
        yield Static("hello")
Bare().run()
"""
BARE_SERVER = """
import asyncio
from aiohttp import web
async def main():
    runner = web.AppRunner(web.Application())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print("listening", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
PICTURE = r"REHEARSE"  # the bar of modes: the screen is drawn
CONNECTED = r"● engine"
EDITOR = r"system_prompt"
CALM_S = 2.0  # what was loaded for the start has been drawn and collected


class Table:
    """Figures by row."""

    def __init__(self) -> None:
        self._rows: dict[str, list[float]] = defaultdict(list)

    def add(self, row: str, value: float) -> None:
        """One more figure of a row."""
        self._rows[row].append(value)

    def print(self) -> None:
        """Every row with its spread, and its bar where it has one."""
        for row, values in self._rows.items():
            bar = BARS.get(row)
            verdict = ""
            if bar is not None:
                verdict = f"bar {bar}: {'ok' if statistics.median(values) <= bar else 'MISSED'}"
            print(f"  {row:<44} {spread(values):>20}  {verdict}")


class Bench:
    """One home for all runs, as on a machine where patter has been used before."""

    def __init__(self, home: Path) -> None:
        self.home, self.table = home, Table()
        self.environment = dict(os.environ, PATTER_HOME=str(home), TERM="xterm-256color", COLORTERM="truecolor")
        for name in ("TMUX", "PYTHONDONTWRITEBYTECODE"):
            self.environment.pop(name, None)
        # an installed package has its bytecode; a checkout may not be allowed to write any
        self.environment["PYTHONPYCACHEPREFIX"] = str(home.parent / "bytecode")

    def commands(self) -> None:
        """Programs that end by themselves."""
        rows = {
            "bare interpreter": [sys.executable, "-c", ""],
            "import patter": [sys.executable, "-c", "import patter"],
            "from patter import Patter": [sys.executable, "-c", "from patter import Patter"],
            "patter-tui --help": [str(Path(sys.executable).with_name("patter-tui")), "--help"],
        }
        for row, command in rows.items():
            used = run(command, self.environment)
            self.table.add(row, used.wall_ms)
            self.table.add(f"{row}: processor", used.cpu_ms)

    def bare_textual(self) -> None:
        """The least that Textual can do."""
        with Terminal([sys.executable, "-c", BARE_TEXTUAL], 80, 24, self.environment) as terminal:
            self.table.add("bare Textual 80x24: first text", terminal.wait_for("hello") * 1000)
            time.sleep(CALM_S)
            self.table.add("bare Textual 80x24: MB", rss_mb(terminal.process.pid))

    def workbench(self, columns: int, rows: int) -> None:
        """From the command to a connected workbench and out again, with an engine of its own."""
        name = f"patter-tui {columns}x{rows}"
        command = [str(Path(sys.executable).with_name("patter-tui"))]
        with Terminal(command, columns, rows, self.environment) as terminal:
            self.table.add(f"{name}: first text", terminal.first_text() * 1000)
            self.table.add(f"{name}: whole picture", terminal.wait_for(PICTURE) * 1000)
            self.table.add(f"{name}: connected", terminal.wait_for(CONNECTED) * 1000)
            time.sleep(CALM_S)
            self.table.add(f"{name}: MB when connected", rss_mb(terminal.process.pid))
            if columns >= 100:
                terminal.type("\x1bOQ")  # F2
                terminal.wait_for(EDITOR)
                time.sleep(CALM_S)
                self.table.add(f"{name}: MB with editor open", rss_mb(terminal.process.pid))
            terminal.type("\x11")  # ctrl+q
            with suppress(subprocess.TimeoutExpired):
                terminal.process.wait(10)
        with suppress(OSError, ValueError):
            os.kill(json.loads((self.home / "engine.json").read_text())["pid"], SIGTERM)

    def server(self, name: str, command: list[str], ready: Callable[[Path], bool] | None = None) -> None:
        """A server from its command until it listens, and its memory then and when everything is loaded."""
        began = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=self.environment) as process:
            try:
                assert process.stdout is not None
                assert "listening" in process.stdout.readline()
                self.table.add(f"{name}: listens", (time.perf_counter() - began) * 1000)
                self.table.add(f"{name}: processor until then", cpu_ms(process.pid))
                self.table.add(f"{name}: MB then", rss_mb(process.pid))
                if ready is not None:
                    while not ready(self.home):
                        time.sleep(0.05)
                    self.table.add(f"{name}: models loaded", (time.perf_counter() - began) * 1000)
                    self.table.add(f"{name}: MB with models", rss_mb(process.pid))
            finally:
                process.terminate()


def loaded(home: Path) -> bool:
    """Whether the engine of this home has loaded its models."""
    from http.client import HTTPConnection

    known = json.loads((home / "engine.json").read_text())
    connection = HTTPConnection("127.0.0.1", known["port"], timeout=10)
    try:
        connection.request("GET", "/api/v1/engine", headers={"Authorization": f"Bearer {known['token']}"})
        rungs = json.loads(connection.getresponse().read())["data"]["rungs"]
    finally:
        connection.close()
    return all(rung["state"] != "loading" for rung in rungs.values())


def main(runs: int) -> None:
    """Measure and print."""
    neighbours = Neighbours()
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / "home"
        bench = Bench(home)
        engine = [sys.executable, "-m", "patter.engine", "--home", str(home), "--agents", str(home / "agents")]
        for number in range(runs + 1):
            if number == 1:
                bench.table = Table()  # the first round filled caches
            bench.commands()
            bench.bare_textual()
            bench.workbench(80, 24)
            bench.workbench(120, 40)
            bench.server("bare aiohttp server", [sys.executable, "-c", BARE_SERVER])
            bench.server("engine", engine, loaded)
    print(f"starts, ms (or MB), median (smallest-largest) of {runs}; {neighbours.told()}")
    bench.table.print()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    main(parser.parse_args().runs)
