"""Shared fixtures: the async backend of every test, and what a skipped test means."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """All async code runs on asyncio."""
    return "asyncio"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where everything is installed (.ci/run says so), a skipped test is a failed one: it would prove nothing."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("PATTER_TESTS_SKIP_NOTHING"):
        report.outcome = "failed"
        report.longrepr = f"skipped although everything it needs should be here: {call.excinfo and call.excinfo.value}"
    return report
