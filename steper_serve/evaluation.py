"""A question set through the loop, and scored.

`run` puts questions through `Loop.run`, so many at once, and hands over each as it ends; `score`
compares one with its gold answers; `summary` draws means with 95% intervals over all of them, of
each type and of each number of hops. Used by the recipe (rollouts, evaluations) and by
benchmarks. What is left out: where outcomes are kept, and opening models and indexes.

EM and F1 are the official ones of HotpotQA over the final answer, Acc is the paper's (section
5.1): a gold answer is contained in the final answer (`acc`), or, as the paper words it, in the
generated text (`acc_generated`). A failed question scores 0 in all of them.
"""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np

from steper_serve import answers
from steper_serve.errors import EngineUnavailable, SteperError
from steper_serve.loop import Ask, Loop
from steper_serve.questions import Question
from steper_serve.trajectory import LanguageModel, Sampling, Trajectory

# So many questions in a row that found the engine unavailable mean that it is down.
MOST_UNAVAILABLE = 16
_RESAMPLES = 2000
_RESAMPLES_AT_ONCE = 50
_SCORED = ("em", "f1", "acc", "acc_generated")


@dataclass(frozen=True, slots=True)
class Outcome:
    """A question's trajectory, or the error that it ended in; `seconds` is its wall time."""

    question: Question
    trajectory: Trajectory | None
    error: SteperError | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Score:
    """One question's scores, all in [0, 1], and what its answer took.

    `recall` is the share of supporting titles among the passages that were retrieved, and
    `complete` whether it is all of them; None where the titles are unknown.
    """

    id: str
    type: str
    hops: int | None
    failed: bool
    em: float
    f1: float
    acc: float
    acc_generated: float
    num_steps: int
    num_generated_tokens: int
    num_prompt_tokens: int
    recall: float | None
    complete: float | None
    seconds: float


Take = Callable[[Outcome], None]
ModelFor = Callable[[Question], LanguageModel]


async def run(
    loop: Loop,
    questions: Iterable[Question],
    take: Take,
    *,
    concurrency: int,
    sampling: Sampling = Sampling(),
    model_for: ModelFor | None = None,
) -> None:
    """Answer every question, at most `concurrency` at once.

    Args:
        loop: answers; its model is not used where `model_for` is given.
        questions: taken one by one as room becomes free.
        take: is given each outcome when it is there, in no certain order. An error of this
            project that it raises ends the run.
        sampling: how tokens are drawn.
        model_for: another model for each question.

    Raises:
        EngineUnavailable: the model is down. Questions that ended so are not handed over: they
            are as if they had not been asked. All others have been.
    """
    crew = _Crew(loop, iter(questions), take, sampling, model_for)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(crew.work())
    except ExceptionGroup as errors:
        raise _the_cause(errors) from None
    crew.hand_over()


async def evaluate(
    loop: Loop,
    questions: Iterable[Question],
    *,
    concurrency: int,
    sampling: Sampling = Sampling(),
    watch: Take = lambda outcome: None,
) -> list[Score]:
    """`run`, and the score of each question in the order in which they ended."""
    scores: list[Score] = []

    def take(outcome: Outcome) -> None:
        scores.append(score(outcome.question, outcome.trajectory, outcome.seconds))
        watch(outcome)

    await run(loop, questions, take, concurrency=concurrency, sampling=sampling)
    return scores


def score(question: Question, trajectory: Trajectory | None, seconds: float = 0.0) -> Score:
    """The score of a trajectory, or of the failure that stands in its place (None)."""
    gold = question.answers
    answer = trajectory.answer if trajectory else ""
    steps = trajectory.steps if trajectory else ()
    usage = trajectory.usage if trajectory else None
    generated = " ".join(step.thought for step in steps)
    recall = _recall(question, trajectory)
    return Score(
        id=question.id,
        type=question.type,
        hops=question.hops,
        failed=trajectory is None,
        em=answers.exact_match(answer, gold),
        f1=answers.f1(answer, gold),
        acc=answers.accuracy(answer, gold),
        acc_generated=answers.accuracy(generated, gold),
        num_steps=len(steps),
        num_generated_tokens=usage.num_completion_tokens if usage else 0,
        num_prompt_tokens=usage.num_prompt_tokens if usage else 0,
        recall=recall,
        complete=None if recall is None else float(recall == 1.0),
        seconds=seconds,
    )


