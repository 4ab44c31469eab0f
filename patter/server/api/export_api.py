"""Exports of the history: all calls that a filter means, as a table or as JSON, sent while they are read.

It owns the two formats; it refuses to hold more than one piece in memory. A spreadsheet runs a cell as a formula if it begins
with = + - @ (also full-width) or with a tab or line end: such a text gets an apostrophe in front, which a spreadsheet shows or
hides but never runs. That holds for numbers such as +15551234567 too, which it would add up and so lose the plus; a plain
negative number such as -1.5 is left alone, and so are all columns that hold numbers of ours.
"""

from __future__ import annotations

import csv
import io
import logging
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from patter.server.answers import json_text
from patter.server.api.call_shapes import LINE, ROW_FIELDS
from patter.server.api.reading import FILTERS, answer_of, filter_in
from patter.server.endpoint import Endpoint
from patter.server.schemas import answered, listing, record
from patter.store.filters import Filter
from patter.store.history import History

log = logging.getLogger(__name__)

COLUMNS: dict[str, Callable[[dict[str, Any]], Any]] = {
    **{name: lambda row, name=name: row[name] for name in ("call_id", "caller", "callee", "direction")},  # type: ignore[misc]
    **{name: lambda row, name=name: row[name] for name in ("started_at", "ended_at", "duration_s", "cost_total")},  # type: ignore[misc]
    **{f"cost_{name}": lambda row, name=name: row["cost"][name] for name in ("stt", "tts", "llm", "telephony")},  # type: ignore[misc]
    "avg_latency_ms": lambda row: row["avg_latency_ms"],
    "turns_count": lambda row: row["turns"],
    "provider_mode": lambda row: row["provider_mode"],
}
"""The table's columns and where each is in a row. Times in seconds since the epoch, ms, USD."""

_FORMULA = tuple("=+-@\t\r\n＝＋－＠")
_NUMBER = re.compile(r"-\d+(\.\d+)?")
_CALL = record({**ROW_FIELDS, "transcript": listing(LINE)}, optional=("muted",), title="ExportedCall")


@dataclass(frozen=True, slots=True)
class ExportApi:
    """The entries of /api/v1/export."""

    history: History

    def endpoints(self) -> list[Endpoint]:
        """The entries, for the table."""
        return [
            Endpoint("GET", "/api/v1/export/csv", self.table, "read", "All calls of a filter, as a table", query=FILTERS,
                     content="text/csv", refusals=(503,), audited=True),
            Endpoint("GET", "/api/v1/export/json", self.json, "read", "All calls of a filter, with their transcripts",
                     query=FILTERS, answer=answered(listing(_CALL)), refusals=(503,), audited=True),
        ]  # fmt: skip

    async def table(self, request: web.Request) -> web.StreamResponse:
        """Rows as CSV: UTF-8, a line of names first."""
        wanted = filter_in(request)
        return await self._send(request, wanted, "csv", "text/csv", _lines(self.history.export(wanted)))

    async def json(self, request: web.Request) -> web.StreamResponse:
        """Rows with transcripts as one JSON object with the list `data`."""
        wanted = filter_in(request)
        rows = self.history.export(wanted, transcripts=True)
        return await self._send(request, wanted, "json", "application/json", _objects(rows))

    async def _send(
        self, request: web.Request, wanted: Filter, name: str, kind: str, pieces: AsyncIterator[str]
    ) -> web.StreamResponse:
        """Send the pieces, each read when the one before is on its way. What fails before the first one is told; after it the
        connection is cut, so that nobody takes a part for the whole."""
        answer = web.StreamResponse(
            headers={
                "Content-Type": f"{kind}; charset=utf-8",
                "Content-Disposition": f'attachment; filename="calls.{name}"',
            }
        )
        begun = False
        try:
            while (piece := await answer_of(request, lambda: anext(pieces, None))) is not None:
                if not begun:
                    await answer.prepare(request)
                    begun = True
                await answer.write(piece.encode("utf-8", "backslashreplace"))
            await answer.write_eof()
        except ConnectionError:
            log.info("whoever asked for an export has left")
        except Exception:
            if not begun:
                raise
            log.exception("an export was cut off")
            if request.transport is not None:
                request.transport.abort()
        return answer


async def _lines(rows: AsyncIterator[list[dict[str, Any]]]) -> AsyncIterator[str]:
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\r\n")
    table.writerow(COLUMNS)
    async for some in rows:
        table.writerows([_cell(take(row)) for take in COLUMNS.values()] for row in some)
        yield out.getvalue()
        out.seek(0)
        out.truncate()
    yield out.getvalue()


async def _objects(rows: AsyncIterator[list[dict[str, Any]]]) -> AsyncIterator[str]:
    between = '{"data":['
    async for some in rows:
        if some:
            yield between + ",".join(map(json_text, some))
            between = ","
    yield "]}" if between == "," else between + "]}"


def _cell(value: Any) -> Any:
    """The value as a cell that no spreadsheet runs."""
    if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA) and not _NUMBER.fullmatch(value):
        return "'" + value
    return value
