"""Samples of one question as one row of tokens, each shared prefix once.

The prompts of a question's steps grow by appending passages, so that its samples share long
prefixes of tokens. `pack` lays them out as the trie of their tokens in preorder, each token once,
with its depth as its position. A token sees its ancestors in the trie and nothing else, which is
what it would see in a row of its own. What a position has to predict may differ from branch to
branch; targets are therefore lists of (position, label), not a second row.

What is left out: rows put together to batches (batches.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["init", "exp", "agg"]
# In the order of every vector of three in the recipe (paper, section 4: eq. 3, a to c).
KINDS: tuple[Kind, ...] = ("init", "exp", "agg")

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Sample:
    """One step of one question, as tokens.

    Args:
        question: key of the question; its samples share a row.
        kind: which of the three losses it counts for.
        context_ids: what is read, at least one token; bears no loss.
        completion_ids: what must be written, its end-of-sequence included. Empty for a text that
            is only read; such a sample counts for no kind.
        lm_weight: weight of a plain language-model loss on each token of `context_ids` but the
            first. A token that several samples share counts once, with the largest weight.
    """

    question: str
    kind: Kind
    context_ids: Sequence[int]
    completion_ids: Sequence[int]
    lm_weight: float = 0.0

    def __post_init__(self) -> None:
        if len(self.context_ids) == 0 or len(self.context_ids) + len(self.completion_ids) < 2:
            raise ValueError(f"a sample of {self.question!r} has no context, or a single token")


@dataclass(frozen=True, slots=True)
class Row:
    """Samples laid out as one row of T tokens. All arrays but the first three are of targets.

    Args:
        ids: [T] tokens in preorder of the trie.
        depths: [T] position of each in its own sample, from 0.
        ends: [T] index past the last descendant: i sees j if and only if j <= i < ends[j].
        positions, labels: [N] where a token is predicted, and which.
        kinds: [N] index into KINDS of the sample that wants it.
        shares: [N] one over the number of targets of that sample.
        lm_positions, lm_labels, lm_weights: [M] the same for plain language-model targets.
        counts: samples of each kind.
    """

    ids: Ints
    depths: Ints
    ends: Ints
    positions: Ints
    labels: Ints
    kinds: Ints
    shares: Floats
    lm_positions: Ints
    lm_labels: Ints
    lm_weights: Floats
    counts: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def branches(self) -> bool:
        """Whether two tokens of the row do not see each other."""
        return bool((self.ends != len(self)).any())


def pack(samples: Sequence[Sample]) -> Row:
    """The samples' tokens as a trie in one row; see the module."""
    texts = [_ids(s) for s in samples]
    trie = _Trie(sum(len(text) for text in texts))
    wanted: list[tuple[Ints, Ints, Sample]] = []
    lm: dict[tuple[int, int], float] = {}
    # In lexical order, a sample shares its longest prefix with the one before it.
    for number in sorted(range(len(samples)), key=lambda n: texts[n].tolist()):
        sample, text = samples[number], texts[number]
        path = trie.insert(text[:-1])
        begin = len(sample.context_ids)
        wanted.append((path[begin - 1 :], text[begin:], sample))
        if sample.lm_weight:
            pairs = zip(path[: begin - 1].tolist(), text[1:begin].tolist(), strict=True)
            for pair in pairs:
                lm[pair] = max(lm.get(pair, 0.0), sample.lm_weight)
    ids, depths, ends = trie.layout()
    return Row(ids, depths, ends, *_targets(wanted), *_lm_targets(lm), _counts(samples))


def _ids(sample: Sample) -> Ints:
    parts = (sample.context_ids, sample.completion_ids)
    return np.concatenate([np.asarray(part, dtype=np.int64) for part in parts])


class _Trie:
    """Texts, inserted in lexical order, as a trie in preorder."""

    def __init__(self, most_tokens: int) -> None:
        self._ids: list[Ints] = []
        self._depths: list[Ints] = []
        self._ends = np.zeros(most_tokens, dtype=np.int64)
        self._last = np.zeros(0, dtype=np.int64)
        self._path = np.zeros(0, dtype=np.int64)
        self._size = 0

    def insert(self, text: Ints) -> Ints:
        """Add a text; the index in the row of each of its tokens."""
        shared = _shared(self._last, text)
        self._ends[self._path[shared:]] = self._size
        new = np.arange(self._size, self._size + len(text) - shared)
        self._ids.append(text[shared:])
        self._depths.append(np.arange(shared, len(text)))
        self._path = np.concatenate([self._path[:shared], new])
        self._size += len(new)
        self._last = text
        return self._path

    def layout(self) -> tuple[Ints, Ints, Ints]:
        """Tokens, depths and ends of subtrees."""
        self._ends[self._path] = self._size
        return np.concatenate(self._ids), np.concatenate(self._depths), self._ends[: self._size]


def _shared(a: Ints, b: Ints) -> int:
    """Length of the longest common prefix."""
    length = min(len(a), len(b))
    (different,) = np.nonzero(a[:length] != b[:length])
    return int(different[0]) if len(different) else length


def _targets(wanted: Sequence[tuple[Ints, Ints, Sample]]) -> tuple[Ints, Ints, Ints, Floats]:
    sizes = [len(labels) for _, labels, _ in wanted]
    kinds = np.array([KINDS.index(sample.kind) for _, _, sample in wanted], dtype=np.int64)
    shares = np.array([1 / max(1, size) for size in sizes], dtype=np.float32)
    return (
        np.concatenate([positions[: len(labels)] for positions, labels, _ in wanted]),
        np.concatenate([labels for _, labels, _ in wanted]),
        np.repeat(kinds, sizes),
        np.repeat(shares, sizes),
    )


def _lm_targets(weights: dict[tuple[int, int], float]) -> tuple[Ints, Ints, Floats]:
    pairs = np.array(list(weights), dtype=np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1], np.array(list(weights.values()), dtype=np.float32)


def _counts(samples: Sequence[Sample]) -> tuple[int, int, int]:
    kinds = [s.kind for s in samples if len(s.completion_ids) > 0]
    return kinds.count("init"), kinds.count("exp"), kinds.count("agg")
