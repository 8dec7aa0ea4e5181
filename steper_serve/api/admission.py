"""How many answers run, how many wait, and that there are no new ones when the server ends.

An answer is present from its request's first byte to its response's last, and running while it
has a slot; those that are present without one wait in the order in which they came. What is left
out: HTTP (guard), and what each answer may take (limits).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from steper_serve.errors import Draining, Overloaded

_RETRY_SECONDS = (1.0, 60.0)
# How much of the mean time of an answer each new one makes up.
_WEIGHT = 0.1


class Admission:
    """Bounds on answers; belongs to one event loop.

    Args:
        max_running: answers that have a slot at one time.
        max_queued: answers that are present beyond these.
    """

    def __init__(self, max_running: int = 128, max_queued: int = 256) -> None:
        self._max_running = max_running
        self._max_queued = max_queued
        self._slots = asyncio.Semaphore(max_running)
        self._answers: set[asyncio.Task[object]] = set()  # with a slot, or waiting for one
        self._mean_seconds = 1.0
        self._stopped = False
        self.num_present = 0
        self.num_running = 0
        self.draining = False

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Be present.

        Raises:
            Draining: the server is ending.
            Overloaded: as many are present as may be.
        """
        if self.draining:
            raise Draining(
                "the server is ending and takes no new answers", retry_seconds=_RETRY_SECONDS[0]
            )
        if self.num_present >= self._max_running + self._max_queued:
            raise Overloaded(
                f"the server is busy: {self._max_running} answers may run and "
                f"{self._max_queued} wait, and as many are here",
                retry_seconds=self._retry_seconds(),
            )
        self.num_present += 1
        try:
            yield
        finally:
            self.num_present -= 1

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[float]:
        """Wait for one's turn, and have a slot; gives the seconds that were waited.

        Raises:
            Draining: `stop` ended the answer, or had been called before.
        """
        if self._stopped:
            raise _ended()
        came = time.monotonic()
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker
        self._answers.add(task)
        try:
            async with self._slots:
                with self._running():
                    yield time.monotonic() - came
        except asyncio.CancelledError:
            if self._stopped:
                raise _ended() from None
            raise
        finally:
            self._answers.discard(task)

    @contextmanager
    def _running(self) -> Iterator[None]:
        began = time.monotonic()
        self.num_running += 1
        try:
            yield
            self._mean_seconds += _WEIGHT * (time.monotonic() - began - self._mean_seconds)
        finally:
            self.num_running -= 1

    def drain(self) -> None:
        """Take no new answers; those that are present go on."""
        self.draining = True

    def stop(self) -> None:
        """End those that are present too, each with an error that says so."""
        self.draining = self._stopped = True
        for task in self._answers:
            task.cancel()

    def _retry_seconds(self) -> float:
        """About when those that wait now will have run."""
        turns = self._max_queued / self._max_running + 1
        low, high = _RETRY_SECONDS
        return min(max(low, turns * self._mean_seconds), high)


def _ended() -> Draining:
    return Draining("the server ended before the answer did")
