"""See that a freshly built index finds what was put into it, before it goes live.

What is left out: how good the search is (benchmarks/retrieval.py); this finds broken indexes.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from steper_serve.errors import IndexUnavailable
from steper_serve.trajectory import Passage

_SAMPLE_SIZE, _SAMPLE_WORDS, _SAMPLE_TOP_K = 64, 16, 10
_SCORE_TOLERANCE = 1e-3  # 32-bit sums in another order


class Searchable(Protocol):
    """What the check asks of an index."""

    def search(self, query: str, top_k: int) -> Sequence[Passage]: ...

    def words(self, text: str) -> list[str]:
        """The words that a query is read as."""
        ...

    def own_score(self, query: str, id: str) -> float | None:
        """What the passage `id` scores for `query`; None where it has none of its words."""
        ...


class Sample:
    """Evenly spaced passages of a stream of unknown length, in constant memory."""

    def __init__(self) -> None:
        self.passages: list[Passage] = []
        self._stride = 1
        self._num = 0

    def offer(self, passage: Passage) -> None:
        if self._num % self._stride == 0:
            self.passages.append(passage)
        self._num += 1
        if len(self.passages) > 2 * _SAMPLE_SIZE:
            self.passages = self.passages[::2]
            self._stride *= 2


def self_check(opened: Searchable, sample: list[Passage]) -> None:
    """See that sampled passages are found by their title and first words.

    A passage may be missing from the top hits only if those score at least what it scores
    itself, as identical texts do; and different queries must not all have one answer.

    Raises:
        IndexUnavailable: they are not, so the index is broken.
    """
    answers: dict[frozenset[str], tuple[Passage, ...]] = {}
    for passage in sample:
        query = " ".join([passage.title, *passage.text.split()[:_SAMPLE_WORDS]])
        words = frozenset(opened.words(query))
        if not words:  # nothing but punctuation: no query can find it
            continue
        hits = opened.search(query, _SAMPLE_TOP_K)
        answers[words] = tuple(hits)
        found = next((hit for hit in hits if hit.id == passage.id), None)
        if found is not None:
            if replace(found, score=passage.score) != passage:
                raise failed(f"passage {passage.id!r} does not come back as it went in")
            continue
        own = opened.own_score(query, passage.id)
        if own is None or not hits or (hits[-1].score or 0.0) < own - _SCORE_TOLERANCE:
            raise failed(f"passage {passage.id!r} is not found by its title and first words")
    if len(answers) > 1 and len(set(answers.values())) == 1:
        raise failed(f"{len(answers)} different queries found the same passages")


def failed(what: str) -> IndexUnavailable:
    return IndexUnavailable(
        f"the new index failed its self-check ({what}) and is not used; what was live stays so. "
        "Try again; if it fails again, report it with this message"
    )
