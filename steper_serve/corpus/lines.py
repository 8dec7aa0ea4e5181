"""Open a corpus file, gzipped or not, and read it as numbered lines of text.

What is left out: what a line means.
"""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from steper_serve.errors import CorpusError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@contextmanager
def opened(file: Path) -> Iterator[IO[bytes]]:
    """The bytes of `file`, unpacked if its name ends in .gz.

    Raises:
        CorpusError: it cannot be opened, or reading in the block met an error of the disk.
    """
    try:
        with file.open("rb") as raw:
            yield cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if file.suffix == ".gz" else raw
    except OSError as error:
        raise CorpusError(f"cannot read {file}: {error}; see that it is whole") from error


def numbered_lines(file: Path) -> Iterator[tuple[int, str]]:
    """The lines of `file` with their numbers from 1, without line ends.

    Raises:
        CorpusError: a line is not UTF-8, or a gzip file is cut off or damaged.
    """
    number = 0
    with opened(file) as stream:
        while True:
            number += 1
            line = _next_line(stream, file, number)
            if not line:
                return
            if number == 1:
                line = line.removeprefix(BYTE_ORDER_MARK)
            try:
                yield number, line.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise CorpusError(
                    f"{file}, line {number}: byte {error.start + 1} is not UTF-8: save the file "
                    "as UTF-8"
                ) from error


def _next_line(stream: IO[bytes], file: Path, number: int) -> bytes:
    try:
        return stream.readline()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CorpusError(
            f"{file}, line {number}: the gzip data is cut off or damaged ({error}): copy or "
            "download the file again"
        ) from error
