"""`steper-serve index` as real processes: killed at any moment, and two of them at once."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from steper_serve.retrieval import bm25
from steper_serve.trajectory import Passage

OLD, NEW = 50, 6_000
# Where a writer is caught is a matter of a millisecond; another try costs little.
MOST_TRIES = 8


def _passages(prefix: str, num: int) -> list[Passage]:
    return [Passage(f"{prefix}{n}", f"{prefix} {n}", f"Of {n}.") for n in range(num)]


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """An index of the old passages; beside it a corpus of new ones, and ids of all old but one."""
    rows = ({"id": p.id, "title": p.title, "text": p.text} for p in _passages("new", NEW))
    (tmp_path / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "ids.txt").write_text("".join(f"old{n}\n" for n in range(OLD - 1)))
    bm25.build(_passages("old", OLD), tmp_path / "index")
    return tmp_path / "index"


def _start(*arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "steper_serve", "index", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _finish(process: "subprocess.Popen[str]") -> "subprocess.CompletedProcess[str]":
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def _arguments(command: str, index: Path) -> tuple[object, ...]:
    new, listed = index.parent / "new.jsonl", index.parent / "ids.txt"
    return {
        "build": ("build", new, "--out", index),
        "add": ("add", new, "--index", index),
        "delete": ("delete", "--ids-file", listed, "--index", index),
    }[command]


def _folders(index: Path) -> list[Path]:
    return sorted((index / "generations").iterdir())


def _has_lock(index: Path) -> bool:
    return bool((index / "LOCK").read_text())


def _has_begun(index: Path) -> bool:
    return len(_folders(index)) > 1


def _has_files(index: Path) -> bool:
    return _has_begun(index) and any(f.suffix == ".store" for f in _folders(index)[-1].iterdir())


def _is_sealed(index: Path) -> bool:
    return _has_begun(index) and (_folders(index)[-1] / "steper-index.json").exists()


def _is_switching(index: Path) -> bool:
    return any(index.glob("CURRENT.new"))


POINTS: dict[str, Callable[[Path], bool]] = {
    "locked": _has_lock,
    "begun": _has_begun,
    "files": _has_files,
    "sealed": _is_sealed,
    "switching": _is_switching,
}


def _stopped_at(
    point: Callable[[Path], bool], arguments: tuple[object, ...], index: Path
) -> "subprocess.Popen[str] | None":
    """A writer that was stopped as soon as `point` held; None if it was done before."""
    process = _start(*arguments)
    while process.poll() is None:
        try:
            reached = point(index)
        except FileNotFoundError:  # it went while we looked
            continue
        if reached:
            process.send_signal(signal.SIGSTOP)
            return process
    process.communicate()
    return None


def _kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


@pytest.mark.parametrize(
    ("command", "num_after", "point"),
    [
        *(("build", NEW, point) for point in POINTS),
        *(("add", OLD + NEW, point) for point in ("files", "sealed")),
        *(("delete", 1, point) for point in ("begun", "sealed")),
    ],
)
def test_a_killed_process_leaves_a_complete_generation(
    index: Path, command: str, num_after: int, point: str
) -> None:
    """The old one up to the switch, the new one from there on; either to the last passage."""
    for _ in range(MOST_TRIES):
        before = bm25.info(index)
        process = _stopped_at(POINTS[point], _arguments(command, index), index)
        if process is not None:
            break
        bm25.build(_passages("old", OLD), index)
    else:
        pytest.fail(f"no writer could be caught at {point}")
    live = (index / "CURRENT").read_text().strip()
    _kill(process)
    found = bm25.info(index)
    assert found.generation == live
    if live == before.generation:
        assert found == before
    else:  # it went on for a moment before it stopped
        assert found.num_documents == num_after
    retriever = bm25.Bm25Retriever.open(index)
    every = {passage.id for passage in retriever.search("of", OLD + NEW)}
    assert len(every) == found.num_documents
    after = bm25.add(_passages("x", 3), index)
    assert after.num_documents == found.num_documents + 3
    assert [folder.name for folder in _folders(index)][-2:] == [live, after.generation]
    assert not any(index.glob("CURRENT.new"))


def test_the_second_of_two_processes_is_refused_by_name(index: Path) -> None:
    """The first is stopped while it writes, so that it is there for as long as it takes."""
    first = _stopped_at(_has_begun, _arguments("build", index), index)
    assert first is not None
    try:
        for command in ("build", "add", "delete"):
            second = _finish(_start(*_arguments(command, index)))
            assert second.returncode == 1
            assert f"process {first.pid} on {os.uname().nodename}" in second.stderr
            assert second.stderr.splitlines()[-1].startswith("steper-serve: the index at ")
    finally:
        _kill(first)
    # What it held ended with it.
    done = _finish(_start(*_arguments("delete", index)))
    assert done.returncode == 0, done.stderr
    assert bm25.info(index).num_documents == 1
