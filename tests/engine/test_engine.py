"""The shipped engine process with its own parts: a text call from greeting to goodbye, an edit, a kill, bad arguments."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine_process import REAL, EngineProcess, engine, run

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")]

AGENT = """\
system_prompt = "You are a receptionist."
first_message = "Hello, this is {clinic}."
[variables]
clinic = "Riverside"
[[tools]]
name = "find_slots"
handler = "slots:find"
[[guardrails]]
name = "prices"
blocked_terms = ["dollars"]
replacement = "Please ask at the desk."
[[script]]
when = ["appointment"]
tool = "find_slots"
say = "There is one at {result}."
[[script]]
when = ["cost"]
say = "It costs ninety dollars."
[[script]]
when = ["bye"]
say = "Goodbye."
hang_up = true
"""


@pytest.fixture
def agents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("OPENAI_API_KEY", "PATTER_HOME", "PATTER_STT_MODEL"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "agents"
    folder.mkdir()
    (folder / "desk.toml").write_text(AGENT)
    (folder / "slots.py").write_text("def find(arguments, context):\n    return 'four'\n")
    return folder


def start(agents: Path, home: Path) -> Any:
    return engine(REAL, "--agents", str(agents), "--home", str(home), home=home)


def heard(it: EngineProcess, call_id: str) -> list[str]:
    transcript = it.ask("GET", f"/api/v1/calls/{call_id}")[1]["data"]["transcript"]
    return [line["text"] for line in transcript if line["role"] == "assistant"]


def turn(it: EngineProcess, call_id: str, words: str) -> str:
    """Say something as the caller; returns what the agent answers."""
    before = len(heard(it, call_id))
    assert it.ask("POST", f"/api/v1/calls/{call_id}/text", {"text": words})[0] == 200
    while len(heard(it, call_id)) == before:
        pass
    return heard(it, call_id)[-1]


def test_a_text_call_from_greeting_to_goodbye(agents: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with start(agents, home) as it:
        call_id = it.text_call()
        while not heard(it, call_id):
            pass
        assert heard(it, call_id) == ["Hello, this is Riverside."]
        assert turn(it, call_id, "I need an appointment") == "There is one at four."
        assert turn(it, call_id, "What does it cost?") == "Please ask at the desk."
        desk = agents / "desk.toml"
        desk.write_text(AGENT.replace("There is one", "The next one is"))
        while it.ask("GET", "/api/v1/agents")[1]["data"][0]["version"] == it.journal(call_id)[0]["agent_version"]:
            pass
        assert turn(it, call_id, "An appointment") == "The next one is at four."
        assert turn(it, call_id, "Thanks, bye") == "Goodbye."
        it.wait_for_kind(call_id, "CallEnded")
        kinds = {event["type"] for event in it.journal(call_id)}
        assert {
            "CallStarted",
            "ToolCalled",
            "ToolReturned",
            "GuardrailTripped",
            "TurnMeasured",
            "AgentChanged",
        } <= kinds
        row = it.ask("GET", f"/api/v1/calls/{call_id}")[1]["data"]
        said = [turn["turn"] for turn in row["turns"] if turn["user_text"]]
        assert (row["state"], row["reason"], said, row["line"]) == ("ended", "agent_ended", [1, 2, 3, 4], "text")
        it.ask("POST", "/api/v1/shutdown")
        assert it.end() == (0, "")
        log = (home / "engine.log").read_text()
        assert it.info["token"] not in log
        assert "appointment" not in log


def test_a_killed_engine_is_followed_by_one_that_knows_why(agents: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with start(agents, home) as it:
        call_id = it.text_call()
        it.wait_for_kind(call_id, "AgentSaid")
        it.process.kill()
        it.end()
    with start(agents, home) as it:
        row = it.ask("GET", f"/api/v1/calls/{call_id}")[1]["data"]
        assert (row["state"], row["reason"]) == ("ended", "engine_died")
        assert [line["text"] for line in row["transcript"]] == ["Hello, this is Riverside."]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--agents"),
        (["--agents", "/nowhere/at/all", "--home", "{home}"], "There is no directory /nowhere/at/all"),
        (["--agents", "{agents}", "--home", "{home}", "--port", "70000"], "from 0 to 65535"),
        (["--agents", "{agents}", "--home", "{home}", "--port", "x"], "invalid int"),
        (["--agents", "{agents}", "--home", "{home}", "--linger", "0"], "from 1 to 86400"),
        (["--agents", "{agents}", "--home", "/proc/none"], "cannot be used"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(arguments: list[str], words: str, agents: Path, tmp_path: Path) -> None:
    given = [argument.format(agents=agents, home=tmp_path / "home") for argument in arguments]
    code, errors = run(REAL, *given)
    assert code == 2
    assert words in errors
    assert "Traceback" not in errors


def test_threads_that_a_module_left_running_do_not_keep_the_engine(agents: Path, tmp_path: Path) -> None:
    with (agents / "slots.py").open("a") as module:
        module.write("import threading\nthreading.Thread(target=threading.Event().wait).start()\n")
    with start(agents, tmp_path / "home") as it:
        it.ask("POST", "/api/v1/shutdown")
        assert it.end() == (0, "")
        assert not (tmp_path / "home" / "engine.json").exists()
