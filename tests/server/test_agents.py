"""Agent files are followed while the engine runs: an edit counts, a broken one is told and the version before it stays."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from patter.bus import Subscription
from patter.events import AgentChanged, AgentRejected, CallStarted
from patter.server import agents as server_agents
from tests.support.serving import AGENT, Rig, serving

pytestmark = pytest.mark.anyio


async def changed(rig: Rig, events: Subscription, **fields: object) -> AgentChanged:
    event = await rig.seen(AgentChanged, events, **fields)
    assert isinstance(event, AgentChanged)
    return event


async def rejected(rig: Rig, events: Subscription) -> AgentRejected:
    event = await rig.seen(AgentRejected, events)
    assert isinstance(event, AgentRejected)
    return event


async def row(rig: Rig, name: str = "desk") -> dict[str, object]:
    _, agents = await rig.get("/api/v1/agents")
    found: dict[str, object] = next(row for row in agents["data"] if row["name"] == name)
    return found


async def test_an_edit_reaches_the_list_and_the_live_call(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        events = rig.bus.subscribe()
        call_id = await rig.text_call()
        await rig.seen(CallStarted, events, call_id=call_id)
        (rig.agents / "desk.toml").write_text(AGENT.replace("Hello", "Good day"))
        seen = await changed(rig, events, call_id="")
        assert (seen.agent, seen.changed) == ("desk", ("first_message",))
        await changed(rig, events, call_id=call_id, agent_version=seen.agent_version)
        assert rig.calls.sessions[call_id].agent.first_message == "Good day, {who}."
        assert rig.calls.sessions[call_id].version == seen.agent_version
        now = await row(rig)
        assert (now["version"], now["first_message"]) == (seen.agent_version, "Good day, you.")


async def test_a_broken_edit_is_told_with_its_line_and_the_old_version_stays(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        events = rig.bus.subscribe()
        call_id = await rig.text_call()
        before = await row(rig)
        (rig.agents / "desk.toml").write_text(AGENT + "\n[stt]\nprovidr = 1\n")
        event = await rejected(rig, events)
        assert (event.call_id, event.agent, event.line) == ("", "desk", 7)
        assert 'unknown key "providr"' in event.problem
        assert "provider" in event.fix
        now = await row(rig)
        assert (now["ok"], now["line"], now["version"]) == (False, 7, before["version"])
        assert rig.calls.sessions[call_id].version == before["version"]
        answer = await rig.rehearse()
        assert answer["call_id"]
        assert "last good version" in answer["notes"][0]
        (rig.agents / "desk.toml").write_text(AGENT)
        assert (await changed(rig, events, call_id="")).agent_version == before["version"]
        assert (await row(rig))["ok"] is True


async def test_editors_that_replace_the_file_are_followed(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        events = rig.bus.subscribe()
        for word in ("one", "two", "three"):
            draft = rig.agents / ".desk.toml.swp"
            draft.write_text(AGENT.replace("Hello", word))
            draft.replace(rig.agents / "desk.toml")
            await changed(rig, events, call_id="")
            assert (await row(rig))["first_message"] == f"{word}, you."


async def test_new_and_removed_files_come_and_go(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        events = rig.bus.subscribe()
        (rig.agents / "night.toml").write_text(AGENT)
        assert (await changed(rig, events, agent="night")).changed == ("added",)
        (rig.agents / "night.toml").unlink()
        assert "gone" in (await rejected(rig, events)).problem
        _, agents = await rig.get("/api/v1/agents")
        assert [agent["name"] for agent in agents["data"]] == ["desk"]


async def test_an_edited_module_is_a_new_version_of_its_agents_only(tmp_path: Path) -> None:
    tool = '[[tools]]\nname = "greet"\nhandler = "kit:greet"\n'
    place = tmp_path / "agents"
    place.mkdir()
    (place / "desk.toml").write_text(AGENT)
    (place / "with.toml").write_text(AGENT + tool)
    (place / "kit.py").write_text("def greet(arguments, context):\n    return 'one'\n")
    async with serving(tmp_path) as rig:
        events = rig.bus.subscribe()
        call_id = str((await rig.rehearse(agent="with"))["call_id"])
        (place / "kit.py").write_text("def greet(arguments, context):\n    return 'two'\n")
        assert (await changed(rig, events, call_id="", agent="with")).changed == ("modules",)
        await changed(rig, events, call_id=call_id)
        tools = rig.calls.sessions[call_id].agent.tools
        assert tools is not None
        assert tools[0]["handler"]({}, {}) == "two"
        (place / "kit.py").write_text("def greet(:\n")
        event = await rejected(rig, events)
        assert (event.agent, event.line) == ("with", 7)
        assert "kit.py line 1 is no Python" in event.problem
        (place / "kit.py").write_text("def greet(arguments, context):\n    return 'three'\n")
        await changed(rig, events, call_id="", agent="with")
        assert (await row(rig))["ok"] is True


async def test_a_file_opened_elsewhere_is_followed_too(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "away.toml").write_text(AGENT)
    async with serving(tmp_path) as rig:
        events = rig.bus.subscribe()
        await rig.post("/api/v1/agents/open", {"path": str(other / "away.toml")})
        (other / "away.toml").write_text(AGENT.replace("Hello", "Hi"))
        assert (await changed(rig, events, agent="away")).changed == ("first_message",)
        (other / "away.toml").unlink()
        await rejected(rig, events)
        now = await row(rig, "away")
        assert (now["ok"], now["first_message"]) == (False, "Hi, you.")


async def test_agents_with_problems_from_the_start_are_listed_with_them(tmp_path: Path) -> None:
    place = tmp_path / "agents"
    place.mkdir()
    (place / "broken.toml").write_text("x = \n")
    async with serving(tmp_path) as rig:
        now = await row(rig, "broken")
        assert (now["ok"], now["line"], now["version"]) == (False, 1, "")
        assert "no valid TOML" in str(now["problem"])
        status, _ = await rig.post("/api/v1/rehearsals", {"agent": "broken", "line": "phone"})
        assert status == 422


async def test_a_directory_that_goes_away_stops_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        events = rig.bus.subscribe()
        (rig.agents / "desk.toml").unlink()
        rig.agents.rmdir()
        await rejected(rig, events)
        assert (await rig.get("/health"))[0] == 200
        rig.agents.mkdir()
        (rig.agents / "desk.toml").write_text(AGENT)
        with anyio.fail_after(10):
            assert (await changed(rig, events)).agent == "desk"


async def test_a_module_that_does_not_finish_its_import_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_agents, "READ_SECONDS", 0.2)
    place, go_on = tmp_path / "agents", tmp_path / "go-on"
    place.mkdir()
    (place / "desk.toml").write_text(AGENT)
    text = AGENT + '[[tools]]\nname = "x"\nhandler = "slow:x"\n'
    (place / "slow.toml").write_text(text)
    (place / "slow.py").write_text(
        f"import pathlib, time\nwhile not pathlib.Path({str(go_on)!r}).exists():\n    time.sleep(0.01)\n"
        "def x(arguments, context):\n    return 1\n"
    )
    async with serving(tmp_path) as rig:
        try:
            assert "does not finish its import" in str((await row(rig, "slow"))["problem"])
            path = str(place / "slow.toml")
            _, found = await rig.post("/api/v1/agents/validate", {"text": text, "path": path})
            assert "does not finish its import" in found["data"]["problems"][0]["problem"]
            assert await rig.text_call()
        finally:
            go_on.touch()


async def test_the_list_says_who_hears_thinks_and_speaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-a-test")
    agents = tmp_path / "agents"
    agents.mkdir()
    (agents / "whole.toml").write_text('system_prompt = "x"\nprovider = "openai_realtime"\nmodel = "gpt-realtime-2.1"\n')
    (agents / "parts.toml").write_text('system_prompt = "x"\n[stt]\nprovider = "whisper"\n[llm]\nmodel = "m"\n')
    async with serving(tmp_path) as rig:
        whole, parts = await row(rig, "whole"), await row(rig, "parts")
    assert [whole[stage] for stage in ("stt", "llm", "tts")] == ["openai_realtime gpt-realtime-2.1"] * 3
    assert [parts[stage] for stage in ("stt", "llm", "tts")] == ["whisper", "m", "embedded"]
