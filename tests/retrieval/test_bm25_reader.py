"""What an index holds and tells: passages, ids and its description, to many threads."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from steper_serve.errors import PassageNotFound
from steper_serve.retrieval.bm25 import Bm25Retriever, info
from steper_serve.trajectory import Passage
from tests.retrieval.worlds import WORLD


def test_a_passage_comes_back_as_it_went_in(index: Path) -> None:
    retriever = Bm25Retriever.open(index)
    assert [retriever.passage(p.id) for p in WORLD] == WORLD
    assert retriever.num_documents == len(WORLD)
    (hit,) = retriever.search("first", 4)
    assert hit == Passage(**{**_fields(WORLD[0]), "score": hit.score})


def _fields(passage: Passage) -> dict[str, object]:
    return {name: getattr(passage, name) for name in passage.__slots__}


@pytest.mark.parametrize("id", ["", "A", "a ", "alpha", "\ud800"])
def test_ids_are_exact(index: Path, id: str) -> None:
    with pytest.raises(PassageNotFound, match="no passage has the id"):
        Bm25Retriever.open(index).passage(id)


def test_info_describes_the_live_generation(index: Path) -> None:
    found = info(index)
    assert found.num_documents == 4
    (generation,) = (index / "generations").iterdir()
    assert found.generation == generation.name
    assert 0 < found.size_bytes <= sum(f.stat().st_size for f in generation.iterdir())
    assert found == Bm25Retriever.open(index).info


def test_a_reader_writes_nothing_into_the_index(index: Path) -> None:
    """A corpus may be mounted read-only."""
    before = {f: f.stat().st_mtime_ns for f in index.rglob("*")}
    Bm25Retriever.open(index).search("letter", 4)
    assert {f: f.stat().st_mtime_ns for f in index.rglob("*")} == before


def test_threads_share_a_retriever(index: Path) -> None:
    retriever = Bm25Retriever.open(index)
    queries = ["letter", "gamma rays", "river sea", "first alphabet"] * 50
    expected = [retriever.search(query, 4) for query in queries]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda query: retriever.search(query, 4), queries)) == expected
