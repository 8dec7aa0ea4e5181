"""Plots as SVG: scores over seconds, means with intervals, stacked bars, lines.

What is left out: what the figures mean, which those know who ask for a plot.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from steper_serve.plots import svg
from steper_serve.plots.labels import Marker, count, labels, thin
from steper_serve.plots.svg import FOLDER, standalone

__all__ = ["FOLDER", "Marker", "bars", "count", "intervals", "lines", "scatter", "standalone"]

_LARGEST, _SMALLEST, _UNKNOWN = 20.0, 4.0, 6.0
_MOST_DOTS = 12  # of a line, beyond which it is drawn without them


def scatter(markers: Sequence[Marker], x_label: str, y_label: str) -> str:
    """Scores over seconds, markers by size, the best joined by a line; "" without a marker."""
    if not markers:
        return ""
    x = svg.x_scale([m.x for m in markers])
    y = svg.y_scale([(m.score["low"], m.score["high"]) for m in markers])
    largest = max((m.size or 0 for m in markers), default=0)
    placed = [(m, x.at(m.x), y.at(m.score["mean"]), _radius(m.size, largest)) for m in markers]
    best = sorted((px, py) for m, px, py, _ in placed if m.is_best)
    shapes = [*svg.axes(x, y, svg.HEIGHT, x_label)]
    lines = [box for a, b in pairwise(best) for box in thin(*a, *b)]
    if len(best) > 1:
        points = " ".join(f"{px:.1f},{py:.1f}" for px, py in best)
        shapes.append(svg.Shape("polyline", {"points": points, "class": "front"}))
    for marker, px, py, radius in placed:
        shapes += _marker(marker, px, py, radius, y)
        lines += thin(px, y.at(marker.score["low"]), px, y.at(marker.score["high"]))
    shapes += labels(placed, lines)
    title = f"{y_label} over {x_label}"
    note = "line: Pareto front" + ("; area: √parameters" if largest else "")
    return svg.drawn(
        title, svg.HEIGHT, [*shapes, svg.text(svg.WIDTH - svg.RIGHT, 24, note, "end", "faint")]
    )


def intervals(title: str, rows: Mapping[str, Mapping[str, float]]) -> str:
    """One line a row: its mean, and a bar over its interval."""
    left, height = _name_column(rows), svg.TOP + 26.0 * len(rows) + svg.BOTTOM
    x = svg.Scale(0.0, 1.0, left, svg.WIDTH - svg.RIGHT, [0, 0.2, 0.4, 0.6, 0.8, 1.0])
    shapes = [*svg.grid(x, svg.TOP, height - svg.BOTTOM)]
    for number, (name, value) in enumerate(rows.items()):
        y = svg.TOP + 26.0 * (number + 0.5)
        low, mean, high = (x.at(value[key]) for key in ("low", "mean", "high"))
        shapes.append(svg.text(left - 8, y + 4, svg.shortened(name), "end"))
        shapes.append(svg.line(low, y, high, y, "interval"))
        place = {"cx": f"{mean:.1f}", "cy": f"{y:.1f}", "r": "5"}
        shapes.append(svg.Shape("circle", {**place, "class": "fill0"}))
    return svg.drawn(title, height, shapes)


def bars(title: str, x_label: str, rows: Mapping[str, Mapping[str, float]]) -> str:
    """One stacked bar a row, its parts in one order of colours; "" without a row."""
    if not rows:
        return ""
    left, height = _name_column(rows), svg.TOP + 20 + 30.0 * len(rows) + svg.BOTTOM
    most = max(sum(parts.values()) for parts in rows.values()) or 1.0
    ticks = svg.tick_values(0.0, most)
    x = svg.Scale(0.0, max(ticks[-1], most), left, svg.WIDTH - svg.RIGHT, ticks)
    shapes = [*svg.legend(list(next(iter(rows.values()))), left)]
    shapes += svg.grid(x, svg.TOP + 20, height - svg.BOTTOM)
    shapes.append(
        svg.text((left + svg.WIDTH - svg.RIGHT) / 2, height - 12, x_label, "middle", "faint")
    )
    for number, (name, parts) in enumerate(rows.items()):
        y, reached = svg.TOP + 20 + 30.0 * number + 5, 0.0
        shapes.append(svg.text(left - 8, y + 14, svg.shortened(name), "end"))
        for colour, value in enumerate(parts.values()):
            begin, reached = reached, reached + max(value, 0.0)
            place = {"x": f"{x.at(begin):.1f}", "y": f"{y:.1f}", "height": "20"}
            width = {"width": f"{x.at(reached) - x.at(begin):.1f}"}
            shapes.append(svg.Shape("rect", {**place, **width, "class": svg.fill(colour)}))
    return svg.drawn(title, height, shapes)


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
    x = svg.x_scale([*([] if by_size else [0.0]), *(px for px, _ in points)])
    y = replace(svg.y_scale([(value, value) for _, value in points]), end=svg.TOP + 20)
    shapes = [*svg.legend(list(series), svg.LEFT), *svg.axes(x, y, svg.HEIGHT, x_label)]
    for number, line in enumerate(series.values()):
        placed = [(f"{x.at(px):.1f}", f"{y.at(py):.1f}") for px, py in sorted(line)]
        path = " ".join(f"{px},{py}" for px, py in placed)
        shapes.append(
            svg.Shape("polyline", {"points": path, "class": f"curve {svg.stroke(number)}"})
        )
        if len(placed) <= _MOST_DOTS:
            shapes += [
                svg.Shape("circle", {"cx": px, "cy": py, "r": "4", "class": svg.fill(number)})
                for px, py in placed
            ]
    return svg.drawn(title, svg.HEIGHT, shapes)


def _marker(
    marker: Marker, x: float, y: float, radius: float, scale: svg.Scale
) -> Iterator[svg.Shape]:
    low, high = scale.at(marker.score["low"]), scale.at(marker.score["high"])
    yield svg.line(x, low, x, high, "interval")
    known = "best" if marker.is_best else "other"
    place = {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": f"{radius:.1f}"}
    yield svg.Shape("circle", {**place, "class": known if marker.size else f"{known} unknown"})


def _radius(size: int | None, largest: int) -> float:
    """The area grows with the square root of the parameters, so that 0.5B shows beside 72B."""
    return max(_SMALLEST, _LARGEST * (size / largest) ** 0.25) if size else _UNKNOWN


def _name_column(names: Iterable[str]) -> float:
    return 16 + svg.LETTER * max(len(svg.shortened(name)) for name in names)
