"""`bench page` and `bench pictures` against a real page: what they make hangs together."""

import struct
from pathlib import Path

import pytest

from steper_serve.benchmarks import page as benchmark
from steper_serve.benchmarks import pictures
from steper_serve.benchmarks.browser import chromium
from steper_serve.benchmarks.failures import EndpointUnreachable
from tests.api.serving import QUESTION, make_loop
from tests.ui.conftest import CHROMIUM
from tests.ui.stage import Actor, site

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no browser here")


async def test_one_page_and_several_at_once() -> None:
    async with site(make_loop(Actor())) as url:
        measured = await benchmark.measure(url, [QUESTION], endpoint=f"{url}/v1", num_pages=2)
    assert (len(measured.alone), len(measured.direct), len(measured.together)) == (1, 1, 2)
    for shown in (*measured.alone, *measured.together):
        assert 0 < shown.first_text <= shown.answer
        assert shown.held >= 0
    line = measured.line()
    assert line["added_seconds"] == pytest.approx(measured.added_seconds, abs=1e-4)
    assert line["pages_at_once"].keys() == {"first_text_seconds", "answer_seconds", "held_seconds"}
    assert [row[0] for row in measured.table().rows][1:] == ["one page", "2 pages at once"]


async def test_a_picture_of_each_tab_in_each_window(tmp_path: Path) -> None:
    async with site(make_loop(Actor()), report=lambda: "<p>All of it.</p>") as url:
        taken = await pictures.take(url, QUESTION, tmp_path)
    tabs, windows = ("ask", "compare", "corpus", "benchmarks"), ("wide", "narrow", "dark")
    assert {file.stem for file in taken} == {f"{tab}-{name}" for tab in tabs for name in windows}
    assert len({file.read_bytes() for file in taken}) == len(taken) == 12
    for file in taken:  # the width stands in the first chunk of a PNG
        [width] = struct.unpack(">I", file.read_bytes()[16:20])
        assert width == (390 if "narrow" in file.stem else 1400)


async def test_no_page_is_told(tmp_path: Path) -> None:
    with pytest.raises(EndpointUnreachable, match=r"http://127\.0\.0\.1:9/"):
        await pictures.take("http://127.0.0.1:9/", QUESTION, tmp_path)


async def test_a_page_that_does_not_get_on_is_told() -> None:
    async def wait_in_vain() -> None:
        async with chromium() as browser:
            page = await browser.new_page()
            await page.locator("#answer").wait_for(timeout=100)

    with pytest.raises(EndpointUnreachable, match=r"the page failed: .*Timeout 100ms exceeded"):
        await wait_in_vain()
