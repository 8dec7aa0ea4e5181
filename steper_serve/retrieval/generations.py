"""The folder that an index lives in: generations, one of them live, and one writer at a time.

    LOCK                            held (flock) by whoever writes, with who that is
    CURRENT                         the name of the live generation; replaced by rename
    generations/000007-3f9a1c/      a complete index, never changed once it is live

A writer makes the next generation beside the others and switches it in as the last thing it
does, so a kill at any moment leaves the live one as it was; the next writer clears away what a
killed one left. The generation before the live one stays on disk, for readers that have just
read CURRENT; a reader that is older still goes on with the files it has mapped. What is left
out: what a generation holds (bm25).
"""

import fcntl
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from steper_serve import journal
from steper_serve.errors import IndexUnavailable
from steper_serve.journal import DiskFailed

Stamp = tuple[int, int, int]

_CURRENT, _LOCK, _GENERATIONS = "CURRENT", "LOCK", "generations"
_NAME = re.compile(r"\d{6}-[0-9a-f]{6}")


def live(target: Path) -> Path:
    """The folder of the live generation.

    Raises:
        IndexUnavailable: `target` is missing, is no index, or names a generation that is gone.
    """
    try:
        name = (target / _CURRENT).read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        raise IndexUnavailable(_why_no_index(target)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise IndexUnavailable(f"cannot read {target / _CURRENT}: {error}") from error
    generation = target / _GENERATIONS / name
    if not name or "/" in name or not generation.is_dir():
        raise IndexUnavailable(
            f"{target / _CURRENT} names the generation {name!r}, which is not there: build the "
            "index again (steper-serve index build)"
        )
    return generation


def stamp(target: Path) -> Stamp | None:
    """What changes when another generation goes live (one stat); None where there is no index."""
    try:
        found = (target / _CURRENT).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


@contextmanager
def writing(target: Path) -> Iterator[Path]:
    """Hold the writer's lock, give an empty folder for the next generation, make it live.

    The switch happens when the block ends well. When it raises, the new folder is removed and
    the live generation stays.

    Raises:
        IndexUnavailable: another process writes here, `target` holds something else, or the disk
            refused.
    """
    try:
        _prepare(target)
        with _locked(target):
            (target / _GENERATIONS).mkdir(exist_ok=True)
            _sweep(target)
            with _next(target) as generation:
                yield generation
                _switch(target, generation)
            _prune(target)
    except (OSError, DiskFailed) as error:
        raise IndexUnavailable(f"cannot write the index at {target}: {error}") from error


def inherit(old: Path, new: Path, *, copied: frozenset[str], left: frozenset[str]) -> None:
    """Put the files of generation `old` into `new`, as hard links where the disk allows it.

    Links are safe for files that are written once. `copied` are those that get replaced or
    rewritten, `left` those that the new generation makes itself.
    """
    for file in old.iterdir():
        if file.name in left:
            continue
        if file.name in copied:
            shutil.copy2(file, new / file.name)
            continue
        try:
            os.link(file, new / file.name)
        except OSError:  # a disk without hard links, or a mount boundary
            shutil.copy2(file, new / file.name)


def size_bytes(generation: Path) -> int:
    """Bytes of a generation's files."""
    return sum(file.stat().st_size for file in generation.iterdir())


def _why_no_index(target: Path) -> str:
    if not target.exists():
        return f"no index at {target}: build one (steper-serve index build CORPUS --out {target})"
    if not target.is_dir():
        return f"{target} is a file, and an index is a folder: give the folder it was built into"
    if (target / _GENERATIONS).is_dir():
        return (
            f"the index at {target} was never finished: build it again (steper-serve index build)"
        )
    return f"{target} is no index (it has no {_CURRENT} file): give the folder of `index build`"


def _prepare(target: Path) -> None:
    """Refuse a folder that holds other things, so that nothing of a user's is ever swept."""
    if target.exists() and not target.is_dir():
        raise IndexUnavailable(f"cannot write an index to {target}: it is a file; give a folder")
    names = {file.name for file in target.iterdir()} if target.is_dir() else set()
    # A lock and a CURRENT beside other files may be another database's.
    ours = names <= {_LOCK} or (_GENERATIONS in names and names & {_LOCK, _CURRENT})
    if not ours:
        raise IndexUnavailable(
            f"cannot write an index to {target}: it holds other files; give a new folder"
        )
    target.mkdir(parents=True, exist_ok=True)


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    # "a+" neither empties the file of the holder nor fails on a new one
    with (target / _LOCK).open("a+", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            holder = handle.read().strip() or "another process"
            raise IndexUnavailable(
                f"the index at {target} is being written by {holder}: wait until it ends"
            ) from None
        handle.truncate(0)
        handle.write(f"process {os.getpid()} on {socket.gethostname()}")
        handle.flush()
        try:
            yield
        finally:
            handle.truncate(0)


def number_of(name: str) -> int:
    """The number in the name of a generation; 0 for any other name."""
    return int(name[:6]) if _NAME.fullmatch(name) else 0


def _live_name(target: Path) -> str:
    try:
        return (target / _CURRENT).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""


@contextmanager
def _next(target: Path) -> Iterator[Path]:
    """An empty folder for the next generation, removed again unless it has gone live."""
    number = number_of(_live_name(target)) + 1
    generation = target / _GENERATIONS / f"{number:06d}-{secrets.token_hex(3)}"
    try:
        generation.mkdir()
        yield generation
    except BaseException:
        if _live_name(target) != generation.name:
            shutil.rmtree(generation, ignore_errors=True)
        raise


def _named(target: Path) -> list[Path]:
    """The folders of generations, oldest first."""
    found = [folder for folder in (target / _GENERATIONS).iterdir() if number_of(folder.name)]
    return sorted(found, key=lambda folder: number_of(folder.name))


def _sweep(target: Path) -> None:
    """Remove what killed writers left: generations past the live one."""
    number = number_of(_live_name(target))
    for generation in _named(target):
        if number_of(generation.name) > number:
            shutil.rmtree(generation, ignore_errors=True)


def _switch(target: Path, generation: Path) -> None:
    for file in generation.iterdir():
        with file.open("rb") as written:
            os.fsync(written.fileno())
    journal.sync_folder(generation)
    journal.sync_folder(generation.parent)
    journal.write_text(target / _CURRENT, generation.name + "\n")


def _prune(target: Path) -> None:
    for generation in _named(target)[:-2]:
        shutil.rmtree(generation, ignore_errors=True)
