"""Shared prefixes against each sample on its own; and what a global batch holds."""

import copy
import random
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from steper_serve.errors import ConfigurationError
from steper_serve.recipes.distill import attention
from steper_serve.recipes.distill.attention import BLOCK, packed_attention
from steper_serve.recipes.distill.batches import (
    KINDS,
    MULTIPLE,
    Batches,
    Sample,
    collate,
    dealt,
    empty,
    grouped,
    pack,
)
from steper_serve.recipes.distill.model import TargetModel, check_supported, token_losses

VOCABULARY = 50
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=True)),
}


@pytest.fixture(params=list(MODELS))
def causal(request):
    torch.manual_seed(0)
    model = MODELS[request.param]().eval()
    model.config._attn_implementation = "sdpa"
    return model


def question(key: str, num_steps: int = 3, seed: int = 0) -> list[Sample]:
    """Samples as IRCoT's: passages grow, the question follows them, the reasoning grows."""
    draw = random.Random(f"{key}-{seed}")

    def tokens(count: int) -> list[int]:
        return [draw.randrange(3, VOCABULARY) for _ in range(count)]

    passages, asked, reasoning, samples = [], tokens(4), [], []
    for step in range(1, num_steps + 1):
        passages = passages + tokens(draw.randint(5, 12))
        reasoning = reasoning + tokens(draw.randint(2, 6))
        kind = "agg" if step == num_steps else "init" if step == 1 else "exp"
        samples.append(Sample(key, kind, passages + asked, [*reasoning, 0]))
    return samples


def plain_losses(causal, sample: Sample) -> torch.Tensor:
    """The oracle: the sample alone, an ordinary causal forward pass, Hugging Face's labels."""
    ids = torch.tensor([[*sample.context_ids, *sample.completion_ids]])
    logits = causal(input_ids=ids).logits[0, :-1]
    losses = functional.cross_entropy(logits, ids[0, 1:], reduction="none")
    return losses[len(sample.context_ids) - 1 :]


def test_a_packed_row_holds_each_shared_token_once():
    samples = [Sample("q", "init", [1, 2, 3], [4, 0]), Sample("q", "agg", [1, 2, 5], [4, 6, 0])]
    row = pack(samples)
    assert row.ids.tolist() == [1, 2, 3, 4, 5, 4, 6]
    assert row.depths.tolist() == [0, 1, 2, 3, 2, 3, 4]
    assert row.ends.tolist() == [7, 7, 4, 4, 7, 7, 7]
    assert row.counts == (1, 0, 1)


def test_the_same_position_may_have_two_labels():
    row = pack([Sample("q", "init", [1, 2], [3, 0]), Sample("q", "agg", [1, 2], [4, 0])])
    at_two = [label for p, label in zip(row.positions, row.labels, strict=True) if p == 1]
    assert sorted(at_two) == [3, 4]


def test_packed_losses_are_those_of_each_sample_alone(causal):
    questions = [question("a", 4), question("b", 2), question("c", 1)]
    batch = collate([pack(samples) for samples in questions])
    with torch.no_grad():
        packed = token_losses(causal, batch, batch.positions, batch.labels)
        alone = torch.cat([plain_losses(causal, s) for q in questions for s in q])
    torch.testing.assert_close(packed.sort().values, alone.sort().values, atol=1e-5, rtol=1e-5)


def test_packed_logits_are_those_of_each_sample_alone(causal):
    """Position by position, so that no wrong pair of values can hide in a sum."""
    samples = question("a", 4)
    row = pack(samples)
    batch = collate([row])
    with torch.no_grad():
        logits = causal(batch.ids, attention_mask=batch.mask(), position_ids=batch.depths).logits
        for sample in samples:
            ids = [*sample.context_ids, *sample.completion_ids][:-1]
            path = path_of(row, ids)
            assert row.ids[path].tolist() == ids
            alone = causal(torch.tensor([ids])).logits[0]
            torch.testing.assert_close(logits[0, path], alone, atol=1e-5, rtol=1e-5)


def path_of(row, ids: list[int]) -> list[int]:
    """Where a text stands in a row, found through depths and tokens alone."""
    path: list[int] = []
    for depth, token in enumerate(ids):
        start = path[-1] + 1 if path else 0
        stop = row.ends[path[-1]] if path else len(row)
        path.append(
            next(i for i in range(start, stop) if row.depths[i] == depth and row.ids[i] == token)
        )
    return path


def test_the_mask_shows_a_token_its_ancestors_and_nothing_else():
    samples = question("a", 4)
    row = pack(samples)
    seen = collate([row]).mask()[0, 0]
    expected = torch.eye(len(seen), dtype=torch.bool)
    for sample in samples:
        path = path_of(row, [*sample.context_ids, *sample.completion_ids][:-1])
        for i, token in enumerate(path):
            expected[token, path[: i + 1]] = True
    assert torch.equal(seen, expected)


