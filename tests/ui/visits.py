"""What readers do: open the page, and ask."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, Page, Request, expect

from tests.api.serving import QUESTION


@asynccontextmanager
async def opened(
    browser: Browser, url: str, path: str = "/", *, light: str = "Ready", **how: object
) -> AsyncIterator[Page]:
    """A page of a reader of its own, who must not see a script fail nor ask anybody else.

    Args:
        light: what the page says of the server once it has looked.
    """
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
        await expect(page.locator(".light")).to_have_text(light)
        yield page
        assert failures == []
    finally:
        await context.close()


async def ask(page: Page, question: str = QUESTION) -> None:
    """Ask, as soon as what was asked before has ended; returns when its turn is there."""
    await page.get_by_role("tab", name="Ask").click()
    box = page.locator("#question textarea")
    await box.fill(question)
    await insist(page, "#live", lambda: box.press("Enter"))


async def compare(page: Page) -> None:
    """Compare, as soon as what was compared before has ended; returns when its turns are there."""
    await page.get_by_role("tab", name="Compare").click()
    box = page.locator("#compare-question textarea")
    await box.fill(QUESTION)
    await insist(page, "#column-1", lambda: box.press("Enter"))


async def insist(page: Page, where: str, act: Callable[[], Awaitable[None]]) -> None:
    """Act until another turn is there: Gradio drops what comes while an event before it ends."""
    turn = page.locator(f"{where} .turn")
    before = await turn.get_attribute("data-turn") if await turn.count() else ""
    begun = page.locator(f"{where} .turn:not([data-turn='{before}'])")
    for _ in range(40):
        await act()
        try:
            await expect(begun).to_be_visible(timeout=1_000)
        except AssertionError:
            continue
        return
    pytest.fail(f"nothing begins in {where}")
