"""A question set through the loop, and scored.

`run` puts questions through `Loop.run`, so many at once (crew), and hands over each as it ends;
`score` compares one with its gold answers; `summary` draws means with 95% intervals over all of
them, of each type and of each number of hops. Used by the recipe (rollouts, evaluations) and by
benchmarks. What is left out: where outcomes are kept, and opening models and indexes.

EM and F1 are the official ones of HotpotQA over the final answer, Acc is the paper's (section
5.1): a gold answer is contained in the final answer (`acc`), or, as the paper words it, in the
generated text (`acc_generated`). A failed question scores 0 in all of them.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from steper_serve import answers
from steper_serve.crew import answer_all
from steper_serve.errors import SteperError
from steper_serve.loop import Ask, Loop
from steper_serve.questions import Question
from steper_serve.trajectory import Sampling, Trajectory, Usage

_RESAMPLES = 2000
_RESAMPLES_AT_ONCE = 50
_SCORED = ("em", "f1", "acc", "acc_generated")
HEAD = ("", "questions", "EM", "F1", "Acc", "Acc*", "steps", "tokens", "recall", "complete")
NOTE = "Acc*: a gold answer stands anywhere in the generated text"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A question's trajectory, or the error that it ended in; `seconds` is its wall time."""

    question: Question
    trajectory: Trajectory | None
    error: SteperError | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Answered:
    """What a score is drawn from.

    Args:
        answer: the final one.
        thoughts: of all steps, in order.
        titles: of every passage that was retrieved.
        usage: tokens over all steps.
    """

    answer: str
    thoughts: tuple[str, ...]
    titles: frozenset[str]
    usage: Usage


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


async def run(
    loop: Loop,
    questions: Iterable[Question],
    take: Take,
    *,
    concurrency: int,
    sampling: Sampling = Sampling(),
) -> None:
    """Answer every question, at most `concurrency` at once.

    Args:
        loop: answers.
        questions: taken one by one as room becomes free.
        take: is given each outcome when it is there, in no certain order. An error of this
            project that it raises ends the run.
        sampling: how tokens are drawn.

    Raises:
        EngineUnavailable: the model is down. Questions that ended so are not handed over: they
            are as if they had not been asked. All others have been.
    """

    async def answer(question: Question) -> Outcome:
        return await _answer(loop, question, sampling)

    await answer_all(questions, answer, take, concurrency=concurrency, check=loop.model.check)


def score(question: Question, trajectory: Trajectory | None, seconds: float = 0.0) -> Score:
    """The score of a trajectory, or of the failure that stands in its place (None)."""
    if trajectory is None:
        return score_answer(question, None, seconds)
    answered = Answered(
        answer=trajectory.answer,
        thoughts=tuple(step.thought for step in trajectory.steps),
        titles=frozenset(passage.title for passage in trajectory.passages),
        usage=trajectory.usage,
    )
    return score_answer(question, answered, seconds)


def score_answer(question: Question, answered: Answered | None, seconds: float = 0.0) -> Score:
    """The score of an answer, or of the failure that stands in its place (None)."""
    failed, gold = answered is None, question.answers
    answered = answered or Answered("", (), frozenset(), Usage())
    answer, generated = answered.answer, " ".join(answered.thoughts)
    share = recall(question, answered.titles)
    return Score(
        id=question.id,
        type=question.type,
        hops=question.hops,
        failed=failed,
        em=answers.exact_match(answer, gold),
        f1=answers.f1(answer, gold),
        acc=answers.accuracy(answer, gold),
        acc_generated=answers.accuracy(generated, gold),
        num_steps=len(answered.thoughts),
        num_generated_tokens=answered.usage.num_completion_tokens,
        num_prompt_tokens=answered.usage.num_prompt_tokens,
        recall=share,
        complete=None if share is None else float(share == 1.0),
        seconds=seconds,
    )


