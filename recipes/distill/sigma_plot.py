"""A line plot as SVG: normalised sigma over the steps of a training (paper, eq. 5 and Figure 7)."""

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, MARGIN = 640, 360, 48
_COLOURS = ("#3366cc", "#e6851e", "#2e8b57", "#8844aa")


def svg(title: str, steps: Sequence[int], lines: Mapping[str, Sequence[float]]) -> str:
    """The plot of several values over steps, with axes and a legend.

    Args:
        steps: at least one, ascending.
        lines: by name, as many values as there are steps.
    """
    values = [v for line in lines.values() for v in line]
    low, high = min(values), max(values)
    low, high = (low - 0.05, high + 0.05) if high - low < 0.01 else (low, high)
    first, last = steps[0], max(steps[-1], steps[0] + 1)

    def point(step: float, value: float) -> tuple[float, float]:
        x = MARGIN + (WIDTH - 2 * MARGIN) * (step - first) / (last - first)
        return x, HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (value - low) / (high - low)

    parts = [_text(WIDTH / 2, MARGIN / 2, title, "middle")]
    for share in (0, 0.25, 0.5, 0.75, 1):
        value, step = low + share * (high - low), first + share * (last - first)
        x, y = point(step, value)
        parts.append(f'<path d="M{MARGIN} {y:.1f}H{WIDTH - MARGIN}" stroke="#ddd"/>')
        parts.append(_text(MARGIN - 6, y + 4, f"{value:.3f}", "end"))
        parts.append(_text(x, HEIGHT - MARGIN + 18, f"{step:.0f}", "middle"))
    for number, (name, line) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        points = [point(s, v) for s, v in zip(steps, line, strict=True)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(_text(MARGIN + 90 * number, HEIGHT - 10, name, "start", colour))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" '
        'fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#333") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">'
        f"{escape(text)}</text>"
    )
