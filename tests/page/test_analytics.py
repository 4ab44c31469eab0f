"""Analytics in the browser: figures, charts with tables beside them, and prices that nobody knows."""

from __future__ import annotations

import time
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import Browser, expect

from tests.page.visit import visit
from tests.support.page_house import SEEDED, House, house
from tests.support.serving import TOKEN

pytestmark = pytest.mark.anyio


async def test_figures_and_charts_say_what_the_engine_says(browser: Browser, quiet: House) -> None:
    query = {"from": f"{time.time() - 6 * 86_400:.0f}"}
    async with (
        aiohttp.ClientSession(quiet.url, headers={"Authorization": f"Bearer {TOKEN}"}) as client,
        client.get("/api/v1/analytics/overview", params=query) as answer,
    ):
        overview = (await answer.json())["data"]
    async with visit(browser, quiet.url, "#/analytics?days=7") as page:
        total = page.locator(".big div", has_text="calls").first
        await expect(total.locator("b")).to_have_text(str(overview["calls"]))
        assert overview["calls"] > SEEDED / 2
        for name in (
            "Cost by day and component",
            "Calls by day",
            "Minutes by day",
            "Silence before an answer by day, percentiles",
        ):
            await expect(page.get_by_role("img", name=name, exact=True)).to_be_visible()
        bars = page.get_by_role("img", name="Cost by day and component").locator("rect.c-tts")
        assert await bars.count() >= 3
        costs = page.get_by_role("region", name="Cost by day", exact=True)
        await costs.get_by_text("As a table").click()
        await expect(costs.get_by_role("table").get_by_role("row")).to_have_count(8)
        for name in ("eot endpointing", "play playout", "riverside-dental", "night-desk", "deepgram nova-3"):
            await expect(page.locator(".boards")).to_contain_text(name)
        rows = page.get_by_role("region", name="Agents").get_by_role("row")
        await expect(rows.filter(has_text="night-desk")).to_contain_text("≥ $")
        await expect(rows.filter(has_text="riverside-dental")).not_to_contain_text("≥")
        await expect(page.get_by_role("region", name="Forecast")).to_contain_text("1,000 calls")
        await page.get_by_role("link", name="30 days").click()
        await expect(page.get_by_role("link", name="30 days")).to_have_attribute("aria-current", "page")
        await expect(costs.get_by_role("row", include_hidden=True)).to_have_count(31)
        await page.get_by_role("link", name="night-desk").click()
        await expect(page.locator(".ranges")).to_contain_text("only night-desk")
        assert "agent=night-desk" in page.url


async def test_an_engine_without_a_past_says_so(browser: Browser, tmp_path: Path) -> None:
    async with house(tmp_path) as young, visit(browser, young.url, "#/analytics") as page:
        await expect(page.get_by_role("region", name="Forecast")).to_contain_text("No call to judge by.")
        await expect(page.get_by_role("region", name="Why calls ended")).to_contain_text("no calls")
