"""Pictures of the page in a browser: every tab, in a wide window, a narrow one and a dark one.

They are for looking at, and for a README. What is left out: what the page has to show (tests/ui)
and how soon (benchmarks.page).
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from playwright.async_api import Page
from playwright.async_api import TimeoutError as TookTooLong

from steper_serve.benchmarks.browser import chromium, enter

_REPORT_MS = 5_000.0


@dataclass(frozen=True, slots=True)
class Window:
    """A browser's window; width and height in CSS pixels."""

    name: str
    width: int
    height: int
    colors: Literal["light", "dark"] = "light"


WINDOWS = (
    Window("wide", 1400, 1200),
    Window("narrow", 390, 844),
    Window("dark", 1400, 900, "dark"),
)


async def take(url: str, question: str, folder: Path) -> list[Path]:
    """Ask, compare and search for `question` on the page at `url`, in each of `WINDOWS`.

    Returns:
        The files, TAB-WINDOW.png in `folder`, as they were made; those of the same names before
        are replaced.

    Raises:
        ConfigurationError: there is no browser on this machine.
        EndpointUnreachable: there is no page at `url`, or its endpoint is not ready.
    """
    taken = []
    async with chromium() as browser:
        for window in WINDOWS:
            page = await browser.new_page(
                viewport={"width": window.width, "height": window.height},
                color_scheme=window.colors,
                reduced_motion="reduce",
            )
            await enter(page, url)
            for tab, fill in _TABS.items():
                await page.get_by_role("tab", name=tab).click()
                await fill(page, question)
                await page.wait_for_timeout(500)  # layout, scrolling and fading in have ended
                file = folder / f"{tab.lower()}-{window.name}.png"
                await page.screenshot(path=file)
                taken.append(file)
            await page.close()
    return taken


async def _ask(page: Page, question: str) -> None:
    await page.fill("#question textarea", question)
    await page.keyboard.press("Enter")
    await page.locator("#live .turn[aria-busy=false]").wait_for()


async def _compare(page: Page, question: str) -> None:
    await page.fill("#compare-question textarea", question)
    await page.click("#compare")
    for column in ("#column-1", "#column-2"):
        await page.locator(f"{column} .turn[aria-busy=false]").wait_for()


async def _corpus(page: Page, question: str) -> None:
    await page.fill("#query textarea", question)
    await page.keyboard.press("Enter")
    await page.locator("#hits .hits").wait_for()


async def _benchmarks(page: Page, question: str) -> None:
    with suppress(TookTooLong):  # a page without results says so from the start
        await page.locator("#report :is(iframe, .problem)").wait_for(timeout=_REPORT_MS)


_TABS = {"Ask": _ask, "Compare": _compare, "Corpus": _corpus, "Benchmarks": _benchmarks}
