"""The shipped engine with an open phone line is told to stop: the caller hears a goodbye, and the number is put back."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from patter.audio.format import MULAW_8K
from patter.loopback.person import Person
from patter.loopback.twilio_carrier import LoopbackTwilioCarrier
from patter.providers.embedded.hibari import voice_missing
from patter.server.front_door import GOODBYE
from patter.server.listener import listen
from tests.support.carriers import CARRIERS, OURS, THEIRS, carrier_of, credentials
from tests.support.engine_process import REAL, EngineProcess, engine

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.local,
    pytest.mark.anyio,
    pytest.mark.skipif(bool(voice_missing()), reason=voice_missing()),
    pytest.mark.skipif(os.name != "posix", reason="signals of POSIX"),
    pytest.mark.parametrize("name", CARRIERS),
]

AGENT = 'system_prompt = "You answer."\nfirst_message = "Hello, you have reached the front desk."\n'
RINGS = "+15557770042"
ELSEWHERE = "https://elsewhere.example/voice"


async def ask(it: EngineProcess, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """One request to the engine, while the carrier in this process goes on."""
    return await anyio.to_thread.run_sync(partial(it.ask, method, path, body))


async def opened(it: EngineProcess, line: dict[str, Any]) -> None:
    """Open the line, and wait until it is."""
    status, answer = await ask(it, "POST", "/api/v1/line", line)
    assert status == 202, answer
    with anyio.fail_after(20):
        while (shown := (await ask(it, "GET", "/api/v1/line"))[1]["data"])["state"] == "starting":
            await anyio.sleep(0.05)
    assert shown["state"] == "open", shown


async def heard(leg: Any) -> None:
    """Return once that person has heard something."""
    with anyio.fail_after(40):
        while not bytes(leg.heard).strip(MULAW_8K.silence):
            await anyio.sleep(0.05)


async def test_a_stopped_engine_says_goodbye_and_gives_the_number_back(name: str, tmp_path: Path) -> None:
    agents, home = tmp_path / "agents", tmp_path / "home"
    agents.mkdir()
    (agents / "desk.toml").write_text(AGENT)
    listener = listen()
    port = listener.getsockname()[1]
    listener.close()
    async with carrier_of(name) as carrier:
        carrier.add_number(OURS, ELSEWHERE)
        given = credentials(carrier)
        line = {
            "agent": "desk", "carrier": given.name, "account": given.account, "secret": given.secret,
            "public_key": given.public_key, "api_base": given.api_base, "number": OURS,
            "host": f"127.0.0.1:{port}", "port": port, "restore": True,
        }  # fmt: skip
        with engine(REAL, "--agents", str(agents), "--home", str(home), home=home) as it:
            await opened(it, line)
            assert webhook_of(carrier) != ELSEWHERE
            leg = carrier.place_call(THEIRS, OURS, Person())
            await heard(leg)
            await anyio.to_thread.run_sync(it.wait_for_kind, leg.call_id, "AgentSaid")
            carrier.people[RINGS] = Person(rings_s=60.0)
            status, placed = await ask(it, "POST", "/api/v1/calls", {"agent": "desk", "to": RINGS})
            assert status == 201, placed
            rings = carrier.legs[placed["data"]["call_id"]]
            leg.heard.clear()
            it.process.send_signal(signal.SIGTERM)
            with anyio.fail_after(25):
                await leg.over.wait()
                await rings.over.wait()
            assert not rings.answered.is_set()
            assert bytes(leg.heard).strip(MULAW_8K.silence)
            assert await anyio.to_thread.run_sync(it.end) == (0, "")
            events = it.journal(leg.call_id)
            given_up = it.journal(rings.call_id)
        assert webhook_of(carrier) == ELSEWHERE
        assert carrier.violations == []

    assert [event["text"] for event in events if event["type"] == "AgentSaid"][-1] == GOODBYE
    assert [event["reason"] for event in events if event["type"] == "CallEnded"] == ["engine_stopped"]
    assert [event["type"] for event in given_up] == ["CallPlaced", "CallEnded"]
    assert given_up[-1]["reason"] == "canceled"
    assert not (home / "engine.json").exists()
    listen(port).close()
    assert given.secret not in (home / "engine.log").read_text()


def webhook_of(carrier: Any) -> str:
    """Where calls to our number are told."""
    if isinstance(carrier, LoopbackTwilioCarrier):
        return carrier.numbers[OURS].voice_url
    url: str = carrier.webhook_url
    return url
