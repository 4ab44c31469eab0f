"""One call's record in the browser: its words beside its sound, and everything that was measured of it."""

from __future__ import annotations

import re
from dataclasses import replace

import anyio
import pytest
from playwright.async_api import Browser, Locator, expect

from patter.events import RecordingSaved, UsageMeasured
from tests.page.visit import visit
from tests.support.page_house import House, frame
from tests.support.page_talk import Talk, whole

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def recorded(home: House) -> str:
    """A call of some seconds that was recorded."""
    call_id = "CArecorded"
    events = home.bus.subscribe()
    taps = home.sound(call_id)
    began = home.clock.now()
    talk = Talk(call_id, began)
    for event in whole(talk, 3):
        home.bus.publish(event)
        if isinstance(event, UsageMeasured) and event.stage == "telephony":
            home.bus.publish(replace(event, model="stream"))  # as long as the call
    for number in range(int((talk.now - began) * 50)):
        for tap in taps:
            tap.caller(frame(number, 300), began + 0.02 * (number + 1))
    for tap in taps:
        tap.close(talk.now)
    with anyio.fail_after(20):
        async for event in events:
            if isinstance(event, RecordingSaved) and event.call_id == call_id:
                break
    home.bus.unsubscribe(events)
    return call_id


async def until(node: Locator, true: str) -> None:
    """Look again until this function of the node gives true; the page's policy lets no string wait inside of it."""
    with anyio.fail_after(15):
        while not await node.evaluate(true):
            await anyio.sleep(0.05)


async def test_a_line_seeks_the_sound_and_the_sound_marks_its_line(
    browser: Browser, quiet: House, recorded: str
) -> None:
    async with visit(browser, quiet.url, f"#/call/{recorded}") as page:
        audio = page.locator("audio")
        await expect(audio).to_be_visible()
        await until(audio, "a => a.readyState >= 1")
        assert await audio.evaluate("a => a.duration") > 10
        ranges: list[str] = []
        page.on("response", lambda told: ranges.append(f"{told.status}") if "/recording" in told.url else None)
        second = page.locator(".line.caller").nth(1)
        at = await second.locator(".time .time").inner_text()
        await second.locator("button.time").click()
        wanted = int(at.split(":")[0]) * 60 + int(at.split(":")[1])
        await until(audio, "a => a.currentTime > 0.5")
        now = await audio.evaluate("a => a.currentTime")
        assert wanted <= now < wanted + 6
        await expect(second).to_have_attribute("aria-current", "true")
        await audio.evaluate("a => { a.pause(); a.currentTime = a.duration - 0.2 }")
        await expect(second).not_to_have_attribute("aria-current", "true")
        await expect(page.locator(".line[aria-current]")).to_have_count(1)
        assert await page.locator(".strip rect").count() >= 6


async def test_everything_of_the_call_is_there(browser: Browser, quiet: House, recorded: str) -> None:
    async with visit(browser, quiet.url, f"#/call/{recorded}") as page:
        record = page.locator(".record")
        for text in ("caller hung up", "riverside-dental", "deepgram · openai · elevenlabs", "twilio, mulaw/8000"):
            await expect(record).to_contain_text(text)
        await expect(page.locator(".line.agent[data-state=interrupted] s")).to_contain_text("half past four")
        await expect(page.locator("svg.waterfall")).to_be_visible()
        before = await page.locator("svg.waterfall").get_attribute("aria-label")
        await page.locator(".turns .pick").nth(1).click()
        await expect(page.locator("svg.waterfall")).not_to_have_attribute("aria-label", str(before))
        await expect(page.get_by_role("region", name="Usage")).to_contain_text("gpt-4o-mini")
        await expect(page.locator(".money .use", has_text="twilio")).to_have_text(re.compile(r"^twilio [0-9.]+ s$"))
        await expect(page.get_by_role("region", name="Measured")).to_contain_text("3 lost")
        tools = page.get_by_role("region", name="Tools")
        await tools.get_by_text("find_slots").click()
        await expect(tools.locator("pre").first).to_have_text('{"day": "tuesday"}')
        question = page.get_by_role("region", name="What if")
        await question.get_by_label("Stage").select_option("tts")
        await until_options(question.get_by_label("With"))
        await question.get_by_role("button", name="Compare").click()
        await expect(question.get_by_role("table")).to_contain_text("would be")
        async with page.expect_download() as began:
            await page.get_by_role("link", name="journal (JSON Lines)").click()
        lines = (await (await began.value).path()).read_text("utf-8").splitlines()
        assert '"CallPlaced"' in lines[0]
        assert '"CallEnded"' in "".join(lines)
        async with page.expect_download() as began:
            await page.get_by_role("link", name="recording (WAV)").click()
        assert (await (await began.value).path()).read_bytes()[:4] == b"RIFF"


async def until_options(select: Locator) -> None:
    """Wait until there is something to choose."""
    await expect(select.locator("option").first).to_be_attached()


async def test_an_unknown_call_is_told(browser: Browser, home: House) -> None:
    async with visit(browser, home.url, "#/call/CAnever", allow="status of 404") as page:
        await expect(page.get_by_role("alert").filter(has_text="no such call")).to_be_visible()
