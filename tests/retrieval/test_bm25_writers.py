"""Writers that are killed, that meet another one, or whose disk is full."""

import os
import re
import resource
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from steper_serve import journal
from steper_serve.errors import IndexUnavailable
from steper_serve.retrieval import generations
from steper_serve.retrieval.bm25 import Bm25Retriever, add, build, delete, info
from steper_serve.trajectory import Passage
from tests.retrieval.worlds import NEW, WORLD, ids, invented

PAUSING_WRITER = textwrap.dedent("""
    import sys, time
    from pathlib import Path
    from steper_serve.retrieval import bm25, generations
    from steper_serve.trajectory import Passage

    target, point = Path(sys.argv[1]), sys.argv[2]

    def pause(*args):
        print("paused", flush=True)
        time.sleep(600)

    def stream():
        for n in range(3000):
            yield Passage(f"n{n}", f"New {n}", f"the new text of {n}")
        if point == "feeding":
            pause()

    if point == "committed":
        bm25._refuse_duplicates = pause
    if point == "sealed":
        bm25.self_check = pause
    if point == "switching":
        generations._switch = pause
    if point == "switched":
        generations._prune = pause
    if sys.argv[3] == "delete":
        bm25.delete(["a"], target)
    getattr(bm25, sys.argv[3])(stream(), target)
""")


@pytest.fixture
def paused(index: Path) -> Iterator["Paused"]:
    writer = Paused(index)
    yield writer
    writer.kill()


class Paused:
    """A writer in another process that stops at a point of its work."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._process: subprocess.Popen[str] | None = None

    def start(self, point: str, command: str = "build") -> int:
        arguments = [sys.executable, "-c", PAUSING_WRITER, str(self._target), point, command]
        self._process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "paused\n"
        return self._process.pid

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@pytest.mark.parametrize("command", ["build", "add"])
@pytest.mark.parametrize("point", ["feeding", "committed", "sealed", "switching"])
def test_a_killed_writer_leaves_the_last_complete_generation(
    index: Path, paused: Paused, point: str, command: str
) -> None:
    before = info(index)
    paused.start(point, command)
    assert len(list((index / "generations").iterdir())) == 2
    paused.kill()
    assert info(index) == before
    retriever = Bm25Retriever.open(index)
    assert [retriever.passage(p.id) for p in WORLD] == WORLD
    assert ids(retriever.search("rays", 4)) == ["c"]
    after = add([NEW], index)
    assert after.num_documents == 5
    kept = sorted(f.name for f in (index / "generations").iterdir())
    assert kept == [before.generation, after.generation]


def test_a_writer_killed_after_the_switch_has_done_its_work(index: Path, paused: Paused) -> None:
    paused.start("switched")
    paused.kill()
    assert info(index).num_documents == 3000
    assert Bm25Retriever.open(index).passage("n17").title == "New 17"
    assert build(WORLD, index).num_documents == 4


def test_a_first_build_that_was_killed_is_no_index(tmp_path: Path) -> None:
    writer = Paused(tmp_path / "index")
    writer.start("feeding")
    writer.kill()
    with pytest.raises(IndexUnavailable, match="was never finished: build it again"):
        Bm25Retriever.open(tmp_path / "index")
    assert build(WORLD, tmp_path / "index").num_documents == 4
    assert len(list((tmp_path / "index" / "generations").iterdir())) == 1


def test_a_second_writer_is_refused_and_readers_go_on(index: Path, paused: Paused) -> None:
    pid = paused.start("feeding")
    holder = re.escape(f"{index} is being written by process {pid} on {os.uname().nodename}")
    for write in (build, add):
        with pytest.raises(IndexUnavailable, match=holder):
            write([NEW], index)
    with pytest.raises(IndexUnavailable, match=holder):
        delete(["a"], index)
    assert ids(Bm25Retriever.open(index).search("rays", 4)) == ["c"]
    paused.kill()
    assert add([NEW], index).num_documents == 5


def test_leftovers_of_a_killed_switch_are_cleared(index: Path) -> None:
    (index / "CURRENT.new").write_text("half")
    build(WORLD, index)
    assert {file.name for file in index.iterdir()} == {"CURRENT", "LOCK", "generations"}


def test_a_disk_without_hard_links_gets_copies(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(generations.os, "link", refuse)
    assert add([NEW], index).num_documents == 5


@pytest.mark.parametrize("most_bytes", [200_000, 2_000, 100])
@pytest.mark.parametrize("write", [build, add])
def test_a_full_disk_leaves_the_live_index(
    index: Path, write: Callable[[list[Passage], Path], object], most_bytes: int
) -> None:
    """A limit on the size of files stands in for the end of the disk."""
    before = info(index)
    passages = invented(2000, shortest=60, longest=100)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, limits[1]))
    try:
        with pytest.raises(IndexUnavailable, match="write the index at"):
            write([Passage(p.id + "+", p.title, p.text) for p in passages], index)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert info(index) == before
    assert ids(Bm25Retriever.open(index).search("rays", 4)) == ["c"]
    assert add([NEW], index).num_documents == 5


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError("the disk refused")])
def test_what_stops_a_writer_after_the_switch_leaves_the_new_generation(
    index: Path, monkeypatch: pytest.MonkeyPatch, stop: BaseException
) -> None:
    before, sync = info(index).generation, journal.sync_folder

    def stopping(folder: Path) -> None:
        sync(folder)
        if folder == index:
            raise stop

    monkeypatch.setattr(journal, "sync_folder", stopping)
    with pytest.raises((KeyboardInterrupt, IndexUnavailable)):
        add([NEW], index)
    monkeypatch.undo()
    assert info(index).generation != before
    assert Bm25Retriever.open(index).num_documents == 5
    assert add([replace(NEW, id="newer")], index).num_documents == 6
