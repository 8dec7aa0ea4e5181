"""The loss over three kinds of step, with fixed or learned weights (paper, eq. 3 to 5).

A sample's loss is the mean cross-entropy over its target tokens; L of a kind is the mean over
that kind's samples in the global batch. Equation 3 sums over the middle steps of a question, so
L_exp is multiplied by their average number, a constant of the data set (`Objective.scales`).

Weights are constants within a global batch. The gradient of a micro-batch is therefore that of a
plain weighted sum, and a batch's gradient does not depend on how it is split over accumulation
steps and ranks. What is left out: the model (model.py) and the sums over ranks (train.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from steper_serve.recipes.distill.batches import KINDS, Sample
from steper_serve.recipes.distill.sections import Weighting

# Thirds of eq. 3, and the fixed weightings of Table 2.
FIXED: Mapping[str, tuple[float, float, float]] = {
    "uniform": (1 / 3, 1 / 3, 1 / 3),
    "first": (1.5 / 3, 1 / 3, 0.5 / 3),
    "last": (0.5 / 3, 1 / 3, 1.5 / 3),
}


def kind_sums(token_losses: Tensor, kinds: Tensor, shares: Tensor) -> Tensor:
    """Sum over samples of their mean token loss, for each kind.

    Args:
        token_losses: [N] cross-entropy at each target, float32.
        kinds, shares: [N] of the same targets (`batches.MicroBatch`).

    Returns:
        [3] in the order of KINDS; divided by the samples of each kind it is L of the kind.
    """
    return torch.zeros(len(KINDS), device=token_losses.device).index_add(
        0, kinds, token_losses * shares
    )


def mid_steps_per_question(samples: Sequence[Sample]) -> float:
    """Average number of middle steps a question, 1 where there are none at all."""
    questions = {sample.question for sample in samples}
    return sum(sample.kind == "exp" for sample in samples) / max(1, len(questions)) or 1.0


class Difficulty:
    """Learned weights: s = log sigma^2 of each kind, minimising exp(-s)/2 * L + s/2 (eq. 4).

    The stationary point is sigma^2 = L. The three scalars are float32 and outside the model, with
    an Adam of their own: at the model's learning rate they would stay where they are.
    """

    def __init__(self, learning_rate: float) -> None:
        self._log_variances = [nn.Parameter(torch.zeros(())) for _ in KINDS]
        self._optimizer = torch.optim.Adam(
            self._log_variances, lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.0
        )

    @property
    def sigmas(self) -> tuple[float, ...]:
        """sigma of each kind."""
        return tuple(torch.exp(0.5 * s).item() for s in self._log_variances)

    def weights(self) -> tuple[float, ...]:
        """What multiplies each L: 1 / (2 sigma^2)."""
        return tuple(0.5 * torch.exp(-s).item() for s in self._log_variances)

    def update(self, losses: Sequence[float | None]) -> None:
        """One step towards sigma^2 = L. A kind that is absent (None) stays where it is."""
        for s, loss in zip(self._log_variances, losses, strict=True):
            gradient = None if loss is None else 0.5 - 0.5 * torch.exp(-s.detach()) * loss
            s.grad = gradient
        self._optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """All that `load_state_dict` needs to go on as if nothing had happened."""
        return {
            "log_variances": [s.item() for s in self._log_variances],
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        with torch.no_grad():
            for s, value in zip(self._log_variances, state["log_variances"], strict=True):
                s.fill_(value)
        self._optimizer.load_state_dict(state["optimizer"])


def normalised(sigmas: Sequence[float]) -> tuple[float, ...]:
    """Each sigma over their sum (eq. 5)."""
    return tuple(sigma / sum(sigmas) for sigma in sigmas)


@dataclass(frozen=True, slots=True)
class Objective:
    """What is minimised: kinds, their scales and their weights.

    Args:
        weighting: a name in FIXED, or "difficulty".
        scales: a constant for each kind that L is multiplied by.
        difficulty: the learned weights; None for a fixed weighting.
    """

    weighting: Weighting
    scales: tuple[float, float, float]
    difficulty: Difficulty | None

    @classmethod
    def build(
        cls,
        weighting: Weighting,
        *,
        num_mid_steps: float = 1.0,
        sigma_learning_rate: float = 1e-2,
    ) -> "Objective":
        """The objective of a weighting; `num_mid_steps` multiplies L_exp."""
        learned = Difficulty(sigma_learning_rate) if weighting == "difficulty" else None
        return cls(weighting, (1.0, num_mid_steps, 1.0), learned)

    def weights(self) -> tuple[float, ...]:
        """What multiplies each kind's (scaled) L now."""
        return FIXED[self.weighting] if self.difficulty is None else self.difficulty.weights()

    def coefficients(self, counts: Sequence[int]) -> tuple[float, ...]:
        """What multiplies each of `kind_sums` in every micro-batch of a global batch.

        Args:
            counts: samples of each kind in the global batch, over all ranks.
        """
        return tuple(
            weight * scale / max(1, count)
            for weight, scale, count in zip(self.weights(), self.scales, counts, strict=True)
        )

    def losses(self, sums: Sequence[float], counts: Sequence[int]) -> list[float | None]:
        """L of each kind, scaled, from the sums over the global batch; None for an absent kind."""
        return [
            scale * total / count if count else None
            for total, scale, count in zip(sums, self.scales, counts, strict=True)
        ]

    def total(self, losses: Sequence[float | None]) -> float:
        """The objective's value; absent kinds contribute nothing, log sigma included."""
        weighted = sum(
            weight * loss
            for weight, loss in zip(self.weights(), losses, strict=True)
            if loss is not None
        )
        if self.difficulty is None:
            return weighted
        present = [loss is not None for loss in losses]
        logs = torch.log(torch.tensor(self.difficulty.sigmas))
        return weighted + float(logs[torch.tensor(present)].sum())

    def update(self, losses: Sequence[float | None]) -> None:
        """Let learned weights follow the losses of a global batch."""
        if self.difficulty is not None:
            self.difficulty.update(losses)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint; empty for a fixed weighting."""
        return {} if self.difficulty is None else self.difficulty.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        if self.difficulty is not None:
            self.difficulty.load_state_dict(state)
