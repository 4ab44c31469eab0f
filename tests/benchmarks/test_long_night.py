"""A few hundred short calls on both carriers' lines: history tells each as it was, and nothing has grown afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from patter.loopback.misbehaviour import GOOD_DAY
from tests.benchmarks.long_night import ENDS, Left, line, long_night
from tests.support.carriers import CARRIERS

pytestmark = pytest.mark.anyio

CALLS = 60  # on each line, after one of each kind


@pytest.mark.e2e
async def test_a_long_night_leaves_nothing_behind(tmp_path: Path) -> None:
    reports = await long_night(tmp_path, CALLS, seed=1)
    for report in reports.values():
        assert report.grown == {}
        assert report.odd == []
        assert report.files < 10  # a connection may be about to close; a file a call would be more
        assert report.calls >= CALLS + len(ENDS)
        assert report.callbacks == report.calls


@pytest.mark.parametrize("name", CARRIERS)
async def test_the_night_looks_where_calls_are_kept(name: str, tmp_path: Path) -> None:
    async with line(name, tmp_path, GOOD_DAY) as at:
        before = Left.by(at.station)
        books = {"Desk._calls", "Ringing._tokens", "Ringing._ids", "Arrivals._waiting", "Lines._up", "Lines._held"}
        ours = {
            "CallbackRunner._calls",
            "CallbackRunner._expected",
            "Station._over",
            "Writer._sheets",
        }
        carrier = {"twilio": {"ColdTransfers._known", "Consultations._open"}, "telnyx": {"Handovers._by_call"}}[name]
        assert books | ours | carrier <= set(before.containers)
        at.station._over["a call that nobody forgets"] = at.station._door._hurry
        assert Left.by(at.station).grown_since(before) == {"Station._over": (0, 1)}
