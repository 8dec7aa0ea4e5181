"""A replay in a process of its own, with the flags that the server had (`bench replay`).

What goes there is a file of JSON lines: `{"concurrency", "num_warmup"}`, then rows, those of the
warm-up first; what comes back is the JSON of `replay.measure`. What is left out: the replay
itself (replay).
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steper_serve import journal
from steper_serve.benchmarks import rows, server
from steper_serve.benchmarks.rows import Row
from steper_serve.benchmarks.server import Served
from steper_serve.journal import BadRecord


@dataclass(frozen=True, slots=True)
class Recording:
    """What a server was asked and answered, so many at once; the warm-up apart."""

    concurrency: int
    warmup: Sequence[Row]
    rows: Sequence[Row]


def write(recording: Recording, file: Path) -> None:
    """Write a recording.

    Raises:
        DiskFailed: the disk refused.
    """
    head = {"concurrency": recording.concurrency, "num_warmup": len(recording.warmup)}
    kept = (rows.to_json(row) for row in (*recording.warmup, *recording.rows))
    text = "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in (head, *kept))
    journal.write_text(file, text)


def read(file: Path) -> Recording:
    """The recording in a file.

    Raises:
        BadRecord: it holds something else.
    """
    lines = list(journal.read(file))
    if not lines or "num_warmup" not in lines[0][1]:
        raise BadRecord(f"{file} is no recording of `bench load`")
    head, kept = lines[0][1], [rows.from_json(record, file, line) for line, record in lines[1:]]
    split = head["num_warmup"]
    return Recording(head["concurrency"], kept[:split], kept[split:])


def replayed(
    served: Served, index: Path | None, recording: Recording, scratch: Path
) -> dict[str, Any]:
    """What the engine alone takes for a recording (`replay.measure`).

    Raises:
        ServerFailed: the process failed; the message holds what it said.
    """
    file = scratch / "recording.jsonl"
    write(recording, file)
    command = [sys.executable, "-m", "steper_serve", "bench", "replay", str(file)]
    return server.told_by(
        [*command, *server.flags_of(served, index)],
        name="the replay in the engine alone",
        advice="What was answered is kept; --no-replay leaves it out",
    )
