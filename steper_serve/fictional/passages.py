"""The passage of an entity: two to five sentences, each fact in one of several phrasings.

What is left out: which facts there are (world), and questions about them (questions).
"""

import random
from collections.abc import Sequence

from steper_serve.fictional.draws import generator
from steper_serve.fictional.schema import KINDS
from steper_serve.fictional.world import Entity, Fact, World
from steper_serve.trajectory import Passage

_OPENINGS = {kind.name: kind.openings for kind in KINDS}
MOST_SENTENCES = 5
_PRONOUNS = frozenset(("He", "She", "It", "His", "Her", "Its"))


def passage(world: World, entity: Entity) -> Passage:
    """The passage that belongs to `entity`."""
    draw = generator(world.seed, "passage", entity.kind, entity.number)
    told = [fact for fact in world.facts(entity) if world.source(fact) == entity]
    opening = draw.choice(_OPENINGS[entity.kind])
    facts = {fact.relation.noun.replace(" ", "_"): fact for fact in told}
    fields = {noun: _object(world, fact) for noun, fact in facts.items()}
    role = world.role(entity) if entity.kind == "person" else ""
    name = world.name(entity)
    role = f"{'an' if role[:1] in 'aeio' else 'a'} {role}"
    sentences = [opening.format(n=name, role=role, **fields)]
    rest = [f for noun, f in facts.items() if f"{{{noun}}}" not in opening]
    rest += world.told_of_others(entity)
    draw.shuffle(rest)
    sentences += _stated(world, entity, rest, draw)
    return _passage(world, entity, _joined(sentences))


def brief(world: World, entity: Entity, facts: Sequence[Fact], draw: random.Random) -> Passage:
    """A passage that states these facts only, of those that the passage of `entity` states."""
    return _passage(world, entity, _stated(world, entity, facts, draw))


def _stated(world: World, entity: Entity, facts: Sequence[Fact], draw: random.Random) -> list[str]:
    """A sentence for each fact, as they follow a passage's opening."""
    it, their = _pronouns(entity, draw.random() < 0.5)
    sentences = []
    for number, fact in enumerate(facts, 1):
        if fact.relation.describes:
            sentences.append(telling(world, fact))
            continue
        template = draw.choice(fact.relation.tells)
        subject = it if number % 3 else _last_name(world.name(entity), entity)
        text = template.format(
            it=subject, their=their, s=world.mention(fact.subject), o=_object(world, fact)
        )
        sentences.append(_capitalised(text))
    return sentences


def telling(world: World, fact: Fact) -> str:
    """The sentence that tells what its subject may be described by, whatever passage it is in."""
    draw = generator(world.seed, "telling", fact.relation.key, fact.subject.number)
    template = draw.choice(fact.relation.tells)
    year = world.year(fact.subject) if "{year}" in template else ""
    subject = world.mention(fact.subject)
    return _capitalised(template.format(s=subject, o=_object(world, fact), year=year))


def _capitalised(text: str) -> str:
    return text[0].upper() + text[1:]


def _passage(world: World, entity: Entity, sentences: Sequence[str]) -> Passage:
    return Passage(
        id=f"{entity.kind}-{entity.number}", title=world.title(entity), text=" ".join(sentences)
    )


def _object(world: World, fact: Fact) -> str:
    if isinstance(fact.object, str):
        return fact.object
    if fact.object.kind == "person":
        return world.mention(fact.object)
    return world.name(fact.object)


def _pronouns(entity: Entity, she: bool) -> tuple[str, str]:
    if entity.kind != "person":
        return "It", "its"
    return ("She", "her") if she else ("He", "his")


def _last_name(name: str, entity: Entity) -> str:
    return name.split()[-1] if entity.kind == "person" else "It"


def _joined(sentences: list[str]) -> list[str]:
    """At most `MOST_SENTENCES` of them: two short ones become one where there are more."""
    while len(sentences) > MOST_SENTENCES:
        first = min(
            range(1, len(sentences) - 1), key=lambda i: len(sentences[i] + sentences[i + 1])
        )
        left, right = sentences[first : first + 2]
        if right.split()[0] in _PRONOUNS:
            right = right[0].lower() + right[1:]
        sentences[first : first + 2] = [f"{left[:-1]}; {right}"]
    return sentences
