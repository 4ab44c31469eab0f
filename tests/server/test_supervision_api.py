"""Steering and listening from outside: mute, guidance, both voices live, and a new version of an agent put by request."""

from __future__ import annotations

import json
from pathlib import Path

import aiohttp
import anyio
import numpy as np
import pytest
from aiohttp import web

from patter.audio.format import PCM_8K, AudioChunk
from patter.events import AgentChanged, CallEnded
from patter.observe.listening import Listening
from patter.ports import Abilities, CallInfo
from patter.server.answers import sentences
from patter.server.api.listening_api import ListeningApi
from patter.server.endpoint import mount
from patter.server.listener import guarded, listen
from tests.support.serving import AGENT, serving

pytestmark = pytest.mark.anyio


async def test_a_call_is_muted_and_its_model_guided(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        call_id = await rig.text_call()
        session = rig.calls.sessions[call_id]
        root = f"/api/v1/calls/{call_id}"
        assert await rig.post(f"{root}/guide", {"text": "Be kind."}) == (200, {"data": {}})
        assert session.guidance == ["Be kind."]
        for muted in (True, False):
            assert await rig.post(f"{root}/mute", {"muted": muted}) == (200, {"data": {}})
            assert session.muted is muted
        for path, body in (("guide", {}), ("guide", {"text": " "}), ("mute", {}), ("mute", {"muted": "yes"})):
            status, refused = await rig.post(f"{root}/{path}", body)
            assert status in (400, 422)
            assert "muted" in refused["error"] or "text" in refused["error"]


async def test_a_new_version_is_checked_written_and_used(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        events = rig.bus.subscribe()
        _, read = await rig.get("/api/v1/agents/desk")
        assert read["data"]["text"] == AGENT
        text = AGENT.replace("You answer.", "You answer kindly.")

        async def put(name: str, **body: str) -> tuple[int, dict[str, object]]:
            async with rig.client.put(f"{rig.server.url}/api/v1/agents/{name}", json=body) as answer:
                return answer.status, await answer.json()

        status, _ = await put("desk", text=text, if_version=read["data"]["version"])
        assert status == 200
        await rig.seen(AgentChanged, events, agent="desk", changed=("system_prompt",))
        assert (rig.agents / "desk.toml").read_text() == text
        status, refused = await put("desk", text=AGENT, if_version=read["data"]["version"])
        assert (status, "read it again" in str(refused["error"])) == (409, True)
        status, refused = await put("desk", text="system_prompt = 1\nnonsense = true")
        assert status == 422
        assert len(refused["problems"]) >= 1  # type: ignore[arg-type]
        assert (rig.agents / "desk.toml").read_text() == text
        assert (await put("night-desk", text=AGENT))[0] == 200
        assert (rig.agents / "night-desk.toml").read_text() == AGENT
        for name in ("..%2Fdesk", "Night%20Desk", "%2Fetc%2Fpasswd"):
            assert (await put(name, text=AGENT))[0] in (404, 422)
        assert sorted(path.name for path in rig.agents.iterdir()) == ["desk.toml", "night-desk.toml"]


class Line:
    """Only what a listening asks of a transport."""

    abilities = Abilities(PCM_8K, PCM_8K)


def frame(level: int) -> AudioChunk:
    return AudioChunk(np.full(160, level, np.int16).tobytes(), PCM_8K)


async def test_both_voices_come_over_a_socket_until_the_call_ends() -> None:
    listening = Listening()
    (tap,) = listening.taps(CallInfo("CA1"), Line())  # type: ignore[arg-type]
    app = web.Application(middlewares=[sentences])
    mount(app, ListeningApi(listening).endpoints())
    listener = listen()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/api/v1/calls"
    runner = guarded(app)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    try:
        async with aiohttp.ClientSession() as client:
            async with client.get(f"{url}/CA1/listen") as plain:
                assert plain.status == 426
            with pytest.raises(aiohttp.WSServerHandshakeError, match="404"):
                await client.ws_connect(f"{url}/CA2/listen")
            async with client.ws_connect(f"{url}/CA1/listen") as socket:
                with anyio.fail_after(10):
                    form = json.loads(await socket.receive_str())
                    assert form == {"rate": 8000, "channels": 2, "encoding": "pcm_s16le"}
                    tap.caller(frame(100), 10.02)
                    tap.agent(frame(7), 10.02)
                    for number in range(4):
                        tap.caller(frame(100), 10.04 + number / 50)
                    both = np.frombuffer(await socket.receive_bytes(), np.int16).reshape(-1, 2)
                    assert (len(both), set(both[:, 0]), set(both[:, 1])) == (800, {100}, {0, 7})
                    tap.close(11.0)
                    assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
    finally:
        await runner.cleanup()


async def test_the_file_of_every_version_that_took_a_call_can_be_read_again(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        for text in (AGENT, AGENT.replace("You answer.", "You answer kindly.")):
            async with rig.client.put(f"{rig.server.url}/api/v1/agents/desk", json={"text": text}) as put:
                assert put.status == 200
            call_id = await rig.text_call()
            events = rig.everything()
            await rig.post(f"/api/v1/calls/{call_id}/hangup")
            await rig.seen(CallEnded, events, call_id=call_id)
        versions: list[dict[str, object]] = []
        with anyio.fail_after(10):
            while len(versions) < 2:
                _, answer = await rig.get("/api/v1/agents/desk/versions")
                versions = answer["data"]
        assert [row["calls"] for row in versions] == [1, 1]
        assert "kindly" in str(versions[0]["text"])
        assert versions[1]["text"] == AGENT
