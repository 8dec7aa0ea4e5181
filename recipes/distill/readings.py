"""Passages to read and single-hop questions about them: what a model learns before any loop.

To find whose fact a passage states, names must be matched, many pieces at a time; a model that has
not learnt that takes the first passage with the right relation, and no harder lesson teaches it
better. So it comes first and alone: `pairs` of names. Then `kin`, entities of one kind of which the
same is told, so that only names tell them apart: a fact or two of each, then whole passages. Then
`search`, passages that searches found.

A question is to be answered with the fact as a sentence, as a thought states it; the name that it
begins with is then near when the answer is looked for. Only some need be answered at once. What is
left out: batches, and the loop (lessons.py).
"""

import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from steper_serve import fictional
from steper_serve.fictional.draws import generator
from steper_serve.retrieval import bm25
from steper_serve.strategies.draft import Context
from steper_serve.strategies.ircot import ANSWER_MARKER, render
from steper_serve.trajectory import Passage, PromptFormat

_NO_BOUND = 2**40
FORMAT = PromptFormat(_NO_BOUND, len, step_end="eos", instruction="", few_shot=False)
# Searches whose passages stand together, as they do at a later step, and questions about them.
_MOST_SEARCHES = 3
_QUESTIONS_A_READING = 12
# A step's texts, in the form of a row of the step-wise data set (examples.py).
Text = dict[str, Any]


def pairs(world: fictional.World, count: int, most: int) -> Iterator[list[Text]]:
    """`count` times two to `most` lines `NAME is NAME.`, and the first half of each to complete."""
    draw, words = generator(world.seed, "pairs"), sorted(world.words())
    for number in range(count):
        names = [(_name(draw, words), _name(draw, words)) for _ in range(draw.randint(2, most))]
        shown = "".join(f"{one} is {other}.\n" for one, other in names)
        id = f"{world.seed}/{number}"
        yield [text(id, f"{shown}{one} is", f" {other}.") for one, other in names]


def kin(
    world: fictional.World, count: int, most: int, num_facts: int | None, answered: float
) -> Iterator[list[Text]]:
    """`count` times questions about two to `most` entities of one kind.

    Args:
        num_facts: tell no more of each, and the same of all; None is whole passages.
        answered: the share of questions to be answered at once.
    """
    draw, everyone = generator(world.seed, "kin"), list(world.entities())
    for number in range(count):
        kind = draw.choice(everyone).kind
        among = range(world.counts[kind])
        chosen = draw.sample(among, min(draw.randint(2, most), len(among)))
        told = {e: _told(world, e) for e in (fictional.Entity(kind, place) for place in chosen)}
        if num_facts is None:
            passages = [fictional.passage(world, entity) for entity in told]
        else:
            told = _the_same(told, num_facts, draw)
            passages = [fictional.brief(world, e, facts, draw) for e, facts in told.items()]
        facts = [fact for facts in told.values() for fact in facts]
        yield _asked(world, passages, facts, draw, f"{world.seed}/{number}", answered)


def search(world: fictional.World, count: int, answered: float) -> Iterator[list[Text]]:
    """`count` times questions about what a few searches find.

    Args:
        answered: the share of questions to be answered at once.
    """
    with opened(world) as retriever:
        draw, everyone = generator(world.seed, "search"), list(world.entities())
        for number in range(count):
            passages = _found(world, retriever, draw.choice(everyone), draw)
            facts = [fact for p in passages for fact in _told(world, _entity(p))]
            yield _asked(world, passages, facts, draw, f"{world.seed}/{number}", answered)


@contextmanager
def opened(world: fictional.World) -> Iterator[bm25.Bm25Retriever]:
    """An index of a world, for as long as it is needed."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "index"
        bm25.build((fictional.passage(world, e) for e in world.entities()), target)
        yield bm25.Bm25Retriever.open(target)


def text(id: str, prompt: str, target: str) -> Text:
    """A row in the form of the step-wise data set."""
    return {
        "dataset": "reading",
        "question_id": id,
        "kind": "agg",
        "prompt": prompt,
        "prefix": "",
        "target": target,
    }


def _name(draw: random.Random, words: Sequence[str]) -> str:
    return " ".join(draw.sample(words, draw.randint(1, 2)))


def _the_same(
    told: dict[fictional.Entity, list[fictional.Fact]], number: int, draw: random.Random
) -> dict[fictional.Entity, list[fictional.Fact]]:
    """Of each entity the facts of the same few relations, in any order; of some it may be none."""
    relations = list({fact.relation.noun: None for facts in told.values() for fact in facts})
    chosen = draw.sample(relations, min(number, len(relations)))
    kept = {e: [f for f in facts if f.relation.noun in chosen] for e, facts in told.items()}
    for facts in kept.values():
        draw.shuffle(facts)
    return {entity: facts for entity, facts in kept.items() if facts}


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
    world: fictional.World,
    passages: list[Passage],
    facts: Sequence[fictional.Fact],
    draw: random.Random,
    id: str,
    answered: float,
) -> list[Text]:
    """Single-hop questions about some of the facts, all of which the passages state."""
    chosen = draw.sample(facts, min(len(facts), _QUESTIONS_A_READING))
    asked = [fictional.single_hop(world, fact, draw) for fact in chosen]
    return [
        text(
            id,
            render(Context("", (), passages, one.question, ""), FORMAT).text,
            f" {ANSWER_MARKER} {one.answers[0]}."
            if draw.random() < answered
            else f" {one.steps[0].statement}",
        )
        for one in asked
    ]


def _entity(passage: Passage) -> fictional.Entity:
    kind, number = passage.id.rsplit("-", 1)
    return fictional.Entity(kind, int(number))


def _told(world: fictional.World, entity: fictional.Entity) -> list[fictional.Fact]:
    """What the passage of an entity states."""
    own = [fact for fact in world.facts(entity) if world.source(fact) == entity]
    return own + world.told_of_others(entity)
