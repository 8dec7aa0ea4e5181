"""A query is words and nothing else: its syntax is read as words, and none raises."""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from steper_serve.retrieval.bm25 import Bm25Retriever, build
from steper_serve.trajectory import Passage
from tests.retrieval.worlds import WORLD, ids


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("title:Gamma", "title gamma"),
        ('"gamma rays"', "gamma rays"),
        ("+gamma -rays", "gamma rays"),
        ("alphabet AND NOT first", "alphabet and not first"),
        ("(first OR second) letter^9", "first or second letter 9"),
        ("text:[a TO z] id:a *", "text a to z id a"),
        ("rays~2 lett*", "rays 2 lett"),
        ("GÁMMA ràys", "gamma rays"),
        ("id IN [a b]", "id in a b"),
    ],
)
def test_syntax_is_read_as_words(index: Path, written: str, words: str) -> None:
    retriever = Bm25Retriever.open(index)
    found = retriever.search(written, 4)
    assert found
    assert found == retriever.search(words, 4)


@pytest.mark.parametrize("query", ["", "   ", '"', "*", "():-+^~", "zzz", "\x00", "\ud800"])
def test_a_query_without_known_words_finds_nothing(index: Path, query: str) -> None:
    assert Bm25Retriever.open(index).search(query, 4) == ()


@pytest.mark.parametrize(
    ("word", "is_known"),
    [("x" * 40, True), ("x" * 41, False), ("é" * 20, True), ("é" * 20 + "x", False)],
)
def test_a_word_has_forty_bytes_at_most(tmp_path: Path, word: str, is_known: bool) -> None:
    build([*WORLD, Passage("long", "Long", f"a word: {word}")], tmp_path / "index")
    found = Bm25Retriever.open(tmp_path / "index").search(word, 4)
    assert ids(found) == ["long"] * is_known


@given(query=st.text(), top_k=st.integers(-1, 10))
@example(query="\ud800 gamma", top_k=4)
@example(query="gamma\x00rays", top_k=4)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_query_raises(retriever: Bm25Retriever, query: str, top_k: int) -> None:
    found = retriever.search(query, top_k)
    assert len(found) <= max(0, top_k)
    assert [p.score for p in found] == sorted((p.score or 0.0 for p in found), reverse=True)
    # whatever ASCII signs stand between words, they only separate them
    if query.isascii():
        assert found == retriever.search(" ".join(re.findall("[A-Za-z0-9]+", query)), top_k)


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Bm25Retriever:
    target = tmp_path_factory.mktemp("words") / "index"
    build([*WORLD, *(Passage(f"c{c}", chr(c), f"{chr(c)} x") for c in range(33, 127))], target)
    return Bm25Retriever.open(target)


def test_a_very_long_query_is_answered(index: Path) -> None:
    query = " ".join(f"word{n}" for n in range(20_000)) + " gamma"
    assert ids(Bm25Retriever.open(index).search(query, 4)) == ["c"]
