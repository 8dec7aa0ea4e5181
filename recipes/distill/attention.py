"""Attention over packed rows: a token's ancestors stand before it, so what is behind is skipped.

A kernel that is given a mask computes all T x T scores. Here the queries are taken a block at a
time, each with the keys up to its own end, which is half of the work. Without a mask the rows are
plainly causal and one call does, as Hugging Face's own.

On a CPU the blocks are plain products of matrices, with the probabilities kept for the backward
pass: torch's own kernel takes three times as long for it. On a GPU they are torch's kernels.
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
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if query.device.type == "cpu" and not dropout:
        seen = by_products(query, key, value, attention_mask, scale)
    else:
        seen = by_kernel(query, key, value, attention_mask, scale, dropout)
    return seen.transpose(1, 2).contiguous(), None


def use(causal: Any) -> None:
    """Let a Hugging Face model attend in this way."""
    AttentionInterface.register(NAME, packed_attention)
    causal.set_attn_implementation(NAME)


def by_kernel(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float, dropout: float = 0.0
) -> Tensor:
    """[b, heads, T, d] by torch's fused attention; as many heads of keys as of queries."""
    blocks = [
        functional.scaled_dot_product_attention(
            query[:, :, start : start + BLOCK],
            key[:, :, : start + BLOCK],
            value[:, :, : start + BLOCK],
            attn_mask=mask[:, :, start : start + BLOCK, : start + BLOCK],
            dropout_p=dropout,
            scale=scale,
        )
        for start in range(0, query.shape[2], BLOCK)
    ]
    return torch.cat(blocks, dim=2)


def by_products(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float) -> Tensor:
    """The same by plain products of matrices, in autocast's type where that is on."""
    if torch.is_autocast_enabled("cpu"):
        kind = torch.get_autocast_dtype("cpu")
        query, key, value = (tensor.to(kind) for tensor in (query, key, value))
    with torch.autocast("cpu", enabled=False):
        seen: Tensor = _Products.apply(query, key, value, mask, scale)  # type: ignore[no-untyped-call]
    return seen


class _Products(torch.autograd.Function):
    """Sums over blocks are float32 at least."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float
    ) -> Tensor:
        batch, heads, length, _ = query.shape
        q, k, v = (tensor.flatten(0, 1) for tensor in (query, key, value))
        unseen = torch.finfo(q.dtype).min
        out, probabilities = torch.empty_like(q), []
        for start in range(0, length, BLOCK):
            end = min(start + BLOCK, length)
            bias = torch.zeros((), dtype=q.dtype).where(mask[:, :, start:end, :end], unseen)
            bias = bias.expand(batch, heads, -1, -1).flatten(0, 1)
            scores = torch.baddbmm(bias, q[:, start:end], k[:, :end].mT, alpha=scale)
            probabilities.append(torch.softmax(scores, dim=-1))
            out[:, start:end] = torch.bmm(probabilities[-1], v[:, :end])
        ctx.save_for_backward(q, k, v, *probabilities)
        ctx.scale, ctx.shape = scale, query.shape
        return out.view(query.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *probabilities = ctx.saved_tensors
        out = gradients[0].flatten(0, 1)
        exact = torch.promote_types(q.dtype, torch.float32)
        for_q = torch.empty_like(q)
        for_k, for_v = (torch.zeros(q.shape, dtype=exact) for _ in range(2))
        for number, p in enumerate(probabilities):
            start, end = number * BLOCK, number * BLOCK + p.shape[1]
            for_v[:, :end] += torch.bmm(p.mT, out[:, start:end])
            for_p = torch.bmm(out[:, start:end], v[:, :end].mT)
            for_scores = torch._softmax_backward_data(for_p, p, -1, p.dtype)
            for_q[:, start:end] = torch.bmm(for_scores, k[:, :end])
            for_k[:, :end] += torch.bmm(for_scores.mT, q[:, start:end])
        for_q, for_k = for_q.mul_(ctx.scale), for_k.mul_(ctx.scale)
        return (*(g.to(q.dtype).view(ctx.shape) for g in (for_q, for_k, for_v)), None, None)
