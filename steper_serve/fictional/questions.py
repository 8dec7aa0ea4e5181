"""Questions about an invented world, with their gold decomposition.

Four types, as in the real sets: bridge (2 to 4 hops), comparison, yes-no comparison and
bridge-comparison. Hops count the passages that a question needs. What is left out: retrieval; no
question is chosen by what a search finds for it.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from steper_serve.fictional.draws import generator
from steper_serve.fictional.schema import Relation
from steper_serve.fictional.steps import (
    DATED,
    GoldStep,
    alike,
    asked_of,
    compared_step,
    description,
    fact_step,
    noun_of,
    ordered,
    value_of,
)
from steper_serve.fictional.world import RELATION, RELATIONS_OF, Entity, Fact, World

# How many of 100 questions are of each type and number of hops.
MIX = (
    (("bridge", 2), 45),
    (("bridge", 3), 18),
    (("bridge", 4), 7),
    (("comparison", 2), 11),
    (("yes-no", 2), 11),
    (("bridge-comparison", 4), 8),
)
# How many of 100 entities in a question are described instead of named.
_DESCRIBED = {("bridge", 2): 60, ("bridge", 3): 50, ("bridge", 4): 25}
# How many of 100 bridges first name what they begin with, and then lead on from it.
_NAMED_FIRST = 60
_POSSESSIVE = "'s "
_MOST_DRAWS = 500


@dataclass(frozen=True, slots=True)
class FictionalQuestion:
    """A question, its answers (the first is the canonical one) and how it decomposes."""

    id: str
    question: str
    answers: tuple[str, ...]
    type: str
    hops: int
    steps: tuple[GoldStep, ...]

    @property
    def supporting_titles(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(step.title for step in self.steps if step.title))

    def to_json(self) -> dict[str, Any]:
        """The question in the layout of `questions.jsonl`."""
        return {**asdict(self), "supporting_titles": self.supporting_titles}


@dataclass(frozen=True, slots=True)
class _Plan:
    """A question in the making."""

    question: str
    answers: tuple[str, ...]
    steps: tuple[GoldStep, ...]


def questions(world: World, count: int) -> Iterator[FictionalQuestion]:
    """`count` questions, no two alike in wording while the world has others to ask."""
    asked: set[int] = set()
    for number in range(count):
        draw = generator(world.seed, "question", number)
        kinds, weights = zip(*MIX, strict=True)
        (sort, hops) = draw.choices(kinds, weights)[0]
        yield _question(world, draw, sort, hops, f"{world.seed}-{number}", asked)


def single_hop(world: World, fact: Fact, draw: random.Random) -> FictionalQuestion:
    """A question for one fact alone."""
    step = fact_step(world, fact)
    question = draw.choice(fact.relation.asks).format(x=_named(world, fact.subject, draw))
    answers = _answers(world, fact.object)
    return FictionalQuestion("", question, answers, "single-hop", 1, (step,))


def described(world: World, fact: Fact, draw: random.Random) -> FictionalQuestion | None:
    """A question for the subject of a fact by that fact; None if it does not tell it apart."""
    found = description(world, fact)
    if found is None:
        return None
    phrase, step = found
    asks = "Who" if fact.subject.kind == "person" else "What"
    question = draw.choice((step.question, f"{asks} is {phrase}?"))
    return FictionalQuestion("", question, _answers(world, fact.subject), "single-hop", 1, (step,))


def _question(
    world: World, draw: random.Random, sort: str, hops: int, id: str, asked: set[int]
) -> FictionalQuestion:
    make = _MAKERS[sort]
    for _ in range(_MOST_DRAWS):
        plan = make(world, draw, hops)
        if plan is None:
            continue
        question = FictionalQuestion(id, plan.question, plan.answers, sort, hops, plan.steps)
        if len(question.supporting_titles) == hops and hash_of(plan.question) not in asked:
            asked.add(hash_of(plan.question))
            return question
    raise ValueError(f"a world of {world.num_passages} passages has no more {sort} questions")


def hash_of(text: str) -> int:
    """Eight bytes that stand for a text, the same in every process."""
    return generator(text).getrandbits(64)


def _bridge(world: World, draw: random.Random, hops: int) -> _Plan | None:
    start = _any_entity(world, draw)
    visited = {start}
    steps: list[GoldStep] = []
    if draw.random() * 100 < _DESCRIBED["bridge", hops]:
        described = _described(world, start, draw)
        if described is None:
            return None
        phrase, step, anchor = described
        steps.append(step)
        visited.add(anchor)
    else:
        phrase = _named(world, start, draw)
    here, opening, nouns = start, phrase, [f"that {noun_of(world, start)}"]
    while True:
        fact = _next_fact(world, here, visited, draw)
        if fact is None:
            return None
        steps.append(fact_step(world, fact))
        titles = {step.title for step in steps}
        if len(titles) == hops and (isinstance(fact.object, str) or draw.random() < 0.75):
            asks = draw.choice(fact.relation.asks)
            steps[-1] = asked_of(steps[-1], fact)
            question = asks.format(x=phrase)
            if draw.random() * 100 < _NAMED_FIRST:
                question = f"Take {opening}. {asks.format(x=_POSSESSIVE.join(nouns))}"
            return _Plan(question, _answers(world, fact.object), tuple(steps))
        if isinstance(fact.object, str) or len(titles) > hops or len(steps) > hops + 1:
            return None
        phrase = draw.choice(fact.relation.phrases).format(x=phrase)
        nouns.append(fact.relation.noun)
        here = fact.object
        visited.add(here)


def _comparison(world: World, draw: random.Random, hops: int) -> _Plan | None:
    del hops
    relation = _any_relation(draw, lambda r: bool(r.compares))
    pair = _pair(world, relation.subject, draw)
    facts = [world.fact(relation, entity) for entity in pair]
    return _compared(world, draw, [fact for fact in facts if fact], pair, None)


def _yes_no(world: World, draw: random.Random, hops: int) -> _Plan | None:
    del hops
    relation = _any_relation(draw, lambda r: bool(r.same))
    first, second = _pair(world, relation.subject, draw)
    fact = world.fact(relation, first)
    if fact and isinstance(fact.object, Entity) and draw.random() < 0.5:
        second = draw.choice(world.subjects(relation, fact.object))
    facts = [f for f in (fact, world.fact(relation, second)) if f]
    if first == second or len(facts) < 2:
        return None
    x, y = (_named(world, entity, draw) for entity in (first, second))
    steps = [fact_step(world, fact) for fact in facts]
    return _same(world, relation.same.format(x=x, y=y), facts, steps)


def _bridge_comparison(world: World, draw: random.Random, hops: int) -> _Plan | None:
    del hops
    bridge = _any_relation(
        draw,
        lambda r: r.object.startswith("person:") and not r.told_by_object and bool(r.describes),
    )
    pair = _pair(world, bridge.subject, draw)
    first = [fact for entity in pair if (fact := world.fact(bridge, entity))]
    people = [fact.object for fact in first if isinstance(fact.object, Entity)]
    if len(people) < 2 or people[0] == people[1]:
        return None
    steps = [compared_step(world, fact) for fact in first]
    about = RELATION[f"person.{draw.choice(_ABOUT_PEOPLE)}"]
    second = [fact for person in people if (fact := world.fact(about, person))]
    if about.compares:
        return _compared(world, draw, second, pair, bridge, steps)
    x, y = (_named(world, entity, draw) for entity in pair)
    question = f"Were the {bridge.noun}s of {x} and {y} born in the same city?"
    return _same(world, question, second, [*steps, *(fact_step(world, f) for f in second)])


_ABOUT_PEOPLE = ("birth year", "birthplace")
_MAKERS: dict[str, Callable[[World, random.Random, int], _Plan | None]] = {
    "bridge": _bridge,
    "comparison": _comparison,
    "yes-no": _yes_no,
    "bridge-comparison": _bridge_comparison,
}


def _compared(
    world: World,
    draw: random.Random,
    facts: list[Fact],
    pair: list[Entity],
    bridge: Relation | None,
    led: list[GoldStep] | None = None,
) -> _Plan | None:
    """Which of a pair has the smaller or greater value; `bridge` leads from it to who has it."""
    values = [value_of(fact) for fact in facts]
    if len(facts) < 2 or values[0] == values[1]:
        return None
    x, y = (_named(world, entity, draw) for entity in pair)
    greater = draw.random() < 0.5
    templates = facts[0].relation.compares
    if bridge:
        asks = f"Which {bridge.subject} has the {bridge.noun} born"
        templates = tuple(f"{asks} {order}, {{x}} or {{y}}?" for order in ("first", "later"))
    wanted = pair[values.index(max(values) if greater else min(values))]
    orders = [template.partition(",")[0].split()[-1] for template in templates]
    conclusion = ordered(world, facts, orders, greater, wanted)
    gold = [*(led or []), *(compared_step(world, fact) for fact in facts), conclusion]
    return _Plan(templates[greater].format(x=x, y=y), _answers(world, wanted), tuple(gold))


def _same(world: World, question: str, facts: list[Fact], gold: list[GoldStep]) -> _Plan | None:
    objects = [fact.object for fact in facts if isinstance(fact.object, Entity)]
    if len(objects) < 2:
        return None
    conclusion = alike(world, *objects)
    return _Plan(question, (conclusion.answer,), (*gold, conclusion))


def _next_fact(
    world: World, here: Entity, visited: set[Entity], draw: random.Random
) -> Fact | None:
    """A fact to go on with, mostly one that leads to another entity."""
    facts = [fact for fact in world.facts(here) if fact.object not in visited]
    weights = [1 if isinstance(fact.object, str) else 4 for fact in facts]
    return draw.choices(facts, weights)[0] if facts else None


def _described(
    world: World, entity: Entity, draw: random.Random
) -> tuple[str, GoldStep, Entity] | None:
    """A description that fits one entity, the fact that it does, and what it is described by."""
    facts = [
        fact
        for fact in world.facts(entity)
        if fact.relation.describes and world.source(fact) == entity
    ]
    if not facts:
        return None
    fact = draw.choice(facts)
    found = description(world, fact)
    return None if found is None or isinstance(fact.object, str) else (*found, fact.object)


def _named(world: World, entity: Entity, draw: random.Random) -> str:
    """The entity by its name, told from its namesakes if it has any."""
    if world.told_apart_by(entity) or draw.random() < 0.5:
        return world.mention(entity)
    noun = noun_of(world, entity)
    if entity.kind in DATED:
        return f"the {noun} {world.name(entity)}"
    return world.mention(entity)


def _answers(world: World, object: Entity | str) -> tuple[str, ...]:
    if isinstance(object, str):
        return (object,)
    return tuple(dict.fromkeys((world.name(object), world.title(object))))


def _any_entity(world: World, draw: random.Random) -> Entity:
    """An entity of a kind drawn evenly but for works and people, which are asked about more."""
    kinds = list(world.counts)
    weights = [3 if kind in ("film", "novel", "album", "person") else 1 for kind in kinds]
    kind = draw.choices(kinds, weights)[0]
    return Entity(kind, draw.randrange(world.counts[kind]))


def _pair(world: World, kind: str, draw: random.Random) -> list[Entity]:
    return [Entity(kind, n) for n in draw.sample(range(world.counts[kind]), 2)]


def _any_relation(draw: random.Random, fits: Callable[[Relation], bool]) -> Relation:
    return draw.choice([r for relations in RELATIONS_OF.values() for r in relations if fits(r)])
