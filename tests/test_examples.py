from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from patter.agentfile import check, load
from patter.builders import PROVIDERS, Keys, check_agent
from patter.loopback.person import Person
from patter.loopback.twilio_carrier import LoopbackTwilioCarrier
from patter.providers.embedded.hibari import voice_missing
from patter.providers.mcp_tools import McpTools
from patter.server.listener import listen
from tests.support.carriers import OURS, THEIRS

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, typed: str = "", cwd: Path | None = None) -> list[str]:
    """An example's lines, with `typed` piped in; it must end well and show no traceback."""
    command = [sys.executable, str(EXAMPLES / name)]
    done = subprocess.run(command, input=typed, capture_output=True, text=True, timeout=50, cwd=cwd, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout.splitlines()


def agent_said(lines: list[str]) -> list[str]:
    return [line.removeprefix("Agent: ") for line in lines if line.startswith("Agent: ")]


def test_answers_from_python(tmp_path: Path) -> None:
    lines = run("answer_in_python.py", "Hi\nmy name is ada\nbye\nnever read\n", tmp_path)

    assert agent_said(lines) == [
        "Hello! Who is calling?",
        "What is your name?",
        "Nice to meet you, Ada. You have said 2 things so far.",
        "Goodbye!",
    ]
    assert lines[-1].startswith("7 lines, ")
    assert lines[-1].endswith("handler_ended")


def test_tools_and_guardrails(tmp_path: Path) -> None:
    lines = run(
        "tools_and_guardrails.py", "when can I come on tuesday?\nmy tooth hurts\nwhat is the price\nbye\n", tmp_path
    )

    assert agent_said(lines) == [
        "Riverside Dental, good morning!",
        "I have Tuesday: half past nine or four o'clock.",
        "Please ask the dentist about that.",
        "The desk will tell you our prices.",
        "Goodbye!",
    ]
    assert "  [guardrail no-medicine replaced the reply]" in lines
    assert "agent ended" in lines[-1]
    assert [line for line in lines if "end_call" in line] == []


@pytest.mark.e2e
def test_an_agent_file_is_checked(tmp_path: Path) -> None:
    [line] = run("check_an_agent_file.py", cwd=tmp_path)

    assert line.startswith("3 turns as expected")


KEYS = {"OPENAI_API_KEY": "sk", "ELEVENLABS_API_KEY": "el", "DEEPGRAM_API_KEY": "dg"}


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("realtime.toml", {"OPENAI_API_KEY"}),
        ("stored_agent.toml", {"ELEVENLABS_API_KEY"}),
        ("pipeline_with_fallbacks.toml", set(KEYS)),
        ("tools_by_mcp.toml", set()),
        ("pizza.toml", set()),
    ],
)
def test_an_agent_file_needs_the_keys_that_it_names(
    name: str, needs: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in KEYS.items():
        monkeypatch.setenv(variable, value)
    agent = load(EXAMPLES / name).agent
    check_agent(Keys.of_environment(), agent)
    head = (EXAMPLES / name).read_text(encoding="utf-8").partition("system_prompt")[0]
    assert {variable for variable in KEYS if variable in head} == needs
    for variable in KEYS:
        monkeypatch.delenv(variable)
        refused = check((EXAMPLES / name).read_text(encoding="utf-8"), EXAMPLES / name)
        assert bool(refused) is (variable in needs), variable
        assert all(variable in problem.fix for problem in refused)
        monkeypatch.setenv(variable, KEYS[variable])


def test_the_examples_show_every_engine_and_every_stage_with_a_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in KEYS.items():
        monkeypatch.setenv(variable, value)
    agents = {path.name: load(path).agent for path in EXAMPLES.glob("*.toml")}
    assert {agent.provider for agent in agents.values()} == set(PROVIDERS)
    much = agents["pipeline_with_fallbacks.toml"]
    assert all((much.stt_fallbacks, much.llm_fallbacks, much.tts_fallbacks))


@pytest.mark.anyio
async def test_the_tools_of_an_mcp_server_beside_the_file_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    agent = load(EXAMPLES / "tools_by_mcp.toml").agent
    assert agent.mcp[0].command[-1] == str(EXAMPLES / "calendar_server.py")
    with anyio.fail_after(50):
        async with McpTools(patience_s=45.0) as servers:
            offer = await servers.offer(agent.mcp)
            assert offer.problems == ()
            assert {spec["name"] for spec in offer.specs} == {"free_times", "book"}
            assert await offer.call("book", {"day": "Friday", "time": "11:00", "name": "Ada"}) == (
                "booked for Ada: Friday at 11:00"
            )
            assert "not free" in await offer.call("book", {"day": "Friday", "time": "11:00", "name": "Bob"})


def test_every_example_has_a_test() -> None:
    tested = Path(__file__).read_text(encoding="utf-8")
    scripts = {path.name for path in EXAMPLES.glob("*.py") if "__main__" in path.read_text(encoding="utf-8")}
    scripts |= {path.name for path in EXAMPLES.glob("*.toml")}

    assert {name for name in scripts if f'"{name}"' not in tested} == set()


@pytest.mark.local
@pytest.mark.e2e
@pytest.mark.skipif(bool(voice_missing()), reason=voice_missing())
def test_an_agent_is_tested_without_a_telephone(tmp_path: Path) -> None:
    lines = run("test_an_agent_without_a_telephone.py", cwd=tmp_path)

    assert lines[-2:] == ["assistant: Thank you.", "The carrier had nothing to complain of."]


@pytest.mark.local
@pytest.mark.e2e
@pytest.mark.anyio
@pytest.mark.skipif(bool(voice_missing()), reason=voice_missing())
async def test_the_phone_is_answered_and_somebody_is_called(tmp_path: Path) -> None:
    listener = listen()
    port = listener.getsockname()[1]
    listener.close()
    async with LoopbackTwilioCarrier() as carrier:
        carrier.add_number(OURS)
        carrier.people[THEIRS] = Person(answers="machine", greeting=b"\x00\x10\x00\xf0" * 8_000)
        environment = os.environ | {
            "TWILIO_ACCOUNT_SID": carrier.account_sid, "TWILIO_AUTH_TOKEN": carrier.auth_token,
            "TWILIO_PHONE_NUMBER": OURS, "PATTER_CARRIER_API": carrier.api_base, "PATTER_HOME": str(tmp_path),
            "PORT": str(port), "PYTHONUNBUFFERED": "1",
        }  # fmt: skip
        command = [sys.executable, str(EXAMPLES / "answer_the_phone.py"), f"127.0.0.1:{port}", THEIRS]
        async with await anyio.open_process(command, env=environment, stderr=subprocess.STDOUT) as process:
            assert process.stdout is not None
            said = ""
            with anyio.fail_after(50):
                async for piece in process.stdout:
                    said += piece.decode()
                    if "voicemail_left" in said:
                        process.send_signal(signal.SIGTERM)
            code = await process.wait()
        assert carrier.violations == []

    assert (code, said) == (0, f"outbound call with {THEIRS}: voicemail_left, 2 lines\n"), said
