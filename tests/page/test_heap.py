"""Fifty calls in one page for a while: nothing may pile up in it."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, CDPSession, expect

from patter.events import CallEnded, CallerPartial, CallStarted
from tests.page.visit import live, visit
from tests.support.page_house import House
from tests.support.page_talk import Talk

pytestmark = pytest.mark.anyio

CALLS = 50
ROUNDS = 3
TURNS = 4  # of each call in a round: some 150 events, 7,000 a round of all


async def heap(cdp: CDPSession) -> dict[str, float]:
    """What is left after the garbage collector has been."""
    for _ in range(2):
        await cdp.send("HeapProfiler.collectGarbage")
    metrics = (await cdp.send("Performance.getMetrics"))["metrics"]
    return {
        one["name"]: one["value"] for one in metrics if one["name"] in ("JSHeapUsedSize", "Nodes", "JSEventListeners")
    }


@pytest.mark.timeout(90)
async def test_fifty_busy_calls_leave_nothing_behind(browser: Browser, quiet: House) -> None:
    """Calls talk, end and are followed by others, while one of them is looked at."""
    async with visit(browser, quiet.url) as page:
        await live(page)
        cdp = await page.context.new_cdp_session(page)
        await cdp.send("Performance.enable")
        taken: list[dict[str, float]] = []
        for number in range(ROUNDS):
            talks = [Talk(f"CAbusy{number}x{one}", quiet.clock.now(), one, agent="busy") for one in range(CALLS)]
            for talk in talks:
                quiet.publish(event for event in talk.start() if isinstance(event, CallStarted))
            await page.evaluate(f"location.hash = '#/live/CAbusy{number}x7'")
            await expect(page.locator(".calls li")).to_have_count(CALLS)
            for turn in range(TURNS):
                for talk in talks:
                    quiet.publish(talk.turn(cut=turn % 2 == 1))
                    for words in range(12):
                        quiet.bus.publish(CallerPartial(call_id=talk.call_id, text="word " * words))
                await page.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))")
            await expect(page.locator(".turns tbody tr")).to_have_count(TURNS)
            for talk in talks:
                quiet.bus.publish(CallEnded(call_id=talk.call_id, reason="caller_hung_up", duration_s=1.0))
            await expect(page.locator(".calls li")).to_have_count(0)
            taken.append(await heap(cdp))
        first, last = taken[1], taken[-1]  # the first round still compiles and fills what is kept anyway
        assert last["JSHeapUsedSize"] < first["JSHeapUsedSize"] + 1_000_000, taken
        assert last["Nodes"] <= first["Nodes"] + 200, taken
        assert last["JSEventListeners"] <= first["JSEventListeners"] + 10, taken
