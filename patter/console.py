"""`python -m patter.console AGENT.toml [--json]`: a text call with an agent file, typed or piped.

It owns the command line and its exit codes; it refuses to know how a call works. 0: the call ended, 2: the file cannot be
used, 1: anything else that stops it, 130: cut short.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence

from patter.agentfile import load
from patter.builders import Keys
from patter.client import Patter
from patter.exceptions import AgentFileError, PatterError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one text call; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m patter.console", description="Talk to an agent by text.")
    parser.add_argument("agent", metavar="AGENT.toml", help="the agent file")
    parser.add_argument(
        "--json", action="store_true", dest="as_json", help="print every event as one JSON object a line"
    )
    chosen = parser.parse_args(arguments)
    try:
        file = load(chosen.agent)
    except AgentFileError as error:
        print(error, file=sys.stderr)
        return 2
    keys = Keys.of_environment()
    phone = Patter(
        openai_key=keys.openai, elevenlabs_key=keys.elevenlabs, deepgram_key=keys.deepgram, openai_url=keys.openai_url,
        webhook_secret=keys.webhook_secret, webhook_reach=keys.webhook_reach,
    )  # fmt: skip
    talk = phone.test(file.agent, on_message=file.on_message, as_json=chosen.as_json, version=file.version)
    try:
        asyncio.run(talk)
    except PatterError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    _let_go()
    return 0


def _let_go() -> None:
    """A reader that left (`| head`) must not turn the last flush into an error."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