def summary(scores: Sequence[Score], seed: int = 0) -> dict[str, Any]:
    """Means over all questions, and the same of each type and each number of hops.

    A scored share is {"mean", "low", "high"}: the mean and its percentile-bootstrap 95%
    interval (2,000 resamples of the questions; the same `seed` gives the same interval).

    Raises:
        ValueError: there is no score.
    """
    if not scores:
        raise ValueError("there is nothing to sum up: no question was scored")
    types = {s.type for s in scores} - {""}
    hops = {s.hops for s in scores if s.hops is not None}
    return _means(scores, seed) | {
        "by_type": {t: _means([s for s in scores if s.type == t], seed) for t in sorted(types)},
        "by_hops": {str(h): _means([s for s in scores if s.hops == h], seed) for h in sorted(hops)},
    }


def interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """The 95% interval of the mean of `values`, by percentile bootstrap over them."""
    data = np.asarray(values, dtype=float)
    draw = np.random.default_rng(seed)
    means: list[float] = []
    while len(means) < _RESAMPLES:
        chosen = draw.integers(0, len(data), size=(_RESAMPLES_AT_ONCE, len(data)))
        means.extend(data[chosen].mean(axis=1))
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Summaries by name as aligned lines, for a terminal."""
    head = ("", "questions", "EM", "F1", "Acc", "Acc*", "steps", "tokens", "recall", "complete")
    lines = [head, *(_row(name, row) for name, row in rows.items())]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    shown = ["  ".join(_aligned(line, widths)).rstrip() for line in lines]
    return "\n".join([*shown, "Acc*: a gold answer stands anywhere in the generated text"])


class _Crew:
    """Workers that share one supply of questions."""

    def __init__(
        self,
        loop: Loop,
        supply: Iterator[Question],
        take: Take,
        sampling: Sampling,
        model_for: ModelFor | None,
    ) -> None:
        self._loop = loop
        self._supply = supply
        self._take = take
        self._sampling = sampling
        self._model_for = model_for
        self._unavailable: list[Outcome] = []

    async def work(self) -> None:
        for question in self._supply:
            outcome = await self._answer(question)
            if isinstance(outcome.error, EngineUnavailable):
                await self._hold_back(outcome)
            else:
                self.hand_over()
                self._take(outcome)

    async def _answer(self, question: Question) -> Outcome:
        loop = self._loop
        if self._model_for is not None:
            loop = replace(loop, model=self._model_for(question))
        start = time.perf_counter()
        ask = Ask(question.question, sampling=self._sampling)
        try:
            trajectory = await loop.run(ask)
        except SteperError as error:
            return Outcome(question, None, error, time.perf_counter() - start)
        return Outcome(question, trajectory, None, time.perf_counter() - start)

    async def _hold_back(self, outcome: Outcome) -> None:
        """Was it this question, or is the model down? Then the question was never asked."""
        if self._model_for is None:
            await self._loop.model.check()
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


def _recall(question: Question, trajectory: Trajectory | None) -> float | None:
    wanted = set(question.supporting_titles)
    if not wanted:
        return None
    found = {passage.title for passage in trajectory.passages} if trajectory else set()
    return len(wanted & found) / len(wanted)


def _means(scores: Sequence[Score], seed: int) -> dict[str, Any]:
    means: dict[str, Any] = {"num_questions": len(scores)}
    means["num_failed"] = sum(s.failed for s in scores)
    for name in _SCORED:
        values = [getattr(s, name) for s in scores]
        low, high = interval(values, seed)
        means[name] = {"mean": fmean(values), "low": low, "high": high}
    means["mean_steps"] = fmean(s.num_steps for s in scores)
    means["steps"] = dict(sorted(Counter(str(s.num_steps) for s in scores).items()))
    means["mean_generated_tokens"] = fmean(s.num_generated_tokens for s in scores)
    means["mean_prompt_tokens"] = fmean(s.num_prompt_tokens for s in scores)
    means["mean_seconds"] = fmean(s.seconds for s in scores)
    return means | _retrieval(scores)


def _retrieval(scores: Sequence[Score]) -> dict[str, float | None]:
    found: defaultdict[str, list[float]] = defaultdict(list)
    for s in scores:
        if s.recall is not None and s.complete is not None:
            found["retrieval_recall"].append(s.recall)
            found["retrieval_complete"].append(s.complete)
    names = ("retrieval_recall", "retrieval_complete")
    return {name: fmean(found[name]) if found[name] else None for name in names}


def _row(name: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    scored = tuple(_share(row[key]) for key in _SCORED)
    recall = tuple(
        "–" if row[key] is None else f"{row[key]:.3f}"
        for key in ("retrieval_recall", "retrieval_complete")
    )
    took = (f"{row['mean_steps']:.2f}", f"{row['mean_generated_tokens']:.1f}")
    return (name, f"{row['num_questions']}", *scored, *took, *recall)


def _share(value: Mapping[str, float]) -> str:
    return f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def _aligned(line: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    yield line[0].ljust(widths[0])
    yield from (text.rjust(width) for text, width in zip(line[1:], widths[1:], strict=True))
