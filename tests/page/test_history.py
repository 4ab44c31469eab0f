"""The history in the browser: found, sorted, paged and exported, with the question in the address."""

from __future__ import annotations

import csv

import pytest
from playwright.async_api import Browser, expect

from tests.page.visit import live, visit
from tests.support.page_house import SEEDED, House

pytestmark = pytest.mark.anyio


async def test_calls_are_paged_sorted_and_found(browser: Browser, quiet: House) -> None:
    async with visit(browser, quiet.url, "#/history") as page:
        rows = page.locator(".calls-table tbody tr")
        status = page.locator(".results [role=status]")
        await expect(rows).to_have_count(50)
        await expect(status).to_contain_text("1–50 of")
        await page.get_by_role("link", name="older →").click()
        await expect(status).to_contain_text("51–")
        assert "offset=50" in page.url
        await page.go_back()
        await expect(status).to_contain_text("1–50 of")

        await page.get_by_label("Agent").select_option("night-desk")
        await expect(status).to_contain_text(f"of {SEEDED // 2} calls")
        await page.get_by_role("columnheader", name="cost").get_by_role("link").click()
        assert "order=-cost_total" in page.url
        await expect(page.get_by_role("columnheader", name="cost")).to_have_attribute("aria-sort", "descending")
        await expect(page.locator(".calls-table[aria-busy]")).to_have_count(0)
        cells = await rows.locator("td:nth-child(9)").all_inner_texts()
        costs = [float(text.strip("≥ $")) for text in cells]
        assert costs == sorted(costs, reverse=True)
        assert costs[0] > costs[-1]
        await page.get_by_role("link", name="Clear").click()
        await expect(rows).to_have_count(50)

        await page.get_by_label("Words or call id").fill("insurances pay")
        await page.wait_for_url("**q=insurances+pay*")
        await expect(page.locator(".calls-table[aria-busy]")).to_have_count(0)
        found = int((await status.inner_text()).split(" of ")[1].split()[0])
        assert 0 < found < SEEDED
        await page.get_by_label("Ended by").select_option("failed")
        await expect(rows.first.locator("td").last).to_have_text("failed")
        await page.get_by_label("Words or call id").fill("nobodysaidthis")
        await expect(status).to_have_text("No call is like that.")
        await page.get_by_role("link", name="Clear").click()
        await expect(rows).to_have_count(50)
        assert page.url.endswith("#/history")


async def test_the_address_alone_brings_the_same_question_back_and_exports_it(browser: Browser, quiet: House) -> None:
    async with visit(browser, quiet.url, "#/history?agent=night-desk&reason=transferred&order=-duration_s") as page:
        rows = page.locator(".calls-table tbody tr")
        await expect(rows.first).to_contain_text("night-desk")
        await expect(page.get_by_label("Agent")).to_have_value("night-desk")
        await expect(page.get_by_label("Ended by")).to_have_value("transferred")
        shown = await rows.count()
        assert 0 < shown < SEEDED
        async with page.expect_download() as began:
            await page.get_by_role("link", name="CSV").click()
        path = await (await began.value).path()
        with path.open(encoding="utf-8", newline="") as file:
            told = list(csv.DictReader(file))
        assert len(told) == shown
        ids = [await row.get_attribute("data-call") for row in await rows.all()]
        assert [one["call_id"] for one in told] == ids


async def test_a_call_that_is_up_leads_to_the_live_view(browser: Browser, quiet: House) -> None:
    await quiet.call("CAnow")
    async with visit(browser, quiet.url, "#/history") as page:
        await live(page)
        await page.locator("tr[data-call=CAnow] a").click()
        await expect(page.locator(".call-head h2")).to_contain_text("+15557654321")
        assert page.url.endswith("#/live/CAnow")
