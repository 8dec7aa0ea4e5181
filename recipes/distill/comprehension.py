"""How often a model finds what one question asks for among passages that searches found.

    python -m steper_serve.recipes.distill.comprehension MODEL --world 200

For models that `pretrain` teaches to read (readings.py), in an invented world that they have not
read of. A question is for a fact of what it names, for one of what it describes, or for what no
passage tells, so that it is to be said that this is still to be found. An answer is right where
greedy decoding writes the expected sentence and ends; one that states the fact in other words is
not. What is left out: several steps, and any engine.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import torch
from transformers import AutoModelForCausalLM

from steper_serve.evaluation import interval
from steper_serve.fictional import World
from steper_serve.recipes.distill import readings
from steper_serve.recipes.distill.packing import Sample
from steper_serve.recipes.distill.readings import Shares
from steper_serve.recipes.distill.tokenization import StepTokenizer

_KINDS = {
    "named": Shares(),
    "described": Shares(described=1.0),
    "missing": Shares(missing=1.0),
}


@click.command()
@click.argument("model", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--world", default=200, show_default=True, help="The world's seed.")
@click.option("--passages", default=4000, show_default=True, help="How many there are to search.")
@click.option("--searches", default=50, show_default=True, help="Each is asked some 12 questions.")
def main(model: Path, world: int, passages: int, searches: int) -> None:
    """Measure, print a table and one line of JSON."""
    tokenizer = StepTokenizer.load(str(model), templated=False)
    causal: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    told: dict[str, dict[str, float]] = {}
    for kind, shares in _KINDS.items():
        asked = texts(World(world, passages), searches, shares)
        right = [is_right(causal, sample) for sample in tokenizer.samples(asked, "next")]
        low, high = interval([float(each) for each in right])
        share = sum(right) / len(right)
        told[kind] = {"right": share, "low": low, "high": high, "num_questions": len(right)}
        click.echo(f"{kind:12}{share:6.3f} [{low:.3f}, {high:.3f}] of {len(right)} questions")
    click.echo(json.dumps({"model": str(model), "world": world, **told}))


def texts(world: World, searches: int, shares: Shares) -> Iterator[readings.Text]:
    """The questions about what `searches` searches find."""
    for reading in readings.search(world, searches, shares):
        yield from reading


@torch.inference_mode()
def is_right(causal: Any, sample: Sample) -> bool:
    """Whether greedy decoding writes the sample's completion, its end included.

    One pass over both tells: each token has to be the likeliest after those before it.
    """
    wanted = torch.tensor(sample.completion_ids)
    ids = torch.cat([torch.tensor(sample.context_ids), wanted])[None, :-1]
    logits = causal(ids, logits_to_keep=len(wanted)).logits[0]
    return bool((logits.argmax(-1) == wanted).all())


if __name__ == "__main__":
    main()
