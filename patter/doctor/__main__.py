"""`python -m patter.doctor [--json] [--port N]`: looks at everything a phone call needs, with a fix for each line.

It owns the command line and the order of the checks; it refuses to know any of them. Exit codes: 0 nothing stands in the
way, 1 something does.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence

import aiohttp
import anyio
import anyio.to_thread

from patter.doctor import account, credentials, drill, machine, way_in
from patter.doctor.findings import Finding, as_json

EPILOG = """\
Nothing is changed and no call is paid for: the carrier's account is only read, and the calls of the drill run over a
loopback carrier on this machine. Credentials come from the environment: TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN and
TWILIO_PHONE_NUMBER, or TELNYX_API_KEY, TELNYX_CONNECTION_ID, TELNYX_PUBLIC_KEY and TELNYX_PHONE_NUMBER; the public host of
this machine from PATTER_WEBHOOK_HOST.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Examine and print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="patter-tui doctor", description=__doc__.splitlines()[0], epilog=EPILOG)
    parser.add_argument("--json", action="store_true", dest="as_json", help="print one JSON object")
    parser.add_argument("--port", type=int, default=8000, help="the port that the public host leads to (default: 8000)")
    chosen = parser.parse_args(arguments)
    if not 1 <= chosen.port <= 65_535:
        parser.error("--port must be from 1 to 65535")
    found: list[Finding] = []
    logging.getLogger("patter").addHandler(logging.NullHandler())  # the drill provokes what a server warns of

    async def run() -> None:
        async for finding in examine(os.environ, chosen.port):
            found.append(finding)
            if not chosen.as_json:
                print(finding.line(), flush=True)

    try:
        anyio.run(run)
        if chosen.as_json:
            print(as_json(found))
        sys.stdout.flush()
    except BrokenPipeError:  # a reader that left (`| head`) has seen what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return int(any(finding.state == "problem" for finding in found))


async def examine(environment: Mapping[str, str], port: int) -> AsyncIterator[Finding]:
    """Every finding as it comes. Never raises for what a carrier, a network or this machine does."""
    given = credentials.read(environment)
    for finding in given.findings:
        yield finding
    async with aiohttp.ClientSession() as http:
        if given.carrier is not None:
            for finding in await account.examine(given.carrier, given.number, given.host, http):
                yield finding
        if given.carrier is not None or given.host:
            yield await way_in.examine(given.host, port, http)
    for name in (given.carrier.name,) if given.carrier else ("twilio", "telnyx"):
        for finding in await drill.examine(name):
            yield finding
    for finding in await anyio.to_thread.run_sync(machine.examine, environment.get("PATTER_STT_MODEL", "")):
        yield finding


if __name__ == "__main__":
    sys.exit(main())
