"""Passages and demonstrations whose words are easily counted."""

from steper_serve.trajectory import Demonstration, Passage

QUESTION = "Where was she born?"


def passage(id: str, text: str = "one two three four") -> Passage:
    return Passage(id, f"Title{id}", text)


SHOTS = tuple(
    Demonstration(f"{name} q?", (passage(name),), (f"{name} is.",), f"{name}") for name in "xy"
)
