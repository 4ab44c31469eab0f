"""`load`, `parse` and `check`: the text of an agent file becomes a frozen `AgentFile`, or a list of its problems.

It owns the file as a whole: its name, its version, its sections; `{names}` in the texts stay as they are written.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patter.agentfile.locate import locate
from patter.agentfile.modules import LookupFailed, Modules
from patter.agentfile.sections import read_agent
from patter.agentfile.table import Problems, Table
from patter.exceptions import AgentFileError
from patter.models import Agent, OnMessage

MAX_BYTES = 256 * 1024
"""An agent file is text that a person wrote; ten times the longest prompt anybody keeps still fits."""

_AT = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$")
_TOP = (
    "name", "system_prompt", "first_message", "language", "voice", "model", "provider", "on_message", "variables", "stt",
    "tts", "llm", "turn_taking", "tools", "guardrails", "script", "rehearsal", "agent_id", "realtime", "recovery", "mcp",
    "budget",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CallerLine:
    """A line of the simulated caller: said when the agent has finished, or `after_ms` after it began to speak."""

    say: str
    after_ms: int | None = None

    def to_json(self) -> str | dict[str, Any]:
        """The line as the softphone takes it."""
        return self.say if self.after_ms is None else {"say": self.say, "after_ms": self.after_ms}


@dataclass(frozen=True, slots=True)
class AgentFile:
    """An agent file that can be used. `version` is the start of the text's SHA-256; `sources` are its modules' files."""

    path: Path
    name: str
    agent: Agent
    on_message: OnMessage | None
    caller_lines: tuple[CallerLine, ...]
    version: str
    text: str
    sources: frozenset[Path] = frozenset()


def load(path: str | Path) -> AgentFile:
    """Read an agent file. Raises AgentFileError with the line of the first problem."""
    path = Path(path).expanduser().absolute()
    return parse(_read(path), path)


def parse(text: str, path: str | Path) -> AgentFile:
    """The agent of `text`, as if it stood at `path`. Raises AgentFileError with the line of the first problem."""
    made, problems = _examine(text, path)
    if made is None:
        raise problems[0]
    return made


def check(text: str, path: str | Path) -> list[AgentFileError]:
    """All problems of `text`, by line; empty if it can be used."""
    return _examine(text, path)[1]


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise AgentFileError("there is no such file", path=str(path), fix="check the path") from None
    except OSError as error:
        raise AgentFileError(f"the file cannot be read: {error.strerror}", path=str(path)) from None
    if len(raw) > MAX_BYTES:
        raise AgentFileError(f"the file is larger than {MAX_BYTES // 1024} KiB", path=str(path), fix="make it smaller")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise AgentFileError("the file is not UTF-8 text", path=str(path), line=line, fix="save it as UTF-8") from None


def _examine(text: str, path: str | Path) -> tuple[AgentFile | None, list[AgentFileError]]:
    problems = Problems(str(path))
    data = _document(text, problems)
    if data is None:
        return None, problems.found
    problems.places = locate(text)
    top = Table(data, (), problems)
    top.only(_TOP)
    file = Path(path) if str(path) else None
    name = top.text("name", file.stem if file else "agent", filled=True)
    if len(name) > 80 or not name.isprintable() or "/" in name or "\\" in name:
        top.add("name", "name must be one line of at most 80 characters without slashes")
    modules = Modules(file.absolute().parent if file else None)
    agent = read_agent(top, name, modules)
    on_message = _on_message(top, modules)
    caller = _caller(top)
    if problems.found:
        return None, sorted(problems.found, key=lambda problem: (problem.line, problem.column))
    version = hashlib.sha256(text.encode()).hexdigest()[:8]
    sources = frozenset(modules.sources)
    return AgentFile(file or Path(), name, agent, on_message, caller, version, text, sources), []


def _document(text: str, problems: Problems) -> dict[str, Any] | None:
    if len(text) > MAX_BYTES:
        problems.add((), f"the text is longer than {MAX_BYTES // 1024} KiB", "make it shorter")
        return None
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        place = _AT.search(str(error))
        line = int(place[1]) if place and place[1] else text.rstrip("\n").count("\n") + 1
        column = int(place[2]) if place and place[2] else 0
        what = _AT.sub("", str(error)) if place else "a value is too long or nested too deeply"
        where = " at the end of the file" if place and not place[1] else ""
        fix = 'texts stand in quotes: key = "…"' if what == "Invalid value" else ""
        broken = AgentFileError(
            f"this is no valid TOML: {what}{where}", path=problems.path, line=line, column=column, fix=fix
        )
        problems.found.append(broken)
        return None


def _on_message(top: Table, modules: Modules) -> OnMessage | None:
    reference = top.text("on_message", filled=True)
    if not reference or reference.startswith(("http://", "https://", "ws://", "wss://")):
        return reference or None
    try:
        return modules.function(reference, (2, 1))
    except LookupFailed as failure:
        top.add("on_message", f"on_message: {failure.problem}", failure.fix)
        return None


def _caller(top: Table) -> tuple[CallerLine, ...]:
    rehearsal = top.table("rehearsal", "[rehearsal]")
    if rehearsal is None:
        return ()
    rehearsal.only(("caller",))
    lines = rehearsal.data.get("caller", [])
    if not isinstance(lines, list):
        rehearsal.add(
            "caller", "caller must be a list of lines", 'write caller = ["Hello", {say = "Stop", after_ms = 1200}]'
        )
        return ()
    made = []
    for index, line in enumerate(lines):
        where = (*rehearsal.path, "caller", index)
        item = Table(
            {"say": line} if isinstance(line, str) else line, where, rehearsal.problems, f"caller line {index + 1}"
        )
        if not isinstance(item.data, dict):
            rehearsal.problems.add(where, f"caller line {index + 1} must be a text or {{say = …, after_ms = …}}")
            continue
        item.only(("say", "after_ms"))
        say = item.need("say", "write what the caller says")
        made.append(CallerLine(say, item.whole("after_ms", 0, 0, 600_000) if "after_ms" in item else None))
    return tuple(made)
