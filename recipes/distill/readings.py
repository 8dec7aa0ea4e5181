"""Passages to read and single-hop questions about them: what a model learns before any loop.

To find whose fact a passage states, names must be matched, many pieces at a time; a model that has
not learnt that takes the first passage with the right relation, and no harder lesson teaches it
better. So it comes first and alone: `pairs` of names. Then `kin`, entities of one kind of which the
same is told, so that only names tell them apart: a fact or two of each, then whole passages. Then
`search`, passages that searches found; there some questions are for who or what fits a description,
and some for what no passage tells.

A question is to be answered with the fact as a sentence, as a thought states it; the name that it
begins with is then near when the answer is looked for. Only some need be answered at once. What is
left out: batches, and the loop (lessons.py).
"""

import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from steper_serve import fictional
from steper_serve.fictional import FictionalQuestion
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
T = TypeVar("T")
# A step's texts, in the form of a row of the step-wise data set (examples.py).
Text = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Shares:
    """Of the questions about a reading, as far as there are such.

    Args:
        answered: to be answered at once, of those that the passages answer.
        described: for who or what fits a description.
        missing: for what none of the passages tells.
    """

    answered: float = 0.0
    described: float = 0.0
    missing: float = 0.0


def pairs(world: fictional.World, count: int, most: int) -> Iterator[list[Text]]:
    """`count` times two to `most` lines `NAME is NAME.`, each of which is to be completed."""
    draw, words = generator(world.seed, "pairs"), sorted(world.words())
    for number in range(count):
        names = [(_name(draw, words), _name(draw, words)) for _ in range(draw.randint(2, most))]
        shown = "".join(f"{one} is {other}.\n" for one, other in names)
        id = f"{world.seed}/{number}"
        yield [text(id, f"{shown}{one} is", f" {other}.") for one, other in names]


def kin(
    world: fictional.World, count: int, most: int, num_facts: int | None, shares: Shares
) -> Iterator[list[Text]]:
    """`count` times questions about two to `most` entities of one kind.

    Args:
        num_facts: tell no more of each, and the same of all; None is whole passages.
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
            describe = draw.random() < shares.described
            told = _the_same(told, num_facts, draw, describe)
            passages = [fictional.brief(world, e, facts, draw) for e, facts in told.items()]
        facts = [fact for facts in told.values() for fact in facts]
        if texts := _asked(world, passages, facts, draw, f"{world.seed}/{number}", shares):
            yield texts


def search(world: fictional.World, count: int, shares: Shares) -> Iterator[list[Text]]:
    """`count` times questions about what a few searches find."""
    with opened(world) as retriever:
        draw, everyone = generator(world.seed, "search"), list(world.entities())
        for number in range(count):
            passages = _found(world, retriever, draw.choice(everyone), draw, shares.described)
            facts = [fact for p in passages for fact in _told(world, _entity(p))]
            if texts := _asked(world, passages, facts, draw, f"{world.seed}/{number}", shares):
                yield texts


@contextmanager
def opened(world: fictional.World) -> Iterator[bm25.Bm25Retriever]:
    """An index of a world, for as long as it is needed."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "index"
        bm25.build((fictional.passage(world, e) for e in world.entities()), target)
        yield bm25.Bm25Retriever.open(target)


def prompt(passages: Sequence[Passage], question: str) -> str:
    """The IRCoT prompt of a model that knows its task, as far as its first thought."""
    return render(Context("", (), passages, question, ""), FORMAT).text


def text(id: str, prompt: str, target: str, prefix: str = "") -> Text:
    """A row in the form of the step-wise data set."""
    return {
        "dataset": "reading",
        "question_id": id,
        "kind": "agg",
        "prompt": prompt,
        "prefix": prefix,
        "target": target,
    }


def _name(draw: random.Random, words: Sequence[str]) -> str:
    return " ".join(draw.sample(words, draw.randint(1, 2)))


