"""Batches of step samples: shared prefixes once, every loss known in advance.

The prompts of a question's steps grow by appending passages, so that its samples share long
prefixes of tokens. `pack` lays them out as one row: the trie of their tokens in preorder, each
token once, with its depth as its position. A token sees its ancestors in the trie and nothing
else, which is what it would see in a row of its own. What a position has to predict may differ
from branch to branch; targets are therefore lists of (position, label), not a second row.

A global batch is a number of questions with all their samples. How many samples of each kind it
holds, over all ranks, is known before its first micro-batch: the loss of a kind is a mean over
them (loss.py). What is left out: text and tokenizers (tokenization.py), and the model (model.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Kind = Literal["init", "exp", "agg"]
# In the order of every vector of three in the recipe (paper, section 4: eq. 3, a to c).
KINDS: tuple[Kind, ...] = ("init", "exp", "agg")
# Rows are padded to a multiple of this many tokens.
MULTIPLE = 64

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
    texts = [np.array([*s.context_ids, *s.completion_ids], dtype=np.int64) for s in samples]
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


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Rows for one forward pass: b rows of T tokens, N targets over all of them.

    Args:
        ids: [b, T], padded at the end.
        depths, ends: [b, T] as in `Row`; None where no row branches and all is plainly causal.
        positions: [N] indices into the b*T tokens; labels, kinds, shares: [N] as in `Row`.
        lm_positions, lm_labels, lm_weights: [M] the same for language-model targets.
        num_tokens: tokens of the rows, padding not counted.
    """

    ids: Tensor
    depths: Tensor | None
    ends: Tensor | None
    positions: Tensor
    labels: Tensor
    kinds: Tensor
    shares: Tensor
    lm_positions: Tensor
    lm_labels: Tensor
    lm_weights: Tensor
    num_tokens: int

    def mask(self) -> Tensor | None:
        """[b, 1, T, T], true where a token (third axis) sees another; None for plainly causal."""
        if self.ends is None:
            return None
        index = torch.arange(self.ids.shape[1], device=self.ids.device)
        seen = (index[None, :] <= index[:, None]) & (index[:, None] < self.ends[:, None, :])
        return seen.unsqueeze(1)

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""
        tensors: dict[str, Any] = {
            field.name: value.to(device, non_blocking=True)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **tensors)


def collate(rows: Sequence[Row], pad_id: int = 0) -> MicroBatch:
    """Rows as tensors, padded to a common length."""
    length = padded(max(len(row) for row in rows))
    offsets = range(0, len(rows) * length, length)
    branches = any(row.branches for row in rows)
    # A padding token sees itself: attention over nothing is not a number.
    alone = np.arange(1, length + 1)
    ends = np.stack([np.concatenate([r.ends, alone[len(r) :]]) for r in rows])
    return MicroBatch(
        ids=_stacked([row.ids for row in rows], length, pad_id),
        depths=_stacked([row.depths for row in rows], length, 0) if branches else None,
        ends=torch.from_numpy(ends) if branches else None,
        positions=_joined([row.positions + o for row, o in zip(rows, offsets, strict=True)]),
        labels=_joined([row.labels for row in rows]),
        kinds=_joined([row.kinds for row in rows]),
        shares=_joined([row.shares for row in rows]),
        lm_positions=_joined([r.lm_positions + o for r, o in zip(rows, offsets, strict=True)]),
        lm_labels=_joined([row.lm_labels for row in rows]),
        lm_weights=_joined([row.lm_weights for row in rows]),
        num_tokens=sum(len(row) for row in rows),
    )


def empty(pad_id: int = 0) -> MicroBatch:
    """A micro-batch that weighs nothing, for a rank that has run out of rows.

    It has one target, so that the model does in it all that it does in any other.
    """
    row = pack([Sample("", "agg", [pad_id], [pad_id])])
    return replace(collate([row], pad_id), shares=torch.zeros(1), num_tokens=0)


