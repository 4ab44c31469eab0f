"""A dozen calls, three kills: everything that anybody was told of is there after the next start."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.benchmarks.crash import crash

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform != "linux", reason="reads what processes have left from /proc"),
]


@pytest.mark.timeout(120)
async def test_a_killed_engine_loses_nothing_that_it_has_told(tmp_path: Path) -> None:
    report = await crash(tmp_path, calls=12, kills=3, seed=7, longest_s=5.0)
    assert report.wrong == []
    assert report.died > 0
    assert report.turns > 0
    assert report.recordings > 0