def _the_same(
    told: dict[fictional.Entity, list[fictional.Fact]],
    number: int,
    draw: random.Random,
    describe: bool,
) -> dict[fictional.Entity, list[fictional.Fact]]:
    """Of each entity the facts of the same few relations, in any order; of some it may be none.

    `describe`: of relations that an entity can be described by, if there are.
    """
    facts = [fact for facts in told.values() for fact in facts]
    describing = [fact for fact in facts if describe and fact.relation.describes]
    relations = list({fact.relation.noun: None for fact in describing or facts})
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
    described: float,
) -> list[Passage]:
    """What one search or several find, each about an entity that the one before has found.

    `described` is how likely a search is for an entity's description rather than its name.
    """
    found: dict[str, Passage] = {}
    for _ in range(draw.randint(1, _MOST_SEARCHES)):
        sought = None
        fact = draw.choice(_told(world, about))
        if draw.random() < described:
            sought = fictional.described(world, fact, draw)
        sought = sought or fictional.single_hop(world, fact, draw)
        found |= {passage.id: passage for passage in retriever.search(sought.question, 4)}
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
    shares: Shares,
) -> list[Text]:
    """Single-hop questions about some of the facts, all of which the passages state."""
    num_described, num_missing = (
        round(share * _QUESTIONS_A_READING) for share in (shares.described, shares.missing)
    )
    num_named = _QUESTIONS_A_READING - num_described - num_missing
    named = [fictional.single_hop(world, f, draw) for f in _some(facts, num_named, draw)]
    fitting = [one for f in facts if num_described and (one := fictional.described(world, f, draw))]
    texts = []
    for one in (*named, *_some(fitting, num_described, draw)):
        at_once = draw.random() < shares.answered
        said = f"{ANSWER_MARKER} {one.answers[0]}." if at_once else one.steps[0].statement
        texts.append(text(id, prompt(passages, one.question), f" {said}"))
    here = [_entity(passage) for passage in passages]
    missing = islice(_not_there(world, here, draw), num_missing)
    return texts + [
        text(id, prompt(passages, o.question), f" {o.steps[0].missing[0]}") for o in missing
    ]


def _some(of: Sequence[T], number: int, draw: random.Random) -> list[T]:
    return draw.sample(of, min(number, len(of)))


def _not_there(
    world: fictional.World, here: Sequence[fictional.Entity], draw: random.Random
) -> Iterator[FictionalQuestion]:
    """Questions near to what the passages of `here` tell, each for what none of them tells.

    They are for facts of what is named here but told of elsewhere, and for others of whom the same
    is told as of one that is here.
    """
    facts = [fact for entity in here for fact in world.facts(entity)]
    named = dict.fromkeys(f.object for f in facts if isinstance(f.object, fictional.Entity))
    near = facts + [fact for entity in named for fact in world.facts(entity)]
    unknown = [fact for fact in near if world.source(fact) not in here]
    alike = [fact for fact in near if fact.relation.describes and fact.subject not in named]
    while unknown:
        yield fictional.single_hop(world, draw.choice(unknown), draw)
        if (other := _another(world, draw.choice(alike), draw) if alike else None) is None:
            continue
        if other.subject not in here and (one := fictional.described(world, other, draw)):
            yield one


def _another(
    world: fictional.World, fact: fictional.Fact, draw: random.Random
) -> fictional.Fact | None:
    """The same of some other that has it in common with the fact's subject; it may be the same."""
    if isinstance(fact.object, str):
        return None
    subjects = world.subjects(fact.relation, fact.object)
    return world.fact(fact.relation, draw.choice(subjects)) if subjects else None


def _entity(passage: Passage) -> fictional.Entity:
    kind, number = passage.id.rsplit("-", 1)
    return fictional.Entity(kind, int(number))


def _told(world: fictional.World, entity: fictional.Entity) -> list[fictional.Fact]:
    """What the passage of an entity states."""
    own = [fact for fact in world.facts(entity) if world.source(fact) == entity]
    return own + world.told_of_others(entity)
