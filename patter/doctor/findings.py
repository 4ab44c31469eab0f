"""What the diagnosis finds: one line a check, with what to do about it.

It owns the shape of a finding and how it is printed; it refuses to know any check.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

State = Literal["ok", "warning", "problem", "skipped"]

_SIGNS: dict[State, str] = {"ok": "ok", "warning": "warning", "problem": "PROBLEM", "skipped": "skipped"}
_WIDTH = 22  # of a check's name: the longest is "embedded recognition"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's result. `found` is a sentence, `fix` says what to do ("" when nothing is needed)."""

    check: str
    state: State
    found: str
    fix: str = ""

    def line(self) -> str:
        """The finding for a terminal: one line, and one more for the fix."""
        first = f"{_SIGNS[self.state]:8} {self.check:{_WIDTH}} {self.found}"
        return f"{first}\n{'':9}{'':{_WIDTH}} → {self.fix}" if self.fix else first


def as_json(findings: Iterable[Finding]) -> str:
    """All findings as one JSON object: {"ok": bool, "findings": [...]}."""
    found = [asdict(finding) for finding in findings]
    return json.dumps({"ok": all(item["state"] != "problem" for item in found), "findings": found}, ensure_ascii=False)
