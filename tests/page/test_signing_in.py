"""Who gets to see the dashboard, with what, and what is left of it in the browser."""

from __future__ import annotations

import aiohttp
import pytest
from playwright.async_api import Browser, expect

from tests.page.visit import live, visit
from tests.support.page_house import House
from tests.support.serving import TOKEN

pytestmark = pytest.mark.anyio

REFUSED = "status of 40[13]|/api/v1/events"  # signing out cuts what was open


async def test_a_token_opens_the_page_and_is_kept_nowhere_a_script_can_read(browser: Browser, home: House) -> None:
    async with visit(browser, home.url, "#/history", signed_in=False, allow=REFUSED) as page:
        await expect(page.get_by_role("heading", name="patter")).to_be_visible()
        await page.get_by_label("Token").fill("not the token")
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("alert")).to_contain_text("no token of this server")
        await page.get_by_label("Token").fill(TOKEN)
        await page.keyboard.press("Enter")
        await live(page)
        assert page.url == f"{home.url}/dashboard#/history"
        kept = await page.evaluate("[document.cookie, JSON.stringify(localStorage), JSON.stringify(sessionStorage)]")
        assert TOKEN not in "".join(kept)
        assert kept[0] == ""
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_label("Token")).to_be_visible()
        await page.goto(f"{home.url}/dashboard#/live")
        await expect(page.get_by_label("Token")).to_be_visible()


async def test_who_may_only_look_sees_no_controls(browser: Browser, quiet: House) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(quiet.url, headers=headers) as client:
        async with client.post("/api/v1/tokens", json={"name": "onlooker", "role": "read"}) as answer:
            token = (await answer.json())["data"]["token"]
        call = await quiet.call("CAlook")
        async with visit(browser, quiet.url, "#/live/CAlook", token=token) as page:
            await expect(page.get_by_text("You may look, but not steer")).to_be_visible()
            await expect(page.get_by_role("button", name="Hang up…")).to_have_count(0)
            await expect(page.get_by_role("button", name="Send")).to_have_count(0)
        async with client.delete("/api/v1/tokens/onlooker"):
            pass
    assert not call.session.said


async def test_a_sign_in_that_is_over_is_told_and_leads_back_to_the_form(browser: Browser, home: House) -> None:
    async with visit(browser, home.url, allow=REFUSED) as page:
        await live(page)
        await page.context.clear_cookies()
        await page.get_by_role("link", name="History").click()
        await expect(page.locator("#state")).to_contain_text("signed out")
        await page.get_by_role("link", name="sign in").click()
        await expect(page.get_by_label("Token")).to_be_visible()
