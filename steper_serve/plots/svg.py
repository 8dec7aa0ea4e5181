"""Shapes of SVG, axes and legends, and the file they become.

A plot is a list of shapes at computed places, which a template writes out. Colours are classes of
`plot.css`, so that a plot follows the reader's light or dark scheme.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2

FOLDER = Path(__file__).parent
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 760.0, 64.0, 24.0, 40.0, 56.0
HEIGHT = 460.0
LETTER = 6.6  # the mean width of a letter at the plots' 12 pixels
_NUM_COLOURS = 6


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


def drawn(title: str, height: float, shapes: Iterable[Shape]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, undefined=jinja2.StrictUndefined
    )
    template = environment.get_template("plot.svg.j2")
    return template.render(title=title, width=WIDTH, height=height, shapes=list(shapes))


def standalone(svg: str) -> str:
    """A plot as a file of its own, its colours with it."""
    css = (FOLDER / "plot.css").read_text(encoding="utf-8")
    head, _, rest = svg.partition(">")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{head}>\n<style>\n{css}</style>{rest}\n'


def axes(x: Scale, y: Scale, height: float, x_label: str) -> Iterator[Shape]:
    yield from grid(x, TOP, height - BOTTOM)
    for value in y.ticks:
        yield line(LEFT, y.at(value), WIDTH - RIGHT, y.at(value), "grid")
        yield text(LEFT - 8, y.at(value) + 4, f"{value:.3g}", "end", "faint")
    yield text((LEFT + WIDTH - RIGHT) / 2, height - 12, x_label, "middle", "faint")


def grid(x: Scale, top: float, bottom: float) -> Iterator[Shape]:
    for value in x.ticks:
        yield line(x.at(value), top, x.at(value), bottom, "grid")
        yield text(x.at(value), bottom + 18, f"{value:.4g}", "middle", "faint")


def legend(names: Sequence[str], left: float) -> Iterator[Shape]:
    x = left
    for number, name in enumerate(names):
        place = {"x": f"{x:.1f}", "y": f"{TOP - 10:.1f}", "width": "12", "height": "12"}
        yield Shape("rect", {**place, "class": fill(number)})
        yield text(x + 18, TOP, name, "start", "faint")
        x += 18 + LETTER * len(name) + 20


def line(x1: float, y1: float, x2: float, y2: float, look: str) -> Shape:
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return Shape("line", {**{name: f"{v:.1f}" for name, v in ends.items()}, "class": look})


def text(x: float, y: float, text: str, anchor: str, look: str = "name") -> Shape:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor, "class": look}
    return Shape("text", place, text)


def fill(number: int) -> str:
    return f"fill{number % _NUM_COLOURS}"


def stroke(number: int) -> str:
    return f"stroke{number % _NUM_COLOURS}"


def x_scale(values: Sequence[float]) -> Scale:
    """From nothing, or logarithmic where values are far apart."""
    low, high = min(values), max(values)
    start, end = LEFT, WIDTH - RIGHT - 40
    if low > 0 and high / low > 20:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        ticks = [10.0**power for power in range(first, last + 1)]
        return Scale(ticks[0], ticks[-1], start, end, ticks, is_log=True)
    ticks = tick_values(0.0, high or 1.0)
    return Scale(0.0, max(ticks[-1], high * 1.05), start, end, ticks)


def y_scale(ranges: Sequence[tuple[float, float]]) -> Scale:
    low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
    if high - low < 0.02:
        most = high + 0.05 if high > 1 else 1.0  # a share ends at 1
        low, high = max(0.0, low - 0.05), min(most, high + 0.05)
    ticks = tick_values(low, high)
    return Scale(min(low, ticks[0]), max(high, ticks[-1]), HEIGHT - BOTTOM, TOP, ticks)


def tick_values(low: float, high: float) -> list[float]:
    """Round values about a fifth of the range apart, around all of it."""
    span = (high - low) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 5))
    step = next(power * f for f in (1, 2, 5, 10) if span / (power * f) <= 6)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]


def shortened(name: str) -> str:
    return name if len(name) <= 44 else f"{name[:43]}…"
