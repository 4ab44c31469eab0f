"""The softphone's process: pipes on one side, a telephone line on the other. `python -m patter.softphone`.

It owns the process' start and end; it refuses to know what commands mean.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from typing import BinaryIO

import anyio

from patter.clock import Clock
from patter.providers.embedded.hibari import HibariSynthesizer
from patter.softphone.phone import Softphone
from patter.softphone.protocol import BadCommand, Quit, Reports, read_command, read_lines


async def serve(commands: BinaryIO, reports: Reports) -> None:
    """Carry out the commands of a pipe until it ends."""
    phone = Softphone(reports, Clock(), HibariSynthesizer)
    loop = asyncio.get_running_loop()

    def take(line: bytes | None) -> None:
        with suppress(RuntimeError):  # the loop has ended while we waited for a line
            loop.call_soon_threadsafe(obey, line)

    def obey(line: bytes | None) -> None:
        try:
            phone.commands.put(Quit() if line is None else read_command(line))
        except BadCommand as problem:
            phone.commands.put(problem)

    for name in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError):  # Windows: there the end of the input is the only way
            loop.add_signal_handler(name, phone.commands.put, Quit())
    read_lines(commands, take)
    await phone.run()


def main() -> None:
    """Run the process. Only reports go to standard output; whatever else is printed goes to standard error."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    reports = Reports(pipe)
    commands = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115 - its reader may wait in it until the very end
    try:
        anyio.run(serve, commands, reports)
    finally:
        reports.close()
        with suppress(OSError):
            pipe.close()


if __name__ == "__main__":
    main()
