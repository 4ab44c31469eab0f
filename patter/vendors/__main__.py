"""`python -m patter.vendors`: OpenAI, Deepgram and ElevenLabs on this machine, so that any agent can be rehearsed without keys.

It owns the command line, what is printed, and that only this machine gets in; it refuses to keep or to show any key. Exit codes:
0 stopped by a signal, 1 an embedded engine failed, 2 it cannot be done as asked.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import anyio
from aiohttp import web

from patter.agentfile import load
from patter.exceptions import AgentFileError, ProviderError
from patter.loopback.stage import Stage
from patter.models import Agent
from patter.vendors.brain import Brain
from patter.vendors.days import FAULTS, spoil
from patter.vendors.house import STAGES, Delays, VendorHouse
from patter.vendors.senses import Senses, senses

EPILOG = """\
Paste the printed lines into the shell in which your agent runs (patter-tui, patter-tui test, your own program): its providers
find the vendors here. A key is needed by name only; use the word "loopback", never a real one.
"""
_REAL = re.compile(r"(?:bearer|token)?\s*(?:sk[-_]|[0-9a-f]{32,}|eyj|\S{36,})", re.IGNORECASE)
WARNING = "A key that looks real was sent here. These vendors need none: use OPENAI_API_KEY=loopback and so on."


class _Street(Stage):
    """A stage that stands for long: what is wrong is told when it happens, and nothing is kept."""

    def __init__(self, port: int) -> None:
        super().__init__(record=False)
        self.port = port
        self._warned = False
        self.watch(self._look)

    def problem(self, text: str) -> None:
        """See `Stage.problem`."""
        complain(f"The vendor would not have taken this: {text}")

    def _look(self, request: web.Request) -> None:
        said = (request.headers.get(name, "") for name in ("Authorization", "xi-api-key"))
        if not self._warned and any(_REAL.match(key) for key in said):
            self._warned = True
            complain(WARNING)


def complain(sentence: str) -> None:
    """Tell the person at the terminal."""
    print(sentence, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the vendors until a signal comes; returns the exit code."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if not 0 <= chosen.port <= 65_535:
        parser.error("--port must be from 0 to 65535")
    logging.getLogger("aiohttp").addHandler(logging.NullHandler())  # connections that are cut on purpose
    try:
        agent = load(chosen.agent).agent if chosen.agent else None
        anyio.run(_play, chosen, agent)
    except AgentFileError as error:
        complain(str(error))
        return 2
    except ProviderError as error:
        complain(f"{error}")
        return 1
    except OSError as error:
        complain(
            f"Port {chosen.port} cannot be used ({error.strerror or error}). Leave --port out to take any free one."
        )
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="patter-tui vendors", description="Play OpenAI, Deepgram and ElevenLabs on this machine.", epilog=EPILOG
    )
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1 (default: any free one)")
    parser.add_argument("--agent", default="", metavar="FILE", help="answer by the [[script]] rules of this agent file")
    days = "; ".join(f"{name}: {what}" for name, (_, what) in FAULTS.items())
    parser.add_argument(
        "--delay-ms",
        action="append",
        default=[],
        type=_delay,
        metavar="STAGE=MS",
        help=f"{', '.join(STAGES)} is so late",
    )
    parser.add_argument(
        "--fault", action="append", default=[], type=_fault, metavar="NAME[=STAGE]",
        help=f"a bad day, of one stage ({', '.join(STAGES)}, engine) or of all. {days}",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", dest="as_json", help="print one line of JSON instead")
    return parser


def _delay(text: str) -> tuple[str, float]:
    stage, _, ms = text.partition("=")
    if stage not in STAGES or not ms.isdigit() or int(ms) > 60_000:
        raise argparse.ArgumentTypeError(f"write for example llm=800 (stages: {', '.join(STAGES)}; at most 60000)")
    return stage, int(ms) / 1000


def _fault(text: str) -> str:
    try:
        spoil(Stage().faults, text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


async def _play(chosen: argparse.Namespace, agent: Agent | None) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with _Street(chosen.port) as stage:  # a port that is taken is told before anything is loaded
            made = await senses((agent.language if agent else "") or "en", os.environ.get("PATTER_STT_MODEL", ""))
            house = VendorHouse(
                stage,
                made,
                Brain(agent).answer,
                tools=_tools(agent),
                delays=Delays(**dict(chosen.delay_ms)),
            )
            stage.watch(lambda request: house.forget())
            for fault in chosen.fault:
                spoil(stage.faults, fault)
            _announce(stage, house.environment(), made, as_json=chosen.as_json)
            async for _ in signals:
                return


def _tools(agent: Agent | None) -> list[dict[str, Any]]:
    """What stored agents are told of the tools of the agent file."""
    named = ("name", "description", "parameters")
    return [{name: tool.get(name) or "" for name in named} for tool in (agent.tools if agent else None) or ()]


def _announce(stage: Stage, environment: Mapping[str, str], made: Senses, *, as_json: bool) -> None:
    if as_json:
        told = {"port": stage.port, "environment": dict(environment), "hears": made.ear, "speaks": made.voice}
        print(json.dumps(told), flush=True)
        return
    print(f"# OpenAI, Deepgram and ElevenLabs are on this machine now, at {stage.http}.")
    print(f"# Whoever plays them {made.ear} and {made.voice}. Paste these lines into the shell of your agent:")
    for name in ("OPENAI", "DEEPGRAM", "ELEVENLABS"):
        pair = (f"{key}={environment[key]}" for key in (f"{name}_API_KEY", f"{name}_BASE_URL"))
        print("export", *pair)
    print("# Ctrl+C ends it.", flush=True)


if __name__ == "__main__":
    sys.exit(main())
