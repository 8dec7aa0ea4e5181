"""Plots as SVG: accuracy over latency, means with intervals, stacked bars, lines.

A plot is a list of shapes at computed places, which a template writes out. Colours are classes
of `templates/plot.css`, so that a plot follows the reader's light or dark scheme. What is left
out: what the figures mean (accuracy, latency).
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import jinja2

TEMPLATES = Path(__file__).parent / "templates"
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 760.0, 64.0, 24.0, 40.0, 56.0
_HEIGHT = 460.0
_LETTER = 6.6  # the mean width of a letter at the plots' 12 pixels
_LARGEST, _SMALLEST, _UNKNOWN = 20.0, 4.0, 6.0
_NUM_COLOURS = 6
_MOST_DOTS = 12  # of a line, beyond which it is drawn without them
_UNITS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Marker:
    """A point of a scatter plot; `score` is {"mean", "low", "high"}."""

    name: str
    x: float
    score: Mapping[str, float]
    size: int | None
    is_best: bool


Placed = tuple[Marker, float, float, float]  # x, y and radius in pixels


@dataclass(frozen=True, slots=True)
class Shape:
    """An element of SVG."""

    tag: str
    attributes: Mapping[str, str]
    text: str = ""


@dataclass(frozen=True, slots=True)
class Scale:
    """A range of values on a range of pixels."""

    low: float
    high: float
    start: float
    end: float
    ticks: Sequence[float] = field(default=())
    is_log: bool = False

    def at(self, value: float) -> float:
        low, high, value = (
            (math.log(v) for v in (self.low, self.high, value))
            if self.is_log
            else (self.low, self.high, value)
        )
        return self.start + (self.end - self.start) * (value - low) / (high - low)


def scatter(markers: Sequence[Marker], x_label: str, y_label: str) -> str:
    """Scores over seconds, markers by size, the best joined by a line; "" without a marker."""
    if not markers:
        return ""
    x = _x_scale([m.x for m in markers])
    y = _y_scale([(m.score["low"], m.score["high"]) for m in markers])
    largest = max((m.size or 0 for m in markers), default=0)
    placed = [(m, x.at(m.x), y.at(m.score["mean"]), _radius(m.size, largest)) for m in markers]
    best = sorted((px, py) for m, px, py, _ in placed if m.is_best)
    shapes = [*_axes(x, y, _HEIGHT, x_label)]
    lines = [box for a, b in pairwise(best) for box in _thin(*a, *b)]
    if len(best) > 1:
        points = " ".join(f"{px:.1f},{py:.1f}" for px, py in best)
        shapes.append(Shape("polyline", {"points": points, "class": "front"}))
    for marker, px, py, radius in placed:
        shapes += _marker(marker, px, py, radius, y)
        lines += _thin(px, y.at(marker.score["low"]), px, y.at(marker.score["high"]))
    shapes += _labels(placed, lines)
    title = f"{y_label} over {x_label}"
    note = "line: Pareto front" + ("; area: √parameters" if largest else "")
    return _drawn(title, _HEIGHT, [*shapes, _text(WIDTH - RIGHT, 24, note, "end", "faint")])


def intervals(title: str, rows: Mapping[str, Mapping[str, float]]) -> str:
    """One line a row: its mean, and a bar over its interval."""
    left, height = _name_column(rows), TOP + 26.0 * len(rows) + BOTTOM
    x = Scale(0.0, 1.0, left, WIDTH - RIGHT, [0, 0.2, 0.4, 0.6, 0.8, 1.0])
    shapes = [*_grid(x, TOP, height - BOTTOM)]
    for number, (name, value) in enumerate(rows.items()):
        y = TOP + 26.0 * (number + 0.5)
        low, mean, high = (x.at(value[key]) for key in ("low", "mean", "high"))
        shapes.append(_text(left - 8, y + 4, _shortened(name), "end"))
        shapes.append(_line(low, y, high, y, "interval"))
        place = {"cx": f"{mean:.1f}", "cy": f"{y:.1f}", "r": "5"}
        shapes.append(Shape("circle", {**place, "class": "fill0"}))
    return _drawn(title, height, shapes)


def bars(title: str, x_label: str, rows: Mapping[str, Mapping[str, float]]) -> str:
    """One stacked bar a row, its parts in one order of colours; "" without a row."""
    if not rows:
        return ""
    left, height = _name_column(rows), TOP + 20 + 30.0 * len(rows) + BOTTOM
    most = max(sum(parts.values()) for parts in rows.values()) or 1.0
    ticks = _ticks(0.0, most)
    x = Scale(0.0, max(ticks[-1], most), left, WIDTH - RIGHT, ticks)
    shapes = [*_legend(list(next(iter(rows.values()))), left)]
    shapes += _grid(x, TOP + 20, height - BOTTOM)
    shapes.append(_text((left + WIDTH - RIGHT) / 2, height - 12, x_label, "middle", "faint"))
    for number, (name, parts) in enumerate(rows.items()):
        y, reached = TOP + 20 + 30.0 * number + 5, 0.0
        shapes.append(_text(left - 8, y + 14, _shortened(name), "end"))
        for colour, value in enumerate(parts.values()):
            begin, reached = reached, reached + max(value, 0.0)
            place = {"x": f"{x.at(begin):.1f}", "y": f"{y:.1f}", "height": "20"}
            width = {"width": f"{x.at(reached) - x.at(begin):.1f}"}
            shapes.append(Shape("rect", {**place, **width, "class": _fill(colour)}))
    return _drawn(title, height, shapes)


def lines(
    title: str,
    x_label: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    by_size: bool = False,
) -> str:
    """Values over x, a line for each name; "" without a point.

    x begins at 0 or, if `by_size` (of models, say), is logarithmic where values are far apart.
    """
    points = [point for line in series.values() for point in line]
    if not points:
        return ""
    x = _x_scale([*([] if by_size else [0.0]), *(px for px, _ in points)])
    y = replace(_y_scale([(value, value) for _, value in points]), end=TOP + 20)
    shapes = [*_legend(list(series), LEFT), *_axes(x, y, _HEIGHT, x_label)]
    for number, line in enumerate(series.values()):
        placed = [(f"{x.at(px):.1f}", f"{y.at(py):.1f}") for px, py in sorted(line)]
        path = " ".join(f"{px},{py}" for px, py in placed)
        shapes.append(Shape("polyline", {"points": path, "class": f"curve {_stroke(number)}"}))
        if len(placed) <= _MOST_DOTS:
            shapes += [
                Shape("circle", {"cx": px, "cy": py, "r": "4", "class": _fill(number)})
                for px, py in placed
            ]
    return _drawn(title, _HEIGHT, shapes)


def count(number: int | None) -> str:
    """A number of parameters as people say it: 4.5M, 7.6B; "" for None."""
    if number is None:
        return ""
    for size, unit in _UNITS:
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)


def standalone(svg: str) -> str:
    """A plot as a file of its own, its colours with it."""
    css = (TEMPLATES / "plot.css").read_text(encoding="utf-8")
    head, _, rest = svg.partition(">")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{head}>\n<style>\n{css}</style>{rest}\n'


def _drawn(title: str, height: float, shapes: Iterable[Shape]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    template = environment.get_template("plot.svg.j2")
    return template.render(title=title, width=WIDTH, height=height, shapes=list(shapes))


def _axes(x: Scale, y: Scale, height: float, x_label: str) -> Iterator[Shape]:
    yield from _grid(x, TOP, height - BOTTOM)
    for value in y.ticks:
        yield _line(LEFT, y.at(value), WIDTH - RIGHT, y.at(value), "grid")
        yield _text(LEFT - 8, y.at(value) + 4, f"{value:.3g}", "end", "faint")
    yield _text((LEFT + WIDTH - RIGHT) / 2, height - 12, x_label, "middle", "faint")


def _grid(x: Scale, top: float, bottom: float) -> Iterator[Shape]:
    for value in x.ticks:
        yield _line(x.at(value), top, x.at(value), bottom, "grid")
        yield _text(x.at(value), bottom + 18, f"{value:.4g}", "middle", "faint")


def _marker(marker: Marker, x: float, y: float, radius: float, scale: Scale) -> Iterator[Shape]:
    low, high = scale.at(marker.score["low"]), scale.at(marker.score["high"])
    yield _line(x, low, x, high, "interval")
    known = "best" if marker.is_best else "other"
    place = {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": f"{radius:.1f}"}
    yield Shape("circle", {**place, "class": known if marker.size else f"{known} unknown"})


def _labels(placed: Sequence[Placed], lines: Sequence[Box]) -> Iterator[Shape]:
    """Names beside their markers: at the first of several places where nothing else is.

    If there is no such place, a name may cross one of the `lines`, but no marker and no name.
    """
    taken: list[Box] = [(x - r, y - r, x + r, y + r) for _, x, y, r in placed]
    for marker, x, y, radius in placed:
        size = count(marker.size)
        text = _shortened(f"{marker.name} ({size})" if size else marker.name)
        places = list(_places(x, y, radius))
        boxes = [_box(px, py, _LETTER * len(text), anchor) for px, py, anchor in places]
        free = [n for n, box in enumerate(boxes) if _inside(box) and not _hits(box, taken)]
        clear = [n for n in free if not _hits(boxes[n], lines)]
        chosen = next(iter(clear or free), 0)
        taken.append(boxes[chosen])
        px, py, anchor = places[chosen]
        yield _text(px, py, text, anchor, "name")


def _places(x: float, y: float, radius: float) -> Iterator[tuple[float, float, str]]:
    """Where a name may stand: right, left, and further and further above and below."""
    gap = radius + 5
    sides = ((x + gap, "start"), (x - gap, "end"))
    yield from ((px, y + 4, anchor) for px, anchor in sides)
    for away in (14.0, 28.0, 42.0, 56.0):
        for px, anchor in (*sides, (x + 4, "start"), (x - 4, "end")):
            yield px, y - radius - away + 8, anchor
            yield px, y + radius + away, anchor


def _thin(x1: float, y1: float, x2: float, y2: float) -> Iterator[Box]:
    """A line as a row of small boxes."""
    num = 1 + int(max(abs(x2 - x1), abs(y2 - y1)) / 6)
    for n in range(num + 1):
        x, y = x1 + (x2 - x1) * n / num, y1 + (y2 - y1) * n / num
        yield x - 2, y - 2, x + 2, y + 2


def _box(x: float, y: float, width: float, anchor: str) -> Box:
    left = x if anchor == "start" else x - width
    return left, y - 10, left + width, y + 3


def _inside(box: Box) -> bool:
    return box[0] >= LEFT and box[2] <= WIDTH and box[1] >= TOP - 12 and box[3] <= _HEIGHT - BOTTOM


def _hits(box: Box, others: Iterable[Box]) -> bool:
    return any(box[0] < o[2] and o[0] < box[2] and box[1] < o[3] and o[1] < box[3] for o in others)


def _legend(names: Sequence[str], left: float) -> Iterator[Shape]:
    x = left
    for number, name in enumerate(names):
        place = {"x": f"{x:.1f}", "y": f"{TOP - 10:.1f}", "width": "12", "height": "12"}
        yield Shape("rect", {**place, "class": _fill(number)})
        yield _text(x + 18, TOP, name, "start", "faint")
        x += 18 + _LETTER * len(name) + 20


def _x_scale(values: Sequence[float]) -> Scale:
    """From nothing, or logarithmic where values are far apart."""
    low, high = min(values), max(values)
    start, end = LEFT, WIDTH - RIGHT - 40
    if low > 0 and high / low > 20:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        ticks = [10.0**power for power in range(first, last + 1)]
        return Scale(ticks[0], ticks[-1], start, end, ticks, is_log=True)
    ticks = _ticks(0.0, high or 1.0)
    return Scale(0.0, max(ticks[-1], high * 1.05), start, end, ticks)


def _y_scale(ranges: Sequence[tuple[float, float]]) -> Scale:
    low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
    if high - low < 0.02:
        most = high + 0.05 if high > 1 else 1.0  # a share ends at 1
        low, high = max(0.0, low - 0.05), min(most, high + 0.05)
    ticks = _ticks(low, high)
    return Scale(min(low, ticks[0]), max(high, ticks[-1]), _HEIGHT - BOTTOM, TOP, ticks)


def _ticks(low: float, high: float) -> list[float]:
    """Round values about a fifth of the range apart, around all of it."""
    span = (high - low) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 5))
    step = next(power * f for f in (1, 2, 5, 10) if span / (power * f) <= 6)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]


def _radius(size: int | None, largest: int) -> float:
    """The area grows with the square root of the parameters, so that 0.5B shows beside 72B."""
    return max(_SMALLEST, _LARGEST * (size / largest) ** 0.25) if size else _UNKNOWN


def _name_column(names: Iterable[str]) -> float:
    return 16 + _LETTER * max(len(_shortened(name)) for name in names)


def _shortened(name: str) -> str:
    return name if len(name) <= 44 else f"{name[:43]}…"


def _fill(number: int) -> str:
    return f"fill{number % _NUM_COLOURS}"


def _stroke(number: int) -> str:
    return f"stroke{number % _NUM_COLOURS}"


def _line(x1: float, y1: float, x2: float, y2: float, look: str) -> Shape:
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return Shape("line", {**{name: f"{v:.1f}" for name, v in ends.items()}, "class": look})


def _text(x: float, y: float, text: str, anchor: str, look: str = "name") -> Shape:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor, "class": look}
    return Shape("text", place, text)
