"""`bench page` against a real page: what it measures hangs together, whatever the figures are."""

import pytest

from steper_serve.benchmarks import page as benchmark
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
