"""What the workbench remembers between two starts: colours, agent, line. A broken file is ignored, and said."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "workbench.json"


@dataclass
class Settings:
    """Remembered choices."""

    theme: str = ""
    agent: str = ""
    line: str = "phone"


def load(home: Path) -> tuple[Settings, str]:
    """The settings, and a sentence if they could not be read."""
    path = home / FILE
    try:
        data = json.loads(path.read_text("utf-8"))
        known = {name: str(data[name]) for name in asdict(Settings()) if name in data}
    except FileNotFoundError:
        return Settings(), ""
    except (OSError, ValueError, TypeError):
        return Settings(), f"{path} could not be read: starting with the default settings."
    return Settings(**known), ""


def save(home: Path, settings: Settings) -> None:
    """Write all or nothing; a full disk only loses the choice."""
    fresh = home / f".{FILE}.new"
    with contextlib.suppress(OSError):
        fresh.write_text(json.dumps(asdict(settings)), "utf-8")
        fresh.replace(home / FILE)
