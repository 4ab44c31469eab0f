"""Whether a busy screen can starve the sound: a long call with `patter-tui` following it in a terminal that is resized wildly.

Run: `python -m tests.benchmarks.starvation [--minutes 5]`. The workbench itself starts engine, softphone and simulated caller, as
for a person; what the softphone reports is copied to a file on its way. Underruns must stay 0, calm or resized.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from patter_tui.actions import by_id
from tests.benchmarks.processes import Neighbours, cpu_ms, rss_mb, spread
from tests.benchmarks.startup import CONNECTED, loaded
from tests.benchmarks.terminal import Terminal

AGENT = '''
system_prompt = "You are the front desk of Riverside Dental."
first_message = "Thank you for calling Riverside Dental. How can I help you today?"
provider = "pipeline"
[stt]
provider = "embedded"
[tts]
provider = "embedded"
[[script]]
when = []
say = """We take most plans. Tell me the name of yours and I will look it up for you right away. If it is not on our list, \
we can still see you, and we will give you a receipt that you can send to them yourself."""
[rehearsal]
caller = [{lines}]
'''
QUESTIONS = (
    "Do you take my insurance?",
    "What time do you open on Saturday morning?",
    "Is there parking near the office?",
)
EXCHANGE_S = 12.0  # a question and its answer take longer than this
WORKBENCH = (
    "import sys, patter_tui.softphone as s; s.COMMAND = {command!r}; from patter_tui.cli import main; sys.exit(main())"
)
RESIZED_S, CALM_S = 12.0, 6.0
RESIZES_A_SECOND = 20
SIZES = ((80, 120, 160), (24, 30, 45))


@dataclass
class Log:
    """What the softphone reported, read as it grows."""

    path: Path
    levels: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    call_id: str = ""
    ended: str = ""
    _read: int = 0

    def update(self) -> None:
        """Read what is new."""
        if not self.path.exists():
            return
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        for line in data[self._read : whole].splitlines():
            self._take(json.loads(line))
        self._read = whole

    def _take(self, said: dict[str, Any]) -> None:
        match said["is"]:
            case "levels":
                self.levels.append(said)
            case "in_call":
                self.call_id = said["call_id"]
            case "ended":
                self.ended = said["reason"]
            case "error" | "device_lost":
                self.problems.append(said["problem"])

    @property
    def underruns(self) -> int:
        """How often sound stopped in the middle of speech so far."""
        return int(self.levels[-1]["underruns"]) if self.levels else 0


class Storm:
    """Stretches of wild resizing and of calm, with the underruns of each."""

    def __init__(self, terminal: Terminal, log: Log) -> None:
        self._terminal, self._log = terminal, log
        self.resizes = 0
        self.underruns: dict[str, int] = defaultdict(int)
        self.seconds: dict[str, float] = defaultdict(float)

    def stretch(self, name: str, seconds: float) -> None:
        """So many seconds of one weather."""
        before, began = self._log.underruns, time.perf_counter()
        number = 0
        while (gone := time.perf_counter() - began) < seconds and not self._log.ended:
            if name == "resized":
                self._terminal.resize(*(random.choice(sizes) + random.randrange(8) for sizes in SIZES))
                self.resizes += 1
            number += 1
            time.sleep(max(0.0, number / RESIZES_A_SECOND - gone))
            self._log.update()
        time.sleep(0.2)
        self._log.update()
        self.underruns[name] += self._log.underruns - before
        self.seconds[name] += time.perf_counter() - began


def follow(terminal: Terminal, home: Path, log: Log, minutes: float) -> None:
    """One call from its beginning to its end, and the report."""
    terminal.wait_for(CONNECTED)
    while not loaded(home):
        time.sleep(0.2)
    time.sleep(1.0)
    terminal.type(by_id("simulate").keys)
    deadline = time.perf_counter() + 120
    while not log.call_id:
        assert time.perf_counter() < deadline, f"no call came up: {log.problems} {terminal.text[-1000:]}"
        time.sleep(0.1)
        log.update()
    neighbours, storm = Neighbours(), Storm(terminal, log)
    engine = int(json.loads((home / "engine.json").read_text())["pid"])
    ui, drawn, began = terminal.process.pid, terminal.drawn_bytes, time.perf_counter()
    used, memory = (cpu_ms(ui), cpu_ms(engine)), [rss_mb(ui)]
    while time.perf_counter() - began < minutes * 60 and not log.ended:
        storm.stretch("resized", RESIZED_S)
        storm.stretch("calm", CALM_S)
        memory.append(rss_mb(ui))
    seconds = time.perf_counter() - began
    shares = [(cpu_ms(pid) - before) / seconds / 10 for pid, before in zip((ui, engine), used, strict=True)]
    print(f"a call of {seconds:.0f} s, {storm.resizes} resizes; {neighbours.told()}")
    for name in storm.seconds:
        print(f"  {name:>8}: {storm.seconds[name]:5.0f} s, underruns {storm.underruns[name]} (bar 0)")
    jitter = [float(level["jitter_ms"]) for level in log.levels]
    dropped = int(log.levels[-1]["dropped"])
    heard = sum(level["speaker"] > -45 for level in log.levels) / 10
    print(
        f"  softphone: underruns {log.underruns} in {heard:.0f} s of the agent's sound, pieces dropped {dropped}, "
        f"its own jitter {spread(jitter, 1)} ms, problems {log.problems or 'none'}"
    )
    print(
        f"  workbench: {shares[0]:.0f} % of a core, {(terminal.drawn_bytes - drawn) / seconds / 1000:.0f} kB drawn a second, "
        f"MB {' '.join(f'{size:.0f}' for size in memory)}; engine: {shares[1]:.0f} % of a core"
    )
    print(f"  call: {journal(home, log.call_id)}")
    terminal.resize(120, 40)
    if not log.ended:
        terminal.type(by_id("hang_up").keys)
        deadline = time.perf_counter() + 10
        while not log.ended and time.perf_counter() < deadline:
            time.sleep(0.1)
            log.update()
    print(f"  ended: {log.ended or 'NOT AT ALL'}")


def journal(home: Path, call_id: str) -> str:
    """What happened in the call, counted."""
    lines = (home / "calls" / call_id / "events.jsonl").read_text().splitlines()
    kinds = [json.loads(line)["type"] for line in lines if line.endswith("}")]
    wanted = ("CallerSaid", "AgentSaid", "Interrupted", "FaultOccurred")
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in wanted)


def main(minutes: float) -> None:
    """Set the stage, play, strike it."""
    with tempfile.TemporaryDirectory() as scratch:
        home, log = Path(scratch) / "home", Log(Path(scratch) / "softphone.jsonl")
        (home / "agents").mkdir(parents=True)
        count = int(minutes * 60 / EXCHANGE_S) + 5
        lines = ", ".join(json.dumps(QUESTIONS[number % len(QUESTIONS)]) for number in range(count))
        (home / "agents" / "desk.toml").write_text(AGENT.replace("{lines}", lines))
        softphone = f"{shlex.quote(sys.executable)} -m patter.softphone | tee -a {shlex.quote(str(log.path))}"
        program = WORKBENCH.format(command=("sh", "-c", softphone))
        environment = dict(os.environ, PATTER_HOME=str(home), TERM="xterm-256color", COLORTERM="truecolor")
        environment.pop("TMUX", None)
        with Terminal([sys.executable, "-c", program], 120, 40, environment) as terminal:
            try:
                follow(terminal, home, log, minutes)
            finally:
                terminal.type("\x11")  # ctrl+q
                time.sleep(3)
                if (home / "engine.json").exists():
                    os.kill(json.loads((home / "engine.json").read_text())["pid"], 15)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    random.seed(1)
    main(parser.parse_args().minutes)
