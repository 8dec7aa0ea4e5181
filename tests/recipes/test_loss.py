"""Weights of the kinds of step: fixed ones, learned ones, and a kind that is absent."""

import math

import pytest
import torch

from steper_serve.recipes.distill.batches import Sample
from steper_serve.recipes.distill.loss import (
    FIXED,
    Difficulty,
    Objective,
    kind_sums,
    mid_steps_per_question,
    normalised,
)


def test_a_kind_is_the_mean_over_samples_of_their_mean_over_tokens():
    losses = torch.tensor([1.0, 3.0, 5.0, 7.0, 8.0, 2.0])
    kinds = torch.tensor([0, 0, 0, 2, 2, 2])
    shares = torch.tensor([1 / 2, 1 / 2, 1, 1 / 2, 1 / 2, 1])
    sums = kind_sums(losses, kinds, shares)
    assert sums.tolist() == [2 + 5, 0, 7.5 + 2]
    objective = Objective.build("uniform")
    assert objective.losses(sums.tolist(), (2, 0, 2)) == [3.5, None, 4.75]


@pytest.mark.parametrize(
    ("weighting", "weights"),
    [
        ("uniform", (1 / 3, 1 / 3, 1 / 3)),
        ("first", (0.5, 1 / 3, 1 / 6)),
        ("last", (1 / 6, 1 / 3, 0.5)),
    ],
)
def test_fixed_weights_are_those_of_the_paper_over_three(weighting, weights):
    objective = Objective.build(weighting, num_mid_steps=1.5)
    assert objective.weights() == pytest.approx(weights)
    assert sum(FIXED[weighting]) == pytest.approx(1)
    losses = objective.losses([2.0, 8.0, 3.0], (1, 2, 3))
    assert losses == pytest.approx([2.0, 6.0, 1.0])
    expected = 2 * weights[0] + 6 * weights[1] + weights[2]
    assert objective.total(losses) == pytest.approx(expected)
    parts = zip(objective.coefficients((1, 2, 3)), [2.0, 8.0, 3.0], strict=True)
    assert sum(c * total for c, total in parts) == pytest.approx(expected)


def test_with_losses_frozen_each_variance_goes_to_its_loss():
    difficulty, losses = Difficulty(0.05), [0.04, 1.3, 7.0]
    for _ in range(1500):
        difficulty.update(losses)
    assert [sigma**2 for sigma in difficulty.sigmas] == pytest.approx(losses, rel=1e-2)
    assert difficulty.weights() == pytest.approx([1 / (2 * loss) for loss in losses], rel=1e-2)


def test_the_gradient_of_log_variance_is_that_of_equation_four():
    """By automatic differentiation of L / (2 sigma^2) + log sigma."""
    difficulty = Difficulty(0.1)
    difficulty.update([3.0, 3.0, 3.0])
    s = torch.tensor(math.log(difficulty.sigmas[0] ** 2), requires_grad=True)
    (2.0 / (2 * torch.exp(s)) + torch.log(torch.exp(0.5 * s))).backward()
    difficulty.update([2.0, None, None])
    assert difficulty._log_variances[0].grad.item() == pytest.approx(s.grad.item(), rel=1e-5)


def test_an_absent_kind_contributes_nothing_and_its_sigma_stays():
    difficulty = Difficulty(0.05)
    objective = Objective("difficulty", (1.0, 1.0, 1.0), difficulty)
    for _ in range(20):  # all have momentum by now
        objective.update([0.1, 4.0, 0.1])
    before = difficulty.sigmas
    losses = objective.losses([0.3, 0.0, 0.6], (3, 0, 2))
    assert losses == pytest.approx([0.1, None, 0.3])
    objective.update(losses)
    after = difficulty.sigmas
    assert after[1] == before[1]
    assert after[0] != before[0]
    weights = objective.weights()
    logs = math.log(after[0]) + math.log(after[2])
    assert objective.total(losses) == pytest.approx(weights[0] * 0.1 + weights[2] * 0.3 + logs)
    fixed = Objective.build("uniform")
    assert fixed.total([3.0, None, None]) == pytest.approx(1.0)


def test_a_saved_sigma_goes_on_as_if_nothing_had_happened():
    losses = [[0.5, 2.0, 1.0], [0.4, None, 1.2], [0.6, 1.9, 0.8], [0.5, 1.0, 1.0]]
    whole, first, second = (Objective.build("difficulty") for _ in range(3))
    for batch in losses:
        whole.update(batch)
    for batch in losses[:2]:
        first.update(batch)
    second.load_state_dict(first.state_dict())
    for batch in losses[2:]:
        second.update(batch)
    assert second.difficulty.sigmas == whole.difficulty.sigmas


def test_normalised_sigmas_sum_to_one():
    assert normalised((1.0, 2.0, 5.0)) == (0.125, 0.25, 0.625)


def test_the_average_number_of_middle_steps_counts_questions_without_any():
    def sample(question, kind):
        return Sample(question, kind, [1], [2])

    samples = [
        sample("a", "init"),
        *[sample("a", "exp")] * 3,
        sample("a", "agg"),
        sample("b", "agg"),
    ]
    assert mid_steps_per_question(samples) == 1.5
    assert mid_steps_per_question([sample("b", "agg")]) == 1.0
