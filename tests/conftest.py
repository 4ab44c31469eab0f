"""Shared fixtures: the async backend of every test."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """All async code runs on asyncio."""
    return "asyncio"
