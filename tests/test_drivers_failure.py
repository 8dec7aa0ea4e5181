"""A run that fails: what its error carries, and that its flow is closed."""

import pytest

from steper_serve import drivers
from steper_serve.drivers import Event, Wrote
from steper_serve.errors import EngineFailed, EngineUnavailable, IndexUnavailable
from steper_serve.generation.scripted import ScriptedModel
from steper_serve.trajectory import Retrieve
from tests.flows import HARBOUR, QUESTION, THOUGHTS, Index, Watched, start


@pytest.mark.parametrize("error", [EngineFailed("broken"), EngineUnavailable("down")])
async def test_a_models_error_carries_the_finished_steps(error):
    flow = Watched(start())
    with pytest.raises(type(error)) as raised:
        await drivers.run(flow, ScriptedModel([THOUGHTS[0], error]), Index())
    assert raised.value is error
    assert [(s.query, s.passages, s.thought) for s in error.steps] == [
        (QUESTION, (HARBOUR,), THOUGHTS[0])
    ]
    assert flow.closed


async def test_an_indexs_error_carries_the_finished_steps():
    error = IndexUnavailable("gone")
    with pytest.raises(IndexUnavailable) as raised:
        await drivers.run(start(), ScriptedModel(THOUGHTS), Index([HARBOUR], error))
    assert raised.value is error
    assert [s.thought for s in error.steps] == [THOUGHTS[0]]


async def test_an_error_that_nobody_foresaw_passes_as_it_is():
    flow = Watched(start())
    error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError) as raised:
        await drivers.run(flow, ScriptedModel(THOUGHTS), Index(error))
    assert raised.value is error
    assert flow.closed


async def test_an_error_in_the_watcher_stops_the_run():
    def watch(event: Event) -> None:
        if isinstance(event, Wrote):
            raise ConnectionError("nobody listens")

    model, flow = ScriptedModel(THOUGHTS), Watched(start())
    with pytest.raises(ConnectionError, match="nobody listens"):
        await drivers.run(flow, model, Index(), watch)
    assert model.num_running() == 0
    assert flow.closed


async def test_a_flow_that_ends_without_a_trajectory_is_a_mistake():
    def flow():
        yield Retrieve(1, "x", 1)

    with pytest.raises(TypeError, match="without a trajectory"):
        await drivers.run(flow(), ScriptedModel([]), Index())
