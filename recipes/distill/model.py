"""A causal language model whose logits are computed at target positions only.

A step sample bears loss on a few dozen of its tokens, while a vocabulary has up to 150,000
entries: the backbone reads every row, the output layer only the hidden states that a target needs.
What is left out: weights of the losses (loss.py), and any optimizer.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from steper_serve.errors import ConfigurationError
from steper_serve.recipes.distill import attention
from steper_serve.recipes.distill.batches import MicroBatch
from steper_serve.recipes.distill.loss import kind_sums

# What some architectures do to logits behind the output layer, and this module does not.
_BEHIND_THE_HEAD = ("final_logit_softcapping", "logits_scaling", "logit_scale")


@dataclass(frozen=True, slots=True)
class Sums:
    """Differentiable sums over a micro-batch, float32.

    Args:
        kinds: [3] see `loss.kind_sums`.
        lm: [] weighted sum of the plain language-model losses.
    """

    kinds: Tensor
    lm: Tensor


class TargetModel(nn.Module):
    """Wraps a Hugging Face causal language model; its forward maps a micro-batch to `Sums`.

    Args:
        causal: any; its attention is set to that of attention.py. A peft model will do.

    Raises:
        ConfigurationError: the model's logits or attention are not those of a plain decoder.
    """

    def __init__(self, causal: Any) -> None:
        super().__init__()
        check_supported(causal.config)
        attention.use(causal)
        self.causal = causal

    def forward(self, batch: MicroBatch) -> Sums:
        """The losses' sums. Every rank runs the same modules, whatever its batch holds."""
        positions = torch.cat([batch.positions, batch.lm_positions])
        labels = torch.cat([batch.labels, batch.lm_labels])
        losses = token_losses(self.causal, batch, positions, labels)
        steps, lm = losses[: len(batch.labels)], losses[len(batch.labels) :]
        return Sums(kind_sums(steps, batch.kinds, batch.shares), (lm * batch.lm_weights).sum())


def token_losses(causal: Any, batch: MicroBatch, positions: Tensor, labels: Tensor) -> Tensor:
    """[N] float32 cross-entropy of `labels` at `positions`, indices into the b*T tokens."""
    model = causal.get_base_model() if hasattr(causal, "get_base_model") else causal
    hidden = model.base_model(
        input_ids=batch.ids,
        attention_mask=batch.mask(),
        position_ids=batch.depths,
        use_cache=False,
    ).last_hidden_state
    logits = model.get_output_embeddings()(hidden.flatten(0, 1)[positions])
    return functional.cross_entropy(logits.float(), labels, reduction="none")


def check_supported(config: Any) -> None:
    """Refuse a model that this module would train on other logits than it is served with.

    Raises:
        ConfigurationError: it changes logits behind its output layer, or looks back through a
            window, which a mask of ancestors does not know.
    """
    name = config.model_type
    changed = [key for key in _BEHIND_THE_HEAD if getattr(config, key, None) not in (None, 1, 1.0)]
    if changed:
        raise ConfigurationError(
            f"models of type {name!r} with {changed[0]} set are not supported as students: "
            "their logits are changed behind the output layer"
        )
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        raise ConfigurationError(
            f"this {name!r} model has sliding-window layers, which are not supported; "
            "if its context is no longer than the window, set use_sliding_window to false"
        )
