"""The softphone as a process: pipes in, pipes out, and an end in every case."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import numpy as np
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream

from patter.audio.wav import WavWriter
from tests.softphone.office import open_office

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]


class Child:
    """The process, as its parent has it."""

    def __init__(self, process: anyio.abc.Process) -> None:
        assert process.stdout is not None
        self.process = process
        self._out = BufferedByteReceiveStream(process.stdout)

    async def tell(self, **command: Any) -> None:
        assert self.process.stdin is not None
        await self.process.stdin.send(json.dumps(command).encode() + b"\n")

    async def until(self, kind: str) -> dict[str, Any]:
        while True:
            report: dict[str, Any] = json.loads(await self._out.receive_until(b"\n", 65_536))
            if report["is"] == kind:
                return report

    async def close_input(self) -> None:
        assert self.process.stdin is not None
        await self.process.stdin.aclose()


@asynccontextmanager
async def softphone() -> AsyncIterator[Child]:
    with anyio.fail_after(45):
        async with await anyio.open_process(
            [sys.executable, "-m", "patter.softphone"], stderr=subprocess.DEVNULL
        ) as process:
            try:
                yield Child(process)
                assert await process.wait() == 0
            finally:
                if process.returncode is None:
                    process.kill()


async def test_a_recording_calls_and_is_answered(tmp_path: Path) -> None:
    words = tmp_path / "words.wav"
    with WavWriter(words, 16_000) as file:
        file.write((np.sin(np.arange(8_000) / 8) * 8000).astype(np.int16).tobytes())
    async with open_office(greeting_ms=0) as office, softphone() as child:
        ready = await child.until("ready")
        assert set(ready) == {"is", "sound", "problem", "fix", "aec", "input", "output"}
        assert ready["sound"] or ready["fix"]
        await child.tell(do="dial", dial=office.dial(), device="wav", wav_in=str(words))
        in_call = await child.until("in_call")
        assert (await child.until("ended"))["reason"] == "hung_up"
        await child.tell(do="dance")
        assert "no command 'dance'" in (await child.until("error"))["problem"]
        await child.tell(do="quit")
    assert in_call["call_id"].startswith("CA")
    assert office.answers == 1


async def test_the_end_of_the_input_hangs_up() -> None:
    async with open_office() as office, softphone() as child:
        await child.tell(do="dial", dial=office.dial(), device="simulated", caller=[])
        await child.until("in_call")
        await child.close_input()
        await child.until("ended")
    assert office.reasons == ["caller_hung_up"]


async def test_a_signal_hangs_up() -> None:
    async with open_office() as office, softphone() as child:
        await child.tell(do="dial", dial=office.dial(), device="simulated")
        await child.until("in_call")
        child.process.terminate()
        await child.until("ended")
    assert office.reasons == ["caller_hung_up"]


@pytest.mark.local
async def test_a_simulated_caller_speaks_with_the_embedded_voice(tmp_path: Path) -> None:
    pytest.importorskip("hibari")
    async with open_office() as office, softphone() as child:
        caller = [{"say": "Hello, I would like to book an appointment."}]
        await child.tell(
            do="dial",
            dial=office.dial("wideband"),
            device="simulated",
            caller=caller,
            wav_out=str(tmp_path / "both.wav"),
        )
        assert (await child.until("ended"))["reason"] == "hung_up"
        await child.tell(do="quit")
    assert office.answers >= 2
    assert office.caller_loud_frames > 60
    assert (tmp_path / "both.wav").stat().st_size > 100_000
