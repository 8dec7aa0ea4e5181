"""Plots: well-formed, every figure at its place, names that do not cover each other."""

import math
import xml.etree.ElementTree as ElementTree
from itertools import combinations

import pytest

from steper_serve import plots
from steper_serve.plots import Marker
from steper_serve.plots.svg import LEFT, WIDTH

NAMESPACE = {"s": "http://www.w3.org/2000/svg"}
LETTER = 6.6


def marker(name: str, x: float, mean: float, size=None, is_best=False) -> Marker:
    return Marker(name, x, {"mean": mean, "low": mean - 0.05, "high": mean + 0.05}, size, is_best)


def read(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)  # noqa: S314 - our own


def circles(svg: str) -> list[tuple[float, float, float]]:
    found = read(svg).findall("s:circle", NAMESPACE)
    return [tuple(float(c.attrib[name]) for name in ("cx", "cy", "r")) for c in found]


def names(svg: str) -> list[tuple[str, tuple[float, float, float, float]]]:
    """Each name with the box that it takes."""
    found = []
    for text in read(svg).findall("s:text[@class='name']", NAMESPACE):
        x, y, width = float(text.attrib["x"]), float(text.attrib["y"]), LETTER * len(text.text)
        left = x - width if text.attrib["text-anchor"] == "end" else x
        found.append((text.text, (left, y - 9, left + width, y + 2)))
    return found


def test_markers_stand_where_their_figures_are():
    """Oracle: places are linear, so that ratios of distances are those of the figures."""
    svg = plots.scatter([marker("a", 1, 0.2), marker("b", 2, 0.4), marker("c", 4, 0.8)], "s", "EM")
    (ax, ay, _), (bx, by, _), (cx, cy, _) = circles(svg)
    assert (cx - ax) / (bx - ax) == pytest.approx(3, abs=0.01)
    assert (cy - ay) / (by - ay) == pytest.approx(3, abs=0.01)
    assert ax < bx < cx
    assert ay > by > cy


def test_seconds_far_apart_are_on_a_logarithmic_axis():
    svg = plots.scatter(
        [marker("a", 0.1, 0.5), marker("b", 1, 0.5), marker("c", 100, 0.5)], "s", "F1"
    )
    (ax, *_), (bx, *_), (cx, *_) = circles(svg)
    assert (cx - bx) / (bx - ax) == pytest.approx(2, abs=0.01)


def test_the_area_grows_with_the_root_of_the_parameters():
    sizes = (10**9, 16 * 10**9, None)
    svg = plots.scatter([marker(f"{n}", 1 + n, 0.5, s) for n, s in enumerate(sizes)], "s", "EM")
    small, large, unknown = (r for *_, r in circles(svg))
    assert (large / small) ** 2 == pytest.approx(4, rel=0.02)
    assert "unknown" in read(svg).findall("s:circle", NAMESPACE)[2].attrib["class"]
    assert unknown > 0
    assert [text for text, _ in names(svg)] == ["0 (1B)", "1 (16B)", "2"]


def test_the_front_joins_the_best_from_left_to_right():
    svg = plots.scatter(
        [marker("b", 2, 0.6, is_best=True), marker("x", 3, 0.1), marker("a", 1, 0.5, is_best=True)],
        *("s", "EM"),
    )
    (line,) = read(svg).findall("s:polyline", NAMESPACE)
    places = [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]
    (bx, by, _), _, (ax, ay, _) = circles(svg)
    assert places == [(ax, ay), (bx, by)]


