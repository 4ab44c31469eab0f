"""What a process costs: its time, its processor time, its memory, and what else the machine was doing meanwhile.

It owns reading these from the system (Linux); it refuses to know what the process is for.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Run:
    """A process from its start to its end: wall and processor milliseconds."""

    wall_ms: float
    cpu_ms: float


def run(command: Sequence[str], environment: Mapping[str, str]) -> Run:
    """Run a command to its end, its output thrown away. Raises CalledProcessError."""
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=dict(environment)) as process:
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - began
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, stderr=said)
    return Run(wall * 1000, (used.ru_utime + used.ru_stime) * 1000)


def cpu_ms(pid: int) -> float:
    """Processor time that a running process has used, in all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / _TICK


def rss_mb(pid: int) -> float:
    """Resident memory of a running process, what it shares with others included."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(pid)


_IDLER = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
os.nice(19)
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
while os.getppid() == int(sys.argv[2]):
    for _ in range(1_000_000):
        pass
"""


@contextmanager
def awake() -> Iterator[None]:
    """Every core is kept busy with work that gives way to all other work at once.

    A virtual machine's core that has nothing to do is halted, and takes up to a millisecond to begin again: with one call
    that would be measured at every step, ours or not."""
    with ExitStack() as stack:
        for core in sorted(os.sched_getaffinity(0)):
            command = [sys.executable, "-c", _IDLER, str(core), str(os.getpid())]
            stack.callback(stack.enter_context(subprocess.Popen(command)).terminate)
        yield


class Neighbours:
    """How busy the machine was: `told()` gives it in a few words, from the making of the object on."""

    def __init__(self) -> None:
        self._busy, self._all = _ticks()

    def told(self) -> str:
        """Load average and the share of all cores that was in use (by what gives way to nothing)."""
        busy, whole = _ticks()
        share = 100 * (busy - self._busy) / max(1, whole - self._all)
        return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {share:.0f} % of them in use"


def _ticks() -> tuple[int, int]:
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    nice, idle, waits = fields[1], fields[3], fields[4]
    return sum(fields) - nice - idle - waits, sum(fields)


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Median, and the smallest and largest in brackets."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"