def padded(length: int) -> int:
    """`length` rounded up to the length of a padded row."""
    return -(-length // MULTIPLE) * MULTIPLE


def _stacked(arrays: Sequence[Ints], length: int, fill: int) -> Tensor:
    out = np.full((len(arrays), length), fill, dtype=np.int64)
    for line, array in zip(out, arrays, strict=True):
        line[: len(array)] = array
    return torch.from_numpy(out)


def _joined(arrays: Sequence[Ints] | Sequence[Floats]) -> Tensor:
    return torch.from_numpy(np.concatenate(arrays))


def grouped(rows: Sequence[Row], tokens_per_micro_batch: int) -> list[list[Row]]:
    """Rows of like length together, each group within a number of padded tokens.

    A row that is longer than that has a group of its own.
    """
    groups: list[list[Row]] = []
    for row in sorted(rows, key=len, reverse=True):
        if groups and (len(groups[-1]) + 1) * padded(len(groups[-1][0])) <= tokens_per_micro_batch:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


@dataclass(frozen=True, slots=True)
class GlobalBatch:
    """One optimizer step: this rank's micro-batches, and figures over all ranks.

    Every rank has the same number of micro-batches. `num_tokens` counts what the model reads
    (shared prefixes once), `num_targets` what bears loss, `num_lm_targets` what bears the plain
    language-model loss.
    """

    micro_batches: list[MicroBatch]
    counts: tuple[int, int, int]
    num_tokens: int
    num_targets: int
    num_lm_targets: int


class Batches:
    """Global batches of a data set, the same on every rank but for the micro-batches.

    Args:
        samples: all samples; those of a question need not be neighbours.
        questions_per_batch: questions of a global batch, over all ranks.
        tokens_per_micro_batch: the most padded tokens of a micro-batch.
        shared_prefix: whether a question's samples share a row.
        seed: of the order of questions, which is another one in each epoch.
        rank, world_size: which part of each global batch to yield, of how many.
        pad_id: token to pad with; any will do.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        questions_per_batch: int,
        tokens_per_micro_batch: int,
        shared_prefix: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        pad_id: int = 0,
    ) -> None:
        questions: dict[str, list[Sample]] = {}
        for sample in samples:
            questions.setdefault(sample.question, []).append(sample)
        self._questions = list(questions.values())
        self._per_batch = questions_per_batch
        self._budget = tokens_per_micro_batch
        self._shared = shared_prefix
        self._seed = seed
        self._rank = rank
        self._world_size = world_size
        self._pad_id = pad_id

    def __len__(self) -> int:
        """Global batches an epoch; the last one may hold fewer questions."""
        return -(-len(self._questions) // self._per_batch)

    def epoch(self, number: int, start: int = 0) -> Iterator[GlobalBatch]:
        """The global batches of an epoch, from the `start`-th on."""
        order = np.random.default_rng([self._seed, number]).permutation(len(self._questions))
        for begin in range(start * self._per_batch, len(order), self._per_batch):
            chosen = order[begin : begin + self._per_batch]
            yield self._global_batch([self._questions[i] for i in chosen])

    def _global_batch(self, questions: Sequence[Sequence[Sample]]) -> GlobalBatch:
        if self._shared:
            rows = [pack(samples) for samples in questions]
        else:
            rows = [pack([sample]) for samples in questions for sample in samples]
        parts = [grouped(part, self._budget) for part in dealt(rows, self._world_size)]
        mine = [collate(group, self._pad_id) for group in parts[self._rank]]
        num_missing = max(len(part) for part in parts) - len(mine)
        return GlobalBatch(
            micro_batches=mine + [empty(self._pad_id)] * num_missing,
            counts=_summed([row.counts for row in rows]),
            num_tokens=sum(len(row) for row in rows),
            num_targets=sum(len(row.labels) for row in rows),
            num_lm_targets=sum(len(row.lm_labels) for row in rows),
        )


def dealt(rows: Sequence[Row], num_parts: int) -> list[list[Row]]:
    """Rows in parts of about the same number of tokens: the longest first, to the lightest."""
    parts: list[list[Row]] = [[] for _ in range(num_parts)]
    weights = [0] * num_parts
    for row in sorted(rows, key=len, reverse=True):
        lightest = weights.index(min(weights))
        parts[lightest].append(row)
        weights[lightest] += len(row)
    return parts


def _summed(counts: Sequence[tuple[int, int, int]]) -> tuple[int, int, int]:
    init, exp, agg = (sum(column) for column in zip(*counts, strict=True))
    return init, exp, agg
