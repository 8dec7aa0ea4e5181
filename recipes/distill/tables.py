"""The step-wise data set as a file: Parquet or JSON lines, one row a step sample.

What is left out: how rows come about (examples.py) and what they become (tokenization.py).
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from steper_serve import journal
from steper_serve.recipes.distill.failures import BadRecord, StageMissing

Row = Mapping[str, Any]

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "dataset", "question_id", "strategy")),
        *((name, pa.int32()) for name in ("step", "num_steps")),
        *((name, pa.string()) for name in ("kind", "prompt", "prefix", "target")),
        *((name, pa.string()) for name in ("target_mode", "context", "completion")),
        ("has_new_passages", pa.bool_()),
        ("passage_ids", pa.list_(pa.string())),
        ("hops", pa.int32()),
        *((name, pa.string()) for name in ("rollout", "teacher")),
    ]
)
_CHUNK = 1024


@dataclass(slots=True)
class Tally:
    """How many rows of each sort a data set has."""

    rows: int = 0
    questions: set[str] = field(default_factory=set)
    kinds: Counter[str] = field(default_factory=Counter)
    datasets: Counter[str] = field(default_factory=Counter)
    steps: Counter[int] = field(default_factory=Counter)

    def counted(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The same rows, counted as they pass."""
        for row in rows:
            self.rows += 1
            self.questions.add(f"{row['dataset']}/{row['question_id']}")
            self.kinds[row["kind"]] += 1
            self.datasets[row["dataset"]] += 1
            self.steps[row["step"]] += 1
            yield row

    def to_json(self) -> dict[str, Any]:
        """The counts as plain JSON values."""
        return {
            "rows": self.rows,
            "questions": len(self.questions),
            "kinds": dict(sorted(self.kinds.items())),
            "datasets": dict(sorted(self.datasets.items())),
            "steps": {str(step): n for step, n in sorted(self.steps.items())},
        }


def write(file: Path, rows: Iterable[Row]) -> int:
    """Write rows to a file, in one step; how many they were.

    Raises:
        DiskFailed: the disk refused; what was there before is untouched.
    """
    write_chunks = _write_lines if file.suffix == ".jsonl" else _write_parquet
    with journal.replacing(file) as beside:
        return write_chunks(beside, _chunks(iter(rows)))


def read(file: Path, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of a file, these columns of them.

    Raises:
        StageMissing: there is no such file, or it has no row.
        BadRecord: it is not such a file, or lacks a column; names file and column.
    """
    if not file.exists():
        raise StageMissing(f"there is no {file}: run `examples` first")
    empty = True
    for row in (_read_lines if file.suffix == ".jsonl" else _read_parquet)(file, columns):
        empty = False
        yield row
    if empty:
        raise StageMissing(f"{file} has no rows: run `examples` again, and look at its card")


def _chunks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while chunk := list(islice(rows, _CHUNK)):
        yield chunk


def _write_parquet(file: Path, chunks: Iterator[list[Row]]) -> int:
    count = 0
    with parquet.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
        for chunk in chunks:
            count += len(chunk)
            writer.write_table(pa.Table.from_pylist(chunk, schema=SCHEMA))
    return count


def _write_lines(file: Path, chunks: Iterator[list[Row]]) -> int:
    count = 0
    with file.open("w", encoding="utf-8") as out:
        for chunk in chunks:
            count += len(chunk)
            out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in chunk)
    return count


def _read_parquet(file: Path, columns: Sequence[str]) -> Iterator[Row]:
    try:
        with parquet.ParquetFile(file) as table:
            _check_columns(file, columns, table.schema_arrow.names)
            for batch in table.iter_batches(_CHUNK, columns=list(columns)):
                yield from batch.to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise BadRecord(f"{file} is not a Parquet file ({error}): run `examples` again") from error


def _read_lines(file: Path, columns: Sequence[str]) -> Iterator[Row]:
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise BadRecord(f"{file}, line {number} is not JSON: {error}") from error
            if not isinstance(row, dict):
                raise BadRecord(f"{file}, line {number} is not a JSON object")
            _check_columns(f"{file}, line {number}", columns, list(row))
            yield {column: row[column] for column in columns}


def _check_columns(where: Path | str, wanted: Sequence[str], present: Sequence[str]) -> None:
    for column in wanted:
        if column not in present:
            raise BadRecord(
                f"{where} has no column {column!r}; it has {', '.join(present)}: run `examples` "
                "again, or give it the columns that its card lists"
            )