def summary(scores: Sequence[Score], seed: int = 0) -> dict[str, Any]:
    """Means over all questions, and the same of each type and each number of hops, and of types
    by hops ("bridge, 2 hops") where questions of one type have several numbers of them.

    A scored share is {"mean", "low", "high"}: the mean and its percentile-bootstrap 95%
    interval (2,000 resamples of the questions; the same `seed` gives the same interval). A
    question that was asked several times counts once, with its mean.

    Raises:
        ValueError: there is no score.
    """
    if not scores:
        raise ValueError("there is nothing to sum up: no question was scored")
    by_type = _grouped((s.type, s) for s in scores if s.type)
    by_hops = _grouped((s.hops, s) for s in scores if s.hops is not None)
    both = _grouped(((s.type, s.hops), s) for s in scores if s.type and s.hops is not None)
    types = Counter(type for type, _ in both)
    return _means(scores, seed) | {
        "by_type": {type: _means(group, seed) for type, group in by_type.items()},
        "by_hops": {str(hops): _means(group, seed) for hops, group in by_hops.items()},
        "by_type_and_hops": {
            f"{type}, {hops} hops": _means(group, seed)
            for (type, hops), group in both.items()
            if types[type] > 1
        },
    }


def _grouped(pairs: Iterable[tuple[Any, Score]]) -> dict[Any, list[Score]]:
    """Scores by their keys, these in order."""
    groups: dict[Any, list[Score]] = {}
    for key, score in pairs:
        groups.setdefault(key, []).append(score)
    return {key: groups[key] for key in sorted(groups)}


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
    return f"{aligned([HEAD, *(cells(name, row) for name, row in rows.items())])}\n{NOTE}"


def cells(name: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    """A summary as a row of a table under `HEAD`."""
    scored = tuple(share(row[key]) for key in _SCORED)
    recall = tuple(
        "–" if row[key] is None else f"{row[key]:.3f}"
        for key in ("retrieval_recall", "retrieval_complete")
    )
    took = (f"{row['mean_steps']:.2f}", f"{row['mean_generated_tokens']:.1f}")
    return (name, f"{row['num_questions']}", *scored, *took, *recall)


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Lines of as many words each as columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    def placed(line: Sequence[str]) -> Iterator[str]:
        yield line[0].ljust(widths[0])
        yield from (text.rjust(width) for text, width in zip(line[1:], widths[1:], strict=True))

    return "\n".join("  ".join(placed(line)).rstrip() for line in lines)


def share(value: Mapping[str, float]) -> str:
    """A scored share of a summary with its interval."""
    return f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


async def _answer(loop: Loop, question: Question, sampling: Sampling) -> Outcome:
    start = time.perf_counter()
    try:
        trajectory = await loop.run(Ask(question.question, sampling=sampling))
    except SteperError as error:
        return Outcome(question, None, error, time.perf_counter() - start)
    return Outcome(question, trajectory, None, time.perf_counter() - start)


def recall(question: Question, found: AbstractSet[str]) -> float | None:
    """The share of a question's supporting titles among those found; None where none are known."""
    wanted = set(question.supporting_titles)
    return len(wanted & found) / len(wanted) if wanted else None


def _means(scores: Sequence[Score], seed: int) -> dict[str, Any]:
    means: dict[str, Any] = {"num_questions": len({s.id for s in scores})}
    means["num_failed"] = sum(s.failed for s in scores)
    for name in _SCORED:
        values = _of_each_question(scores, name)
        low, high = interval(values, seed)
        means[name] = {"mean": fmean(values), "low": low, "high": high}
    means["mean_steps"] = fmean(s.num_steps for s in scores)
    means["steps"] = dict(sorted(Counter(str(s.num_steps) for s in scores).items()))
    means["mean_generated_tokens"] = fmean(s.num_generated_tokens for s in scores)
    means["mean_prompt_tokens"] = fmean(s.num_prompt_tokens for s in scores)
    means["mean_seconds"] = fmean(s.seconds for s in scores)
    return means | _retrieval(scores)


def _of_each_question(scores: Sequence[Score], name: str) -> list[float]:
    values: defaultdict[str, list[float]] = defaultdict(list)
    for s in scores:
        values[s.id].append(getattr(s, name))
    return [fmean(each) for each in values.values()]


def _retrieval(scores: Sequence[Score]) -> dict[str, float | None]:
    found: defaultdict[str, list[float]] = defaultdict(list)
    for s in scores:
        if s.recall is not None and s.complete is not None:
            found["retrieval_recall"].append(s.recall)
            found["retrieval_complete"].append(s.complete)
    names = ("retrieval_recall", "retrieval_complete")
    return {name: fmean(found[name]) if found[name] else None for name in names}
