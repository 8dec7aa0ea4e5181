"""The system's Chromium, and the page of a running server opened in it.

What is left out: what is done there (benchmarks.page, benchmarks.pictures).
"""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, Error, Page, async_playwright

from steper_serve.benchmarks.failures import EndpointUnreachable
from steper_serve.errors import ConfigurationError

_BROWSERS = ("chromium", "google-chrome", "chromium-browser")
_WAIT_MS = 120_000.0
# Pages that nobody sees are slowed down otherwise; ours are all "looked at".
_FLAGS = (
    "--no-sandbox",
    "--disable-renderer-backgrounding",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser without a window.

    Raises:
        ConfigurationError: there is none on this machine.
    """
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        raise ConfigurationError("there is no browser here: install the package chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=found, args=list(_FLAGS))
        yield browser
        await browser.close()


async def enter(page: Page, url: str) -> None:
    """Open the page at `url` and wait until it says that its endpoint is ready.

    Raises:
        EndpointUnreachable: there is no such page, or its endpoint is not ready within two minutes.
    """
    page.set_default_timeout(_WAIT_MS)
    try:
        await page.goto(url)
        await page.locator(".light.up").wait_for()
    except Error as error:
        reason = error.message.splitlines()[0]
        raise EndpointUnreachable(f"no page that is ready at {url}: {reason}") from error
