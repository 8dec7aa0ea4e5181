"""The report: everything in one file, nothing from elsewhere, nothing that runs."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from click.testing import CliRunner

from steper_serve.benchmarks import report
from steper_serve.benchmarks.client import Reply, Times
from steper_serve.benchmarks.results import Results
from steper_serve.benchmarks.rows import Failure
from steper_serve.cli import main
from steper_serve.errors import ConfigurationError
from tests.benchmarks.test_rows import CELL, row, trace
from tests.recipes.worlds import city, question

VOID = {"meta", "br"}
HOSTILE = '<script>alert("x")</script> | a `pipe` \n and a line'


class Page(HTMLParser):
    """What a page is made of; that its elements are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag in ("td", "th"):
            self.cells.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def read(html: str) -> Page:
    page = Page()
    page.feed(html)
    page.close()
    assert page.open == []
    return page


@pytest.fixture
def folders(tmp_path):
    """Accuracy of two settings (one wrong answer in four; all wrong), latency of one."""
    cells = (CELL, replace(CELL, max_steps=7))
    with Results(tmp_path / "a", "accuracy", {"limit": 4}) as kept:
        for number in range(4):
            right = city(number) if number else "Nowhere"
            kept.add(row(number, right))
            kept.add(replace(row(number, "Nowhere"), cell=cells[1]))
        kept.add(row(9, reply=None, failure=Failure("AnswerFailed", HOSTILE)))
    with Results(tmp_path / "l", "latency", {}) as kept:
        kept.manifest.served["student"] = {"url": None, "num_parameters": 4_541_184}
        for number in range(3):
            reply = Reply("x", trace(city(number)), Times(1.0 + number, 0.1, 0.2, 0.9))
            cell = replace(CELL, streamed=True, concurrency=1)
            kept.add(replace(row(), cell=cell, question=question(number), reply=reply))
    return [tmp_path / "a", tmp_path / "l"]


def test_the_page_is_whole_and_needs_nothing_from_elsewhere(folders):
    html = report.make(folders).html()
    page = read(html)
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not {"src", "href", "onload", "onclick"} & {name for name, _ in page.attributes}
    style = "".join(re.findall(r"<style>(.*?)</style>", html, re.DOTALL))
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme: dark" in style
    assert set(re.findall(r"https?://[^\s\"'<]+", html)) == {"http://www.w3.org/2000/svg"}
    assert page.tags.count("svg") >= 3
    assert "viewport" in dict(page.attributes).values() or 'name="viewport"' in html


def test_the_figures_are_those_of_the_rows(folders):
    """By hand: with 5 steps 3 of 5 are right (one failed), with 7 none of 4; then 3 of 3."""
    cells = read(report.make(folders).html()).cells
    assert cells[cells.index("5 steps") + 1] == "5"
    assert cells[cells.index("5 steps") + 2].startswith("0.600 [")
    assert cells[cells.index("7 steps") + 2].startswith("0.000 [")
    timed = cells.index("world")
    assert cells[timed + 1].startswith("1.000 [")
    assert cells[timed + 2 : timed + 5] == ["2.000", "2.900", "2.000"]
    assert "4.54M" in cells
    assert "4,541,184" in cells


def test_what_a_server_says_is_text(folders):
    made = report.make(folders)
    assert "<script>" not in made.html()
    assert HOSTILE in read(made.html()).cells
    (line,) = [line for line in made.markdown().splitlines() if "alert" in line]
    assert "\\| a `pipe` and a line" in line
    assert line.count(" | ") == 3


def test_markdown_has_the_same_tables(folders):
    made = report.make(folders)
    lines = made.markdown().splitlines()
    heads = [n for n, line in enumerate(lines) if line.startswith("|---")]
    assert len(heads) == read(made.html()).tags.count("table")
    for number in heads:
        assert lines[number - 1].count("|") == lines[number].count("|")


def test_the_command_writes_both(folders, tmp_path):
    out = tmp_path / "deep" / "page.html"
    done = CliRunner().invoke(main, ["bench", "report", *map(str, folders), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert read(out.read_text())
    assert out.with_suffix(".md").read_text() in done.stdout
    assert (
        done.stdout.splitlines()[-1]
        == f'{{"html": "{out}", "markdown": "{out.with_suffix(".md")}"}}'
    )


def test_a_folder_that_holds_no_known_results_is_named(folders, tmp_path):
    with pytest.raises(ConfigurationError, match=r"holds no results: it has no manifest\.json"):
        report.make([*folders, tmp_path])
    (tmp_path / "manifest.json").write_text('{"benchmark": "juggling"}')
    with pytest.raises(ConfigurationError, match=r"'juggling', which this version does not know"):
        report.make([tmp_path])


def test_one_cell_in_two_folders_is_told_apart(folders, tmp_path):
    """As before and after a change: 3 of 5 right there, 1 of 1 here."""
    with Results(tmp_path / "later", "accuracy", {}) as kept:
        kept.add(row(1, city(1)))
    cells = read(report.make([folders[0], tmp_path / "later"]).html()).cells
    before, after = (f"student in {folder}, 5 steps" for folder in (folders[0], tmp_path / "later"))
    assert cells[cells.index(before) + 2].startswith("0.600 [")
    assert cells[cells.index(after) + 2].startswith("1.000 [")


def test_a_benchmark_that_has_only_begun_says_so(tmp_path):
    for name in ("accuracy", "latency"):
        with Results(tmp_path / name, name, {}):
            pass
    html = report.make([tmp_path / "accuracy", tmp_path / "latency"]).html()
    assert html.count("No question has been asked yet.") == 2
