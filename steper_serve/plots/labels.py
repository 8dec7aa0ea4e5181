"""Names beside the markers of a scatter plot, none over another."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from steper_serve.plots import svg

_NUM_BESIDE = 2  # places right and left of a marker, the first of all
_UNITS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))

Box = tuple[float, float, float, float]
Placed = tuple["Marker", float, float, float]  # x, y and radius in pixels


@dataclass(frozen=True, slots=True)
class Marker:
    """A point of a scatter plot; `score` is {"mean", "low", "high"}."""

    name: str
    x: float
    score: Mapping[str, float]
    size: int | None
    is_best: bool


def count(number: int | None) -> str:
    """A number of parameters as people say it: 4.5M, 7.6B; "" for None."""
    if number is None:
        return ""
    for size, unit in _UNITS:
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)


def labels(placed: Sequence[Placed], lines: Sequence[Box]) -> Iterator[svg.Shape]:
    """Names beside their markers: at the first of several places where nothing else is.

    If there is no such place, a name may cross one of the `lines`, but no marker and no name. One
    that stands neither right nor left of its marker is tied to it by a line.
    """
    taken: list[Box] = [(x - r, y - r, x + r, y + r) for _, x, y, r in placed]
    for marker, x, y, radius in placed:
        size = count(marker.size)
        text = svg.shortened(f"{marker.name} ({size})" if size else marker.name)
        places = list(_places(x, y, radius))
        boxes = [_box(px, py, svg.LETTER * len(text), anchor) for px, py, anchor in places]
        free = [n for n, box in enumerate(boxes) if _inside(box) and not _hits(box, taken)]
        clear = [n for n in free if not _hits(boxes[n], lines)]
        chosen = next(iter(clear or free), 0)
        taken.append(boxes[chosen])
        px, py, anchor = places[chosen]
        if chosen >= _NUM_BESIDE:
            yield _tie(x, y, radius, px, py - 4)
        yield svg.text(px, py, text, anchor, "name")


def _tie(x: float, y: float, radius: float, to_x: float, to_y: float) -> svg.Shape:
    """From the edge of a marker towards its name."""
    share = radius / max(radius, math.hypot(to_x - x, to_y - y))
    return svg.line(x + (to_x - x) * share, y + (to_y - y) * share, to_x, to_y, "tie")


def _places(x: float, y: float, radius: float) -> Iterator[tuple[float, float, str]]:
    """Where a name may stand: right, left, and further and further above and below."""
    gap = radius + 5
    sides = ((x + gap, "start"), (x - gap, "end"))
    yield from ((px, y + 4, anchor) for px, anchor in sides)
    for away in (14.0, 28.0, 42.0, 56.0):
        for px, anchor in (*sides, (x + 4, "start"), (x - 4, "end")):
            yield px, y - radius - away + 8, anchor
            yield px, y + radius + away, anchor


def thin(x1: float, y1: float, x2: float, y2: float) -> Iterator[Box]:
    """A line as a row of small boxes."""
    num = 1 + int(max(abs(x2 - x1), abs(y2 - y1)) / 6)
    for n in range(num + 1):
        x, y = x1 + (x2 - x1) * n / num, y1 + (y2 - y1) * n / num
        yield x - 2, y - 2, x + 2, y + 2


def _box(x: float, y: float, width: float, anchor: str) -> Box:
    left = x if anchor == "start" else x - width
    return left, y - 10, left + width, y + 3


def _inside(box: Box) -> bool:
    return (
        box[0] >= svg.LEFT
        and box[2] <= svg.WIDTH
        and box[1] >= svg.TOP - 12
        and box[3] <= svg.HEIGHT - svg.BOTTOM
    )


def _hits(box: Box, others: Iterable[Box]) -> bool:
    return any(box[0] < o[2] and o[0] < box[2] and box[1] < o[3] and o[1] < box[3] for o in others)
