"""What there is in an invented world: kinds of entity, and the relations between them.

Data, read from schema.toml. In its texts `{s}` stands for the entity that a relation belongs to,
`{o}` for what it leads to, `{year}` for the year of the former, `{x}` and `{y}` for any way of
naming it, and `{it}` and `{their}` for the subject of a passage. What is left out: which entity
leads to which (world), and how passages and questions are put together (passages, questions).
"""

import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of entity.

    Args:
        name: its noun ("film").
        share: its part in all entities, of the sum of all shares.
        naming: "person", "work" (a title), or a pattern with `{w}` (a word of its own) or `{b}`
            (a word borrowed from people and places).
        openings: first sentences of its passage: `{n}` is the name, `{birth_year}` and the like
            what the relation of that noun (always present) leads to, `{role}` an occupation.
        with_article: whether its name takes an article inside a sentence.
    """

    name: str
    share: int
    naming: str
    openings: tuple[str, ...]
    with_article: bool = False


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation, with all the ways of speaking of it.

    Args:
        subject: a kind.
        noun: what `{o}` is of `{s}` ("director"); thoughts use it.
        object: a kind, an occupation ("person:director"), or a sort of value: "year:1900:2010",
            "number:100:900:metres" (from, up to and without, unit).
        asks: questions for it.
        tells: sentences of a passage.
        phrases: noun phrases for what it leads to; none for a value.
        presence: how many of 100 subjects have it.
        told_by_object: whether the passage of `{o}`, not that of `{s}`, states it; `tells` lead
            from `{s}` to `{o}` all the same.
        describes: what may stand for the name of `{s}` behind its kind ("set in {o}"). All `tells`
            then begin with what it is described by (`{year}`, `{o}`) and end with `{s}`: who looks
            for it reads on to its name.
        compares: questions for which of `{x}` and `{y}` has the smaller value, and the greater; the
            word before the comma says so.
        same: a question for whether it leads to the same for `{x}` and `{y}`.
    """

    subject: str
    noun: str
    object: str
    asks: tuple[str, ...]
    tells: tuple[str, ...]
    phrases: tuple[str, ...] = ()
    presence: int = 100
    told_by_object: bool = False
    describes: str = ""
    compares: tuple[str, ...] = ()
    same: str = ""

    @property
    def key(self) -> str:
        return f"{self.subject}.{self.noun}"

    @property
    def is_value(self) -> bool:
        """Whether it leads to a year or a quantity, not to an entity."""
        return self.object.startswith(("year:", "number:"))


def _frozen(table: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in table.items()}


_DATA = tomllib.loads(resources.files(__package__).joinpath("schema.toml").read_text("utf-8"))
# Titles of films, novels and albums.
TITLES: tuple[str, ...] = tuple(_DATA["titles"])
OCCUPATIONS: dict[str, int] = _DATA["occupations"]
KINDS = tuple(Kind(**_frozen(table)) for table in _DATA["kinds"])
RELATIONS = tuple(Relation(**_frozen(table)) for table in _DATA["relations"])
WITH_ARTICLE = frozenset(kind.name for kind in KINDS if kind.with_article)
