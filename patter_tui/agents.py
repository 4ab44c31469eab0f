"""Agent files on disk as the editor needs them: read, save, drafts, differences. It owns no text widget and judges no content.

The engine judges an agent file; here it is only text that must not get lost.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import os
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class AgentText:
    """One open file. `saved` is the text as last read from or written to disk."""

    path: Path
    saved: str
    missing: bool = False

    @property
    def on_disk(self) -> str | None:
        """The text on disk now; None if it cannot be read."""
        try:
            return self.path.read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            return None


def stamp(path: Path) -> tuple[int, int]:
    """Changes whenever the file is written; (0, 0) if there is none."""
    try:
        facts = path.stat()
    except OSError:
        return (0, 0)
    return (facts.st_mtime_ns, facts.st_size)


def open_file(path: Path) -> AgentText:
    """Read a file; one that does not exist yet is empty. Raises OSError or UnicodeDecodeError for one that cannot be read."""
    try:
        return AgentText(path, path.read_text("utf-8"))
    except FileNotFoundError:
        return AgentText(path, "", missing=True)


def save(agent: AgentText, text: str) -> None:
    """Write the whole file or nothing, keeping its permissions. Raises OSError."""
    target = agent.path.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".saving")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
        Path(name).chmod(mode)
        Path(name).replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
    agent.saved, agent.missing = text, False


def _draft_path(drafts: Path, path: Path) -> Path:
    return drafts / f"{path.stem}-{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}.toml"


def keep_draft(drafts: Path, agent: AgentText, text: str) -> None:
    """Keep unsaved text so that a lost terminal loses nothing; text that equals the file needs no draft."""
    target = _draft_path(drafts, agent.path)
    with contextlib.suppress(OSError):
        if text == agent.saved:
            target.unlink(missing_ok=True)
        else:
            drafts.mkdir(parents=True, exist_ok=True, mode=0o700)
            target.write_text(text, "utf-8")


def draft_of(drafts: Path, agent: AgentText) -> str | None:
    """Unsaved text of an earlier session; None if there is none or it was saved after all."""
    try:
        text = _draft_path(drafts, agent.path).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    return text if text != agent.saved else None


def caller_lines(text: str) -> list[Any]:
    """The simulated caller's lines of an agent file; none if the file is broken."""
    try:
        section = tomllib.loads(text).get("rehearsal", {})
    except tomllib.TOMLDecodeError:
        return []
    lines = section.get("caller", []) if isinstance(section, dict) else []
    return [line for line in lines if isinstance(line, str | dict)] if isinstance(lines, list) else []


def difference(before: str, after: str) -> list[str]:
    """Changed lines, "+ new" and "- old", without context."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return [f"{line[0]} {line[1:].strip()}" for line in list(lines)[2:] if line[:1] in "+-" and line[1:].strip()]
