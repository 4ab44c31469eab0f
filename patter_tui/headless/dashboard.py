"""`patter-tui dashboard`: the engine's page in a browser, signed in. It starts the engine if none runs.

It owns the way there; it refuses to know the page. No token is shown: the browser gets a path that works once, for a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import webbrowser
from collections.abc import Callable, Sequence

from patter_tui import engine as engines
from patter_tui import paths as places
from patter_tui.engine import EngineUnavailable
from patter_tui.link import Link, Refused


def main(arguments: Sequence[str], show: Callable[[str], bool] = webbrowser.open) -> int:
    """Run the command; returns the exit code. `show` opens a browser at an address and says whether it could."""
    options = _parser().parse_args(arguments)
    paths = places.find(options.home)
    try:
        places.prepare(paths)
        engine = engines.ensure(paths)
        answer = asyncio.run(Link(engine).post("/invitations"))["data"]
    except (EngineUnavailable, Refused, OSError) as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    page = f"http://127.0.0.1:{engine.port}/dashboard"
    once = f"http://127.0.0.1:{engine.port}{answer['path']}"
    if options.json:
        print(json.dumps({"url": once, "valid_s": answer["valid_s"]}))
        return 0
    shown = False
    if not options.no_open:
        with contextlib.suppress(webbrowser.Error):
            shown = show(once)
    if shown:
        print(f"The dashboard opens in your browser: {page}")
    else:
        print(f"Open this within {answer['valid_s']:.0f} seconds; it works once:\n{once}")
    return 0


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="patter-tui dashboard", description="Open the engine's page: live calls, history, analytics."
    )
    made.add_argument("--no-open", action="store_true", help="only print the address, for a browser elsewhere")
    made.add_argument("--json", action="store_true", help="only print the address, as JSON for programs")
    made.add_argument("--home", default="", metavar="DIR", help="where calls are kept (also: PATTER_HOME)")
    return made
