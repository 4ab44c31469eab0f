"""`patter-tui calls` and `patter-tui hangup`: which calls there are, and the end of one. They start no engine."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from patter.exceptions import PatterError
from patter_tui import engine as engines
from patter_tui import paths as places
from patter_tui.engine import EngineUnavailable
from patter_tui.figures import day_and_time, length, usd
from patter_tui.link import Link, Refused
from patter_tui.paths import Paths
from patter_tui.safe import clean
from patter_tui.store import CallRow, row_from_json


class NoEngine(PatterError):
    """There is no engine, so there is nothing to list and nothing to end."""


class Unclear(PatterError):
    """More than one call could be meant."""


def main_calls(arguments: Sequence[str]) -> int:
    """Run `patter-tui calls`; returns the exit code."""
    made = argparse.ArgumentParser(
        prog="patter-tui calls", description="List calls: those that are on, then ended ones."
    )
    made.add_argument("--live", action="store_true", help="only calls that are on")
    made.add_argument("-n", "--limit", type=int, default=20, metavar="N", help="how many at most (20)")
    options = _parsed(made, arguments)

    def work() -> int:
        rows = _fetch(_link(places.find(options.home)), live=options.live, limit=max(1, min(options.limit, 100)))
        if options.json:
            print(json.dumps(rows))
        elif not rows:
            print("No calls.")
        else:
            for row in map(row_from_json, rows):
                print(line_of(row, time.time()))
        return 0

    return _guarded(work)


def main_hangup(arguments: Sequence[str]) -> int:
    """Run `patter-tui hangup`; returns the exit code."""
    made = argparse.ArgumentParser(
        prog="patter-tui hangup", description="End a call. Without an id: the one that is on."
    )
    made.add_argument("call_id", nargs="?", default="", metavar="CALL_ID", help="its id, or the beginning of it")
    options = _parsed(made, arguments)

    def work() -> int:
        link = _link(places.find(options.home))
        row = _meant(options.call_id, [row_from_json(data) for data in _fetch(link, live=True, limit=100)])
        asyncio.run(link.call(row.call_id, "hangup"))
        if options.json:
            print(json.dumps({"call_id": row.call_id}))
        else:
            print(f"Hung up: {clean(row.other or row.agent)} ({row.call_id})")
        return 0

    return _guarded(work)


def _parsed(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    parser.add_argument("--json", action="store_true", help="JSON for programs")
    parser.add_argument("--home", default="", metavar="DIR", help="where calls are kept (also: PATTER_HOME)")
    return parser.parse_args(arguments)


def _guarded(work: Callable[[], int]) -> int:
    try:
        return work()
    except (NoEngine, EngineUnavailable, Refused) as problem:
        print(problem, file=sys.stderr)
        return 1
    except Unclear as problem:
        print(problem, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _link(paths: Paths) -> Link:
    engine = engines.find(paths)
    if engine is None:
        raise NoEngine(f"No engine is running. Ended calls are kept in {paths.home / 'calls'}.")
    return Link(engine)


def _fetch(link: Link, *, live: bool, limit: int) -> list[dict[str, Any]]:
    answer = asyncio.run(link.get("/calls/active") if live else link.get("/calls", limit=limit, offset=0))
    data = answer.get("data")
    rows = [row for row in data if isinstance(row, dict)] if isinstance(data, list) else []
    return sorted(rows, key=lambda row: row.get("state") == "ended")[:limit]


def _meant(wanted: str, rows: list[CallRow]) -> CallRow:
    found = [row for row in rows if row.call_id.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise NoEngine("No call is on." if not wanted else f"No call that is on begins with {wanted}.")
    listed = "\n".join(line_of(row, time.time()) for row in found)
    raise Unclear(f"Which one? {len(found)} calls are on:\n{listed}")


def line_of(row: CallRow, now: float) -> str:
    """A call in one line: when, how it is, with whom, agent, length, turns, price, id."""
    state = row.state.replace("live", "in call") if row.on else row.reason.replace("_", " ") or "ended"
    who = "rehearsal" if row.rehearsal else f"{'to' if row.direction == 'outbound' else 'from'} {row.other}"
    lasted = now - row.started_at if row.on else row.duration_s
    cells = (
        f"{day_and_time(row.started_at, now):12}", f"{state:16}", f"{who:22}", f"{row.agent:20}", f"{length(lasted):>7}",
        f"{row.turns:>3} turns", f"{usd(row.cost_total, least=bool(row.unpriced)):>9}", row.call_id,
    )  # fmt: skip
    return clean("  ".join(cells))
