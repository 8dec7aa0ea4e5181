"""Append-only files of JSON lines that survive a kill and a full disk, and files written at once.

A line is written in one piece and followed by a line end, so that what has none is what a kill
left of a line: it counts for nothing, and is cut off before anything is appended. What is left
out: what a line means.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from steper_serve.errors import SteperError

Record = Mapping[str, Any]
T = TypeVar("T")

_FSYNC_SECONDS = 1.0


class BadRecord(SteperError):
    """A line of a file is not what this project would have written there."""

    code = "bad_record"


class DiskFailed(SteperError):
    """A file could not be written: the disk is full, or it refused. What was whole stays so."""

    code = "disk_failed"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands: its line (from 1) and the line's first byte."""

    line: int
    offset: int


class Appender:
    """Open a file to append records to; a context manager.

    The file is locked: two processes that append would do everything twice. Every record
    reaches the operating system at once, so that a kill loses none, and the disk with the next
    one a second later or at the end, so that a loss of power loses little.

    Raises:
        DiskFailed: the file cannot be opened, or another process appends to it.
    """

    def __init__(self, file: Path) -> None:
        self._path = file
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._file = file.open("ab", buffering=0)
        except OSError as error:
            raise DiskFailed(f"cannot append to {file}: {error}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._size = _cut_torn_line(file)
        except BlockingIOError as error:
            self._file.close()
            raise DiskFailed(f"another process is writing {file}: let it end first") from error
        except OSError as error:
            self._file.close()
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
        self.close()

    def close(self) -> None:
        """Let others write; what was written stays written."""
        with suppress(OSError):
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
                f"cannot append to {self._path}: {error}. Every record before it is kept: make "
                "room and start the same command again."
            ) from error
        self._size += len(line)

    def cut_back(self, gone: Callable[[Record], bool]) -> None:
        """Drop the first record that is `gone`, and all after it.

        Raises:
            BadRecord: a line is not a JSON object.
            DiskFailed: the disk refused.
        """
        for place, record in read_placed(self._path):
            if gone(record):
                try:
                    os.truncate(self._path, place.offset)
                except OSError as error:
                    raise DiskFailed(f"cannot shorten {self._path}: {error}") from error
                self._size = place.offset
                return


def read(file: Path) -> Iterator[tuple[int, Record]]:
    """Every whole record with the number of its line; nothing if there is no file.

    Raises:
        BadRecord: a whole line is not a JSON object, or the file cannot be read.
    """
    return ((place.line, record) for place, record in read_placed(file))


def read_placed(file: Path) -> Iterator[tuple[Place, Record]]:
    """As `read`, with the places of the records, by which `read_at` finds them again.

    Raises:
        BadRecord: as `read`.
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


def read_at(file: Path, places: Iterable[Place]) -> Iterator[tuple[Place, Record]]:
    """The records at these places, in the order of the file.

    Raises:
        BadRecord: a line is not a JSON object, or the file cannot be read or is gone.
    """
    try:
        with file.open("rb") as lines:
            for place in sorted(places, key=lambda p: p.offset):
                lines.seek(place.offset)
                yield place, _parse(lines.readline(), file, place.line)
    except OSError as error:
        raise BadRecord(f"cannot read {file}: {error}") from error


def read_as(make: Callable[..., T], file: Path, remedy: str) -> T | None:
    """What `make` makes of the keys of a JSON object in `file`; None if there is no file.

    Raises:
        BadRecord: the file is not one that `make` takes; `remedy` says what it should be or what
            to do.
    """
    try:
        return make(**json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise BadRecord(f"{file} is not as it was written ({error}): {remedy}") from error


def write_json(file: Path, value: Any) -> None:
    """Write `value` to `file` as indented JSON, in one step; see `replacing`."""
    write_text(file, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def write_text(file: Path, text: str) -> None:
    """Write `text` to `file` in one step; see `replacing`."""
    write_lines(file, [text])


def write_lines(file: Path, lines: Iterable[str]) -> None:
    """Write the `lines`, which hold their line ends, to `file` in one step; see `replacing`."""
    with replacing(file) as beside, beside.open("w", encoding="utf-8", errors="replace") as out:
        out.writelines(lines)


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A path beside `file` to write to; it takes the name of `file` when the block has ended.

    Whole or not at all, also after a power cut.

    Raises:
        DiskFailed: the disk refused; then, as after any error, what was there is untouched.
    """
    beside = file.with_name(f"{file.name}.new")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        with beside.open("rb") as written:
            os.fsync(written.fileno())
        beside.replace(file)
        sync_folder(file.parent)
    except BaseException as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise DiskFailed(f"cannot write {file}: {error}; make room and start again") from error
        raise


def sync_folder(folder: Path) -> None:
    """Have the disk keep the names in a folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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
