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
_FLAGS = (
    # Its sandbox needs rights that a container seldom has; it visits our own page alone.
    "--no-sandbox",
    "--disable-dev-shm-usage",
    # Pages that nobody sees are slowed down otherwise; ours are all "looked at".
    "--disable-renderer-backgrounding",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
)


def installed() -> str | None:
    """The path of this machine's browser."""
    return next(filter(None, map(shutil.which, _BROWSERS)), None)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser without a window.

    Raises:
        ConfigurationError: there is none on this machine.
        EndpointUnreachable: what is done in it fails, or waits in vain for two minutes.
    """
    found = installed()
    if found is None:
        raise ConfigurationError("there is no browser here: install the package chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=found, args=list(_FLAGS))
        try:
            yield browser
        except Error as error:
            raise EndpointUnreachable(f"the page failed: {_first_line(error)}") from error
        finally:
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
        reason = _first_line(error)
        raise EndpointUnreachable(f"no page that is ready at {url}: {reason}") from error


def _first_line(error: Error) -> str:
    return error.message.splitlines()[0]
