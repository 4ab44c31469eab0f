"""README's promises: its diagram is drawn from the tables, its code runs, its commands and files exist.

`python -m tests.test_readme` writes the diagram into README.md.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TypeVar

import pytest

from patter.turns.machine import EAR, FLOOR, REPLY, Caller, Ear, Move

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
BEGIN, END = "<!-- drawn from patter/turns/machine.py by tests/test_readme.py -->", "<!-- end of the drawing -->"
WIDTH = 130

State = TypeVar("State", bound=Enum)


def machine(title: str, table: Mapping[State, Mapping[Move, State]], start: State) -> list[str]:
    """One machine as a Mermaid state diagram: arrows between the same states share a label."""
    arrows: dict[tuple[State, State], list[str]] = {}
    for state, moves in table.items():
        for move, following in moves.items():
            arrows.setdefault((state, following), []).append(move.value)
    lines = [
        "```mermaid",
        "stateDiagram-v2",
        f'    state "{title}" as {type(start).__name__} {{',
        f"        [*] --> {start.value}",
    ]
    lines += [
        f"        {before.value} --> {after.value}: {', '.join(labels)}" for (before, after), labels in arrows.items()
    ]
    return [*lines, "    }", "```"]


def verdicts() -> list[str]:
    """The joint rule as a table: what the caller does, by what sounds in their ear."""
    rows = ["| the caller … | " + " | ".join(f"ear {ear.value}" for ear in Ear) + " |", "|---" * (len(Ear) + 1) + "|"]
    for caller in Caller:
        rows.append(f"| {caller.value} | " + " | ".join(FLOOR[ear, caller].value for ear in Ear) + " |")
    return rows


def drawing() -> str:
    """What stands between the two marks of README.md."""
    reply = machine("the reply being made", REPLY, next(iter(REPLY)))
    ear = machine("the sound in the caller's ear", EAR, next(iter(EAR)))
    return "\n".join([BEGIN, "", *reply, "", *ear, "", *verdicts(), "", END])


def drawn(text: str) -> str:
    """`text` with the drawing of today."""
    before, _, rest = text.partition(BEGIN)
    return before + drawing() + rest.partition(END)[2]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_drawing_is_that_of_the_tables() -> None:
    text = README.read_text(encoding="utf-8")

    assert text == drawn(text), "the tables have changed: run `python -m tests.test_readme`"


def test_every_file_that_is_linked_exists() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README.read_text(encoding="utf-8"))

    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_both_commands_are_one_line_each() -> None:
    commands = [block.strip().splitlines() for block in blocks("sh")]
    [start] = [lines for lines in commands if lines[-1].endswith("patter-tui")]
    [tests] = [lines for lines in commands if lines[-1].endswith("-m tests")]

    assert len(start) == len(tests) == 1
    assert "'.[local]'" in start[0]
    assert (ROOT / "tests" / "__main__.py").exists()


@pytest.mark.parametrize("index", range(len(blocks("python"))))
def test_the_python_can_be_read(index: int) -> None:
    ast.parse(blocks("python")[index])


def test_the_call_in_ten_lines_is_a_call(tmp_path: Path) -> None:
    code = blocks("python")[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    script = tmp_path / "call.py"
    script.write_text(code, encoding="utf-8")

    done = subprocess.run(
        [sys.executable, str(script)], input="Are you open?\n", capture_output=True, text=True, timeout=50, check=True
    )

    assert "Agent: Riverside Dental, good morning!" in done.stdout
    assert "Agent: You said: Are you open?" in done.stdout
    assert done.stderr == ""


def test_the_own_parts_of_the_readme_make_a_call(tmp_path: Path) -> None:
    script = tmp_path / "parts.py"
    script.write_text(blocks("python")[1], encoding="utf-8")

    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=50, check=True)

    assert done.stdout.splitlines() == [
        "agent: Hello!",
        "caller: Anybody there?",
        "agent: ANYBODY THERE?",
        "handler_ended",
    ]
    assert done.stderr == ""


if __name__ == "__main__":
    README.write_text(drawn(README.read_text(encoding="utf-8")), encoding="utf-8")
