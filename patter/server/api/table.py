"""All entries of the API, for the ports that it is on.

It owns which modules there are and what each is given; it refuses to know what they do. A new module is one line here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio.to_thread

from patter.observe.journal import EVENTS, call_folder
from patter.observe.prometheus import INSTALL
from patter.server.api.access_api import AccessApi
from patter.server.api.analytics_api import AnalyticsApi
from patter.server.api.control_api import ControlApi
from patter.server.api.dashboard_api import DashboardApi
from patter.server.api.document_api import DocumentApi
from patter.server.api.events_api import EventsApi
from patter.server.api.export_api import ExportApi
from patter.server.api.forgetting_api import ForgettingApi
from patter.server.api.history_api import HistoryApi
from patter.server.api.listening_api import ListeningApi
from patter.server.api.metrics_api import MetricsApi
from patter.server.api.money_api import MoneyApi
from patter.server.api_port import ApiPort
from patter.server.desk import Desk
from patter.server.endpoint import Endpoint
from patter.server.event_stream import EventStream
from patter.server.kept import Kept


@dataclass(frozen=True, slots=True)
class CallParts:
    """What the entries about calls are made of, on whichever port they are."""

    kept: Kept
    desk: Desk
    port: ApiPort
    give_up: Callable[[str], Awaitable[bool]]
    version: str


def call_endpoints(parts: CallParts) -> list[Endpoint]:
    """The entries that an engine's port and the port of `serve` have alike: history, live calls, their control, the page."""
    kept, port = parts.kept, parts.port
    return [
        *_reading(parts),
        *ControlApi(parts.desk, partial(_knows, kept.home), parts.give_up).endpoints(),
        *EventsApi(EventStream(port.readers)).endpoints(),
        *(ListeningApi(kept.listening).endpoints() if kept.listening is not None else ()),
        *(MetricsApi(kept.scrape, INSTALL).endpoints() if kept.scrape is not None else ()),
        *MoneyApi(kept.prices, kept.purse, kept.books, port.clock, kept.budget_file).endpoints(),
        *AccessApi(port.tokens, port.audit, port.clock).endpoints(),
        *DocumentApi(parts.version).endpoints(),
        *DashboardApi(port).endpoints(),
    ]


def _reading(parts: CallParts) -> list[Endpoint]:
    """What is kept of calls, where anything is."""
    kept = parts.kept
    history, analytics, retention = kept.history, kept.analytics, kept.retention
    if history is None:
        return []
    return [
        *HistoryApi(history, kept.home).endpoints(),
        *ExportApi(history).endpoints(),
        *(AnalyticsApi(analytics, history.live).endpoints() if analytics is not None else ()),
        *(ForgettingApi(retention, history.live).endpoints() if retention is not None else ()),
    ]


async def _knows(home: Path, call_id: str) -> bool:
    """Whether there is or was such a call: it has a journal."""
    return await anyio.to_thread.run_sync((call_folder(home, call_id) / EVENTS).is_file)
