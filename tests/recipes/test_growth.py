"""A grown model begins where the old one was: same logits, whatever was added."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from steper_serve.cli.wiring import STUDENT
from steper_serve.errors import ConfigurationError
from steper_serve.recipes.distill import growth, vocabulary

TEXT = "Q: Where was the director of film The Tiva born?\nA:"


def blank(layers: int, size: int, width: int = 256) -> LlamaForCausalLM:
    """A Llama with the sizes of the bundled student, except for what is given."""
    old = LlamaConfig.from_pretrained(STUDENT)
    torch.manual_seed(0)
    old.update({"num_hidden_layers": layers, "vocab_size": size, "hidden_size": width})
    return AutoModelForCausalLM.from_config(old, dtype=torch.float32)


def logits(model: LlamaForCausalLM, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([ids])).logits


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(STUDENT)


def test_new_layers_change_nothing_at_first(tokenizer) -> None:
    old = AutoModelForCausalLM.from_pretrained(STUDENT, dtype=torch.float32)
    new = blank(old.config.num_hidden_layers + 3, len(tokenizer))
    growth.grow(new, tokenizer, STUDENT)
    ids = tokenizer(TEXT)["input_ids"]
    torch.testing.assert_close(logits(new, ids), logits(old, ids))


def test_new_layers_can_learn(tokenizer) -> None:
    old = AutoModelForCausalLM.from_pretrained(STUDENT)
    new = blank(old.config.num_hidden_layers + 1, len(tokenizer))
    growth.grow(new, tokenizer, STUDENT)
    ids = torch.tensor([tokenizer(TEXT)["input_ids"]])
    new(ids, labels=ids).loss.backward()
    for layer in new.model.layers:
        assert layer.self_attn.o_proj.weight.grad.abs().sum() > 0
        assert layer.mlp.down_proj.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("num_old", "num_new", "sources"),
    [(3, 3, "0 1 2"), (2, 4, "0 0+ 1 1+"), (4, 6, "0 0+ 1 2 3 3+")],
)
def test_copies_are_spread_evenly(num_old, num_new, sources) -> None:
    found = growth.layer_sources(num_old, num_new)
    assert " ".join(f"{source}{'+' * is_copy}" for source, is_copy in found) == sources


def test_a_new_token_is_the_mean_of_its_old_pieces(tokenizer) -> None:
    learnt = vocabulary.learn([TEXT * 50], 600, 2048)
    new = blank(5, len(learnt))
    growth.grow(new, learnt, STUDENT)
    old = AutoModelForCausalLM.from_pretrained(STUDENT, dtype=torch.float32)
    was, now = old.get_input_embeddings().weight, new.get_input_embeddings().weight
    word = next(
        i for i in range(258, len(learnt)) if len(tokenizer(learnt.decode([i])).input_ids) > 1
    )
    pieces = tokenizer(learnt.decode([word])).input_ids
    torch.testing.assert_close(now[word], was[pieces].mean(0))
    torch.testing.assert_close(now[learnt.eos_token_id], was[tokenizer.eos_token_id])
    assert new.get_output_embeddings().weight.data_ptr() == now.data_ptr()


@pytest.mark.parametrize(
    ("layers", "width", "message"),
    [(2, 256, "more than 2"), (8, 128, "hidden_size 256, not 128")],
)
def test_what_cannot_grow_is_refused(tokenizer, layers, width, message) -> None:
    with pytest.raises(ConfigurationError, match=message):
        growth.grow(blank(layers, len(tokenizer), width), tokenizer, STUDENT)


def test_a_folder_without_a_model_is_named(tokenizer, tmp_path) -> None:
    with pytest.raises(ConfigurationError, match=str(tmp_path)):
        growth.grow(blank(5, len(tokenizer)), tokenizer, tmp_path)
