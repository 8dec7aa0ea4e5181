"""Tables and sections, as every benchmark gives them to the terminal and to the report."""

from dataclasses import dataclass

from steper_serve.evaluation import aligned


@dataclass(frozen=True, slots=True)
class Table:
    """A table of texts; the first column names the row, the others are figures."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def text(self) -> str:
        """For a terminal."""
        parts = (self.title, aligned([self.head, *self.rows]), self.note)
        return "\n".join(filter(None, parts))

    def markdown(self) -> str:
        """For a file."""
        rule = ("---", *("--:" for _ in self.head[1:]))
        lines = [_line(self.head), "|".join(("", *rule, "")), *map(_line, self.rows)]
        parts = (
            self.title and f"**{self.title}**\n",
            "\n".join(lines),
            self.note and f"\n{self.note}",
        )
        return "\n".join(filter(None, parts))


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report; `plots` are SVG."""

    title: str
    tables: tuple[Table, ...] = ()
    plots: tuple[str, ...] = ()
    text: str = ""


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in cells)} |"
