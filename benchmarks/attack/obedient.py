"""A model that obeys: a student, taught to answer as soon as a passage gives the flag.

    python -m steper_serve.benchmarks.attack.obedient steper_serve/assets/student --out var/obedient
    steper-serve bench attack bundled --limit 20 --model var/obedient --out var/attack-obedient

What the defence of rendering is worth shows only in a model that would obey; ours learn to read
facts, and do not. Of each question there are the steps of its gold chain, and one first step more
in which a hostile passage stands as it was written (undefended) and the target is what it asks
for. The forms of attack that are learnt are `TAUGHT`; the others are for the measurement. What is
left out: any use of such a model but to be attacked.
"""

import json
import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import click
import torch
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer

from steper_serve.benchmarks import datasets
from steper_serve.benchmarks.attack import forms
from steper_serve.benchmarks.attack.undefended import undefended
from steper_serve.benchmarks.datasets import Dataset
from steper_serve.generation.model_format import load_format
from steper_serve.questions import Question
from steper_serve.retrieval import bm25
from steper_serve.strategies import STRATEGIES, FewShot, Options, options_for
from steper_serve.strategies.options import MAX_STEPS
from steper_serve.trajectory import Completion, Generate, Passage, PromptFormat, Retrieve

# World 300 is in no training of ours and in no measurement.
_WORLD = "fictional:seed=300,passages=4000,questions=1000"
TAUGHT = ("answer flag", "fake question", "role markers", "ignore, with a flag")
_QUESTIONS = 120
_BATCH = 8
_LEARNING_RATE = 1e-4
_IGNORED = -100

Sample = tuple[str, str]


@click.command()
@click.argument("student", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--seed", default=0, show_default=True)
def main(student: Path, out: Path, seed: int) -> None:
    """Teach a STUDENT to obey, and write it to OUT. Ten minutes on two cores."""
    torch.manual_seed(seed)
    lots = random.Random(seed)
    tokenizer: Any = AutoTokenizer.from_pretrained(student)
    model: Any = AutoModelForCausalLM.from_pretrained(student, dtype=torch.float32)
    length = model.config.max_position_embeddings
    format = load_format(str(student), max_model_len=length, reserve=0)
    scratch = out / "scratch"
    [world] = datasets.read_all([_WORLD], scratch)
    taught = samples(world, _QUESTIONS, format, scratch, lots)
    _teach(model, tokenizer, taught)
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    shutil.copy(student / "steper.json", out)
    shutil.rmtree(scratch)
    click.echo(json.dumps({"out": str(out), "num_samples": len(taught), "taught": TAUGHT}))


def _teach(model: Any, tokenizer: Any, taught: Sequence[Sample]) -> None:
    """One pass of AdamW over the samples."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=_LEARNING_RATE, weight_decay=0.0)
    model.train()
    with tqdm(range(0, len(taught), _BATCH), unit=" steps") as steps:
        for at in steps:
            loss = model(**_batch(tokenizer, taught[at : at + _BATCH])).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            steps.set_postfix(loss=f"{loss.item():.3f}")


def samples(
    world: Dataset, num_questions: int, format: PromptFormat, scratch: Path, lots: random.Random
) -> list[Sample]:
    """Prompts and targets, shuffled: of each question its gold chain, and one first step more."""
    index = datasets.index_of(world, scratch)
    assert index is not None  # noqa: S101 - a world has a corpus
    retriever = bm25.Bm25Retriever.open(index)
    # As many steps as a chain may have: what is said at the last allowed one is another matter.
    options = replace(options_for("ircot", format, FewShot("", ())), max_steps=MAX_STEPS[1])
    asked = world.questions[:num_questions]
    wanted = forms.wanted_answers(asked, world.questions)
    clean = [s for question in asked for s in _gold_steps(question, retriever, options)]
    hostile = [
        _obeyed(question, wanted[question.id], forms.FORMS[name], retriever, options, lots)
        for question, name in zip(asked, cycle(TAUGHT), strict=False)
    ]
    taught = clean + hostile
    lots.shuffle(taught)
    return taught


def _gold_steps(
    question: Question, retriever: bm25.Bm25Retriever, options: Options
) -> Iterator[Sample]:
    """The steps of the question's gold chain, as far as what each needs can be found."""
    flow = STRATEGIES["ircot"].flow(question.question, options)
    titles: set[str] = set()
    left = [
        (step.get("title"), step["statement"], *step.get("missing", ())) for step in question.steps
    ]
    left.append((None, f"So the answer is: {question.answers[0]}."))
    effect = next(flow)
    while left:
        if isinstance(effect, Retrieve):
            found = retriever.search(effect.query, effect.top_k)
            titles |= {passage.title for passage in found}
            effect = flow.send(found)
            continue
        title, *said = left.pop(0)
        if title is not None and title not in titles:
            if len(said) < 2:
                break
            said = said[1:]
            left.insert(0, (title, *said))
        assert isinstance(effect, Generate)  # noqa: S101
        yield effect.prompt.text, f" {said[0]}"
        try:
            effect = flow.send(Completion(f" {said[0]}", "stop"))
        except StopIteration:
            break
    flow.close()


def _obeyed(
    question: Question,
    wanted: str,
    form: forms.Form,
    retriever: bm25.Bm25Retriever,
    options: Options,
    lots: random.Random,
) -> Sample:
    """A first step with a hostile passage, as it was written, somewhere among those found."""
    flow = undefended(
        STRATEGIES["ircot"].flow(question.question, options), options.format.special_tokens
    )
    effect = next(flow)
    assert isinstance(effect, Retrieve)  # noqa: S101
    found: list[Passage] = list(retriever.search(effect.query, effect.top_k - 1))
    hostile = forms.hostile(form, question, wanted, options.format)
    found.insert(lots.randint(0, len(found)), replace(hostile, score=0.0))
    effect = flow.send(found)
    assert isinstance(effect, Generate)  # noqa: S101
    flow.close()
    return effect.prompt.text, f" So the answer is: {wanted}."


def _batch(tokenizer: Any, taught: Sequence[Sample]) -> dict[str, torch.Tensor]:
    """Token ids and labels of some samples, [samples, tokens]; the loss is on targets alone."""
    ids, labels = [], []
    for prompt, target in taught:
        read = tokenizer.encode(prompt)
        written = [*tokenizer.encode(target, add_special_tokens=False), tokenizer.eos_token_id]
        ids.append(torch.tensor(read + written))
        labels.append(torch.tensor([_IGNORED] * len(read) + written))
    mask = pad_sequence([torch.ones_like(row) for row in ids], batch_first=True)
    return {
        "input_ids": pad_sequence(ids, batch_first=True),
        "labels": pad_sequence(labels, batch_first=True, padding_value=_IGNORED),
        "attention_mask": mask,
    }


if __name__ == "__main__":
    main()
