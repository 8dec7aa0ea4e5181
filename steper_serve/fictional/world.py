"""An invented world: which entities there are, and what each relation leads to.

Nothing is stored but counts, so that a world of a million passages takes no more room than one of
a hundred; see `draws`. What is left out: text (passages) and questions.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import accumulate, pairwise

from steper_serve.fictional.draws import Pairing, Permutation, generator
from steper_serve.fictional.names import word
from steper_serve.fictional.schema import (
    KINDS,
    OCCUPATIONS,
    RELATIONS,
    TITLES,
    WITH_ARTICLE,
    Kind,
    Relation,
)

# One person in this many, and one work, bears the name of another.
_NAMESAKE_PEOPLE = 14
_NAMESAKE_WORKS = 16
_WORKS = ("film", "novel", "album")
# Titles for every film: the more, the fewer works of other kinds share one.
_TITLES_A_FILM = 3

KIND = {kind.name: kind for kind in KINDS}
RELATION = {relation.key: relation for relation in RELATIONS}
RELATIONS_OF = {kind.name: [r for r in RELATIONS if r.subject == kind.name] for kind in KINDS}


@dataclass(frozen=True, slots=True)
class Entity:
    """Entity `number` of its kind."""

    kind: str
    number: int


@dataclass(frozen=True, slots=True)
class Fact:
    """What a relation leads to: an entity, or a value as text ("1931", "412 metres")."""

    relation: Relation
    subject: Entity
    object: Entity | str


@dataclass(frozen=True)
class World:
    """The world of a seed.

    Args:
        seed: what everything follows from.
        num_passages: entities, each with one passage, at least 100.
    """

    seed: int
    num_passages: int
    counts: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        if self.num_passages < 100:
            raise ValueError(f"a world has at least 100 passages, not {self.num_passages}")
        shares = sum(kind.share for kind in KINDS)
        counts = {k.name: max(2, self.num_passages * k.share // shares) for k in KINDS}
        counts["person"] += self.num_passages - sum(counts.values())
        object.__setattr__(self, "counts", counts)

    def entities(self) -> Iterator[Entity]:
        """Every entity, in an order that mixes the kinds."""
        order = Permutation.of(self.num_passages, self.seed, "order")
        for place in map(order, range(self.num_passages)):
            for name, count in self.counts.items():
                if place < count:
                    yield Entity(name, place)
                    break
                place -= count

    def facts(self, subject: Entity) -> list[Fact]:
        """What is known of `subject`, whichever passage tells it."""
        facts = (self.fact(relation, subject) for relation in RELATIONS_OF[subject.kind])
        return [fact for fact in facts if fact]

    def fact(self, relation: Relation, subject: Entity) -> Fact | None:
        """What `relation` leads to from `subject`, None if it has none."""
        if relation.key == "person.spouse":
            return self._spouse(relation, subject)
        if not self._drawn(relation.presence, relation.key, subject.number):
            return None
        if relation.is_value:
            return Fact(relation, subject, self._value(relation, subject.number))
        if relation.noun == "capital":
            return Fact(relation, subject, self._capital(subject))
        kind, first, _ = self._range(relation.object)
        found = Entity(kind, first + self._pairing(relation).object(subject.number))
        return None if found == subject else Fact(relation, subject, found)

    def subjects(self, relation: Relation, object: Entity) -> list[Entity]:
        """Everything that `relation` leads from to `object`."""
        if relation.is_value or relation.noun in ("capital", "spouse"):
            return []
        kind, first, count = self._range(relation.object)
        if object.kind != kind or not 0 <= object.number - first < count:
            return []
        numbers = self._pairing(relation).subjects(object.number - first)
        found = [self.fact(relation, Entity(relation.subject, n)) for n in numbers]
        return [fact.subject for fact in found if fact]

    def source(self, fact: Fact) -> Entity:
        """The entity whose passage states `fact`."""
        if isinstance(fact.object, str):
            return fact.subject
        if fact.relation.key == "person.spouse":
            slot = self._pairs(fact.subject.number)
            only_other = slot % 2 and slot // 2 % 4 == 0
            return fact.object if only_other else fact.subject
        return fact.object if fact.relation.told_by_object else fact.subject

    def told_of_others(self, teller: Entity) -> list[Fact]:
        """Facts of other entities that only the passage of `teller` states."""
        told = [r for r in RELATIONS if r.told_by_object and r.object.startswith(teller.kind)]
        subjects = ((r, s) for r in told for s in self.subjects(r, teller))
        return [fact for r, s in subjects if (fact := self.fact(r, s))]

    def words(self) -> frozenset[str]:
        """Every invented word of this world; as many as it takes, so not for large worlds."""
        return frozenset(word(self.seed, number) for number in range(self._num_words))

    def role(self, person: Entity) -> str:
        """The occupation of a person."""
        return next(role for role, (_, end) in self._roles.items() if person.number < end)

    def name(self, entity: Entity) -> str:
        """Its name, which others may share."""
        return _name(self, entity)

    def title(self, entity: Entity) -> str:
        """Its name, with what tells it from its namesakes; no other entity has this title."""
        told_apart = self.told_apart_by(entity)
        return f"{self.name(entity)} ({told_apart})" if told_apart else self.name(entity)

    def told_apart_by(self, entity: Entity) -> str:
        """What tells an entity from its namesakes ("composer", "1931 film"); "" without any."""
        if entity.kind == "person":
            return self._person_told_apart(entity)
        if entity.kind not in _WORKS:
            return ""
        if self._work_twins(entity):
            return f"{self.year(entity)} {entity.kind}"
        slot = self._title_slots(entity.kind)(self._bearer(entity))
        others = (k for k in _WORKS if k != entity.kind)
        shared = any(self._title_slots(k).inverse(slot) < self.counts[k] for k in others)
        return entity.kind if shared else ""

    def mention(self, entity: Entity) -> str:
        """How running text speaks of it, so that namesakes can be told apart."""
        name = self.name(entity)
        if told_apart := self.told_apart_by(entity).split(", ")[0]:
            return f"the {told_apart} {name}"
        return f"the {name}" if entity.kind in WITH_ARTICLE else name

    def year(self, entity: Entity) -> str:
        """The year of a person's birth, of a work or of a ship's launch."""
        relation = next(r for r in RELATIONS_OF[entity.kind] if r.object.startswith("year:"))
        return self._value(relation, entity.number)

    @property
    def _num_words(self) -> int:
        titles = -(-self._title_slots("film").size // len(TITLES))
        return self._places[""] + max(titles, self._num_borrowed)

    @cached_property
    def _roles(self) -> dict[str, tuple[int, int]]:
        """First number, and the one past the last, of each occupation."""
        people, shares = self.counts["person"], sum(OCCUPATIONS.values())
        ends = [people * share // shares for share in accumulate(OCCUPATIONS.values())]
        return dict(zip(OCCUPATIONS, pairwise([0, *ends]), strict=True))

    @cached_property
    def _num_given(self) -> int:
        return math.ceil(1.5 * math.sqrt(self.counts["person"]))

    @cached_property
    def _num_surnames(self) -> int:
        return math.ceil(2 * math.sqrt(self.counts["person"]))

    @cached_property
    def _places(self) -> dict[str, int]:
        """The first word of each kind of place."""
        first, starts = self._num_given + self._num_surnames, {}
        for kind in KINDS:
            if "{w}" in kind.naming:
                starts[kind.name] = first
                first += self.counts[kind.name]
        starts[""] = first
        return starts

    @cached_property
    def _borrowed(self) -> list[range]:
        """Words of people and places that works, companies and the like are named with."""
        surnames = range(self._num_given, self._num_given + self._num_surnames)
        cities = range(self._places["city"], self._places["city"] + self.counts["city"])
        return [surnames, cities]

    def _borrow(self, number: int) -> str:
        surnames, cities = self._borrowed
        return word(
            self.seed,
            surnames[number] if number < len(surnames) else cities[number - len(surnames)],
        )

    @cached_property
    def _num_borrowed(self) -> int:
        return sum(map(len, self._borrowed))

    def _permutation(self, size: int, *key: object) -> Permutation:
        return _permutation(size, self.seed, *key)

    def _pairing(self, relation: Relation) -> Pairing:
        _, _, count = self._range(relation.object)
        return _pairing(self.counts[relation.subject], count, self.seed, relation.key)

    def _range(self, object: str) -> tuple[str, int, int]:
        """Kind, first number and count of what a relation can lead to."""
        kind, _, role = object.partition(":")
        if not role:
            return kind, 0, self.counts[kind]
        first, end = self._roles[role]
        return ("person", first, end - first) if end > first else ("person", 0, end)

    def _drawn(self, percent: int, *key: object) -> bool:
        return percent >= 100 or generator(self.seed, "presence", *key).random() * 100 < percent

    def _value(self, relation: Relation, number: int) -> str:
        sort, low, high, *unit = relation.object.split(":")
        drawn = generator(self.seed, "value", relation.key, number).randrange(int(low), int(high))
        if sort == "number":
            return f"{drawn} {unit[0]}"
        twin = relation.subject in _WORKS and number % _NAMESAKE_WORKS == 1
        if twin and str(drawn) == self.year(Entity(relation.subject, number - 1)):
            drawn += 1
        return str(drawn)

    def _pairs(self, person: int) -> int:
        return self._permutation(self.counts["person"] // 2 * 2 or 1, "spouse")(person)

    def _spouse(self, relation: Relation, person: Entity) -> Fact | None:
        slots = self._permutation(self.counts["person"] // 2 * 2, "spouse")
        if person.number >= slots.size:
            return None
        slot = slots(person.number)
        if not self._drawn(relation.presence, relation.key, slot // 2):
            return None
        return Fact(relation, person, Entity("person", slots.inverse(slot ^ 1)))

    def _capital(self, of: Entity) -> Entity:
        below = RELATION["city.province" if of.kind == "province" else "province.country"]
        parts = self.subjects(below, of)
        if not parts:
            return Entity("city", of.number % self.counts["city"])
        return parts[0] if parts[0].kind == "city" else self._capital(parts[0])

    def _title_slots(self, kind: str) -> Permutation:
        size = max(_TITLES_A_FILM * self.counts["film"], self.counts["novel"], self.counts["album"])
        return self._permutation(size, "titles", kind)

    def _bearer(self, entity: Entity) -> int:
        """The number whose name a work bears: its own, or that of an elder work of its kind."""
        return entity.number - (entity.number % _NAMESAKE_WORKS == 1)

    def _work_twins(self, entity: Entity) -> bool:
        place = entity.number % _NAMESAKE_WORKS
        return place == 1 or (place == 0 and entity.number + 1 < self.counts[entity.kind])

    @property
    def _namesake_distance(self) -> int:
        """Between the numbers of two people of one name; half of all, so that roles differ."""
        return self.counts["person"] // 2 // _NAMESAKE_PEOPLE * _NAMESAKE_PEOPLE + 1

    def _person_bearer(self, number: int) -> int:
        """The number whose name a person bears."""
        if number % _NAMESAKE_PEOPLE != 1:
            return number
        elder = number + self._namesake_distance
        return elder if elder < self.counts["person"] else number

    def _person_told_apart(self, person: Entity) -> str:
        other = self._person_bearer(person.number)
        if other == person.number:
            other = person.number - self._namesake_distance
            if other < 0 or self._person_bearer(other) != person.number or other == person.number:
                return ""
        role = self.role(person)
        if role != self.role(Entity("person", other)):
            return role
        return (
            f"{role}, born {self.year(person)}, {'elder' if other < person.number else 'younger'}"
        )


@lru_cache(maxsize=512)
def _permutation(size: int, *key: object) -> Permutation:
    return Permutation.of(size, *key)


@lru_cache(maxsize=512)
def _pairing(num_subjects: int, num_objects: int, *key: object) -> Pairing:
    return Pairing.of(num_subjects, num_objects, *key)


def _name(world: World, entity: Entity) -> str:
    kind: Kind = KIND[entity.kind]
    if kind.naming == "person":
        return _person_name(world, world._person_bearer(entity.number))
    if kind.naming == "work":
        return _work_title(world, entity)
    if "{b}" in kind.naming:
        borrowed = world._permutation(world._num_borrowed, "names", entity.kind)
        return kind.naming.format(b=world._borrow(borrowed(entity.number % borrowed.size)))
    return kind.naming.format(w=word(world.seed, world._places[entity.kind] + entity.number))


def _person_name(world: World, number: int) -> str:
    given, surnames = world._num_given, world._num_surnames
    pair = world._permutation(given * surnames, "people")(number)
    first, last = pair % given, given + pair // given
    return f"{word(world.seed, first)} {word(world.seed, last)}"


def _work_title(world: World, entity: Entity) -> str:
    slots = world._title_slots(entity.kind)
    slot = slots(world._bearer(entity))
    own = max(1, -(-slots.size // len(TITLES)))
    pattern, stem = slot // own, slot % own
    drawn = world._permutation(max(own, world._num_borrowed), "stems", pattern)(stem)
    number = world._places[""] + drawn
    text = world._borrow(drawn) if drawn < world._num_borrowed else word(world.seed, number)
    return TITLES[pattern].format(w=text)
