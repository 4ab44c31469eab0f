"""Stored conversations with vendors: one JSON row for each message, with the side that said it.

They own the files under tests/traces; they refuse to know what the messages mean.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TRACES = Path(__file__).parent.parent / "traces"


def rows(carrier: str, name: str) -> list[dict[str, Any]]:
    """The rows of one trace."""
    return [json.loads(line) for line in (TRACES / carrier / f"{name}.jsonl").read_text().splitlines()]
