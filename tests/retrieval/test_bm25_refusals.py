"""Refused by name: a bad corpus, a folder that is no index, an old or damaged index."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from steper_serve.errors import CorpusError, IndexUnavailable
from steper_serve.retrieval.bm25 import Bm25Retriever, add, build, delete, info
from steper_serve.trajectory import Passage
from tests.retrieval.worlds import WORLD


@pytest.mark.parametrize(
    ("passages", "message"),
    [
        ([], "no passage"),
        ([WORLD[0], WORLD[1], WORLD[0]], r"'a' occurs 2 times \(passages 1, 3 "),
        ([Passage("", "t", "x")], "id has 1 to"),
        ([Passage("i" * 5000, "t", "x")], "id has 1 to"),
        ([Passage("s", "t", "half \ud800 pair")], "'s' is not valid Unicode"),
    ],
)
def test_a_bad_corpus_is_refused_and_the_live_index_stays(
    index: Path, passages: list[Passage], message: str
) -> None:
    before = info(index)
    with pytest.raises(CorpusError, match=message):
        build(passages, index)
    assert info(index) == before
    assert len(list((index / "generations").iterdir())) == 1


def test_a_reader_of_the_corpus_that_fails_leaves_the_live_index(index: Path) -> None:
    def stream() -> Iterator[Passage]:
        yield WORLD[0]
        raise CorpusError("line 2 is bad")

    before = info(index)
    with pytest.raises(CorpusError, match="line 2 is bad"):
        build(stream(), index)
    with pytest.raises(CorpusError, match="line 2 is bad"):
        add((Passage(p.id + "+", p.title, p.text) for p in stream()), index)
    assert info(index) == before


def test_adding_an_id_that_is_there_is_refused(index: Path) -> None:
    with pytest.raises(CorpusError, match="'b' is already in the index: delete it first"):
        add([Passage("new", "t", "x"), WORLD[1]], index)
    with pytest.raises(CorpusError, match="'new' occurs 2 times"):
        add([Passage("new", "t", "x")] * 2, index)
    assert info(index).num_documents == 4


def test_what_is_no_index_is_named(tmp_path: Path, index: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    for name, message in {
        "nowhere": "no index at .*nowhere: build one",
        "folder": "is no index",
        "file": "is a file",
    }.items():
        for use in (
            info,
            Bm25Retriever.open,
            lambda at: add(WORLD, at),
            lambda at: delete("a", at),
        ):
            with pytest.raises(IndexUnavailable, match=message):
                use(tmp_path / name)
        assert name != "nowhere" or not (tmp_path / name).exists()
    (index / "CURRENT").write_text("000009-nothing\n")
    with pytest.raises(IndexUnavailable, match="names the generation '000009-nothing'"):
        Bm25Retriever.open(index)


def test_a_folder_with_other_things_is_not_built_into(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(IndexUnavailable, match="holds other files"):
        build(WORLD, tmp_path)
    with pytest.raises(IndexUnavailable, match="it is a file"):
        build(WORLD, tmp_path / "thesis.txt")
    (tmp_path / "generations" / "000009-abcdef").mkdir(parents=True)
    (tmp_path / "thesis.txt").unlink()
    with pytest.raises(IndexUnavailable, match="holds other files"):
        build(WORLD, tmp_path)
    assert [str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*")] == [
        "generations",
        "generations/000009-abcdef",
    ]


def test_another_database_is_not_built_into(tmp_path: Path) -> None:
    (tmp_path / "LOCK").touch()
    (tmp_path / "CURRENT").write_text("MANIFEST-000004\n")
    with pytest.raises(IndexUnavailable, match="holds other files"):
        build(WORLD, tmp_path)
    assert (tmp_path / "CURRENT").read_text() == "MANIFEST-000004\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 0}, "has schema version 0 and this program reads 1: build"),
        ({"analyser": "letters"}, "built with the analyser 'letters'"),
        ({"unknown": 1}, "missing or broken"),
    ],
)
def test_an_index_of_another_version_is_named(
    index: Path, change: dict[str, object], message: str
) -> None:
    file = index / "generations" / info(index).generation / "steper-index.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(IndexUnavailable, match=message):
        Bm25Retriever.open(index)


@pytest.mark.parametrize("name", ["meta.json", "steper-index.json"])
@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_damaged_index_is_named(index: Path, name: str, content: str | None) -> None:
    file = index / "generations" / info(index).generation / name
    file.unlink()
    if content is not None:
        file.write_text(content)
    with pytest.raises(IndexUnavailable, match="build"):
        Bm25Retriever.open(index)
