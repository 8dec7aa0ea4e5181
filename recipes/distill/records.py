"""Records of a journal, one an attempt: which is the newest of its kind, and its fields.

A record has an `id` and a `config` (a hash of what it was made with), and an `error` if the
attempt failed; a later one of the same pair supersedes an earlier one. What is left out: how
records are kept and read (journal), and what else a record holds (rollout, filter).
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steper_serve import journal
from steper_serve.journal import BadRecord, Place, Record
from steper_serve.trajectory import Trajectory


@dataclass(slots=True)
class Contents:
    """What a file holds of one configuration: the newest record of every id."""

    done: dict[str, Place] = field(default_factory=dict)
    failed: dict[str, Place] = field(default_factory=dict)


def scan(file: Path, config: str) -> Contents:
    """The newest record of every id of one configuration; a torn last line counts for nothing.

    Raises:
        BadRecord: a whole line is not a record; names it.
    """
    contents = Contents()
    for place, record in journal.read_placed(file):
        id, made_with = required(record, "id", file, place), required(record, "config", file, place)
        if made_with != config:
            continue
        into, other = contents.done, contents.failed
        if record.get("error") is not None:
            into, other = other, into
        other.pop(id, None)
        into[id] = place
    return contents


def required(record: Record, name: str, file: Path, place: Place) -> Any:
    """The field `name` of a record.

    Raises:
        BadRecord: it has none; names file, line and field.
    """
    if name not in record:
        raise BadRecord(
            f"{file}, line {place.line}: the record has no {name!r}: was it written by another "
            "version, or by hand? Move the file away, or mend the line"
        )
    return record[name]


def trajectory(record: Record, file: Path, place: Place) -> Trajectory:
    """The trajectory of a record.

    Raises:
        BadRecord: it has none, or something else in its place; names file, line and field.
    """
    data = required(record, "trajectory", file, place)
    try:
        return Trajectory.from_json(data)
    except (KeyError, TypeError, AttributeError) as error:
        raise BadRecord(
            f"{file}, line {place.line}: `trajectory` cannot be read ({type(error).__name__}: "
            f"{error}): delete that line, and its question is answered again"
        ) from error
