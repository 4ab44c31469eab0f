"""Live calls in the browser: what is said as it is said, what an operator does, what comes after a break."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import anyio
import pytest
from playwright.async_api import Browser, WebSocket, expect

from patter.bus import Bus
from patter.clock import Clock
from patter.events import AgentMuted, AgentSaid, CallEnded, CallerPartial, CallerSaid, CallStarted, ReplyText
from tests.page.visit import live, sign_in, visit
from tests.support.page_house import House, frame, house, until

pytestmark = pytest.mark.anyio

BROKEN = "ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET|ERR_FAILED"


async def test_a_call_is_seen_as_it_is_spoken(browser: Browser, quiet: House) -> None:
    call = await quiet.call("CAspoken")
    async with visit(browser, quiet.url) as page:
        await live(page)
        item = page.locator(".calls li", has_text="+15557654321 → +15550100")
        await expect(item).to_contain_text("00:0")
        await item.locator("a").click()
        await expect(page.locator(".call-head h2")).to_have_text("+15557654321 → +15550100")
        await expect(page.locator(".line.agent")).to_contain_text("Hello from the fake.")

        quiet.bus.publish(CallerPartial(call_id="CAspoken", text="What time"))
        partial = page.locator(".line.caller[data-state=partial]")
        await expect(partial).to_contain_text("What time")
        quiet.bus.publish(CallerPartial(call_id="CAspoken", text="What time do you open"))
        await expect(partial).to_contain_text("What time do you open")
        await expect(item.locator(".last")).to_contain_text("What time do you open")
        quiet.publish(call.talk.turn())
        await expect(partial).to_have_count(0)
        await expect(page.locator(".line.caller[data-state=final]")).to_contain_text(
            "What time do you open on Saturday morning?"
        )
        await expect(page.locator("#told")).to_contain_text("Caller: What time do you open on Saturday morning?")
        await expect(page.locator("#told p")).to_have_count(2)  # the answer is the other one: no partial was told

        quiet.publish(call.talk.turn(cut=True, tool=True))
        cut = page.locator(".line.agent[data-state=interrupted]")
        await expect(cut.locator(".words")).to_contain_text("Of course. On Tuesday I have")
        await expect(cut.locator("s")).to_contain_text("half past nine or half past four.")
        await expect(page.locator(".line.tool")).to_contain_text("find_slots(day=tuesday)")
        waterfall = page.locator("svg.waterfall")
        for label in ("eot", "stt", "llm", "1st", "tts", "play", "e2e"):
            await expect(waterfall).to_contain_text(label)
        assert len(await page.locator(".turns tbody tr").all()) >= 2
        await expect(page.locator(".money")).to_contain_text("deepgram")

        quiet.bus.publish(call.talk.fault())
        await expect(page.locator(".faults")).to_contain_text("the voice broke off")
        await call.session.hang_up("caller_hung_up")
        await expect(page.locator(".over")).to_contain_text("This call is over.")
        await expect(page.locator(".calls li")).to_have_count(0)


async def test_what_an_operator_does_reaches_the_call(browser: Browser, quiet: House) -> None:
    call = await quiet.call("CAsteered")
    async with visit(browser, quiet.url, "#/live/CAsteered") as page:
        await live(page)
        send = page.get_by_role("button", name="Send")
        for kind, text, told in (
            ("Say", "One moment, please.", call.session.said),
            ("Whisper", "Offer the earlier slot.", call.session.guidance),
            ("Keys", "12#", call.session.digits),
        ):
            await page.get_by_text(kind, exact=True).click()
            await page.locator(".composer input[type=text]").fill(text)
            await send.click()
            await until(lambda told=told, text=text: text in told)
            await expect(page.locator(".composer input[type=text]")).to_have_value("")
        await page.get_by_role("button", name="Interrupt").click()
        await until(lambda: call.session.interrupted == 1)
        await page.get_by_role("button", name="Mute agent").click()
        await until(lambda: call.session.muted)
        quiet.bus.publish(AgentMuted(call_id="CAsteered", muted=True))
        await page.get_by_role("button", name="Unmute agent").click()
        await until(lambda: not call.session.muted)

        await page.get_by_role("button", name="Transfer…").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Number").fill("555")
        await dialog.get_by_role("button", name="Transfer").click()
        await expect(dialog).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(dialog).to_have_count(0)

        await page.get_by_role("button", name="Hang up…").click()
        await dialog.get_by_role("button", name="Cancel").click()
        assert [row["call_id"] for row in quiet.records.keeper.live()] == ["CAsteered"]
        await page.get_by_role("button", name="Hang up…").click()
        await dialog.get_by_role("button", name="Hang up").click()
        await expect(page.locator(".over")).to_contain_text("This call is over.")
        await expect(send).to_be_disabled()


async def test_a_transfer_and_a_refusal_are_told(browser: Browser, quiet: House) -> None:
    await quiet.call("CAmoved")
    async with visit(browser, quiet.url, "#/live/CAmoved", allow="status of 4") as page:
        await live(page)
        await page.get_by_text("Keys", exact=True).click()
        await page.locator(".composer input[type=text]").fill("call me")
        await page.keyboard.press("Enter")
        await expect(page.locator(".notice.bad", has_text="Keys are up to 32")).to_be_visible()
        await page.get_by_role("button", name="Transfer…").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Number").fill("+15551234567")
        await dialog.get_by_role("button", name="Transfer").click()
        await expect(page.locator(".notice", has_text="The transfer was asked for.")).to_be_visible()
        await expect(page.locator(".over")).to_contain_text("This call is over.")


async def test_both_voices_are_heard(browser: Browser, quiet: House) -> None:
    taps = quiet.sound("CAheard")
    quiet.bus.publish(
        CallStarted(
            call_id="CAheard", caller="+15557654321", callee="+15550100", line="pcm_s16le/8000", telephony="twilio"
        )
    )
    frames: list[int] = []

    async def speak() -> None:
        for number in range(100_000):
            for tap in taps:
                tap.caller(frame(number, 300), quiet.clock.now())
                tap.agent(frame(number, 500), quiet.clock.now())
            await anyio.sleep(0.02)

    def opened(socket: WebSocket) -> None:
        socket.on("framereceived", lambda data: frames.append(len(data)))

    try:
        async with visit(browser, quiet.url, "#/live/CAheard") as page, anyio.create_task_group() as tasks:
            page.on("websocket", opened)
            tasks.start_soon(speak)
            await live(page)
            await page.get_by_role("button", name="Listen").click()
            listening = page.get_by_role("button", name="Listening")
            await expect(listening).to_have_attribute("aria-pressed", "true")
            await until(lambda: len(frames) > 5)
            assert frames[-1] == 2 * 2 * 800, "100 ms of two channels"
            await listening.click()
            silent = page.get_by_role("button", name="Listen", exact=True)
            await expect(silent).to_have_attribute("aria-pressed", "false")
            tasks.cancel_scope.cancel()
    finally:
        for tap in taps:
            tap.close(quiet.clock.now())
        quiet.bus.publish(CallEnded(call_id="CAheard", reason="caller_hung_up", duration_s=1.0))


HOSTILE = (
    "<img src=x onerror=\"document.title='owned'\">",
    "</script><script>document.title='owned'</script>",
    "\u202egnorw si siht \u202c \u2067عربى\u2069 שלום",
    "👩‍👩‍👧‍👦 e\u0301\u0301\u0301 \u0000\ufffe",
    "x" * 4000,
    "one two " * 500,
)


async def test_hostile_words_are_only_words(browser: Browser, quiet: House) -> None:
    call_id = "CAhostile"
    await quiet.call(call_id, caller="<b>caller</b>" + "9" * 300)
    async with visit(browser, quiet.url, f"#/live/{call_id}", viewport={"width": 360, "height": 740}) as page:
        await live(page)
        for turn, text in enumerate(HOSTILE, 1):
            quiet.bus.publish(CallerSaid(call_id=call_id, turn=turn, text=text))
            quiet.bus.publish(ReplyText(call_id=call_id, reply_id=turn + 1, text=text))
            quiet.bus.publish(
                AgentSaid(call_id=call_id, turn=turn, reply_id=turn + 1, text="", interrupted=True, dropped=text)
            )
        await expect(page.locator(".line.agent s")).to_have_count(len(HOSTILE))
        said = await page.locator(".line.caller .words").all_inner_texts()
        assert said[0] == HOSTILE[0]
        assert len(said[4]) == 4000
        assert await page.locator("main img, main script, main b:has-text('caller')").count() == 0
        assert "owned" not in await page.title()
        await expect(page.locator(".call-head h2")).to_contain_text("<b>caller</b>")
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        await page.goto(f"{quiet.url}/dashboard#/live")
        await expect(page.locator(".calls li")).to_contain_text("<b>caller</b>")
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_what_happened_during_a_break_is_there_after_it(browser: Browser, quiet: House) -> None:
    call = await quiet.call("CAbreak")
    async with visit(browser, quiet.url, "#/live/CAbreak", allow=BROKEN) as page:
        await live(page)
        await page.route("**/api/v1/events*", lambda route: route.abort())
        quiet.server.events.close()
        await expect(page.locator("#state")).to_have_text("reconnecting…")
        quiet.publish(call.talk.turn("Did you hear me?", "Yes, I did."))
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url) if "/events" in request.url else None)
        await page.unroute("**/api/v1/events*")
        await live(page)
        await expect(page.locator(".line.caller", has_text="Did you hear me?")).to_have_count(1)
        await expect(page.locator(".line.agent", has_text="Yes, I did.")).to_have_count(1)
        assert any("after=" in url for url in asked)
        assert not any(url.endswith("/CAbreak/events") for url in asked), "all of it was resumed, nothing read anew"


async def test_after_a_gap_everything_is_read_anew(browser: Browser, tmp_path: Path) -> None:
    bus = Bus(Clock())
    bus._backlog = deque(maxlen=20)  # an hour of events in twenty
    async with house(tmp_path, bus=bus) as small:
        call = await small.call("CAgap")
        async with visit(browser, small.url, "#/live/CAgap", allow=BROKEN) as page:
            await live(page)
            await page.route("**/api/v1/events*", lambda route: route.abort())
            small.server.events.close()
            await expect(page.locator("#state")).to_have_text("reconnecting…")
            for _ in range(3):
                small.publish(call.talk.turn())
            await small.call("CAother")
            await page.unroute("**/api/v1/events*")
            await live(page)
            await expect(page.locator(".line.caller")).to_have_count(3)
            await expect(page.locator(".calls li")).to_have_count(2)


async def test_another_engine_at_the_same_address_is_noticed(browser: Browser, tmp_path: Path) -> None:
    async with house(tmp_path) as first:
        await first.call("CAfirst")
        port = first.server.port
        context = visit(browser, first.url, allow=f"{BROKEN}|status of 401")
        page = await context.__aenter__()
        await live(page)
        await expect(page.locator(".calls li")).to_have_count(1)
        await page.route("**/api/v1/engine", lambda route: route.abort())
    await expect(page.locator("#state")).to_have_text("reconnecting…")
    async with house(tmp_path, port=port, engine_id="f" * 16) as second:
        await sign_in(page, second.url)
        await page.unroute("**/api/v1/engine")
        await expect(page.locator(".notice", has_text="The engine was restarted")).to_be_visible()
        await live(page)
        await expect(page.locator(".calls li")).to_have_count(0)
        await second.call("CAsecond")
        await expect(page.locator(".calls li")).to_have_count(1)
        await context.__aexit__(None, None, None)
