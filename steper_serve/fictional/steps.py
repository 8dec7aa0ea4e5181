"""The gold steps of a question: what each fact is asked, answered and thought as.

A thought is what a model is taught to write once a fact is found, or while it is still to be
found. What is left out: which facts a question is made of (questions), and how passages say them.
"""

from dataclasses import dataclass, replace

from steper_serve.fictional.passages import telling
from steper_serve.fictional.world import Entity, Fact, World

# Kinds that a description tells the year of.
DATED = frozenset(("person", "film", "novel", "album", "ship"))


@dataclass(frozen=True, slots=True)
class GoldStep:
    """One fact that a question needs.

    Args:
        question: it, asked on its own.
        answer: its answer.
        title: of the passage that states it; None for a conclusion from what is known.
        statement: it, as a thought.
        missing: thoughts that say that it is still to be found, to be searched with.
    """

    question: str
    answer: str
    title: str | None
    statement: str
    missing: tuple[str, ...] = ()


def noun_of(world: World, entity: Entity) -> str:
    """What an entity is called in a sentence: a person by what they do."""
    return world.role(entity) if entity.kind == "person" else entity.kind


def fact_step(world: World, fact: Fact) -> GoldStep:
    """The step that looks a fact up."""
    subject, noun = world.title(fact.subject), fact.relation.noun
    answer = fact.object if isinstance(fact.object, str) else world.title(fact.object)
    return GoldStep(
        question=fact.relation.asks[0].format(x=world.mention(fact.subject)),
        answer=answer,
        title=world.title(world.source(fact)),
        statement=f"The {noun} of {subject} is {answer}.",
        missing=(f"The {noun} of {subject} is still to be found.", _search(world, fact)),
    )


def asked_of(step: GoldStep, fact: Fact) -> GoldStep:
    """The last step of a bridge: that it is what was asked for stands where it is looked up.

    A small model that has to tell so afterwards, from the whole question, goes on or ends early.
    """
    plain, asked = (f"The {fact.relation.noun} {of}of " for of in ("", "asked "))
    return replace(
        step,
        statement=step.statement.replace(plain, asked),
        missing=tuple(thought.replace(plain, asked) for thought in step.missing),
    )


def compared_step(world: World, fact: Fact) -> GoldStep:
    """A step of a comparison: whose it is comes last, to be read off behind what is compared."""
    step = fact_step(world, fact)
    return replace(
        step, statement=f"{step.statement.removesuffix('.')} ({world.name(fact.subject)})."
    )


def _search(world: World, fact: Fact) -> str:
    """A thought that looks for the passage of `fact` by what it must say."""
    subject, relation = world.title(fact.subject), fact.relation
    if world.source(fact) == fact.subject:
        return f"Looking for {subject}."
    return f"Looking for the {relation.noun}, {relation.phrases[-1].format(x=subject)}."


def description(world: World, fact: Fact) -> tuple[str, GoldStep] | None:
    """What a fact describes its subject as, and that it does; None if it fits others as well."""
    entity = fact.subject
    if isinstance(fact.object, str) or not fact.relation.describes or world.source(fact) != entity:
        return None
    noun = noun_of(world, entity)
    others = [e for e in world.subjects(fact.relation, fact.object) if noun_of(world, e) == noun]
    described = fact.relation.describes.format(o=world.mention(fact.object))
    if entity.kind in DATED:
        year = world.year(entity)
        others = [other for other in others if world.year(other) == year]
        if entity.kind == "person":
            described += f" in {year}"
        else:
            noun = f"{year} {noun}"
    if others != [entity]:
        return None
    title = world.title(entity)
    step = GoldStep(
        question=f"Which {noun} is {described}?",
        answer=title,
        title=title,
        statement=telling(world, fact),
        missing=(
            f"The {noun} {described} is still to be found.",
            f"Looking for one {noun} {described}.",
        ),
    )
    return f"the {noun} {described}", step


def ordered(
    world: World, facts: list[Fact], orders: list[str], greater: bool, wanted: Entity
) -> GoldStep:
    """The conclusion of a comparison of two values: both in their order, then the one asked for.

    A small model copies what stands before; one that chooses while it writes takes either.

    Args:
        facts: whose values are compared, with different ones.
        orders: what the smaller and the greater value are called.
        greater: whether the greater one is asked for.
        wanted: the answer, which has the value itself or leads to who has it.
    """
    told = [
        f"the {order} is {fact.object} ({world.name(fact.subject)})"
        for order, fact in zip(orders, sorted(facts, key=value_of), strict=True)
    ]
    name = world.name(wanted)
    whose = "" if any(fact.subject == wanted for fact in facts) else f" ({name})"
    return GoldStep("", name, None, f"T{' and '.join(told)[1:]}: {told[greater]}{whose}.")


def alike(world: World, x: Entity, y: Entity) -> GoldStep:
    """The conclusion of a yes-no comparison."""
    statement = f"{world.title(x)} and {world.title(y)} are {'' if x == y else 'not '}the same."
    return GoldStep("", "yes" if x == y else "no", None, statement)


def value_of(fact: Fact) -> int:
    """The number that a fact with a quantity or a year states."""
    return int(str(fact.object).split()[0])