def test_the_gradient_is_that_of_each_sample_alone(causal):
    samples = question("a", 3)
    model = TargetModel(causal)
    sums = model(collate([pack(samples)]))
    (sums.kinds * torch.tensor([0.2, 0.3, 0.5])).sum().backward()
    packed = {name: p.grad.clone() for name, p in causal.named_parameters()}
    causal.zero_grad()
    weights = dict(zip(KINDS, [0.2, 0.3, 0.5], strict=True))
    sum(weights[s.kind] * plain_losses(causal, s).mean() for s in samples).backward()
    for name, parameter in causal.named_parameters():
        torch.testing.assert_close(packed[name], parameter.grad, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("length", [64, 256, 576])
@pytest.mark.parametrize("num_key_heads", [1, 4])
@pytest.mark.parametrize("device", ["cpu", "other"])
def test_attention_by_blocks_is_attention(length, num_key_heads, device, monkeypatch):
    if device == "other":
        monkeypatch.setattr(attention, "by_products", attention.by_kernel)
    torch.manual_seed(0)
    query = torch.randn((2, 4, length, 8), requires_grad=True)
    key, value = (torch.randn((2, num_key_heads, length, 8), requires_grad=True) for _ in range(2))
    mask = (torch.rand(2, 1, length, length) < 0.3).tril() | torch.eye(length, dtype=torch.bool)
    module = SimpleNamespace(num_key_value_groups=4 // num_key_heads)
    out, _ = packed_attention(module, query, key, value, mask, scaling=0.3)
    wide = [t.repeat_interleave(4 // num_key_heads, dim=1) for t in (key, value)]
    whole = functional.scaled_dot_product_attention(query, *wide, attn_mask=mask, scale=0.3)
    torch.testing.assert_close(out, whole.transpose(1, 2))
    inputs = (query, key, value)
    gradients = torch.autograd.grad(out.square().sum(), inputs)
    torch.testing.assert_close(gradients, torch.autograd.grad(whole.square().sum(), inputs))


def test_attention_under_autocast_is_that_of_bfloat16():
    """As in a model: queries and keys leave their rotation in float32, values are bfloat16."""
    torch.manual_seed(0)
    query, key, value = (torch.randn((1, 2, 300, 8), requires_grad=True) for _ in range(3))
    mask = torch.ones(1, 1, 300, 300, dtype=torch.bool).tril()
    with torch.autocast("cpu", torch.bfloat16):
        out, _ = packed_attention(SimpleNamespace(), query, key, value.bfloat16(), mask)
    whole = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    assert out.dtype == torch.bfloat16
    inputs = (query, key, value)
    gradients = torch.autograd.grad(out.float().square().sum(), inputs)
    expected = torch.autograd.grad(whole.square().sum(), inputs)
    for ours, theirs in zip((out.transpose(1, 2), *gradients), (whole, *expected), strict=True):
        torch.testing.assert_close(ours.float(), theirs, atol=0.05, rtol=0.02)


@pytest.mark.parametrize("shared", [True, False])
def test_long_rows_have_the_losses_of_each_sample_alone(causal, shared):
    """Longer than a block of attention, and with the attention that training uses."""
    samples = question("long", 30)
    rows = [pack(samples)] if shared else [pack([sample]) for sample in samples[-2:]]
    assert max(map(len, rows)) > BLOCK
    plain = copy.deepcopy(causal)
    batch = collate(rows)
    with torch.no_grad():
        losses = token_losses(TargetModel(causal).causal, batch, batch.positions, batch.labels)
        alone = torch.cat([plain_losses(plain, s) for s in (samples if shared else samples[-2:])])
    torch.testing.assert_close(losses.sort().values, alone.sort().values, atol=1e-5, rtol=1e-5)


def test_rows_without_branches_need_no_mask(causal):
    batch = collate([pack([s]) for s in question("a", 3)])
    assert batch.mask() is None
    with torch.no_grad():
        losses = token_losses(causal, batch, batch.positions, batch.labels)
        alone = torch.cat([plain_losses(causal, s) for s in question("a", 3)])
    torch.testing.assert_close(losses, alone, atol=1e-5, rtol=1e-5)


def test_every_context_token_is_a_language_model_target_once(causal):
    samples = [
        Sample("q", "init", [1, 2, 3], [4, 0], lm_weight=1.0),
        Sample("q", "agg", [1, 2, 5, 7], [4, 0], lm_weight=0.5),
        Sample("doc", "agg", [9, 8, 7], [], lm_weight=2.0),
    ]
    row = pack(samples)
    wanted = sorted(zip(row.lm_labels.tolist(), row.lm_weights.tolist(), strict=True))
    assert wanted == [(2, 1.0), (3, 1.0), (5, 0.5), (7, 0.5), (7, 2.0), (8, 2.0)]
    assert row.counts == (1, 0, 1)
    batch = collate([row])
    with torch.no_grad():
        lm = TargetModel(causal)(batch).lm
        losses = {
            text: functional.cross_entropy(
                causal(torch.tensor([text])).logits[0, :-1],
                torch.tensor(text[1:]),
                reduction="none",
            )
            for text in [(1, 2, 3), (1, 2, 5, 7), (9, 8, 7)]
        }
    expected = (
        losses[1, 2, 3].sum() + 0.5 * losses[1, 2, 5, 7][1:].sum() + 2 * losses[9, 8, 7].sum()
    )
    torch.testing.assert_close(lm, expected, atol=1e-5, rtol=1e-5)


def test_an_empty_micro_batch_weighs_nothing(causal):
    sums = TargetModel(causal)(empty())
    assert sums.kinds.tolist() == [0, 0, 0]
    assert sums.lm.item() == 0
    assert sums.kinds.requires_grad


def test_a_sample_without_context_is_refused():
    with pytest.raises(ValueError, match="'q' has no context"):
        Sample("q", "init", [], [1, 2])


SAMPLES = [s for n in range(10) for s in question(f"q{n}", 1 + n % 4)]


def batches(**changes) -> Batches:
    settings = {"questions_per_batch": 4, "tokens_per_micro_batch": 200, "seed": 3}
    return Batches(SAMPLES, **settings | changes)


def test_an_epoch_is_every_question_once_with_its_counts_known():
    epoch = list(batches().epoch(0))
    assert len(epoch) == len(batches()) == 3
    assert np.sum([b.counts for b in epoch], axis=0).tolist() == [
        sum(s.kind == kind for s in SAMPLES) for kind in KINDS
    ]
    assert sum(b.num_targets for b in epoch) == sum(len(s.completion_ids) for s in SAMPLES)
    labels = Counter(label for b in epoch for m in b.micro_batches for label in m.labels.tolist())
    assert labels == Counter(label for s in SAMPLES for label in s.completion_ids)


def test_the_order_is_one_of_seed_and_epoch_and_can_be_entered_anywhere():
    def content(epoch):
        return [[m.ids.tolist() for m in batch.micro_batches] for batch in epoch]

    assert content(batches().epoch(1)) == content(batches().epoch(1))
    assert content(batches().epoch(1)) != content(batches().epoch(0))
    assert content(batches(seed=4).epoch(0)) != content(batches().epoch(0))
    assert content(batches().epoch(1, start=2)) == content(batches().epoch(1))[2:]


@pytest.mark.parametrize("shared_prefix", [True, False])
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_have_as_many_micro_batches_and_share_the_whole(world_size, shared_prefix):
    whole = list(batches(shared_prefix=shared_prefix).epoch(0))
    ranks = [
        list(batches(shared_prefix=shared_prefix, rank=r, world_size=world_size).epoch(0))
        for r in range(world_size)
    ]
    for alone, *parts in zip(whole, *ranks, strict=True):
        assert len({len(part.micro_batches) for part in parts}) == 1
        assert {part.counts for part in parts} == {alone.counts}
        assert {part.num_tokens for part in parts} == {alone.num_tokens}
        mine = sum(m.num_tokens for part in parts for m in part.micro_batches)
        assert mine == sum(m.num_tokens for m in alone.micro_batches) == alone.num_tokens
        # A padding micro-batch has one target of no weight.
        shares = sum(float(m.shares.sum()) for part in parts for m in part.micro_batches)
        assert shares == pytest.approx(sum(alone.counts), abs=1e-4)


def test_micro_batches_keep_within_their_budget_of_padded_tokens():
    rows = [pack(question(f"q{n}", 1 + n % 5)) for n in range(20)]
    groups = grouped(rows, 256)
    assert sorted(map(id, rows)) == sorted(id(row) for group in groups for row in group)
    for group in groups:
        ids = collate(group).ids
        assert ids.shape[1] % MULTIPLE == 0
        assert ids.numel() <= 256 or len(group) == 1


def test_parts_are_of_like_weight():
    rows = [pack(question(f"q{n}", 1 + n % 5)) for n in range(20)]
    weights = [sum(len(row) for row in part) for part in dealt(rows, 3)]
    assert max(weights) - min(weights) <= max(len(row) for row in rows)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "sliding-window"),
    ],
)
def test_a_model_that_would_be_trained_on_other_logits_is_refused(changes, message):
    config = LlamaConfig(**SIZES)
    for key, value in changes.items():
        setattr(config, key, value)
    with pytest.raises(ConfigurationError, match=message):
        check_supported(config)
