"""Time that runs out forces the answer; a model's own timeout is a failure."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from steper_serve import drivers
from steper_serve.drivers import Generated
from steper_serve.generation.scripted import ScriptedModel
from steper_serve.trajectory import Completion, Delta, Generate
from tests.flows import ALL, THOUGHTS, Index, Model, Watched, forever, start


@ALL
@pytest.mark.parametrize("said", ["Grey Harbour", ""])
async def test_time_that_runs_out_ends_the_generation_and_forces_the_answer(strategy, said):
    max_seconds, model = 0.02, forever(said)
    while not any(not request.final for request in model.requests):  # too busy to get that far
        model, events = forever(said), []
        trajectory = await drivers.run(
            start(strategy), model, Index(), events.append, max_seconds=max_seconds
        )
        max_seconds *= 2
    assert (trajectory.answer, trajectory.stop_reason) == ("Oslo", "budget")
    cut_off = trajectory.steps[0].completions[0]
    assert cut_off == Completion(said, "length", num_completion_tokens=2 if said else 0)
    assert model.num_open == 0
    assert [e.step for e in events if isinstance(e, Generated)] == [1, len(trajectory.steps)]
    assert trajectory.steps[-1].forced


async def test_without_any_time_only_the_answer_is_generated():
    model, index = ScriptedModel([" Oslo"]), Index()
    trajectory = await drivers.run(start(), model, index, max_seconds=0.0)
    assert index.queries == []
    assert [request.final for request in model.requests] == [True]
    assert (trajectory.answer, trajectory.stop_reason) == ("Oslo", "budget")


async def test_a_forced_answer_that_does_not_come_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(drivers, "FORCED_SECONDS", 0.05)

    async def hang(request: Generate) -> AsyncGenerator[Delta | Completion, None]:
        await asyncio.Event().wait()
        yield Completion("", "stop")

    trajectory = await drivers.run(start(), Model(hang), Index(), max_seconds=0.01)
    assert (trajectory.answer, trajectory.stop_reason) == ("", "budget")


async def test_time_enough_changes_nothing():
    trajectory = await drivers.run(start(), ScriptedModel(THOUGHTS), Index(), max_seconds=600)
    assert (trajectory.answer, trajectory.stop_reason) == ("Oslo", "answer")


@pytest.mark.parametrize("max_seconds", [None, 600])
async def test_a_models_own_timeout_is_a_failure_and_no_end_of_text(max_seconds):
    async def speak(request: Generate) -> AsyncGenerator[Delta | Completion, None]:
        yield Delta("So the answer is: Os", 5)
        raise TimeoutError("the connection timed out")

    flow = Watched(start())
    with pytest.raises(TimeoutError, match="the connection timed out"):
        await drivers.run(flow, Model(speak), Index(), max_seconds=max_seconds)
    assert flow.closed
