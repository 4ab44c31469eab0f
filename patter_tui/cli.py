"""The command `patter-tui`: reads the arguments and hands over. It loads nothing of the interface before it is needed."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from patter_tui import paths as places
from patter_tui import term

USAGE = """\
patter-tui [AGENT.toml]         open the workbench (with the demo agent if there is no other)
patter-tui test AGENT [--json]  talk to an agent in a plain terminal or through a pipe
patter-tui serve AGENT          take real calls in the background (also: --status, --stop)
patter-tui call NUMBER AGENT    call somebody; the agent talks
patter-tui calls                list calls
patter-tui hangup [CALL_ID]     end a call
patter-tui dashboard            open the page with live calls, history and analytics in a browser
patter-tui doctor               check what real calls need, with a fix for each problem
patter-tui vendors              play OpenAI, Deepgram and ElevenLabs on this machine, for rehearsing without keys
patter-tui stop                 stop the background engine
patter-tui paths                say where everything is kept"""

HEADLESS = {
    "serve": ("patter_tui.headless.serve", "main"),
    "call": ("patter_tui.headless.place", "main"),
    "calls": ("patter_tui.headless.listing", "main_calls"),
    "hangup": ("patter_tui.headless.listing", "main_hangup"),
    "dashboard": ("patter_tui.headless.dashboard", "main"),
}
"""Commands without a screen: where each is; loaded when it is asked for."""

PROGRAMS = {"doctor": "patter.doctor", "vendors": "patter.vendors"}
"""Commands that are programs of the package."""

COMMANDS = ("test", *HEADLESS, *PROGRAMS, "stop", "paths")


def parser() -> argparse.ArgumentParser:
    """The options of the workbench itself."""
    made = argparse.ArgumentParser(
        prog="patter-tui", usage=USAGE, add_help=True, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Give an AI agent a phone number: edit it, rehearse it aloud or typed, watch its calls.",
    )  # fmt: skip
    made.add_argument("agent", nargs="?", help=f"an agent file, or one of: {', '.join(COMMANDS)}")
    made.add_argument("--home", default="", metavar="DIR", help="keep agents, calls and logs here (also: PATTER_HOME)")
    made.add_argument("--theme", default="", metavar="NAME", help="colours: patter-dark, patter-light, ansi-dark, …")
    made.add_argument("--ascii", action="store_true", help="draw with plain ASCII signs")
    made.add_argument(
        "--no-mouse", action="store_true", help="leave the mouse to the terminal (its own selection works then)"
    )
    made.add_argument("--stt-model", default="", metavar="DIR", help="folder of a Whisper model to listen with")
    made.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    return made


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib import metadata  # reads mail headers and zip files: too much to load for every start

        try:
            print(f"patter-tui {metadata.version('patter')}")
        except metadata.PackageNotFoundError:
            print("patter-tui (not installed)")
        parser.exit()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit code: 0 done, 1 failed, 2 wrong use."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["test"]:
        return _test(given[1:])
    if given and given[0] in PROGRAMS:
        return _program(PROGRAMS[given[0]], given[1:], dict(os.environ))
    if given and given[0] in HEADLESS:
        return _headless(given[0], given[1:])
    options, rest = parser().parse_known_args(given)
    if rest:
        return _complain(f"patter-tui does not know {rest[0]}. `patter-tui --help` lists what it knows.")
    found = places.find(options.home)
    if options.agent == "paths":
        for name, path in found.rows():
            print(f"{name:14} {path}")
        return 0
    if options.agent == "stop":
        return _stop(found)
    return _open(options, found)


def _complain(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 2


def _test(rest: list[str]) -> int:
    """The text test is a program of its own; its input and output are ours. An agent may be named without its folder."""
    environment = dict(os.environ)
    if "--home" in rest[:-1]:
        place = rest.index("--home")
        environment["PATTER_HOME"] = rest[place + 1]
        del rest[place : place + 2]
    found = places.find(environment.get("PATTER_HOME", ""))
    for index, word in enumerate(rest):
        if not word.startswith("-") and not Path(word).exists():
            with contextlib.suppress(OSError):
                places.prepare(found)
            named = found.agents / f"{word.removesuffix('.toml')}.toml"
            rest[index] = str(named) if named.is_file() else word
    return _program("patter.console", rest, environment)


def _program(module: str, rest: list[str], environment: dict[str, str]) -> int:
    """Run a program of the package; its input and output are ours. It takes our place where the system lets it, so that a
    signal to us ends it."""
    import subprocess  # not needed before the first paint

    line = [sys.executable, "-m", module, *rest]
    if sys.platform != "win32":
        sys.stdout.flush()
        os.execve(sys.executable, line, environment)  # noqa: S606 (our own program, no shell)
    try:
        return subprocess.run(line, check=False, env=environment).returncode  # noqa: S603 (our own program, no shell)
    except KeyboardInterrupt:
        return 130


def _headless(name: str, rest: list[str]) -> int:
    """A command without a screen. Whoever closes the pipe has read enough."""
    module, function = HEADLESS[name]
    try:
        return int(getattr(importlib.import_module(module), function)(rest))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at its end
        return 1


def _stop(found: places.Paths) -> int:
    engines = importlib.import_module("patter_tui.engine")
    try:
        running = engines.find(found)
    except engines.EngineUnavailable:
        running = engines.find_any_version(found)
    if running is None:
        print("No engine is running.")
        return 0
    if engines.stop(running, print):
        print(f"The engine (process {running.pid}) has stopped.")
        return 0
    print(f"The engine (process {running.pid}) could not be stopped.", file=sys.stderr)
    return 1


def _open(options: argparse.Namespace, found: places.Paths) -> int:
    problem = term.problem()
    if problem:
        return _complain(problem)
    agent = Path(options.agent).expanduser().absolute() if options.agent else None
    if agent is not None and not agent.is_file():
        near = f" Commands are: {', '.join(COMMANDS)}." if agent.suffix != ".toml" else ""
        return _complain(f"There is no agent file {options.agent}.{near}")
    try:
        places.prepare(found)
    except OSError as error:
        return _complain(f"{error.filename} cannot be made: {error.strerror}. Use --home to keep things elsewhere.")
    theme = term.theme(options.theme)
    os.environ["TEXTUAL_ANIMATIONS"] = os.environ.get("TEXTUAL_ANIMATIONS", "none")
    if os.environ.get("NO_COLOR"):
        os.environ["TEXTUAL_THEME"] = theme  # read while the interface is being built; later is too late
    colors = term.color_system()
    if colors:
        os.environ["TEXTUAL_COLOR_SYSTEM"] = colors
    term.splash()
    drawn = False
    try:
        # by name: half a second of imports that --help, test and stop must not pay for
        desk = importlib.import_module("patter_tui.desk")
        app = importlib.import_module("patter_tui.app")
        chosen = desk.Options(agent=agent, stt_model=options.stt_model)
        drawn = True
        with term.quiet_errors(found.screen_log):
            left, failed = app.run(found, chosen, theme=theme, ascii_only=options.ascii, mouse=not options.no_mouse)
    finally:
        term.leave(drawn=drawn)
    if left is not None:
        importlib.import_module("patter_tui.engine").stop(left, print)
    if failed:
        print(f"patter-tui has failed. Agents and calls are kept; what happened: {found.screen_log}", file=sys.stderr)
    return int(failed)
