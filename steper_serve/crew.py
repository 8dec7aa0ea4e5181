"""Many things answered, so many at once, and what to do when the engine is down.

What is left out: what is asked, and how it is answered (evaluation, benchmarks).
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Generic, Protocol, TypeVar

from steper_serve.errors import EngineUnavailable, SteperError

# So many items in a row that found the engine unavailable mean that it is down.
MOST_UNAVAILABLE = 16


class Ended(Protocol):
    """What became of one thing that was asked for; `error` is None unless it failed."""

    @property
    def error(self) -> SteperError | None: ...


Item = TypeVar("Item")
End = TypeVar("End", bound=Ended)


async def answer_all(
    items: Iterable[Item],
    answer: Callable[[Item], Awaitable[End]],
    take: Callable[[End], None],
    *,
    concurrency: int,
    check: Callable[[], Awaitable[None]],
) -> None:
    """Answer every item, at most `concurrency` at once.

    Args:
        items: taken one by one as room becomes free.
        answer: one of them. An error that it raises ends the run; one that it returns does not.
        take: is given each outcome when it is there, in no certain order.
        check: raises EngineUnavailable if nothing can be answered; called after each outcome
            that failed with that.

    Raises:
        EngineUnavailable: `check` said so, or too many in a row ended so. They are not handed
            over: they are as if they had not been asked. All others have been.
    """
    crew = _Crew(iter(items), answer, take, check)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(crew.work())
    except ExceptionGroup as errors:
        raise _the_cause(errors) from None
    crew.hand_over()


class _Crew(Generic[Item, End]):
    """Workers that share one supply of items."""

    def __init__(
        self,
        supply: Iterator[Item],
        answer: Callable[[Item], Awaitable[End]],
        take: Callable[[End], None],
        check: Callable[[], Awaitable[None]],
    ) -> None:
        self._supply = supply
        self._answer = answer
        self._take = take
        self._check = check
        self._unavailable: list[End] = []

    async def work(self) -> None:
        for item in self._supply:
            outcome = await self._answer(item)
            if isinstance(outcome.error, EngineUnavailable):
                await self._hold_back(outcome)
            else:
                self.hand_over()
                self._take(outcome)

    async def _hold_back(self, outcome: End) -> None:
        """Was it this item, or is the model down? Then the item was never asked for."""
        await self._check()
        self._unavailable.append(outcome)
        if len(self._unavailable) >= MOST_UNAVAILABLE and outcome.error is not None:
            self._unavailable = []
            raise outcome.error

    def hand_over(self) -> None:
        """Something was answered, so what was held back had failed on its own account."""
        held, self._unavailable = self._unavailable, []
        for outcome in held:
            self._take(outcome)


def _the_cause(errors: ExceptionGroup[Exception]) -> Exception:
    """The error that ended a run; one that nobody foresaw goes before those of this project."""
    foreseen, others = errors.split(SteperError)
    chosen = others or foreseen
    return chosen.exceptions[0] if chosen else errors
