"""Training on machines that this one may not be."""

import pytest
import torch
from torch.optim import _muon

from steper_serve.recipes.distill import engine, precision
from steper_serve.recipes.distill.sections import TrainConfig


@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_autocast_only_where_bfloat16_is_computed(monkeypatch, has_bfloat16):
    monkeypatch.setattr(engine, "has_bfloat16", lambda: has_bfloat16)
    made = engine.settings(TrainConfig(bf16=True, zero_stage=0))
    assert made["torch_autocast"] == {"enabled": has_bfloat16, "dtype": "bfloat16"}


@pytest.mark.parametrize("shape", [(24, 24), (16, 40), (40, 16)])
def test_muon_in_float32_is_torchs_own(monkeypatch, shape):
    grad = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    settings = (3.4445, -4.775, 2.0315), 5, 1e-7
    by_torch = _muon._zeropower_via_newtonschulz(grad, *settings)
    assert torch.allclose(precision.orthogonal(grad, *settings), by_torch.float(), atol=0.03)
    monkeypatch.setattr(_muon, "_zeropower_via_newtonschulz", None)
    monkeypatch.setattr(precision, "has_bfloat16", lambda: False)
    precision.muon_as_fits()
    assert _muon._zeropower_via_newtonschulz is precision.orthogonal