def test_names_neither_cover_each_other_nor_leave_the_plot():
    crowd = [marker(f"student {n}, ircot, {n} steps", 1 + n / 50, 0.5 + n / 100) for n in range(6)]
    crowd.append(marker("a name at the very right of the plot", 2.0, 0.3))
    boxes = [box for _, box in names(plots.scatter(crowd, "s", "EM"))]
    assert len(boxes) == 7
    for a, b in combinations(boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    assert all(left >= 0 and right <= WIDTH for left, _, right, _ in boxes)


def test_a_name_away_from_its_marker_is_tied_to_it():
    crowd = [marker(f"student {n}", 1 + n / 500, 0.5) for n in range(5)]
    svg = plots.scatter([*crowd, marker("apart", 2, 0.5)], "s", "EM")
    ties = [
        [float(tie.attrib[name]) for name in ("x1", "y1", "x2", "y2")]
        for tie in read(svg).findall("s:line[@class='tie']", NAMESPACE)
    ]
    for (x, y, r), (_, (left, top, right, bottom)) in zip(circles(svg), names(svg), strict=True):
        level = top < y < bottom
        mine = [
            tie
            for tie in ties
            if math.hypot(tie[0] - x, tie[1] - y) == pytest.approx(r, abs=0.2)
            and left - 1 <= tie[2] <= right + 1
            and top <= tie[3] <= bottom
        ]
        assert len(mine) == (not level)
    assert ties


def test_bars_are_as_long_as_their_figures():
    svg = plots.bars(
        "t", "ms", {"a": {"queue": 1.0, "decode": 3.0}, "b": {"queue": 2.0, "decode": 0}}
    )
    rects = read(svg).findall("s:rect", NAMESPACE)[2:]  # behind the legend's two
    widths = [float(rect.attrib["width"]) for rect in rects]
    assert widths[1] / widths[0] == pytest.approx(3, rel=0.01)
    assert widths[2] / widths[0] == pytest.approx(2, rel=0.01)
    assert float(rects[1].attrib["x"]) == pytest.approx(
        float(rects[0].attrib["x"]) + widths[0], abs=0.2
    )
    assert plots.bars("t", "ms", {}) == ""


def test_intervals_are_bars_around_their_means():
    svg = plots.intervals("t", {"a": {"low": 0.2, "mean": 0.4, "high": 0.6}})
    (bar,) = read(svg).findall("s:line[@class='interval']", NAMESPACE)
    ((x, _, _),) = circles(svg)
    assert float(bar.attrib["x1"]) < x < float(bar.attrib["x2"])
    assert x == pytest.approx((float(bar.attrib["x1"]) + float(bar.attrib["x2"])) / 2, abs=0.1)


def test_what_is_named_is_text():
    svg = plots.scatter([marker("<script>&", 1, 0.5), marker("x", 0, 0)], "a<b", "EM")
    assert "<script>" not in svg
    assert names(svg)[0][0] == "<script>&"


def test_a_plot_in_a_file_brings_its_colours():
    alone = plots.standalone(plots.scatter([marker("a", 1, 0.5)], "s", "EM"))
    root = read(alone)
    style = root.find("s:style", NAMESPACE)
    assert style is not None
    assert "prefers-color-scheme: dark" in style.text
    assert "http" not in style.text


@pytest.mark.parametrize(
    ("number", "said"),
    [(4_541_184, "4.54M"), (7_615_616_512, "7.62B"), (72 * 10**9, "72B"), (12, "12"), (None, "")],
)
def test_parameters_are_said_as_people_say_them(number, said):
    assert plots.count(number) == said


def polylines(svg: str) -> list[list[tuple[float, float]]]:
    found = read(svg).findall("s:polyline", NAMESPACE)
    pairs = ([pair.split(",") for pair in line.attrib["points"].split()] for line in found)
    return [[(float(x), float(y)) for x, y in line] for line in pairs]


def test_lines_go_where_their_figures_are():
    """Oracle: places are linear; x begins at 0, and points are joined in the order of x."""
    svg = plots.lines("σ", "step", {"a": [(100, 0.2), (50, 0.4)], "b": [(100, 0.6)]})
    (first, second), ((bx, by),) = polylines(svg)
    assert first[0] < second[0] == bx
    assert (second[0] - LEFT) / (first[0] - LEFT) == pytest.approx(2, abs=0.01)
    assert second[1] - first[1] == pytest.approx(first[1] - by, abs=0.11)
    assert len(circles(svg)) == 3
    assert plots.lines("σ", "step", {"a": []}) == ""


def test_sizes_far_apart_are_on_a_logarithmic_axis():
    points = [(1e6, 0.1), (1e8, 0.2), (1e10, 0.3)]
    svg = plots.lines("Acc", "parameters", {"a": points}, by_size=True)
    ((first, second, third),) = polylines(svg)
    assert third[0] - second[0] == pytest.approx(second[0] - first[0], abs=0.11)
