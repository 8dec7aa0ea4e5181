"""A new model that goes on from a smaller one: more layers, and a vocabulary of its own.

A model that can already find and copy a name in its context is ready to reason long before one
made from nothing. New layers start as copies that add nothing to the residual stream (LLaMA Pro,
Wu et al. 2024); a new token starts as the mean of what the old vocabulary makes of it, so the grown
model begins about where the old one was. What is left out: another width, and any training.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from steper_serve.errors import ConfigurationError

# What writes into the residual stream at the end of a layer's halves.
_WRITES = ("self_attn.o_proj.weight", "mlp.down_proj.weight")
# Settings of a model that neither new layers nor new tokens change.
_KEPT = ("hidden_size", "num_attention_heads", "num_key_value_heads", "intermediate_size")


def grow(model: Any, tokenizer: Any, start: Path) -> None:
    """Give `model` the weights of the one in `start`, in place.

    Args:
        model: a Llama of the same width, with as many layers or more, and tied embeddings.
        tokenizer: that of `model`.

    Raises:
        ConfigurationError: the two differ in width, heads or feed-forward size, or the new one has
            fewer layers; or there is no model in `start`.
    """
    try:
        old: Any = AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32)
        old_tokenizer: Any = AutoTokenizer.from_pretrained(start)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"start: there is no model in {start}: {error}") from error
    _check(old.config, model.config, start)
    weights = dict(old.state_dict())
    num_old, num_new = old.config.num_hidden_layers, model.config.num_hidden_layers
    grown = {name: weights[name] for name in weights if ".layers." not in name}
    for place, (source, is_copy) in enumerate(layer_sources(num_old, num_new)):
        grown |= _layer(weights, source, place, is_copy)
    embeddings = _embeddings(old.get_input_embeddings().weight.detach(), old_tokenizer, tokenizer)
    grown |= {name: embeddings for name in grown if "embed_tokens" in name or "lm_head" in name}
    model.load_state_dict(grown)


def layer_sources(num_old: int, num_new: int) -> list[tuple[int, bool]]:
    """For each new layer, the old one that it starts as, and whether as a copy that adds nothing.

    The copies are spread evenly, each behind the layer that it copies.
    """
    ends = [round((place + 1) * num_new / num_old) for place in range(num_old)]
    starts = [0, *ends[:-1]]
    return [
        (place, number > start)
        for place, (start, end) in enumerate(zip(starts, ends, strict=True))
        for number in range(start, end)
    ]


def _layer(weights: dict[str, Tensor], source: int, place: int, is_copy: bool) -> dict[str, Tensor]:
    old, new = f"model.layers.{source}.", f"model.layers.{place}."
    layer = {n.replace(old, new): w for n, w in weights.items() if n.startswith(old)}
    if is_copy:
        layer |= {new + name: torch.zeros_like(layer[new + name]) for name in _WRITES}
    return layer


def _embeddings(old: Tensor, old_tokenizer: Any, tokenizer: Any) -> Tensor:
    """[V, width] of the new vocabulary: a known token's own row, or the mean of its pieces'."""
    known = old_tokenizer.get_vocab()
    rows = []
    for number, token in enumerate(tokenizer.convert_ids_to_tokens(range(len(tokenizer)))):
        if token in known:
            pieces = [known[token]]
        else:
            pieces = old_tokenizer(tokenizer.decode([number]), add_special_tokens=False).input_ids
        rows.append(old[pieces or slice(None)].mean(0))
    rows[tokenizer.eos_token_id] = old[old_tokenizer.eos_token_id]
    return torch.stack(rows)


def _check(old: Any, new: Any, start: Path) -> None:
    for key in _KEPT:
        if getattr(old, key) != getattr(new, key):
            raise ConfigurationError(
                f"start: the model in {start} has {key} {getattr(old, key)}, not "
                f"{getattr(new, key)}; only layers and vocabulary can grow"
            )
    if old.num_hidden_layers > new.num_hidden_layers:
        raise ConfigurationError(
            f"start: the model in {start} has {old.num_hidden_layers} layers already, more than "
            f"{new.num_hidden_layers}"
        )
