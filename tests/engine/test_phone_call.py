"""A telephone call into the shipped engine with its embedded engines: the greeting is heard and the call is on disk."""

from __future__ import annotations

import os
import wave
from pathlib import Path

import aiohttp
import anyio
import pytest

from patter.clock import Clock
from patter.loopback.twilio import Dial, LoopbackTwilio
from tests.support.engine_process import REAL, engine

pytestmark = [pytest.mark.e2e, pytest.mark.local, pytest.mark.anyio]

AGENT = 'system_prompt = "You answer."\nfirst_message = "Hello, you have reached the front desk."\n'


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("line", ["phone", "wideband"])
async def test_the_greeting_is_heard_and_the_recording_saved(line: str, tmp_path: Path) -> None:
    for package in ("hibari", "onnxruntime", "ctranslate2"):
        pytest.importorskip(package)
    agents, home = tmp_path / "agents", tmp_path / "home"
    agents.mkdir()
    (agents / "desk.toml").write_text(AGENT)
    with engine(REAL, "--agents", str(agents), "--home", str(home), home=home) as it:
        answer = it.ask("POST", "/api/v1/rehearsals", {"agent": "desk", "line": line})[1]["data"]
        dial = Dial.from_json(answer["dial"])
        loud = anyio.Event()
        silence = dial.format.quiet(20)

        def ear(frame: bytes) -> None:
            if frame.strip(silence[:2]):
                loud.set()

        async with aiohttp.ClientSession() as session, anyio.create_task_group() as tasks:
            phone = LoopbackTwilio(dial, session, Clock(), lambda: silence, ear)
            tasks.start_soon(phone.call)
            with anyio.fail_after(50):
                await loud.wait()
                await anyio.to_thread.run_sync(it.wait_for_kind, phone.call_sid, "AgentSaid")
            phone.hang_up()
        await anyio.to_thread.run_sync(it.wait_for_kind, phone.call_sid, "RecordingSaved")
        row = it.ask("GET", f"/api/v1/calls/{phone.call_sid}")[1]["data"]
        assert (row["reason"], row["line"]) == (
            "caller_hung_up",
            f"{dial.format.encoding}/{dial.format.rate}",
        )
        assert row["transcript"][0]["text"] == "Hello, you have reached the front desk."
        with wave.open(row["recording"]) as recording:
            assert (recording.getnchannels(), recording.getframerate()) == (2, dial.format.rate)
            assert recording.getnframes() > dial.format.rate
        assert phone.violations == []
        it.ask("POST", "/api/v1/shutdown")
        assert it.end() == (0, "")
        assert "ERROR" not in (home / "engine.log").read_text()
