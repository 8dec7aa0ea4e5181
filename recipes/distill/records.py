"""Append-only files of JSON lines, one record an attempt, that survive a kill and a full disk.

A record has an `id` and a `config` (a hash of what it was made with); a later one of the same
pair supersedes an earlier one. A record is written in one piece and followed by a line end, so
that a line without one is what a kill left of a record: it is cut off before anything is
appended. What is left out: what else a record holds.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from steper_serve.recipes.distill.failures import BadRecord, DiskFailed
from steper_serve.trajectory import Trajectory

Record = Mapping[str, Any]

_FSYNC_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands: its line (from 1) and the line's first byte."""

    line: int
    offset: int


@dataclass(slots=True)
class Contents:
    """What a file holds of one configuration: the newest record of every id."""

    done: dict[str, Place] = field(default_factory=dict)
    failed: dict[str, Place] = field(default_factory=dict)


class Appender:
    """Open a file to append records to; a context manager.

    The file is locked: two processes that append would answer every question twice. Every
    record reaches the operating system at once, so that a kill loses none, and the disk within
    about a second, so that a loss of power loses little.

    Raises:
        DiskFailed: the file cannot be opened, or another process appends to it.
    """

    def __init__(self, file: Path) -> None:
        self._path = file
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._file = file.open("ab", buffering=0)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._size = _cut_torn_line(file)
        except BlockingIOError as error:
            self._file.close()
            raise DiskFailed(f"another process is writing {file}: let it end first") from error
        except OSError as error:
            raise DiskFailed(f"cannot append to {file}: {error}") from error
        self._synced = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with suppress(OSError):  # what was written stays written
            os.fsync(self._file.fileno())
        self._file.close()

    def append(self, record: Record) -> None:
        """Add a record, whole or not at all.

        Raises:
            DiskFailed: the disk is full or refused; no part of the record is left behind.
        """
        line = (json.dumps(record, ensure_ascii=False) + "\n").encode(errors="replace")
        try:
            _write_all(self._file.fileno(), line)
            if time.monotonic() - self._synced > _FSYNC_SECONDS:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
        except OSError as error:
            with suppress(OSError):  # or the next start cuts it off
                os.truncate(self._path, self._size)
            raise DiskFailed(
                f"cannot append to {self._path}: {error}. Every finished record before it is "
                "kept: make room and start the same command again."
            ) from error
        self._size += len(line)


def scan(file: Path, config: str) -> Contents:
    """The newest record of every id of one configuration; a torn last line counts for nothing.

    Raises:
        BadRecord: a whole line is not a record; names it.
    """
    contents = Contents()
    for place, record in read(file):
        id, made_with = required(record, "id", file, place), required(record, "config", file, place)
        if made_with != config:
            continue
        into, other = contents.done, contents.failed
        if record.get("error") is not None:
            into, other = other, into
        other.pop(id, None)
        into[id] = place
    return contents


def read(file: Path) -> Iterator[tuple[Place, Record]]:
    """Every whole record with its place; nothing if there is no file.

    Raises:
        BadRecord: a whole line is not a JSON object, or the file cannot be read.
    """
    try:
        with file.open("rb") as lines:
            offset = 0
            for number, line in enumerate(lines, 1):
                if line.endswith(b"\n"):
                    yield Place(number, offset), _parse(line, file, number)
                offset += len(line)
    except FileNotFoundError:
        return
    except OSError as error:
        raise BadRecord(f"cannot read {file}: {error}") from error


def read_at(file: Path, places: Mapping[str, Place]) -> Iterator[tuple[Place, Record]]:
    """The records at these places, in the order of the file."""
    with file.open("rb") as lines:
        for place in sorted(places.values(), key=lambda p: p.offset):
            lines.seek(place.offset)
            yield place, _parse(lines.readline(), file, place.line)


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


def _parse(line: bytes, file: Path, number: int) -> Record:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise BadRecord(
            f"{file}, line {number} is not JSON ({error}): delete that line and start again"
        ) from error
    if not isinstance(record, dict):
        raise BadRecord(f"{file}, line {number} is not a JSON object: delete that line")
    return record


def _write_all(descriptor: int, data: bytes) -> None:
    while data:  # a disk that is filling up takes a part
        data = data[os.write(descriptor, data) :]


def _cut_torn_line(file: Path) -> int:
    """Cut off what follows the last line end; the size that is left."""
    size = end = file.stat().st_size
    with file.open("rb") as stream:
        while end > 0:
            start = max(0, end - 65536)
            stream.seek(start)
            found = stream.read(end - start).rfind(b"\n")
            end = start if found < 0 else start + found + 1
            if found >= 0:
                break
    if end < size:
        os.truncate(file, end)
    return end
