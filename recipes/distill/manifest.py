"""What a stage leaves beside its outcome: `manifest.json`, by which it is known to be done.

    {"stage": "filter", "config_hash": "…", "finished": true, "seconds": 12.3, "tokens": 45678,
     "counts": {…}}

It is written last and atomically, so that a stage that was killed is not taken for done. What is
left out: what the counts of a stage mean (its own module).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from steper_serve import journal

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
    return journal.read_as(Manifest, folder / FILE, "delete it to run the stage again")


def write(folder: Path, manifest: Manifest) -> None:
    """Put the manifest into `folder` in one step.

    Raises:
        DiskFailed: the disk refused.
    """
    journal.write_json(folder / FILE, asdict(manifest))


def finished(folder: Path, config_hash: str) -> Manifest | None:
    """The folder's manifest if its stage ended under this very configuration, else None."""
    found = read(folder)
    return found if found and found.finished and found.config_hash == config_hash else None


def forget(folder: Path) -> None:
    """Take the manifest away, so that its stage is run again: what it read is no longer so."""
    (folder / FILE).unlink(missing_ok=True)
