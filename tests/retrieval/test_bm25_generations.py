"""Generations: what build, add and delete make of them, and when a reader sees a new one."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from steper_serve.errors import IndexUnavailable, PassageNotFound
from steper_serve.retrieval import searcher
from steper_serve.retrieval.bm25 import Bm25Retriever, add, build, delete, info
from steper_serve.trajectory import Passage
from tests.retrieval.worlds import NEW, WORLD, ids


def test_a_switch_is_seen_when_asked_for(index: Path) -> None:
    retriever = Bm25Retriever.open(index)
    assert retriever.reload_if_changed() is False
    build([Passage("z", "Zeta", "the sixth letter")], index)
    assert set(ids(retriever.search("letter", 4))) == {"a", "b", "d"}
    assert retriever.reload_if_changed() is True
    assert ids(retriever.search("letter", 4)) == ["z"]
    assert retriever.num_documents == 1
    assert retriever.reload_if_changed() is False


def test_an_open_reader_outlives_its_generation(index: Path) -> None:
    retriever = Bm25Retriever.open(index)
    old = retriever.info.generation
    for _ in range(3):
        build([Passage("z", "Zeta", "the sixth letter")], index)
    assert not (index / "generations" / old).exists()
    assert ids(retriever.search("rays", 4)) == ["c"]
    assert retriever.passage("a") == WORLD[0]


def test_the_generation_before_stays(index: Path) -> None:
    names = [build(WORLD, index).generation for _ in range(3)]
    assert sorted(f.name for f in (index / "generations").iterdir()) == names[-2:]


def test_a_broken_new_generation_leaves_the_reader_as_it_was(index: Path) -> None:
    retriever = Bm25Retriever.open(index)
    (index / "CURRENT").unlink()
    with pytest.raises(IndexUnavailable, match="never finished"):
        retriever.reload_if_changed()
    assert ids(retriever.search("rays", 4)) == ["c"]


def test_a_new_generation_that_cannot_be_used_is_told_once(
    index: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every question tries it again, and the log of a server must not drown in it."""
    retriever = Bm25Retriever.open(index)
    for what in ("000009-nothing", "000010-nothing"):
        (index / "CURRENT").write_text(what)
        for _ in range(3):
            with pytest.raises(IndexUnavailable):
                retriever.reload_if_changed()
    assert [what in caplog.text for what in ("000009-nothing", "000010-nothing")] == [True, True]
    assert len(caplog.records) == 2
    build([Passage("z", "Zeta", "the sixth letter")], index)
    assert retriever.reload_if_changed() is True
    assert ids(retriever.search("letter", 4)) == ["z"]


def test_threads_that_see_a_switch_at_once_open_it_once(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    open_live = searcher.open_live

    def count(*arguments: object) -> object:
        opened.append(arguments)
        return open_live(*arguments)

    retriever = Bm25Retriever.open(index)
    build([Passage("z", "Zeta", "the sixth letter")], index)
    monkeypatch.setattr(searcher, "open_live", count)
    together = threading.Barrier(8)

    def ask(_: int) -> list[str]:
        together.wait()
        retriever.reload_if_changed()
        return ids(retriever.search("letter", 4))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [["z"]] * 8
    assert len(opened) == 1


def test_readers_never_miss_a_generation_while_a_writer_switches(index: Path) -> None:
    def read(_: int) -> int:
        return len(Bm25Retriever.open(index).search("alphabet river rays", 4))

    with ThreadPoolExecutor(3) as pool:
        writing = pool.submit(lambda: [build(WORLD, index) for _ in range(15)])
        assert set(pool.map(read, range(100))) == {4}
        assert len(writing.result()) == 15


def test_add_and_delete_make_generations(index: Path) -> None:
    retriever = Bm25Retriever.open(index)
    first = info(index)
    added = add([NEW], index)
    assert (first.num_documents, added.num_documents) == (4, 5)
    assert retriever.reload_if_changed()
    assert ids(retriever.search("epsilon", 4)) == ["e"]
    assert set(ids(retriever.search("letter", 9))) == {"a", "b", "d", "e"}
    assert delete(["a", "e", "a"], index).num_documents == 3
    assert retriever.reload_if_changed()
    assert set(ids(retriever.search("letter", 9))) == {"b", "d"}
    with pytest.raises(PassageNotFound):
        retriever.passage("e")
    assert add([Passage("e", "Epsilon", "back again")], index).num_documents == 4
    assert retriever.reload_if_changed()
    assert retriever.passage("e").text == "back again"


@pytest.mark.parametrize("change", [lambda at: delete(["a"], at), lambda at: add([NEW], at)])
def test_the_generation_that_a_change_begins_from_is_untouched(
    index: Path, change: Callable[[Path], object]
) -> None:
    """The new one shares its files, so nothing may write into them."""
    (folder,) = (index / "generations").iterdir()
    before = {f.name: f.read_bytes() for f in folder.iterdir()}
    change(index)
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == before


def test_everything_can_be_deleted(index: Path) -> None:
    assert delete(ids(WORLD), index).num_documents == 0
    assert Bm25Retriever.open(index).search("letter", 4) == ()
    assert add(WORLD, index).num_documents == 4


def test_an_unknown_id_deletes_nothing(index: Path) -> None:
    before = info(index)
    with pytest.raises(PassageNotFound, match=r"1 of 2 ids .* \(nope\): nothing was deleted"):
        delete(["a", "nope"], index)
    assert info(index) == before
