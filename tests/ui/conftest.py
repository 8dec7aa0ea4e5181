"""A browser, and a page that every test shares."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from steper_serve.benchmarks.browser import chromium, installed
from tests.api.serving import make_loop
from tests.ui.stage import Actor, site
from tests.ui.visits import opened

CHROMIUM = installed()
REPORT = "<html><body style='height:2000px'><h1>Accuracy</h1><svg></svg></body></html>"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """The system's Chromium, started once. `.ci/run` installs it where it can."""
    if CHROMIUM is None:
        pytest.skip("no browser here: install the package chromium")
    expect.set_options(timeout=20_000)
    async with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def actor() -> Actor:
    """The model behind `url`."""
    return Actor()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def url(actor: Actor) -> AsyncIterator[str]:
    """Endpoint and page, with results."""
    async with site(make_loop(actor), report=lambda: REPORT) as served:
        yield served


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def one_page(browser: Browser, url: str) -> AsyncIterator[Page]:
    """A page that has opened, with an endpoint that is ready. Opening one takes a second."""
    async with opened(browser, url) as page:
        yield page


@pytest.fixture
def page(one_page: Page, actor: Actor) -> Page:
    """The page that most tests share, whatever is on it by then; the model says its lines."""
    actor.says()
    return one_page
