"""What a stage leaves beside its outcome: `manifest.json`, by which it is known to be done.

    {"stage": "filter", "config_hash": "…", "finished": true, "seconds": 12.3, "tokens": 45678,
     "counts": {…}}

It is written last and atomically, so that a stage that was killed is not taken for done. What is
left out: what the counts of a stage mean (its own module).
"""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from steper_serve.recipes.distill.failures import BadRecord, DiskFailed

FILE = "manifest.json"


@dataclass(frozen=True, slots=True)
class Manifest:
    """`tokens` is what the stage generated or trained on; `counts` is plain JSON."""

    stage: str
    config_hash: str
    finished: bool
    seconds: float = 0.0
    tokens: int = 0
    counts: Mapping[str, Any] = field(default_factory=dict)


def read(folder: Path) -> Manifest | None:
    """The manifest of a stage's folder; None where there is none.

    Raises:
        BadRecord: the file is not a manifest.
    """
    file = folder / FILE
    try:
        return Manifest(**json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise BadRecord(
            f"{file} is not a stage's manifest ({error}): delete it to run the stage again"
        ) from error


def write(folder: Path, manifest: Manifest) -> None:
    """Put the manifest into `folder` in one step.

    Raises:
        DiskFailed: the disk refused.
    """
    write_json(folder / FILE, asdict(manifest))


def finished(folder: Path, config_hash: str) -> Manifest | None:
    """The folder's manifest if its stage ended under this very configuration, else None."""
    found = read(folder)
    return found if found and found.finished and found.config_hash == config_hash else None


def forget(folder: Path) -> None:
    """Take the manifest away, so that its stage is run again: what it read is no longer so."""
    (folder / FILE).unlink(missing_ok=True)


def write_json(file: Path, value: Any) -> None:
    """Write `value` to `file` as indented JSON, in one step."""
    write_text(file, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def write_text(file: Path, text: str) -> None:
    """Write `text` to `file` in one step; see `write_lines`."""
    write_lines(file, [text])


def write_lines(file: Path, lines: Iterable[str]) -> None:
    """Write the `lines`, which hold their line ends, to `file` in one step.

    They go to a file beside it, which then takes its name.

    Raises:
        DiskFailed: the disk refused; what was there before is untouched.
    """
    beside = file.with_name(f"{file.name}.new")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("w", encoding="utf-8", errors="replace") as out:
            out.writelines(lines)
            out.flush()
            os.fsync(out.fileno())
        beside.replace(file)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise DiskFailed(f"cannot write {file}: {error}; make room and start again") from error
