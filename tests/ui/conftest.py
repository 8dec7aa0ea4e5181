"""A browser, and a page that every test of a module shares."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from steper_serve.benchmarks.browser import chromium, installed

CHROMIUM = installed()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """The system's Chromium, started once. `.ci/run` installs it where it can."""
    if CHROMIUM is None:
        pytest.skip("no browser here: install the package chromium")
    expect.set_options(timeout=20_000)
    async with chromium() as browser:
        yield browser
