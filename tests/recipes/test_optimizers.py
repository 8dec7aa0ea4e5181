"""What the weights are trained by, beside torch's own."""

from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from steper_serve.recipes.distill import engine
from steper_serve.recipes.distill.sections import TrainConfig

WIDTH = 64


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed_tokens = nn.Embedding(20, WIDTH)
        self.matrix = nn.Linear(WIDTH, WIDTH, bias=False)
        self.wide = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        for parameter in self.parameters():
            parameter.grad = torch.randn_like(parameter)


def changes(model: Model, *optimizers: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    for optimizer in optimizers:
        optimizer.step()
    return {name: value.detach() - before[name] for name, value in model.named_parameters()}


def ours(rate: float) -> dict[str, torch.Tensor]:
    model, train = Model(), TrainConfig(optimizer="muon")
    optimizer = engine._muon(model, train)
    config = SimpleNamespace(hidden_size=WIDTH)
    module = SimpleNamespace(causal=SimpleNamespace(config=config))
    engine.set_learning_rate(SimpleNamespace(optimizer=optimizer, module=module), rate)
    return changes(model, optimizer)


def test_muon_steps_as_torch_s_own_does_at_the_same_rate() -> None:
    model = Model()
    matrices = [model.matrix.weight, model.wide.weight]
    muon = torch.optim.Muon(matrices, lr=0.01, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    others = [model.embed_tokens.weight, model.norm.weight]
    expected = changes(model, muon, torch.optim.AdamW(others, lr=0.01, weight_decay=0.0))
    for name, change in ours(0.01).items():
        size = expected[name].norm()
        assert (change - expected[name]).norm() < 0.05 * size, name
        assert change.norm() == pytest.approx(size.item(), rel=0.02), name


def test_twice_the_rate_is_twice_the_step() -> None:
    once, twice = ours(0.01), ours(0.02)
    for name, change in once.items():
        torch.testing.assert_close(twice[name], 2 * change, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_muon_wants_whole_matrices(stage: int) -> None:
    with pytest.raises(ValidationError, match="zero_stage = 0"):
        TrainConfig(optimizer="muon", zero_stage=stage)
