"""The self-check of a new index: what it notices, what it lets pass, what it looks at."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steper_serve.errors import IndexUnavailable
from steper_serve.retrieval import searcher
from steper_serve.retrieval.bm25 import Bm25Retriever, build, info
from steper_serve.retrieval.self_check import Sample, self_check
from steper_serve.trajectory import Passage
from tests.retrieval.worlds import WORLD, ids


class Fake:
    """An index that answers everything with the same passages."""

    def __init__(self, hits: Sequence[Passage], own: float | None) -> None:
        self._hits, self._own = tuple(hits), own

    def search(self, query: str, top_k: int) -> Sequence[Passage]:
        return self._hits

    def words(self, text: str) -> list[str]:
        return text.split()

    def own_score(self, query: str, id: str) -> float | None:
        return self._own


@pytest.mark.parametrize(
    ("hits", "own", "message"),
    [
        ([], None, "is not found"),
        ([], 3.0, "is not found"),
        ([Passage("z", "t", "x", score=2.0)], 3.0, "is not found"),
        ([Passage("z", "t", "x", score=3.0)], 3.0, "4 different queries found the same"),
        ([Passage("a", "Alpha", "the first", score=3.0)], 3.0, "does not come back"),
    ],
)
def test_the_self_check_notices(hits: list[Passage], own: float | None, message: str) -> None:
    with pytest.raises(IndexUnavailable, match=message):
        self_check(Fake(hits, own), WORLD)


def test_a_failed_self_check_leaves_the_live_index(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = info(index)
    monkeypatch.setattr(searcher.Opened, "words", lambda self, text: text.upper().split())
    with pytest.raises(IndexUnavailable, match="failed its self-check"):
        build(WORLD, index)
    monkeypatch.undo()
    assert info(index) == before
    assert ids(Bm25Retriever.open(index).search("rays", 4)) == ["c"]


def test_identical_texts_and_texts_without_words_pass_the_self_check(tmp_path: Path) -> None:
    same = [Passage(f"s{n}", "Same", "the same text everywhere") for n in range(200)]
    assert build([*same, Passage("dots", "…", "...")], tmp_path / "i").num_documents == 201


@given(st.integers(1, 2000))
def test_a_sample_is_spread_evenly(num: int) -> None:
    sample = Sample()
    for n in range(num):
        sample.offer(Passage(str(n), "", ""))
    places = [int(p.id) for p in sample.passages]
    assert min(num, 64) <= len(places) <= 128
    assert places[0] == 0
    assert len({b - a for a, b in pairwise(places)}) <= 1
