"""What the house gives the API beside the calls themselves: memory, prices, budget, listening. Each owner adds its field.

It owns the list of these parts; it refuses to know what any of them does. A part that is None is not there, and neither are
the API's entries that need it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from patter.observe.budget import Purse
from patter.observe.listening import Listening
from patter.observe.prices import Prices
from patter.store.analytics import Analytics
from patter.store.books import Books
from patter.store.history import History
from patter.store.keeper import Keeper
from patter.store.retention import Retention


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The parts, as `Records.kept()` gives them. `home` holds calls/, tokens.json and audit.jsonl."""

    home: Path
    prices: Prices | None = None
    listening: Listening | None = None
    purse: Purse | None = None
    budget_file: Path | None = None
    """Where a changed budget is written; None: it lasts until the process ends."""
    books: Books | None = None
    keeper: Keeper | None = None
    history: History | None = None
    analytics: Analytics | None = None
    retention: Retention | None = None
    scrape: Callable[[], tuple[bytes, str]] | None = None
    """All that was counted, as text for Prometheus, and its media type. Raises ImportError without the package for it."""

    def agent_used(self, agent: str, version: str, text: str) -> None:
        """A call begins with this version of an agent, whose file is `text`."""
        if self.keeper is not None and text:
            self.keeper.agent_used(agent, version, text)
