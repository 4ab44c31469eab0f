"""A browser for the dashboard's tests, and a house that all of them look at."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, async_playwright, expect

from tests.page.visit import chromium_options
from tests.support.page_house import House, house

expect.set_options(timeout=15_000)  # a busy machine draws late


@pytest.fixture(scope="package")
async def browser(anyio_backend: str) -> AsyncIterator[Browser]:
    """The system's Chromium."""
    if shutil.which("chromium") is None:
        pytest.skip("there is no chromium here")
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(**chromium_options())
        yield started
        await started.close()


@pytest.fixture(scope="package")
async def home(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """A server with a past; its live calls are ended after each test."""
    async with house(tmp_path_factory.mktemp("house"), seeded=True) as opened:
        yield opened


@pytest.fixture
async def quiet(home: House) -> AsyncIterator[House]:
    """The same, with no call up before and after."""
    yield home
    await home.end_all()
