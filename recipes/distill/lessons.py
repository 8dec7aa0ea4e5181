"""What a model that is made from scratch learns from: a few questions of each of many worlds.

`kin`: a few entities of one kind, which the relation that is asked for cannot tell apart, only the
name; without it a model takes the first passage with the right relation, and never learns to look
whose it is. Each of them is also to be told again in other words, which asks for all its facts at
once. `search`: passages that searches found. Both ask many single-hop questions about their
passages, to be answered with a thought or at once; a model that will learn the loop is asked for
thoughts only. `loop`: the gold reasoner's trajectories (gold.py) through the served loop and a real
index. What is left out: training (pretrain.py).
"""

import asyncio
import random
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import Any

from steper_serve import fictional
from steper_serve.fictional import names
from steper_serve.fictional.draws import generator
from steper_serve.loop import Ask, Loop
from steper_serve.recipes.distill.batches import Row, Sample, pack
from steper_serve.recipes.distill.config import Config
from steper_serve.recipes.distill.examples import step_texts
from steper_serve.recipes.distill.gold import UNKNOWN, GoldReasoner
from steper_serve.recipes.distill.sections import LessonConfig, PretrainConfig
from steper_serve.recipes.distill.tokenization import StepTokenizer
from steper_serve.retrieval import bm25
from steper_serve.strategies import FewShot, options_for
from steper_serve.strategies.draft import Context
from steper_serve.strategies.ircot import ANSWER_MARKER, render
from steper_serve.strategies.passages import render_passages
from steper_serve.trajectory import Passage, PromptFormat

# Of the questions that are asked of a model that will not learn the loop.
_ANSWERED_AT_ONCE = 0.5
# Searches whose passages stand together, as they do at a later step, and questions about them.
_MOST_SEARCHES = 3
_QUESTIONS_A_READING = 12
_WORLDS_AT_ONCE = 16
_NO_BOUND = _TELLINGS = 2**40
_WORD = re.compile(r"[A-Z][a-z]+")
_WRITTEN = frozenset(("prompt", "prefix", "target"))
# A step's texts, in the form of a row of the step-wise data set (examples.py).
Text = dict[str, Any]
FORMAT = PromptFormat(_NO_BOUND, len, step_end="eos", instruction="", few_shot=False)


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
    number = settings.questions_per_world
    if lesson.name == "loop":
        steps = {"max_steps": config.max_steps, "top_k": config.top_k}
        rows = loop(world, settings.strategies, number, **steps)
    else:
        kin = lesson.passages if lesson.name == "kin" else None
        answered = 0.0 if settings.strategies else _ANSWERED_AT_ONCE
        rows = reading(world, number, answered=answered, kin=kin)
    for one in renamed(world, settings, rows):
        samples = tokenizer.samples(one, "next")
        yield [replace(sample, lm_weight=settings.lm_weight) for sample in samples]


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


@contextmanager
def opened(world: fictional.World) -> Iterator[bm25.Bm25Retriever]:
    """An index of a world, for as long as it is needed."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "index"
        bm25.build((fictional.passage(world, e) for e in world.entities()), target)
        yield bm25.Bm25Retriever.open(target)


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


def reading(
    world: fictional.World, count: int, *, answered: float, kin: int | None = None
) -> Iterator[list[Text]]:
    """`count` times some passages and single-hop questions about them.

    Args:
        answered: the share of questions to be answered at once, the others with a thought.
        kin: take two to so many entities of one kind, and have each told again, where None takes
            what searches find.
    """
    with nullcontext() if kin else opened(world) as retriever:
        draw = generator(world.seed, "reading")
        everyone = list(world.entities())
        for number in range(count):
            about = draw.choice(everyone)
            if retriever is None:
                passages = _kin(world, about, draw.randint(2, kin or 2), draw)
            else:
                passages = _found(world, retriever, about, draw)
            id = f"{world.seed}/{number}"
            told_again = _told_again(world, passages, draw, id) if kin else []
            yield told_again + _asked(world, passages, draw, id, answered)


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
        for number, question in enumerate(fictional.questions(world, count)):
            strategy = strategies[number % len(strategies)]
            texts = asyncio.run(_reasoned(retriever, question, strategy, max_steps, top_k))
            if texts:
                yield texts


def _kin(
    world: fictional.World, about: fictional.Entity, number: int, draw: random.Random
) -> list[Passage]:
    """Passages of so many entities of one kind, if there are so many."""
    among = range(world.counts[about.kind])
    chosen = draw.sample(among, min(number, len(among)))
    return [fictional.passage(world, fictional.Entity(about.kind, place)) for place in chosen]


def _found(
    world: fictional.World,
    retriever: bm25.Bm25Retriever,
    about: fictional.Entity,
    draw: random.Random,
) -> list[Passage]:
    """What one search or several find, each about an entity that the one before has found."""
    found: dict[str, Passage] = {}
    for _ in range(draw.randint(1, _MOST_SEARCHES)):
        query = fictional.single_hop(world, draw.choice(_told(world, about)), draw).question
        found |= {passage.id: passage for passage in retriever.search(query, 4)}
        about = _entity(draw.choice(list(found.values())))
    passages = list(found.values())
    draw.shuffle(passages)
    return passages


def _asked(
    world: fictional.World, passages: list[Passage], draw: random.Random, id: str, answered: float
) -> list[Text]:
    """Single-hop questions whose answers the passages hold."""
    told = [fact for p in passages for fact in _told(world, _entity(p))]
    chosen = draw.sample(told, min(len(told), _QUESTIONS_A_READING))
    asked = [fictional.single_hop(world, fact, draw) for fact in chosen]
    return [
        _text(
            id,
            render(Context("", (), passages, one.question, ""), FORMAT).text,
            f" {ANSWER_MARKER} {one.answers[0]}."
            if draw.random() < answered
            else f" {one.steps[0].statement}",
        )
        for one in asked
    ]


def _told_again(
    world: fictional.World, passages: list[Passage], draw: random.Random, id: str
) -> list[Text]:
    """Each of the passages to be told in other words."""
    shown, texts = render_passages(passages, ()), []
    for passage in passages:
        retold = fictional.passage(world, _entity(passage), telling=draw.randrange(1, _TELLINGS))
        header, text = render_passages([retold], ()).split("\n", 1)
        texts.append(_text(id, f"{shown}{header}\n", text.strip()))
    return texts


def _text(id: str, prompt: str, target: str) -> Text:
    """A row in the form of the step-wise data set."""
    return {
        "dataset": "reading",
        "question_id": id,
        "kind": "agg",
        "prompt": prompt,
        "prefix": "",
        "target": target,
    }


def _entity(passage: Passage) -> fictional.Entity:
    kind, number = passage.id.rsplit("-", 1)
    return fictional.Entity(kind, int(number))


def _told(world: fictional.World, entity: fictional.Entity) -> list[fictional.Fact]:
    """What the passage of an entity states."""
    own = [fact for fact in world.facts(entity) if world.source(fact) == entity]
    return own + world.told_of_others(entity)


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
