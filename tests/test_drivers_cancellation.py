"""Cancelling a run, also while a search blocks; which searches get a thread."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from steper_serve import drivers
from steper_serve.drivers import Wrote
from steper_serve.generation.scripted import ScriptedModel
from steper_serve.trajectory import Passage
from tests.flows import THOUGHTS, Index, Watched, start


async def test_cancelling_closes_the_flow_and_the_models_generator():
    gate = asyncio.Event()
    model, flow, begun = (
        ScriptedModel(["Grey Harbour"], gate=gate),
        Watched(start()),
        asyncio.Event(),
    )
    task = asyncio.create_task(
        drivers.run(flow, model, Index(), lambda e: begun.set() if isinstance(e, Wrote) else None)
    )
    await asyncio.wait_for(begun.wait(), 60)
    assert model.num_running() == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert model.num_running() == 0
    assert flow.closed


async def test_a_blocked_search_blocks_neither_the_event_loop_nor_a_cancellation():
    entered, release = threading.Event(), threading.Event()

    class Slow(Index):
        def search(self, query: str, top_k: int) -> Sequence[Passage]:
            entered.set()
            assert release.wait(60)
            return super().search(query, top_k)

    flow = Watched(start())
    blocked = asyncio.create_task(drivers.run(flow, ScriptedModel(THOUGHTS), Slow()))
    other = asyncio.create_task(drivers.run(start(), ScriptedModel(THOUGHTS), Slow()))
    try:
        while not entered.is_set():
            await asyncio.sleep(0.001)
        blocked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await blocked
        assert flow.closed
        assert not other.done()
    finally:
        release.set()
    assert (await asyncio.wait_for(other, 60)).answer == "Oslo"


async def test_a_quick_search_is_not_handed_to_a_thread():
    threads = set()

    class Quick(Index):
        quick = True

        def search(self, query: str, top_k: int) -> Sequence[Passage]:
            threads.add(threading.current_thread())
            return super().search(query, top_k)

    await drivers.run(start(), ScriptedModel(THOUGHTS), Quick())
    assert threads == {threading.current_thread()}
