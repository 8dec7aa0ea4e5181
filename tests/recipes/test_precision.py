"""Training on machines that this one may not be."""

import pytest

from steper_serve.recipes.distill import engine
from steper_serve.recipes.distill.sections import TrainConfig


@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_autocast_only_where_bfloat16_is_computed(monkeypatch, has_bfloat16):
    monkeypatch.setattr(engine, "has_bfloat16", lambda: has_bfloat16)
    made = engine.settings(TrainConfig(bf16=True, zero_stage=0))
    assert made["torch_autocast"] == {"enabled": has_bfloat16, "dtype": "bfloat16"}
