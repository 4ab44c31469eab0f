"""A visit to the dashboard: a page of its own, signed in, whose errors fail the test.

It owns the browser's context and what may not happen in it; it refuses to know the views.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, ConsoleMessage, Page

from tests.support.serving import TOKEN

QUIET = ("[DOM]",)  # advice of the browser, no error
WIDE = {"width": 1440, "height": 900}
WATCH = "addEventListener('securitypolicyviolation', e => console.error('policy: ' + e.violatedDirective + ' ' + e.blockedURI))"


def chromium_options() -> dict[str, Any]:
    """How the system's Chromium is started."""
    sandbox = ["--no-sandbox"] if getattr(os, "geteuid", lambda: 1)() == 0 else []
    return {"executable_path": shutil.which("chromium"), "args": [*sandbox, "--js-flags=--expose-gc"]}


@asynccontextmanager
async def visit(
    browser: Browser,
    url: str,
    place: str = "",
    *,
    token: str = TOKEN,
    allow: str = "",
    signed_in: bool = True,
    **options: Any,
) -> AsyncIterator[Page]:
    """A page at `place` ("#/history"); at the end, nothing may have gone wrong in it but what `allow` matches."""
    context = await browser.new_context(**({"viewport": WIDE, "reduced_motion": "reduce"} | options))
    context.set_default_timeout(15_000)
    wrong: list[str] = []

    def console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(QUIET):
            wrong.append(f"{message.type}: {message.text} ({message.location.get('url')})")

    try:
        page = await context.new_page()
        await page.add_init_script(WATCH)
        page.on("console", console)
        page.on("pageerror", lambda error: wrong.append(f"raised: {error}"))
        if signed_in:
            await sign_in(page, url, token)
        await page.goto(f"{url}/dashboard{place}")
        yield page
        unexpected = [told for told in wrong if not (allow and re.search(allow, told))]
        assert not unexpected, unexpected
    finally:
        await context.close()


async def sign_in(page: Page, url: str, token: str = TOKEN) -> None:
    """Get the cookie of a sign-in, as the form does."""
    headers = {"X-Patter": "page", "Origin": url}
    answer = await page.context.request.post(f"{url}/dashboard/login", data={"token": token}, headers=headers)
    assert answer.ok, await answer.text()


async def live(page: Page) -> None:
    """Wait until the page follows the events."""
    await page.locator("#state[data-state=live]").wait_for()
