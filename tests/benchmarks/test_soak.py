"""Some seconds of short calls: descriptors, threads and tasks of the engine are what they were, and its memory is flat."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.benchmarks.soak import soak

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform != "linux", reason="reads what a process holds from /proc"),
]


@pytest.mark.timeout(120)
async def test_an_engine_stays_as_it_is(tmp_path: Path) -> None:
    report = await soak(tmp_path, seconds=8.0, rounds=6, typed=6, phones=2)
    assert report.wrong == []
    assert report.calls[-1] > 50
