from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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


def test_every_example_has_a_test() -> None:
    tested = Path(__file__).read_text(encoding="utf-8")
    scripts = {path.name for path in EXAMPLES.glob("*.py") if "__main__" in path.read_text(encoding="utf-8")}

    assert {name for name in scripts if f'"{name}"' not in tested} == set()
