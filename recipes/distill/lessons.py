"""What a model that stage 0 makes learns from: a few questions of each of many worlds.

`pairs`, `kin` and `search` are readings (readings.py); `loop` is the gold reasoner's trajectories
(gold.py) through the served loop and a real index; `plan` is their thoughts without passages, a
ninth as long: which fact comes next, and when the answer. What is left out: training (pretrain.py).
"""

import asyncio
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count, islice

from steper_serve import fictional
from steper_serve.errors import ConfigurationError
from steper_serve.fictional import names
from steper_serve.fictional.draws import generator
from steper_serve.loop import Ask, Loop
from steper_serve.recipes.distill import readings
from steper_serve.recipes.distill.batches import Row, Sample, pack
from steper_serve.recipes.distill.config import Config
from steper_serve.recipes.distill.examples import step_texts
from steper_serve.recipes.distill.gold import UNKNOWN, GoldReasoner
from steper_serve.recipes.distill.readings import FORMAT, Text, opened, text
from steper_serve.recipes.distill.sections import LessonConfig, PretrainConfig
from steper_serve.recipes.distill.tokenization import StepTokenizer
from steper_serve.retrieval import bm25
from steper_serve.strategies import FewShot, options_for
from steper_serve.strategies.ircot import ANSWER_MARKER

_WORLDS_AT_ONCE = 16
_WORD = re.compile(r"[A-Z][a-z]+")
_WRITTEN = frozenset(("prompt", "prefix", "target"))


def batches(
    config: Config, settings: PretrainConfig, tokenizer: StepTokenizer
) -> Iterator[list[Row]]:
    """Rows of about `tokens_per_batch` tokens, a lesson after the other."""
    worlds = map(settings.world, count())
    for lesson in settings.lessons:
        taught = (_taught(config, settings, lesson, tokenizer, world) for world in worlds)
        yield from _filled(_mixed(taught), settings, lesson.tokens)


def _taught(
    config: Config,
    settings: PretrainConfig,
    lesson: LessonConfig,
    tokenizer: StepTokenizer,
    world: fictional.World,
) -> Iterator[list[Sample]]:
    """The questions of one world, as samples."""
    number, lm_weight = settings.questions_per_world, settings.lm_weight
    shares = readings.Shares(lesson.answered, lesson.described, lesson.missing)
    if lesson.name == "loop":
        steps = {"max_steps": config.max_steps, "top_k": config.top_k}
        rows = loop(world, settings.strategies, number, **steps)
        rows = _in_turn(rows, plan(world, number * lesson.plans), lesson.plans)
    elif lesson.name == "pairs":
        rows = readings.pairs(world, number, lesson.passages)
        lm_weight = 0.0  # nothing is to be learnt from random names themselves
    elif lesson.name == "kin":
        rows = readings.kin(world, number, lesson.passages, lesson.facts, shares)
    elif lesson.name == "plan":
        rows = plan(world, number)
    else:
        rows = readings.search(world, number, shares)
    for one in renamed(world, settings, rows):
        samples = tokenizer.samples(one, "next")
        yield [replace(sample, lm_weight=lm_weight) for sample in samples]


def _in_turn(
    questions: Iterator[list[Text]], others: Iterator[list[Text]], number: int
) -> Iterator[list[Text]]:
    """Each of `questions` with so many of the `others` behind it."""
    for question in questions:
        yield question
        yield from islice(others, number)


def _mixed(worlds: Iterator[Iterator[list[Sample]]]) -> Iterator[list[Sample]]:
    """Questions of several worlds in turn; one that has no more makes room for the next.

    One world after the other would be learnt by heart and forgotten, and reading with it.
    """
    here = list(islice(worlds, _WORLDS_AT_ONCE))
    while True:
        for place, world in enumerate(here):
            question = next(world, None)
            while question is None:
                here[place] = next(worlds)
                question = next(here[place], None)
            yield question


