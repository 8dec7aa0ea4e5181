"""vLLM alone: the prompts of recorded answers, straight into the engine, and how long they take.

Each generation of each answer becomes a request of its own, which waits for no other: the same
prompt to the byte (the strategy is fed the recorded outcomes), exactly as many tokens as were
generated, in the order in which they began. Before each run the prefix cache is forgotten and
the served side's warm-up is repeated. Prompts are tokenised within the time, by the same code as
in a server; nothing is streamed, and no stop string is looked for. What is left out: starting
the engine (cli), and the served side (sweep).
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any, Protocol, runtime_checkable

from steper_serve import drivers
from steper_serve.benchmarks.failures import ReplayDiffers
from steper_serve.benchmarks.rows import Row
from steper_serve.crew import answer_all
from steper_serve.errors import SteperError
from steper_serve.loop import Ask, Loop
from steper_serve.trajectory import (
    Completion,
    Effect,
    Generate,
    Outcome,
    Passage,
    Step,
    Trajectory,
)


@runtime_checkable
class Engine(Protocol):
    """What an engine must be able to do; `generation.vllm_engine.VllmEngine` can."""

    async def generate_exactly(self, request: Generate) -> Completion:
        """As many tokens as `request.max_tokens` says, whatever they are."""
        ...

    async def reset_prefix_cache(self) -> None:
        """Forget every cached prefix; nothing may be running."""
        ...


@dataclass(frozen=True, slots=True)
class Again:
    """A recorded generation, to be asked for once more.

    Args:
        began: Unix time when it began, as far as the trace tells.
        request: its prompt, and as many tokens as were generated.
        num_prompt_tokens: of its prompt, as it was served.
        of: the answer that it belongs to, for messages.
    """

    began: float
    request: Generate
    num_prompt_tokens: int
    of: str


@dataclass(frozen=True, slots=True)
class Run:
    """One way of sending all requests: wall time and tokens."""

    seconds: float
    num_prompt_tokens: int
    num_cached_tokens: int


@dataclass(frozen=True, slots=True)
class _Done:
    completion: Completion
    error: SteperError | None = None


async def measure(
    loop: Loop, engine: Engine, warmup: Sequence[Row], rows: Sequence[Row], concurrency: int
) -> dict[str, Any]:
    """Replay recorded answers with `concurrency` requests in flight, and with all at once.

    Args:
        loop: with the options and the index of the server that gave the answers.
        warmup: what that server was asked before.

    Raises:
        ReplayDiffers: the answers cannot be rebuilt, so nothing that follows would be the same.
        SteperError: the engine failed.
    """
    before, answers = requests_of(loop, warmup), [answer_of(loop, row) for row in rows]
    again = _in_order(answers)
    if not again:
        raise ReplayDiffers("there is nothing to replay: no answer holds a generation")
    bounded = await _run(engine, before, again, concurrency)
    unbounded = await _run(engine, before, again, len(again))
    return {
        "num_requests": len(again),
        "num_prompt_tokens": bounded.num_prompt_tokens,
        "num_completion_tokens": sum(each.request.max_tokens for each in again),
        "repeated_share": repeated_share(answers),
        "tokenise_seconds": _tokenise_seconds(loop, again),
        "seconds": bounded.seconds,
        "cached_share": bounded.num_cached_tokens / bounded.num_prompt_tokens,
        "unbounded_seconds": unbounded.seconds,
        "unbounded_cached_share": unbounded.num_cached_tokens / unbounded.num_prompt_tokens,
    }


def requests_of(loop: Loop, rows: Iterable[Row]) -> list[Again]:
    """Every generation of recorded answers, in the order in which they began.

    Raises:
        ReplayDiffers: an answer cannot be rebuilt.
    """
    return _in_order(answer_of(loop, row) for row in rows)


def answer_of(loop: Loop, row: Row) -> list[Again]:
    """The generations of one recorded answer; none of a question that failed.

    Raises:
        ReplayDiffers: it cannot be rebuilt.
    """
    if row.reply is None:
        return []
    steps = row.reply.trace["steps"]
    return [
        Again(
            began=row.started + _seconds_before(steps, effect.step),
            request=Generate(
                step=effect.step,
                prompt=effect.prompt,
                max_tokens=max(1, completion.num_completion_tokens),
                sampling=effect.sampling,
            ),
            num_prompt_tokens=completion.num_prompt_tokens,
            of=_name(row),
        )
        for effect, completion in _generated(loop, row)
    ]


def repeated_share(answers: Iterable[Sequence[Again]]) -> float | None:
    """How much of an answer's later prompts stood in the one before, at its beginning.

    By characters: what a prefix cache could hold of them, but for its blocks. None where no
    answer has two prompts.
    """
    repeated = total = 0
    for answer in answers:
        prompts = [each.request.prompt.text for each in answer]
        for before, prompt in pairwise(prompts):
            repeated += _num_common(before, prompt)
            total += len(prompt)
    return repeated / total if total else None


def _in_order(answers: Iterable[Sequence[Again]]) -> list[Again]:
    return sorted(chain.from_iterable(answers), key=lambda each: each.began)


async def _run(
    engine: Engine, warmup: Sequence[Again], again: Sequence[Again], in_flight: int
) -> Run:
    await engine.reset_prefix_cache()
    await _send(engine, warmup, in_flight)
    start = time.perf_counter()
    done = await _send(engine, again, in_flight)
    seconds = time.perf_counter() - start
    return Run(
        seconds=round(seconds, 6),
        num_prompt_tokens=sum(completion.num_prompt_tokens for completion in done),
        num_cached_tokens=sum(completion.num_cached_tokens for completion in done),
    )


async def _send(engine: Engine, again: Sequence[Again], in_flight: int) -> list[Completion]:
    done: list[_Done] = []

    async def ask(each: Again) -> _Done:
        completion = await engine.generate_exactly(each.request)
        _check_same(each, completion)
        return _Done(completion)

    async def check() -> None:
        """Not needed: whatever fails is raised."""

    await answer_all(again, ask, done.append, concurrency=min(in_flight, len(again)), check=check)
    return [each.completion for each in done]


def _check_same(each: Again, done: Completion) -> None:
    told = (
        ("prompt tokens", each.num_prompt_tokens or done.num_prompt_tokens, done.num_prompt_tokens),
        ("generated tokens", each.request.max_tokens, done.num_completion_tokens),
    )
    for name, served, here in told:
        if served != here:
            raise ReplayDiffers(
                f"step {each.request.step} of {each.of} had {served} {name} when it was served and "
                f"has {here} in the replay: were model, index or settings changed in between?"
            )


def _generated(loop: Loop, row: Row) -> list[tuple[Generate, Completion]]:
    """Every generation of an answer with its outcome: the flow, fed what it was fed."""
    saved, generated = _trajectory(loop, row), list[tuple[Generate, Completion]]()
    try:
        ended = _exhausted(drivers.feed(loop.flow(_ask(row)), saved), generated)
    except ValueError as error:
        raise ReplayDiffers(f"{_name(row)} cannot be rebuilt: {error}") from error
    num_saved = sum(len(step.completions) for step in saved.steps)
    served = (saved.answer, saved.stop_reason, num_saved)
    if (ended.answer, ended.stop_reason, len(generated)) != served:
        raise ReplayDiffers(
            f"{_name(row)} ended in {saved.answer!r} after {num_saved} generations when it was "
            f"served, and in {ended.answer!r} after {len(generated)} when rebuilt: was it served "
            "with other settings?"
        )
    return generated


def _exhausted(
    feeding: Iterator[tuple[Effect, Outcome]], generated: list[tuple[Generate, Completion]]
) -> Trajectory:
    """Run a feed to its end, and note its generations."""
    while True:
        try:
            effect, outcome = next(feeding)
        except StopIteration as stop:
            ended: Trajectory = stop.value
            return ended
        if isinstance(effect, Generate) and isinstance(outcome, Completion):
            generated.append((effect, outcome))


def _name(row: Row) -> str:
    return f"question {row.question.id!r}"


def _ask(row: Row) -> Ask:
    """What the server made of the request (api.request.read_ask)."""
    cell = row.cell
    strategy = cell.strategy or cell.model.partition("-")[2] or None
    return Ask(row.question.question.strip(), strategy, cell.max_steps, cell.top_k)


def _trajectory(loop: Loop, row: Row) -> Trajectory:
    """As much of the served trajectory as its outcomes take."""
    assert row.reply is not None  # noqa: S101 - for the type checker
    trace = row.reply.trace
    try:
        steps = tuple(_step(loop, step) for step in trace["steps"])
    except KeyError as error:
        raise ReplayDiffers(
            f"the trace of {_name(row)} has no {error}: was it served by an older version?"
        ) from error
    return Trajectory(
        strategy=trace["strategy"],
        question=row.question.question,
        steps=steps,
        answer=trace["answer"],
        stop_reason=trace["stop_reason"],
    )


def _step(loop: Loop, step: Mapping[str, Any]) -> Step:
    passages = tuple(_passage(loop, told) for told in step["passages"])
    completions = tuple(Completion(**told) for told in step["completions"])
    return Step(step["query"], passages, step["thought"], completions, step["forced"])


def _passage(loop: Loop, told: Mapping[str, Any]) -> Passage:
    found = loop.retriever.passage(told["id"])
    return Passage(found.id, found.title, found.text, found.url, told["score"])


def _seconds_before(steps: Sequence[Mapping[str, Any]], number: int) -> float:
    """From an answer's beginning to the first generation of a step."""
    earlier = sum(s["retrieval_seconds"] + s["generation_seconds"] for s in steps[: number - 1])
    return float(earlier + steps[number - 1]["retrieval_seconds"])


def _tokenise_seconds(loop: Loop, again: Sequence[Again]) -> float:
    start = time.perf_counter()
    for each in again:
        loop.format.count_tokens(each.request.prompt.text)
    return round(time.perf_counter() - start, 6)


def _num_common(one: str, other: str) -> int:
    """Characters that both begin with."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one.startswith(other[:middle]):
            low = middle
        else:
            high = middle - 1
    return low
