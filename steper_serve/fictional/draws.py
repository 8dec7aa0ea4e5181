"""Chance without a memory: every draw is a function of the world's seed and of what is drawn.

A world of a million passages is never held: any entity, and whoever points to it, is worked out
from its number. What is left out: what is drawn (world, names).
"""

import math
import random
from dataclasses import dataclass


def generator(*key: object) -> random.Random:
    """A generator of its own for `key`; equal keys give equal draws on every machine."""
    return random.Random("/".join(map(str, key)))  # noqa: S311 - nothing secret is drawn


@dataclass(frozen=True, slots=True)
class Permutation:
    """A seeded bijection of 0..size-1 that can be read both ways (x to a·x + b, modulo size)."""

    size: int
    multiplier: int
    shift: int

    @classmethod
    def of(cls, size: int, *key: object) -> "Permutation":
        """The permutation of `size` numbers, at least 1, that belongs to `key`."""
        draw = generator("permutation", *key)
        multiplier = draw.randrange(size // 3 + 1, size + 1)
        while math.gcd(multiplier, size) != 1:
            multiplier += 1
        return cls(size, multiplier, draw.randrange(size))

    def __call__(self, number: int) -> int:
        return (self.multiplier * number + self.shift) % self.size

    def inverse(self, number: int) -> int:
        return (number - self.shift) * pow(self.multiplier, -1, self.size) % self.size


@dataclass(frozen=True, slots=True)
class Pairing:
    """A seeded function from `num_subjects` onto `num_objects`, readable both ways.

    Every object gets an equal share of the subjects, give or take one.
    """

    num_subjects: int
    num_objects: int
    slots: Permutation

    @classmethod
    def of(cls, num_subjects: int, num_objects: int, *key: object) -> "Pairing":
        fan = max(1, math.ceil(num_subjects / num_objects))
        return cls(num_subjects, num_objects, Permutation.of(num_objects * fan, "pairing", *key))

    def object(self, subject: int) -> int:
        return self.slots(subject) % self.num_objects

    def subjects(self, object: int) -> list[int]:
        """Every subject of `object`, in order."""
        slots = range(object, self.slots.size, self.num_objects)
        return sorted(s for s in map(self.slots.inverse, slots) if s < self.num_subjects)
