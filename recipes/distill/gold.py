"""A reasoner that knows the gold decomposition and nothing else: the teacher of the first teacher.

It answers in the real loop, against the passages that retrieval really returned: it states a fact
only once the passage that tells it is in the prompt, and says what is still to be found until
then. Its trajectories are what `pretrain` learns the loop from. What is left out: any model.
"""

import re
from collections.abc import AsyncGenerator, Sequence

from steper_serve.fictional import GoldStep
from steper_serve.strategies.ircot import ANSWER_MARKER
from steper_serve.strategies.self_ask import FINAL_MARKER, FOLLOW_UP, INTERMEDIATE_ANSWER, OPENING
from steper_serve.trajectory import Completion, Delta, Generate

UNKNOWN = "unknown"
_TITLE = re.compile(r"^Wikipedia Title: (.*)$", re.MULTILINE)


class GoldReasoner:
    """A LanguageModel for one question. Write a new one for every flow: it keeps its place.

    Args:
        steps: the facts that the question needs, in order.
        answer: its answer.
    """

    def __init__(self, steps: Sequence[GoldStep], answer: str) -> None:
        self._steps = list(steps)
        self._answer = answer
        self._place = 0
        self._misses = 0

    async def generate(self, request: Generate) -> AsyncGenerator[Delta | Completion, None]:
        """One thought, or one line of a Self-Ask transcript."""
        known = frozenset(_TITLE.findall(request.prompt.user))
        if request.final:
            text = f" {UNKNOWN if self._left() else self._answer}."
        elif request.prompt.partial.startswith(OPENING):
            text = self._line(request, known)
        else:
            text = self._thought(known)
        yield Completion(text, "stop", num_completion_tokens=len(text.split()))

    async def check(self) -> None:
        """It is always there."""

    def _thought(self, known: frozenset[str]) -> str:
        if self._place == len(self._steps):
            return f" {ANSWER_MARKER} {self._answer}."
        step = self._next()
        if not self._found(known):
            missing = step.missing[min(self._misses, len(step.missing)) - 1]
            return f" {missing}"
        self._advance()
        return f" {step.statement}"

    def _line(self, request: Generate, known: frozenset[str]) -> str:
        if request.lead.endswith(INTERMEDIATE_ANSWER):
            step = self._next()
            if not self._found(known):
                return " Not found yet."
            self._advance()
            return f" {step.statement}"
        opening = "" if request.prompt.partial != OPENING else " Yes.\n"
        left = self._left()
        if not left:
            return f"{opening}{FINAL_MARKER} {self._answer}"
        question = left[0].question if not self._misses else _asked_again(left[0])
        return f"{opening}{FOLLOW_UP} {question}"

    def _left(self) -> list[GoldStep]:
        """The facts that no passage has told yet; a conclusion needs none."""
        return [step for step in self._steps[self._place :] if step.title]

    def _next(self) -> GoldStep:
        return self._steps[min(self._place, len(self._steps) - 1)]

    def _found(self, known: frozenset[str]) -> bool:
        """Whether the prompt holds what states the next fact; counts the times it does not."""
        title = self._next().title
        found = title is None or title in known
        self._misses += not found
        return found

    def _advance(self) -> None:
        self._place, self._misses = self._place + 1, 0


def _asked_again(step: GoldStep) -> str:
    """The question in other words, for a search that missed."""
    sought = step.missing[0].removesuffix(" is still to be found.")
    return f"What is {sought[0].lower()}{sought[1:]}?"
