"""Where things are kept on this machine: settings, state, agents, logs. It owns the places; it knows nothing of their content.

`--home` or `$PATTER_HOME` puts everything under one folder; otherwise each system's own places are used.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

DEMO = Path(__file__).parent / "demo"
DEMO_FILES = ("riverside.toml", "riverside_tools.py")


class Paths(NamedTuple):  # as frozen as a dataclass, for a tenth of the loading time of those
    """The folders of one user (or of one `--home`). `home` holds the engine's state, `agents` the agent files."""

    home: Path
    agents: Path

    @property
    def drafts(self) -> Path:
        """Text of agent files that was typed but not saved."""
        return self.home / "drafts"

    @property
    def engine_file(self) -> Path:
        """Written by a running engine: port, token, process id."""
        return self.home / "engine.json"

    @property
    def engine_log(self) -> Path:
        """The engine's own log."""
        return self.home / "engine.log"

    @property
    def started_file(self) -> Path:
        """Names the engine that a workbench started: only such an engine is stopped by a workbench."""
        return self.home / "started-by-workbench.json"

    @property
    def screen_log(self) -> Path:
        """What anything wrote to the error output while the screen was open."""
        return self.home / "workbench.log"

    def rows(self) -> list[tuple[str, Path]]:
        """All places with their names, for `patter-tui paths`."""
        return [
            ("agents", self.agents),
            ("state", self.home),
            ("calls", self.home / "calls"),
            ("drafts", self.drafts),
            ("engine log", self.engine_log),
            ("workbench log", self.screen_log),
        ]


def find(home: str = "") -> Paths:
    """The places to use: `home`, else `$PATTER_HOME`, else the system's own."""
    chosen = home or os.environ.get("PATTER_HOME", "")
    if chosen:
        folder = Path(chosen).expanduser().absolute()
        return Paths(folder, folder / "agents")
    import platformdirs  # only here, and --help has no use for it

    return Paths(Path(platformdirs.user_data_dir("patter")), Path(platformdirs.user_config_dir("patter")) / "agents")


def prepare(paths: Paths) -> None:
    """Make the folders (readable by the user alone) and lay the demo agent down if there is no agent at all.

    A file that exists is never touched. Raises OSError if a folder cannot be made."""
    for folder in (paths.home, paths.agents, paths.drafts):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if any(paths.agents.glob("*.toml")):
        return
    for name in DEMO_FILES:
        target = paths.agents / name
        if not target.exists():
            target.write_bytes((DEMO / name).read_bytes())
