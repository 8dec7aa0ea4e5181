"""A browser, and a page that every test of a module shares."""

import shutil
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright, expect

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """The system's Chromium, started once. `.ci/run` installs it where it can."""
    if CHROMIUM is None:
        pytest.skip("no browser here: install the package chromium")
    expect.set_options(timeout=20_000)
    async with async_playwright() as playwright:
        # Its sandbox needs rights that a container seldom has; it visits our own page alone.
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        await browser.close()
