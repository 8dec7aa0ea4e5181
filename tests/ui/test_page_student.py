"""The page in a browser, over the real student in the real engine and the bundled index."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect
from playwright.async_api import TimeoutError as TookTooLong

from steper_serve.generation.vllm_engine import VllmEngine
from steper_serve.loop import Loop
from tests.api.serving import until
from tests.bundled import QUESTIONS, bundled_loop
from tests.ui.stage import site

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]

QUESTION = QUESTIONS[2].question


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def loop(engine: VllmEngine, student: Path, tmp_path_factory: pytest.TempPathFactory) -> Loop:
    return bundled_loop(engine, student, tmp_path_factory.mktemp("bundled"))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def url(loop: Loop) -> AsyncIterator[str]:
    async with site(loop) as served:
        yield served


async def test_the_student_is_watched_and_stopped(
    browser: Browser, loop: Loop, url: str, engine: VllmEngine
) -> None:
    [found] = loop.retriever.search(QUESTION, 1)
    page = await browser.new_page()
    await page.goto(url)
    await expect(page.locator(".light.up")).to_be_visible()
    await page.fill("#question textarea", QUESTION)
    await page.keyboard.press("Enter")
    live = page.locator("#live .turn")
    await expect(live.locator(".copies")).to_be_visible()
    await expect(live.locator(".answer .text")).not_to_be_empty()
    await expect(live.locator(".found .title").first).to_have_text(found.title)
    assert await live.locator(".step .thought .said").count() >= 2
    # As long and as wild an answer as there can be, so that it is running when it is stopped.
    await page.goto(f"{url}/?question=Who+is+it%3F&max_steps=10&temperature=2")
    await expect(page.locator(".light.up")).to_be_visible()
    for _ in range(10):
        await page.fill("#question textarea", "Who is it?")
        await page.keyboard.press("Enter")
        try:
            await page.locator("#stop").click(timeout=1_000)
        except TookTooLong:
            continue  # it was quicker
        await expect(live.locator(".note, .answer, .problem").first).to_be_visible()
        if "Stopped" in await live.inner_text():
            break
    else:
        pytest.fail("every answer was quicker than a click")
    await until(lambda: engine.num_running() == 0)
    await page.close()
