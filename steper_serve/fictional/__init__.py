"""Invented worlds: a corpus, and multi-hop questions that no model can answer by heart.

Everything follows from a seed, in constant memory; worlds of seeds that differ modulo 256 share
no name. `write` makes the files; `World`, `passage` and `questions` give the same piece by piece.
"""

from steper_serve.fictional.passages import brief, passage
from steper_serve.fictional.questions import (
    FictionalQuestion,
    described,
    questions,
    single_hop,
)
from steper_serve.fictional.steps import GoldStep
from steper_serve.fictional.world import Entity, Fact, World
from steper_serve.fictional.write import write

__all__ = [
    "Entity",
    "Fact",
    "FictionalQuestion",
    "GoldStep",
    "World",
    "brief",
    "described",
    "passage",
    "questions",
    "single_hop",
    "write",
]
