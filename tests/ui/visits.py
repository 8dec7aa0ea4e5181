"""What readers do: open the page, and ask."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, Page, Request, expect

from tests.api.serving import QUESTION


@asynccontextmanager
async def opened(browser: Browser, url: str, path: str = "/", **how: object) -> AsyncIterator[Page]:
    """A page of a reader of its own, who must not see a script fail nor ask anybody else."""
    context = await browser.new_context(**{"viewport": {"width": 1400, "height": 900}, **how})
    page = await context.new_page()
    page.set_default_timeout(20_000)
    failures: list[str] = []

    def note(request: Request) -> None:
        if not request.url.startswith((url, "data:", "blob:", "about:")):
            failures.append(f"asks elsewhere: {request.url}")

    page.on("request", note)
    page.on("pageerror", lambda error: failures.append(str(error)))
    try:
        await page.goto(url + path)
        await expect(page.locator(".light.up")).to_be_visible()
        yield page
        assert failures == []
    finally:
        await context.close()


async def ask(page: Page, question: str = QUESTION) -> None:
    """Ask, as soon as what was asked before has ended; returns when its turn is there."""
    await page.get_by_role("tab", name="Ask").click()
    box = page.locator("#question textarea")
    turn = page.locator("#live .turn")
    before = await turn.get_attribute("data-turn") if await turn.count() else ""
    begun = page.locator(f"#live .turn:not([data-turn='{before}'])")
    await box.fill(question)
    for _ in range(40):
        await box.press("Enter")
        try:
            await expect(begun).to_be_visible(timeout=500)
        except AssertionError:
            continue
        return
    pytest.fail("the question is not taken")
