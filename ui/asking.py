"""Ask one question or several at once, and follow what becomes of each.

What is shown changes with every token, but nobody reads faster than a few times a second: what
comes in between is shown together. What is left out: Gradio (ask, compare).
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from uuid import uuid4

from steper_serve.ui.client import Endpoint, Failed
from steper_serve.ui.events import Found, Searching, Texts
from steper_serve.ui.request import Ask
from steper_serve.ui.timeline import Turn, advance, finished, stopped

# The first text is shown at once and, where it is slow to come, that it is being waited for.
_PATIENCE_SECONDS = 0.15
# From then on what is new is shown at most so often: each time costs a browser 10 to 20 ms.
_FRAME_SECONDS = 0.08
# Without news the same is given again, so that whoever follows can see that nobody looks.
_IDLE_SECONDS = 2.0


class Stop:
    """Ends what is being asked, from another task. An instance serves one `follow`."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()


class Stops:
    """What is being asked on each page, so that its stop button finds it."""

    def __init__(self) -> None:
        self._stops: dict[str, Stop] = {}

    @contextmanager
    def begin(self, page: str) -> Iterator[Stop]:
        """A fresh `Stop`; what the page asked before is stopped."""
        self.end(page)
        stop = self._stops[page] = Stop()
        try:
            yield stop
        finally:
            if self._stops.get(page) is stop:
                del self._stops[page]

    def end(self, page: str) -> None:
        """Stop what the page is asking, if anything."""
        if stop := self._stops.get(page):
            stop.asked.set()

    def end_all(self) -> None:
        """Stop what every page is asking."""
        for page in list(self._stops):
            self.end(page)


async def follow(
    endpoint: Endpoint, asks: Sequence[Ask], stop: Stop, key: str = ""
) -> AsyncGenerator[tuple[Turn, ...], None]:
    """The turns of `asks`, side by side, each time that one has changed, until all have ended.

    Closing this, or `stop`, ends the answers in the server.
    """
    board = _Board([Turn(uuid4().hex[:8], ask) for ask in asks])
    tasks = [asyncio.create_task(_one(endpoint, board, at, key)) for at in range(len(asks))]
    ending = asyncio.create_task(_end(tasks, stop))
    try:
        patience = _PATIENCE_SECONDS
        while not ending.done():
            await board.news(ending, patience)
            patience = _IDLE_SECONDS
            yield tuple(board.turns)
            await asyncio.sleep(0 if ending.done() else _FRAME_SECONDS)
        ending.result()
        if stop.asked.is_set():
            board.turns = [stopped(t) if t.status == "asking" else t for t in board.turns]
        yield tuple(board.turns)
    finally:
        stop.asked.set()
        with suppress(asyncio.CancelledError):
            await ending


class _Board:
    """The turns as they stand."""

    def __init__(self, turns: list[Turn]) -> None:
        self.turns = turns
        self._changed = asyncio.Event()

    def put(self, at: int, turn: Turn) -> None:
        self.turns[at] = turn
        self._changed.set()

    async def news(self, ending: "asyncio.Task[None]", patience: float) -> None:
        """Wait for a change or the end, at most `patience` seconds."""
        waiting = asyncio.create_task(self._changed.wait())
        try:
            await asyncio.wait(
                {waiting, ending}, timeout=patience, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            waiting.cancel()
            self._changed.clear()


async def _end(tasks: "Sequence[asyncio.Task[None]]", stop: Stop) -> None:
    """Wait until all have ended, or end them."""
    stopping = asyncio.create_task(stop.asked.wait())
    running = set(tasks)
    try:
        while running and not stopping.done():
            await asyncio.wait({stopping, *running}, return_when=asyncio.FIRST_COMPLETED)
            running = {task for task in tasks if not task.done()}
    finally:
        stopping.cancel()
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


async def _one(endpoint: Endpoint, board: _Board, at: int, key: str) -> None:
    """Follow one answer to its end; the texts of its passages are read beside it."""
    queries: dict[int, str] = {}
    async with asyncio.TaskGroup() as readers:
        try:
            async with aclosing(endpoint.answer(board.turns[at].ask, key)) as events:
                async for event in events:
                    board.put(at, advance(board.turns[at], event))
                    if isinstance(event, Searching):
                        queries[event.step] = event.query
                    elif isinstance(event, Found):
                        readers.create_task(_read(endpoint, board, at, key, queries, event))
        except Failed as failure:
            board.put(at, advance(board.turns[at], failure.problem))
    board.put(at, finished(board.turns[at]))


async def _read(
    endpoint: Endpoint, board: _Board, at: int, key: str, queries: dict[int, str], found: Found
) -> None:
    """The texts of what has been found, as far as they are not known yet."""
    if all(p.id in board.turns[at].texts for p in found.passages):
        return
    with suppress(Failed):  # the passage then says so where it is opened
        texts = await endpoint.texts(queries.get(found.step, ""), found.passages, key)
        board.put(at, advance(board.turns[at], Texts(texts)))
