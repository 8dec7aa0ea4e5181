"""What a command of `bench paper` printed, kept for reports: `paper/NAME.json` in its folder.

    {"title", "tables": [{"title", "head", "rows", "note"}], "plots": ["<svg …"], "text",
     "line": {…}}

What is left out: drawing it anew; a table that is out of date is drawn by its command.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from steper_serve import journal, plots
from steper_serve.benchmarks.tables import Section, Table
from steper_serve.journal import BadRecord

_FOLDER = "paper"


def write(folder: Path, name: str, section: Section, line: Mapping[str, Any]) -> None:
    """Keep a section, its JSON, and its plots as files of their own.

    Raises:
        DiskFailed: the disk refused.
    """
    home = folder / _FOLDER
    journal.write_json(home / f"{name}.json", {**asdict(section), "line": dict(line)})
    for number, drawn in enumerate(section.plots, 1):
        suffix = "" if len(section.plots) == 1 else f"-{number}"
        journal.write_text(home / f"{name}{suffix}.svg", plots.standalone(drawn))


def files(folder: Path) -> list[Path]:
    """What is kept in a folder; nothing where there is none."""
    return sorted((folder / _FOLDER).glob("*.json"))


def read(folder: Path) -> list[Section]:
    """The sections that are kept in a folder; none where there are none.

    Raises:
        BadRecord: a file holds something else; names it.
    """
    return [_read(file) for file in files(folder)]


def _read(file: Path) -> Section:
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        return Section(
            title=told["title"],
            tables=tuple(_table(table) for table in told["tables"]),
            plots=tuple(told["plots"]),
            text=told["text"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadRecord(
            f"{file} is not what `bench paper` keeps ({type(error).__name__}: {error}): delete it "
            "and start that command again"
        ) from error


def _table(told: Mapping[str, Any]) -> Table:
    rows = tuple(tuple(row) for row in told["rows"])
    return Table(told["title"], tuple(told["head"]), rows, told["note"])
