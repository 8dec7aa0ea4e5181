"""A flow driven by hand: outcomes in, effects out."""

from collections.abc import Callable, Iterable

import pytest
from hypothesis import settings

from steper_serve.trajectory import Completion, Effect, Flow, Outcome, PromptFormat, Trajectory

# How long an example takes depends on the machine's other work.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

Play = Callable[[Flow, Callable[[Effect], Outcome]], tuple[list[Effect], Trajectory]]


def play_flow(flow: Flow, respond: Callable[[Effect], Outcome]) -> tuple[list[Effect], Trajectory]:
    effects: list[Effect] = []
    outcome: Outcome | None = None
    while True:
        try:
            effect = flow.send(outcome)
        except StopIteration as stop:
            return effects, stop.value
        effects.append(effect)
        outcome = respond(effect)


@pytest.fixture(scope="session")
def play() -> Play:
    """Run a flow to its end, each outcome made from its effect."""
    return play_flow


@pytest.fixture(scope="session")
def drive():
    """Run a flow to its end against a list of outcomes, all of which it must ask for."""

    def drive(flow: Flow, outcomes: Iterable[Outcome]) -> tuple[list[Effect], Trajectory]:
        pending = list(outcomes)
        effects, trajectory = play_flow(flow, lambda _: pending.pop(0))
        assert pending == [], "the flow ended before these outcomes"
        return effects, trajectory

    return drive


@pytest.fixture(scope="session")
def said():
    """A completion of one token a word, or of `tokens`."""

    def said(text: str, tokens: int | None = None, finish_reason: str = "stop") -> Completion:
        number = len(text.split()) if tokens is None else tokens
        return Completion(text, finish_reason, num_completion_tokens=number)

    return said


@pytest.fixture(scope="session")
def student():
    """The format of a model that was trained for every strategy; a word is a token."""

    def student(**changes) -> PromptFormat:
        fields = {
            "max_prompt_tokens": 10_000,
            "count_tokens": lambda text: len(text.split()),
            "step_end": "eos",
            "instruction": "",
            "few_shot": False,
        }
        return PromptFormat(**fields | changes)

    return student
