"""Scores and ranking against a reference scorer, and what real questions find."""

import json
import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from steper_serve import corpus
from steper_serve.retrieval.bm25 import Bm25Retriever, build
from steper_serve.trajectory import Passage
from tests.retrieval.worlds import ids, invented


def reference_scores(
    passages: Sequence[Passage], query: str, not_in_texts: frozenset[str] = frozenset()
) -> dict[str, float]:
    """BM25 by its definition, over texts of plain lower-case words."""
    scores: Counter[str] = Counter()
    for field in ("title", "text"):
        counts = {p.id: Counter(getattr(p, field).split()) for p in passages}
        average = sum(c.total() for c in counts.values()) / len(counts)
        for word in set(query.split()) - (not_in_texts if field == "text" else set()):
            n = sum(word in c for c in counts.values())
            idf = math.log(1 + (len(counts) - n + 0.5) / (n + 0.5))
            for id, c in counts.items():
                length = 1 - 0.75 + 0.75 * c.total() / average
                scores[id] += idf * c[word] * 2.2 / (c[word] + 1.2 * length)
    return {id: score for id, score in scores.items() if score > 0}


def assert_scored_like_reference(
    passages: list[Passage],
    query: str,
    found: Sequence[Passage],
    tolerance: float,
    not_in_texts: frozenset[str] = frozenset(),
) -> None:
    expected = reference_scores(passages, query, not_in_texts)
    assert len(found) == len(expected)
    for passage in found:
        assert passage.score == pytest.approx(expected[passage.id], rel=tolerance)
    best = sorted(expected.values(), reverse=True)
    # rank by rank, so that passages whose scores are equal may stand in either order
    for passage, score in zip(found, best, strict=True):
        assert expected[passage.id] == pytest.approx(score, rel=2 * tolerance)


def test_scores_and_ranking_of_short_passages_are_the_reference_s(tmp_path: Path) -> None:
    """Up to 40 words Tantivy's 8-bit field length is exact."""
    passages = invented(200, shortest=1, longest=40)
    build(passages, tmp_path / "index")
    retriever = Bm25Retriever.open(tmp_path / "index")
    for query in ("w0", "w3 w77", "w0 w1 w2 w250 w250 unknown", passages[9].text):
        found = retriever.search(query, 200)
        assert_scored_like_reference(passages, query, found, tolerance=1e-5)


def test_stop_words_count_in_titles_and_in_texts_where_the_rest_finds_too_little(
    tmp_path: Path,
) -> None:
    stop_words = frozenset({"the", "of", "was"})
    told = dict(zip(("w0", "w2", "w5"), stop_words, strict=True))
    passages = [
        Passage(p.id, *(" ".join(told.get(w, w) for w in t.split()) for t in (p.title, p.text)))
        for p in invented(200, shortest=1, longest=40)
    ]
    build(passages, tmp_path / "index")
    retriever = Bm25Retriever.open(tmp_path / "index")
    query = "the w3 of was w77"
    num = len(reference_scores(passages, query, stop_words))
    found = retriever.search(query, num)
    assert_scored_like_reference(passages, query, found, 1e-5, stop_words)
    found = retriever.search(query, 200)
    assert len(found) > num
    assert_scored_like_reference(passages, query, found, 1e-5)


def test_a_passage_of_stop_words_alone_is_indexed_and_found(tmp_path: Path) -> None:
    passages = [Passage("p1", "It", "and what was it"), Passage("p2", "The Who", "they are this")]
    build(passages, tmp_path / "index")
    retriever = Bm25Retriever.open(tmp_path / "index")
    assert [ids(retriever.search(p.title, 1)) for p in passages] == [["p1"], ["p2"]]
    assert ids(retriever.search("they are", 1)) == ["p2"]


def test_scores_of_long_passages_are_near_the_reference_s(tmp_path: Path) -> None:
    """Beyond, the length is rounded down to one of a few steps: scores differ by up to 5%."""
    passages = invented(200, shortest=60, longest=400)
    build(passages, tmp_path / "index")
    retriever = Bm25Retriever.open(tmp_path / "index")
    for query in ("w0", "w3 w77", "w0 w1 w2 w250 unknown"):
        found = retriever.search(query, 200)
        assert_scored_like_reference(passages, query, found, tolerance=0.05)


def test_top_k_is_the_head_of_the_whole_ranking(tmp_path: Path) -> None:
    """Tantivy skips blocks that cannot reach the top; that must not change it."""
    build(invented(500, shortest=5, longest=40), tmp_path / "index")
    retriever = Bm25Retriever.open(tmp_path / "index")
    whole = retriever.search("w1 w2 w3 w40", 500)
    for top_k in (1, 4, 20):
        assert retriever.search("w1 w2 w3 w40", top_k) == whole[:top_k]


def test_ties_break_in_the_order_of_the_corpus(tmp_path: Path) -> None:
    build([Passage(f"id{n}", "same", "same text") for n in range(50)], tmp_path / "index")
    retriever = Bm25Retriever.open(tmp_path / "index")
    assert ids(retriever.search("same text", 20)) == [f"id{n}" for n in range(20)]


def test_a_word_counts_once_however_often_a_query_says_it(index: Path) -> None:
    retriever = Bm25Retriever.open(index)
    assert retriever.search("letter letter rays letter", 4) == retriever.search("rays letter", 4)


DATA = os.environ.get("STEPER_DATA_DIR")


@pytest.mark.skipif(DATA is None, reason="STEPER_DATA_DIR (hotpotqa/, musique/, …) is not set")
@pytest.mark.parametrize(
    ("name", "least"), [("hotpotqa", 0.743), ("musique", 0.489), ("2wikimultihopqa", 0.658)]
)
def test_recall_of_supporting_passages(tmp_path: Path, name: str, least: float) -> None:
    """Question alone, top 4; the least is what stemmed English over title and text found."""
    folder = Path(DATA or "") / name
    build(corpus.read(folder), tmp_path / "index")
    retriever = Bm25Retriever.open(tmp_path / "index")
    shares = []
    for line in (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines():
        question = json.loads(line)
        titles = {p.title for p in retriever.search(question["question"], 4)}
        wanted = set(question["supporting_titles"])
        shares.append(len(titles & wanted) / len(wanted))
    assert sum(shares) / len(shares) >= least
