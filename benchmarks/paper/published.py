"""What the paper printed, read from `published.toml`: facts to stand beside ours.

What is left out: any judgement of them; where two of the paper's tables disagree, both are kept.
"""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FILE = Path(__file__).parent / "published.toml"

Value = float | int | None


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a table, the paper's or ours.

    Args:
        kind: what the row belongs to ("Multi", "distilled", …); "" where there are no kinds.
        name: of the method or model.
        values: by column; None for a dash.
        texts: what a cell shows in place of its bare value, by column.
    """

    kind: str
    name: str
    values: Mapping[str, Value]
    texts: Mapping[str, str]

    def shown(self, column: str) -> str:
        """The cell as text: whole numbers as such, others with two decimals, as the paper."""
        if column in self.texts:
            return self.texts[column]
        value = self.values.get(column)
        if value is None:
            return "–"
        return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"


@dataclass(frozen=True, slots=True)
class Published:
    """A table or figure of the paper.

    Args:
        title: what it is, in our words.
        models, data, loop, judge: how the paper measured; `judge` is "" without one.
        columns: names of the values.
        lines: its rows. A figure's values are drawn and not printed, so that they are None.
        claims: what the paper's text says of it, in our words.
    """

    title: str
    models: str
    data: str
    loop: str
    judge: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    claims: tuple[str, ...]

    @property
    def is_drawn(self) -> bool:
        """Whether the paper prints none of its values."""
        return all(value is None for line in self.lines for value in line.values.values())


@cache
def published() -> Mapping[str, Published]:
    """All of them by name: "table1", "fig3", …"""
    tables = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return {
        name: Published(
            **{key: told.get(key, "") for key in ("title", "models", "data", "loop", "judge")},
            columns=tuple(told["columns"]),
            lines=tuple(_line(row, told["columns"]) for row in told["rows"]),
            claims=tuple(told.get("claims", ())),
        )
        for name, told in tables.items()
    }


def _line(row: Sequence[str | float], columns: Sequence[str]) -> Line:
    kind, name, *values = row
    return Line(str(kind), str(name), dict(zip(columns, map(_value, values), strict=True)), {})


def _value(printed: str | float) -> Value:
    if isinstance(printed, str):
        raise TypeError(f"{_FILE}: {printed!r} is no number")
    return None if math.isnan(printed) else printed
