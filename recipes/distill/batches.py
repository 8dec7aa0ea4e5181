"""Batches of step samples: rows for a forward pass, and steps of training made of them.

A global batch is a number of questions with all their samples. How many samples of each kind it
holds, over all ranks, is known before its first micro-batch: the loss of a kind is a mean over
them (loss.py), whatever way the batch is split over accumulation steps and ranks. What is left
out: how samples share a row (packing.py), text and tokenizers (tokenization.py), the model
(model.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from steper_serve.recipes.distill.packing import KINDS, Floats, Ints, Kind, Row, Sample, pack

__all__ = [
    "KINDS",
    "Batches",
    "GlobalBatch",
    "Kind",
    "MicroBatch",
    "Row",
    "Sample",
    "collate",
    "dealt",
    "empty",
    "grouped",
    "pack",
    "padded",
]

# Rows are padded to a multiple of this many tokens.
MULTIPLE = 64


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
