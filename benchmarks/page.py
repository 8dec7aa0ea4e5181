"""The page in a browser: how soon streamed text shows, and whether many pages stay responsive.

Two things are measured, each question asked with a key press as a reader would:

- one page, its asks taking turns with the same asks put to the endpoint directly. What the page
  adds is the median from the key press to the first streamed text on it (the first query), less
  the median from a request to its first byte;
- several pages asking at once, each of a reader of its own: the same time, the time to the answer,
  and the longest that a page's own thread was held up meanwhile, which is how late it would notice
  a key.

Browser, page and endpoint share the machine. What is left out: what the page shows (tests/ui).
"""

import asyncio
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from playwright.async_api import Browser, Page

from steper_serve.benchmarks.browser import chromium, enter
from steper_serve.benchmarks.endpoint import openai_client
from steper_serve.benchmarks.tables import Table

# Times in ms since the key press, taken inside the page; `held` is the longest pause of its
# thread beyond the 20 ms between two looks.
_WATCH = """
(() => {
  const seen = (window.steperSeen = {});
  let last = performance.now();
  setInterval(() => {
    const now = performance.now();
    if (seen.start && !seen.answer) seen.held = Math.max(seen.held, now - last - 20);
    last = now;
  }, 20);
  addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !event.target.closest("#question")) return;
    const before = document.querySelector("#live .turn")?.dataset.turn;
    Object.assign(seen, { start: performance.now(), text: 0, answer: 0, before, held: 0 });
  }, true);
  const look = () => {
    const turn = document.querySelector("#live .turn");
    if (!turn || !seen.start || seen.answer || turn.dataset.turn === seen.before) return;
    const since = performance.now() - seen.start;
    if (!seen.text && turn.querySelector(".query .said")?.textContent) seen.text = since;
    if (turn.getAttribute("aria-busy") === "false") seen.answer = since;
  };
  addEventListener("DOMContentLoaded", () =>
    new MutationObserver(look).observe(document.body,
      { childList: true, subtree: true, characterData: true, attributes: true }));
})();
"""


@dataclass(frozen=True, slots=True)
class Shown:
    """One ask on a page, in seconds since its key press; `held` as above."""

    first_text: float
    answer: float
    held: float


@dataclass(frozen=True, slots=True)
class Measured:
    """`direct` are seconds from a request to its first byte, without the page."""

    alone: Sequence[Shown]
    direct: Sequence[float]
    together: Sequence[Shown]
    num_pages: int

    @property
    def added_seconds(self) -> float:
        """What the page adds to the endpoint's own first byte."""
        shown = statistics.median(s.first_text for s in self.alone)
        return shown - statistics.median(self.direct)

    def table(self) -> Table:
        """Medians and, after a stroke, the longest."""
        many = f"{self.num_pages} pages at once"
        rows = (
            ("endpoint: first byte", _told(self.direct), "", ""),
            ("one page", *_columns(self.alone)),
            (many, *_columns(self.together)),
        )
        note = f"ms, median / longest. The page adds {self.added_seconds * 1000:.0f} ms."
        return Table("Page", ("", "first text", "answer", "thread held up"), rows, note)

    def line(self) -> dict[str, Any]:
        """The figures, in seconds."""
        return {
            "num_pages": self.num_pages,
            "direct_first_byte_seconds": _spread(self.direct),
            "added_seconds": round(self.added_seconds, 4),
            "one_page": _figures(self.alone),
            "pages_at_once": _figures(self.together),
        }


async def measure(
    url: str, questions: Sequence[str], *, endpoint: str, num_pages: int, key: str | None = None
) -> Measured:
    """Ask each question on one page and directly, then one on each of `num_pages` at once.

    Args:
        url: of a running page.
        endpoint: URL of the endpoint that the page asks, up to /v1.

    Raises:
        ConfigurationError: there is no browser on this machine.
        EndpointUnreachable: there is no page at `url`, or its endpoint is not ready.
    """
    async with chromium() as browser:
        page = await _opened(browser, url)
        alone, direct = [], []
        await _ask(page, questions[0])  # both warm
        await _first_byte(endpoint, questions[0], key)
        for question in questions:
            alone.append(await _ask(page, question))
            direct.append(await _first_byte(endpoint, question, key))
        await page.close()
        pages = [await _opened(browser, url) for _ in range(num_pages)]
        asked = [questions[at % len(questions)] for at in range(num_pages)]
        together: list[Shown] = []
        for _ in range(2):  # the first warms the pages
            together = list(await asyncio.gather(*map(_ask, pages, asked)))
    return Measured(alone, direct, together, num_pages)


async def _opened(browser: Browser, url: str) -> Page:
    """A page with cookies, cache and connections of its own."""
    page = await browser.new_page()
    await page.add_init_script(_WATCH)
    await enter(page, url)
    return page


async def _ask(page: Page, question: str) -> Shown:
    await page.locator("#ask").wait_for()
    await page.wait_for_timeout(300)  # the ask before has ended on the server's side, too
    await page.fill("#question textarea", question)
    await page.locator("#question textarea").press("Enter")
    await page.wait_for_function("window.steperSeen.answer > 0")
    seen: Mapping[str, float] = await page.evaluate("window.steperSeen")
    return Shown(seen["text"] / 1000, seen["answer"] / 1000, seen["held"] / 1000)


async def _first_byte(endpoint: str, question: str, key: str | None) -> float:
    async with openai_client(endpoint, key=key, timeout=120.0, num_retries=0) as client:
        await client.models.list()  # so that the connection is there, as the page's is
        start = time.perf_counter()
        async with await client.chat.completions.create(
            model="steper",
            messages=[{"role": "user", "content": question}],
            stream=True,
            extra_body={"steper": {"trace": True}},
        ) as stream:
            seconds = 0.0
            async for _ in stream:
                seconds = seconds or time.perf_counter() - start
    return seconds


def _told(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds) * 1000:.0f} / {max(seconds) * 1000:.0f}"


def _columns(shown: Sequence[Shown]) -> tuple[str, str, str]:
    return (
        _told([s.first_text for s in shown]),
        _told([s.answer for s in shown]),
        _told([s.held for s in shown]),
    )


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    return {"median": round(statistics.median(seconds), 4), "max": round(max(seconds), 4)}


def _figures(shown: Sequence[Shown]) -> dict[str, Any]:
    names = ("first_text", "answer", "held")
    return {f"{name}_seconds": _spread([getattr(s, name) for s in shown]) for name in names}
