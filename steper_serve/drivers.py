"""Perform a flow's effects: for real (`run`) or from saved outcomes (`replay`).

`run` is the only place where a strategy meets a model, an index, a clock and a watcher. What
is left out: what a watcher makes of the events (api, cli), and any retry (the adapters').
"""

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from steper_serve.errors import SteperError
from steper_serve.trajectory import (
    Completion,
    Delta,
    Effect,
    Flow,
    Generate,
    LanguageModel,
    Outcome,
    OutOfTime,
    Passage,
    Retrieve,
    Retriever,
    Trajectory,
)


@dataclass(frozen=True, slots=True)
class Searching:
    """A search begins."""

    step: int
    query: str


@dataclass(frozen=True, slots=True)
class Found:
    """A search is done; `seconds` is its wall time, a hand-over to a thread included."""

    step: int
    passages: tuple[Passage, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Wrote:
    """Text of a thought, as it comes."""

    step: int
    text: str


@dataclass(frozen=True, slots=True)
class Generated:
    """A generation is done. `text` is all of it, its lead included; `seconds` its wall time.

    `final` is that of its `Generate`.
    """

    step: int
    text: str
    completion: Completion
    seconds: float
    final: bool = False


# The next word decides whether a cut falls before this.
# A forced answer is a few tokens; an engine that hangs must not hold it, and its slot, for ever.
FORCED_SECONDS = 30.0
_UNSETTLED = re.compile(r"\s\W*\Z")

Event = Searching | Found | Wrote | Generated
Watcher = Callable[[Event], None]


def unwatched(event: Event) -> None:
    """A watcher that does not look."""


async def run(
    flow: Flow,
    model: LanguageModel,
    retriever: Retriever,
    watch: Watcher = unwatched,
    *,
    max_seconds: float | None = None,
) -> Trajectory:
    """Run a flow to its end.

    Args:
        flow: fresh from a strategy.
        model: performs `Generate`; its generation is aborted when this task is cancelled.
        retriever: performs `Retrieve`, in a thread unless it is quick.
        watch: called with each event as it happens; it must not block.
        max_seconds: time budget. When it is spent, the running generation is ended where it
            is, and the flow is told so; its forced answer is still generated, for which it has
            `FORCED_SECONDS` more.

    Raises:
        SteperError: an effect failed; the error carries the steps before it.
    """
    deadline = None if max_seconds is None else time.monotonic() + max_seconds
    performer = _Performer(model, retriever, watch, deadline)
    outcome: Outcome | None = None
    try:
        while True:
            try:
                effect = flow.send(outcome)  # type: ignore[arg-type]
            except StopIteration as stop:
                return _trajectory(stop)
            try:
                outcome = await performer.perform(effect)
            except SteperError as error:
                flow.throw(error)
                raise
    finally:
        flow.close()


def replay(flow: Flow, trajectory: Trajectory) -> Iterator[tuple[Effect, Outcome]]:
    """`feed`, and see that it ends in the same trajectory.

    Raises:
        ValueError: as `feed`, or the flow ends in another trajectory.
    """
    _check_same((yield from feed(flow, trajectory)), trajectory)


def feed(flow: Flow, trajectory: Trajectory) -> Generator[tuple[Effect, Outcome], None, Trajectory]:
    """Feed a saved trajectory's outcomes to a fresh flow of the same strategy and options.

    Yields each effect with its outcome: the prompts are, to the byte, those that were served.
    Returns what the flow made of them, from the outcomes alone; thoughts and answer of
    `trajectory` are not looked at.

    Raises:
        ValueError: the flow asks for something that the trajectory does not hold.
    """
    saved = deque(_outcomes(trajectory))
    outcome: Outcome | None = None
    try:
        while True:
            try:
                effect = flow.send(outcome)  # type: ignore[arg-type]
            except StopIteration as stop:
                return _trajectory(stop)
            if saved and saved[0][0] == _kind(effect):
                _, outcome = saved.popleft()
            elif trajectory.stop_reason == "budget":
                outcome = OutOfTime()
            else:
                raise ValueError(
                    f"step {effect.step} asks for a {_kind(effect)} that the saved trajectory "
                    "lacks: was it made with other options?"
                )
            yield effect, outcome
    finally:
        flow.close()


def _trajectory(stop: StopIteration) -> Trajectory:
    if not isinstance(stop.value, Trajectory):
        raise TypeError("a flow ended without a trajectory")
    return stop.value


def _outcomes(trajectory: Trajectory) -> Iterator[tuple[str, Outcome]]:
    """Every saved outcome, with the kind of effect that it was the outcome of."""
    for step in trajectory.steps:
        if step.query is not None:
            yield "search", step.passages
        thoughts = step.completions[:-1] if step.forced else step.completions
        yield from (("thought", completion) for completion in thoughts)
        if step.forced:
            yield "final answer", step.completions[-1]


def _kind(effect: Effect) -> str:
    if isinstance(effect, Retrieve):
        return "search"
    return "final answer" if effect.final else "thought"


def _check_same(replayed: Trajectory, saved: Trajectory) -> None:
    # Citations are drawn from the rest, by a rule that may have become better since.
    if replace(replayed, citations=()) != replace(saved, citations=()):
        raise ValueError(
            f"the replay of {saved.question!r} ended in {replayed.answer!r} after "
            f"{len(replayed.steps)} steps, the saved trajectory in {saved.answer!r} after "
            f"{len(saved.steps)}, or they differ on the way: was it made with other options?"
        )


@dataclass(frozen=True, slots=True)
class _Performer:
    model: LanguageModel
    retriever: Retriever
    watch: Watcher
    deadline: float | None

    async def perform(self, effect: Effect) -> Outcome:
        if isinstance(effect, Retrieve):
            return OutOfTime() if self._late() else await self._retrieve(effect)
        if effect.final:
            return await self._generate(effect, self._last_deadline())
        return OutOfTime() if self._late() else await self._generate(effect, self.deadline)

    def _last_deadline(self) -> float | None:
        return self.deadline and max(self.deadline, time.monotonic()) + FORCED_SECONDS

    def _late(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    async def _retrieve(self, effect: Retrieve) -> Sequence[Passage]:
        self.watch(Searching(effect.step, effect.query))
        start = time.perf_counter()
        search = self.retriever.search
        if self.retriever.quick:
            found = search(effect.query, effect.top_k)
        else:
            found = await asyncio.to_thread(search, effect.query, effect.top_k)
        self.watch(Found(effect.step, tuple(found), time.perf_counter() - start))
        return found

    async def _generate(self, effect: Generate, deadline: float | None) -> Completion:
        start = time.perf_counter()
        if effect.lead:
            self.watch(Wrote(effect.step, effect.lead))
        stream = _Stream(effect, self.watch)
        limit = asyncio.timeout(None if deadline is None else deadline - time.monotonic())
        try:
            async with limit, aclosing(self.model.generate(effect)) as output:
                async for part in output:
                    if stream.take(part):
                        break
        except TimeoutError:
            if not limit.expired():  # the model's own
                raise
        completion = stream.completion()
        text, seconds = effect.lead + completion.text, time.perf_counter() - start
        self.watch(Generated(effect.step, text, completion, seconds, effect.final))
        return completion


class _Stream:
    """The text of one generation as it comes, ended early where its cut says."""

    def __init__(self, effect: Generate, watch: Watcher) -> None:
        self._effect = effect
        self._watch = watch
        self._text = ""
        self._num_shown = 0
        self._last = Delta("", 0)
        self._cut = False
        self._done: Completion | None = None

    def take(self, part: Delta | Completion) -> bool:
        """Take in what the model gave; True if nothing more is wanted."""
        if isinstance(part, Completion):
            self._done = part
            return False
        self._text += part.text
        self._last = part
        end = self._effect.cut(self._text) if self._effect.cut else None
        if end is not None:
            self._cut = True
            self._text = self._text[:end]
        unsettled = _UNSETTLED.search(self._text) if self._effect.cut and not self._cut else None
        self._show(unsettled.start() if unsettled else len(self._text))
        return self._cut

    def _show(self, end: int) -> None:
        if end > self._num_shown:
            self._watch(Wrote(self._effect.step, self._text[self._num_shown : end]))
            self._num_shown = end

    def completion(self) -> Completion:
        """What was written, also if the generation was ended before the model's own end."""
        self._show(len(self._text))
        if self._done is not None and not self._cut:
            return self._done
        return Completion(
            self._text,
            "stop" if self._cut else "length",
            num_prompt_tokens=self._last.num_prompt_tokens,
            num_completion_tokens=self._last.num_tokens,
            num_cached_tokens=self._last.num_cached_tokens,
        )