def _filled(
    questions: Iterator[list[Sample]], settings: PretrainConfig, budget: int
) -> Iterator[list[Row]]:
    """Rows in batches, until their tokens reach the budget."""
    rows: list[Row] = []
    while budget > 0:
        row = pack(next(questions))
        if len(row) > settings.context:
            continue
        rows.append(row)
        if (num_tokens := sum(map(len, rows))) >= settings.tokens_per_batch:
            budget -= num_tokens
            yield rows
            rows = []


def renamed(
    world: fictional.World, settings: PretrainConfig, questions: Iterable[list[Text]]
) -> Iterator[list[Text]]:
    """Each question with invented words of its own in place of the world's.

    No search and no thought turns on what a name is, so all stays true; and as no name comes twice,
    none can be learnt by heart: it has to be read.
    """
    known, draw = world.words(), generator(world.seed, "renamed")
    for texts in questions:
        fresh: dict[str, str] = {}

        def other(match: re.Match[str], fresh: dict[str, str] = fresh) -> str:
            old = match[0]
            if old not in known:
                return old
            while old not in fresh:
                new = names.drawn(draw, settings.first_seed, settings.last_seed)
                if new not in fresh.values():
                    fresh[old] = new
            return fresh[old]

        yield [
            {key: _WORD.sub(other, value) if key in _WRITTEN else value for key, value in t.items()}
            for t in texts
        ]


def plan(world: fictional.World, count: int) -> Iterator[list[Text]]:
    """What comes next in each of `count` questions, at each step, where nothing was found.

    What was stated so far is true. The next fact is still to be found; a conclusion and the
    answer need no passage.
    """
    for question in _questions(world, count):
        prompt = readings.prompt([], question.question)
        texts, written = [], ""
        for step in question.steps:
            thought = step.missing[0] if step.title else step.statement
            texts.append(text(question.id, prompt, f" {thought}", written))
            written += f" {step.statement}"
        answer = f" {ANSWER_MARKER} {question.answers[0]}."
        yield [*texts, text(question.id, prompt, answer, written)]


def loop(
    world: fictional.World,
    strategies: Sequence[str],
    count: int,
    *,
    max_steps: int,
    top_k: int,
) -> Iterator[list[Text]]:
    """Those of `count` questions that the gold reasoner could answer, the strategies in turn."""
    with opened(world) as retriever:
        for number, question in enumerate(_questions(world, count)):
            strategy = strategies[number % len(strategies)]
            texts = asyncio.run(_reasoned(retriever, question, strategy, max_steps, top_k))
            if texts:
                yield texts


def _questions(world: fictional.World, count: int) -> Iterator[fictional.FictionalQuestion]:
    try:
        yield from fictional.questions(world, count)
    except ValueError as error:
        raise ConfigurationError(
            f"`questions_per_world` is too many for world {world.seed}: {error}"
        ) from error


async def _reasoned(
    retriever: bm25.Bm25Retriever,
    question: fictional.FictionalQuestion,
    strategy: str,
    max_steps: int,
    top_k: int,
) -> list[Text]:
    few_shot = FewShot("", ())
    model = GoldReasoner(question.steps, question.answers[0])
    served = Loop(
        model, retriever, FORMAT, {strategy: few_shot}, strategy, max_steps=max_steps, top_k=top_k
    )
    trajectory = await served.run(Ask(question.question))
    if trajectory.answer in ("", UNKNOWN):
        return []
    options = replace(options_for(strategy, FORMAT, few_shot), max_steps=max_steps, top_k=top_k)
    texts = step_texts(trajectory, options)
    return [
        {
            "dataset": strategy,
            "question_id": question.id,
            "kind": "agg" if text.step == len(texts) else "init" if text.step == 1 else "exp",
            "prompt": text.prompt,
            "prefix": text.prefix,
            "target": text.target,
        }
        for text in texts
    ]
