"""A folder of results: `rows.jsonl`, what was asked, and `manifest.json`, how and on what.

    {"benchmark": "accuracy",
     "datasets": {name: {"source", "num_questions", "corpus", "digest"}},
     "served": {name: {"url", "model", "flags", "num_parameters", "models"}},
     "runs": [{"started", "seconds", "settings": {…}, "machine": {…}}]}

A folder belongs to one benchmark. Every start of it adds a run to the manifest; rows that are
there are not asked for again. What is left out: asking (running), and what rows tell (accuracy,
latency).
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from steper_serve import journal
from steper_serve.benchmarks import machine
from steper_serve.benchmarks.cells import Cell
from steper_serve.benchmarks.rows import Row, from_json, to_json
from steper_serve.errors import ConfigurationError
from steper_serve.journal import Appender
from steper_serve.questions import Question

ROWS = "rows.jsonl"
MANIFEST = "manifest.json"

Item = tuple[Cell, Question]


@dataclass(slots=True)
class Manifest:
    """What `manifest.json` holds; see above."""

    benchmark: str
    datasets: dict[str, Any] = field(default_factory=dict)
    served: dict[str, Any] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)


class Results:
    """A folder that a benchmark adds to; a context manager that holds its lock.

    Raises:
        ConfigurationError: the folder holds the results of another benchmark.
        BadRecord: what it holds cannot be read; names file and line.
        DiskFailed: it cannot be written, or another process writes to it.
    """

    def __init__(self, folder: Path, benchmark: str, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder) or Manifest(benchmark)
        if self.manifest.benchmark != benchmark:
            raise ConfigurationError(
                f"{folder} holds results of `bench {self.manifest.benchmark}`: give another --out"
            )
        self._begun = time.time()
        run = {"started": round(self._begun), "seconds": 0.0, "settings": dict(settings)}
        self._run: dict[str, Any] = {**run, "machine": machine.describe()}
        self.manifest.runs.append(self._run)

    def __enter__(self) -> Self:
        self._out = Appender(self.folder / ROWS)
        try:
            self.rows = {row.key: row for row in _rows(self.folder)}
            self.write_manifest()
        except BaseException:
            self._out.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._out.close()
        if kind is None or issubclass(kind, Exception):
            self.write_manifest()

    def add(self, row: Row) -> None:
        """Keep a row at once.

        Raises:
            DiskFailed: the disk is full; what was kept before stays.
        """
        self._out.append(to_json(row))
        self.rows[row.key] = row

    def find(self, cell: Cell, question: Question) -> Row | None:
        """The row of this very question under these settings."""
        row = self.rows.get((cell.config, question.id))
        return row if row is not None and row.is_of(question) else None

    def left(self, items: Iterable[Item], *, retry_failed: bool) -> list[Item]:
        """The items that have no row yet or, if asked so, a failed one."""
        held = ((item, self.find(*item)) for item in items)
        return [i for i, row in held if row is None or (retry_failed and row.failure)]

    def write_manifest(self) -> None:
        """Bring `manifest.json` up to date."""
        self._run["seconds"] = round(time.time() - self._begun, 1)
        names = Manifest.__slots__
        value = {name: getattr(self.manifest, name) for name in names}
        journal.write_json(self.folder / MANIFEST, value)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A folder of results, read."""

    folder: Path
    manifest: Manifest
    rows: tuple[Row, ...]


def load(folder: Path) -> Loaded:
    """What a folder holds; of several rows of one question under one cell, the last.

    Raises:
        ConfigurationError: there is no manifest in it.
        BadRecord: something in it cannot be read; names file and line.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise ConfigurationError(f"{folder} holds no results: it has no {MANIFEST}")
    newest = {row.key: row for row in _rows(folder)}
    return Loaded(folder, manifest, tuple(newest.values()))


def load_all(folders: Iterable[Path]) -> list[Loaded]:
    """`load` of each; where two hold the same cell, what is served is named with its folder.

    Raises:
        ConfigurationError, BadRecord: as `load`.
    """
    loaded = [load(folder) for folder in folders]
    cells = Counter(cell for each in loaded for cell in {row.cell for row in each.rows})
    if max(cells.values(), default=0) < 2:
        return loaded
    return [_told_apart(each) for each in loaded]


def grouped(rows: Iterable[Row]) -> dict[Cell, Sequence[Row]]:
    """Rows by their cell, all repetitions together."""
    groups: dict[Cell, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.cell.group, []).append(row)
    return dict(groups)


def _told_apart(loaded: Loaded) -> Loaded:
    def named(served: str) -> str:
        return f"{served} in {loaded.folder}"

    rows = tuple(replace(r, cell=replace(r.cell, served=named(r.cell.served))) for r in loaded.rows)
    served = {named(name): told for name, told in loaded.manifest.served.items()}
    return Loaded(loaded.folder, replace(loaded.manifest, served=served), rows)


def _rows(folder: Path) -> Iterable[Row]:
    file = folder / ROWS
    return (from_json(record, file, line) for line, record in journal.read(file))


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder; None where there is none.

    Raises:
        BadRecord: the file is not a manifest.
    """
    remedy = f"is {folder} a folder of a benchmark's results?"
    return journal.read_as(Manifest, folder / MANIFEST, remedy)
