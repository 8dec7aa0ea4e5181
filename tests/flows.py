"""Flows to be performed, and models and indexes to perform them with.

What is left out: any real engine or index.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

import pytest

from steper_serve.strategies import STRATEGIES, Options
from steper_serve.trajectory import Completion, Delta, Flow, Generate, Passage, PromptFormat

QUESTION = "Where was the painter of Grey Harbour born?"
HARBOUR = Passage("h", "Grey Harbour", "Grey Harbour is a painting by Alma Berg.", score=3.5)
BERG = Passage("b", "Alma Berg", "Alma Berg was born in Oslo.", score=1.25)

THOUGHTS = ["Grey Harbour was painted by Alma Berg.", "So the answer is: Oslo."]
SCRIPTS = {
    "ircot": THOUGHTS,
    "self-ask": [
        " Yes.\nFollow up: Who painted Grey Harbour?",
        " Alma Berg.",
        "So the final answer is: Oslo",
    ],
    "single": THOUGHTS,
    "direct": THOUGHTS,
}
ALL = pytest.mark.parametrize("strategy", list(SCRIPTS))


class Index:
    """A retriever that finds passages by turns."""

    quick = False

    def __init__(self, *found: Sequence[Passage] | Exception) -> None:
        self._found = list(found) or [[HARBOUR], [HARBOUR, BERG]]
        self.queries: list[tuple[str, int]] = []

    def search(self, query: str, top_k: int) -> Sequence[Passage]:
        self.queries.append((query, top_k))
        found = self._found.pop(0) if len(self._found) > 1 else self._found[0]
        if isinstance(found, Exception):
            raise found
        return found

    def reload_if_changed(self) -> bool:
        return False

    def passage(self, id: str) -> Passage:
        raise NotImplementedError


class Model:
    """A model that is a generator function of the request; counts what is open."""

    def __init__(self, speak: Callable[[Generate], AsyncGenerator[Delta | Completion, None]]):
        self._speak = speak
        self.requests: list[Generate] = []
        self.num_open = 0
        self.num_closed = 0

    async def generate(self, request: Generate) -> AsyncGenerator[Delta | Completion, None]:
        self.requests.append(request)
        self.num_open += 1
        try:
            async for part in self._speak(request):
                yield part
        finally:
            self.num_open -= 1
            self.num_closed += 1

    async def check(self) -> None:
        pass


def student(**changes) -> PromptFormat:
    fields = {"count_tokens": lambda text: len(text.split()), "step_end": "eos"}
    return PromptFormat(10_000, **fields | changes)


def start(strategy: str = "ircot", question: str = QUESTION, step_end: str = "eos", **options):
    return STRATEGIES[strategy].flow(question, Options(student(step_end=step_end), **options))


class Watched:
    """A flow that tells whether it was closed."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self.closed = False

    def send(self, outcome):
        return self._flow.send(outcome)

    def throw(self, error):
        return self._flow.throw(error)

    def close(self):
        self.closed = True
        self._flow.close()


def forever(text: str = "Grey Harbour") -> Model:
    """Says something and then waits for ever, but gives a forced answer at once."""

    async def speak(request: Generate) -> AsyncGenerator[Delta | Completion, None]:
        if request.final:
            yield Completion(" Oslo.", "stop", num_completion_tokens=1)
            return
        if text:
            yield Delta(text, 2)
        await asyncio.Event().wait()

    return Model(speak)
