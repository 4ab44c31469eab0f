"""Who can use the dashboard: axe's rules in both themes, the keyboard alone, narrow screens."""

from __future__ import annotations

import re

import anyio
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from tests.page.visit import live, visit
from tests.support.page_house import House

pytestmark = pytest.mark.anyio

VIEWS = {  # and what is there when their data are
    "#/live": ".calls li",
    "#/live/CAseen": ".turns tbody tr",
    "#/history": ".calls-table tbody tr",
    "#/analytics?days=30": ".drawing svg",
    "#/call/CA0005": ".record .line",
}
WIDTHS = (360, 768, 1440)


async def settled(page: Page, place: str) -> None:
    """Wait until a view has its data."""
    await page.evaluate(f"location.hash = '{place}'")
    await live(page)
    await page.locator(VIEWS[place]).first.wait_for()


async def findings(page: Page, where: str) -> list[str]:
    """What axe calls serious or worse."""
    told = await Axe().run(page, options={"resultTypes": ["violations"]})
    return [
        f"{where}: {found['id']} {[node['target'] for node in found['nodes']][:3]}"
        for found in told.response["violations"]
        if found["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_axe_finds_nothing_serious(browser: Browser, quiet: House, theme: str) -> None:
    call = await quiet.call("CAseen")
    for cut in (False, True):
        quiet.publish(call.talk.turn(cut=cut, tool=cut))
    quiet.bus.publish(call.talk.fault())
    found: list[str] = []
    async with visit(browser, quiet.url, color_scheme=theme) as page:
        for place in VIEWS:
            await settled(page, place)
            found += await findings(page, place)
        await page.keyboard.press("?")
        await page.get_by_role("dialog").wait_for()
        found += await findings(page, "keys")
    async with visit(browser, quiet.url, color_scheme=theme, signed_in=False, allow="status of 401") as page:
        found += await findings(page, "sign in")
    assert not found, found


async def test_no_view_is_wider_than_the_screen(browser: Browser, quiet: House) -> None:
    call = await quiet.call("CAseen")
    quiet.publish(call.talk.turn(cut=True, tool=True))
    async with visit(browser, quiet.url) as page:
        for place in VIEWS:
            await settled(page, place)
            for width in WIDTHS:
                await page.set_viewport_size({"width": width, "height": 800})
                for _ in range(40):  # charts are drawn again a moment after the screen has its new size
                    wide = await page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
                    if wide[0] <= wide[1]:
                        break
                    await anyio.sleep(0.05)
                assert wide[0] <= wide[1], (place, width, wide)


async def test_everything_can_be_reached_by_keys(browser: Browser, quiet: House) -> None:
    for call_id in ("CAone", "CAtwo"):
        await quiet.call(call_id)
    async with visit(browser, quiet.url, "#/analytics") as page:
        await live(page)
        press = page.keyboard.press
        focused = page.locator(":focus")
        await press("Tab")
        await expect(focused).to_have_id("skip")
        await press("Enter")
        await expect(focused).to_have_id("main")
        assert page.url.endswith("#/analytics")
        await press("g")
        await press("l")
        await expect(page.locator(".calls li")).to_have_count(2)
        await expect(page.get_by_role("heading", level=1)).to_be_focused()
        await press("j")
        first = str(await focused.get_attribute("href"))
        await press("j")
        await expect(focused).to_have_attribute("href", re.compile(r"#/live/CA"))
        await expect(focused).not_to_have_attribute("href", first)
        await press("k")
        await expect(focused).to_have_attribute("href", first)
        assert await focused.evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
        await press("Enter")
        await expect(page.locator(".one-call")).to_be_visible()
        names = set()
        for _ in range(60):
            await press("Tab")
            names.add(
                await focused.evaluate("node => (node.textContent || node.getAttribute('aria-label') || '').trim()")
            )
            if "Hang up…" in names and "Send" in names:
                break
        assert {"Listen", "Mute agent", "Interrupt", "Transfer…", "Hang up…", "Send"} <= names
        await press("Escape")
        await page.locator("#main").focus()
        await press("Escape")
        await expect(page.locator(".one-call")).to_have_count(0)
        await press("/")
        await expect(page.get_by_label("Words or call id")).to_be_focused()
        await page.keyboard.type("g a ? j")
        await expect(page.get_by_label("Words or call id")).to_have_value("g a ? j")
        await press("Escape")
        await press("?")
        dialog = page.get_by_role("dialog", name="Keys")
        await expect(dialog).to_contain_text("next / previous call")
        await dialog.get_by_label("Single keys are shortcuts").uncheck()
        await press("Escape")
        await expect(dialog).to_have_count(0)
        await press("g")
        await press("a")
        assert "#/history" in page.url, "the keys are off"


async def test_the_theme_can_be_chosen_and_stays(browser: Browser, home: House) -> None:
    async with visit(browser, home.url, color_scheme="light") as page:
        back = "getComputedStyle(document.body).backgroundColor"
        light = await page.evaluate(back)
        button = page.get_by_role("button", name="Colours")
        await button.click()
        assert await page.evaluate(back) == light
        await button.click()
        assert await page.evaluate(back) != light
        await page.reload()
        await expect(button).to_have_text("dark")
        assert await page.evaluate(back) != light
