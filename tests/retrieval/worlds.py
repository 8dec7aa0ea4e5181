"""Passages for an index: a few whose words are known, and any number of invented ones."""

import random
from collections.abc import Sequence

from steper_serve.trajectory import Passage

WORLD = [
    Passage("a", "Alpha", "the first letter of an alphabet", url="https://example.org/a?x=é"),
    Passage("b", "Beta", "the second letter of an alphabet"),
    Passage("c", "Gamma rays", "Rays that pass through the hand and the wall."),
    Passage("d", "Delta", "Where a river meets the sea; also a letter."),
]

NEW = Passage("e", "Epsilon", "a small letter")


def ids(passages: Sequence[Passage]) -> list[str]:
    return [passage.id for passage in passages]


def invented(num: int, *, shortest: int, longest: int) -> list[Passage]:
    """Passages of words drawn with a Zipf-like law, so that frequencies differ."""
    draw = random.Random(7)
    words = [f"w{n}" for n in range(300)]
    weights = [1 / (n + 1) for n in range(300)]

    def some(low: int, high: int) -> str:
        return " ".join(draw.choices(words, weights, k=draw.randint(low, high)))

    return [Passage(f"p{n}", some(1, 4), some(shortest, longest)) for n in range(num)]
