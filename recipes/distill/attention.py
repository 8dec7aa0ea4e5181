"""Attention over packed rows: a token's ancestors stand before it, so what is behind is skipped.

A kernel that is given a mask computes all T x T scores. Here the queries are taken a block at a
time, each with the keys up to its own end, which is half of the work. Without a mask the rows are
plainly causal and one call does, as Hugging Face's own.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

NAME = "steper_packed"
# Small enough to skip much, large enough for a call to be worth its cost.
BLOCK = 256


def packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """As `sdpa_attention_forward`, for a mask in which no token sees a later one.

    Args:
        query: [b, heads, T, d]; key, value: [b, key heads, T, d].
        attention_mask: [b, 1, T, T], true where a query (third axis) sees a key; or None.

    Returns:
        [b, T, heads, d], and no weights.
    """
    if attention_mask is None:
        done: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, None, dropout, scaling, **others
        )
        return done
    groups = getattr(module, "num_key_value_groups", 1)
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    length = query.shape[2]
    blocks = [
        functional.scaled_dot_product_attention(
            query[:, :, start : start + BLOCK],
            key[:, :, : start + BLOCK],
            value[:, :, : start + BLOCK],
            attn_mask=attention_mask[:, :, start : start + BLOCK, : start + BLOCK],
            dropout_p=dropout,
            scale=scaling,
        )
        for start in range(0, length, BLOCK)
    ]
    return torch.cat(blocks, dim=2).transpose(1, 2).contiguous(), None


def use(causal: Any) -> None:
    """Let a Hugging Face model attend in this way."""
    AttentionInterface.register(NAME, packed_attention)
    causal.set_attn_implementation(NAME)
