"""What was answered, in the one form that every table and figure is drawn from.

A subject is one set of settings with all its answers, read from rows of a benchmark here, from a
recipe's evaluations in `recipe`. What is left out: the texts of passages and gold sub-questions,
which rows do not hold (sources).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from steper_serve import evaluation, questions
from steper_serve.benchmarks import results
from steper_serve.benchmarks.cells import Cell, labels
from steper_serve.benchmarks.rows import Row
from steper_serve.evaluation import Score
from steper_serve.questions import Question
from steper_serve.trajectory import Passage

Search = tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as a subject gave it.

    Args:
        question: with its gold answers; its `steps` may be missing.
        thoughts: of all steps; none where the question failed.
        searches: what each search found, best first; texts may be "".
        score: of the final answer.
    """

    question: Question
    thoughts: tuple[str, ...]
    searches: tuple[Search, ...]
    score: Score


@dataclass(frozen=True, slots=True)
class Training:
    """How a student came about, as its card says; "" where it does not.

    Args:
        weighting: of the kinds of step ("difficulty", "uniform", …).
        steps: which steps it learnt from ("first, mid, final").
        data: what it was trained on.
        seeds: of the students that were taken together.
    """

    weighting: str = ""
    steps: str = ""
    data: str = ""
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Subject:
    """One set of settings and its answers. `cell` is the group's: repetitions are together.

    A subject of a recipe has a cell, too: its `flags` say how a step ended.
    """

    cell: Cell
    answers: tuple[Answer, ...]
    num_parameters: int | None = None
    training: Training | None = None

    @cached_property
    def summary(self) -> dict[str, Any]:
        """`evaluation.summary` of the answers."""
        return evaluation.summary([answer.score for answer in self.answers])

    @property
    def strategy(self) -> str:
        """Its strategy; "" where the server's own was used and no answer tells."""
        return self.cell.strategy or ""

    def sampled(self, limit: int | None) -> "Subject":
        """The same with at most `limit` questions, drawn as everywhere (`questions.drawn`)."""
        chosen = drawn((answer.question for answer in self.answers), limit)
        kept = tuple(answer for answer in self.answers if answer.question.id in chosen)
        return replace(self, answers=kept)


def drawn(asked: Iterable[Question], limit: int | None) -> set[str]:
    """Ids of at most `limit` of the questions, which may occur more than once."""
    known = {question.id: question for question in asked}
    return {question.id for question in questions.drawn(list(known.values()), limit)}


def of_rows(rows: Iterable[Row], sizes: Mapping[str, int | None]) -> list[Subject]:
    """A subject for each cell; `sizes` are parameters by what is served."""
    return [
        Subject(_named(cell, group), tuple(map(_answer, group)), sizes.get(cell.served))
        for cell, group in results.grouped(rows).items()
    ]


def names(subjects: Sequence[Subject], *, leave_out: Sequence[str] = ()) -> list[str]:
    """What tables call each: what is served, and what else tells it from others.

    Args:
        leave_out: fields of a cell that columns tell already; two subjects that differ in
            nothing else have one name.
    """
    blank: dict[str, Any] = {"dataset": "", "corpus": "", "max_steps": None}
    cells = [replace(s.cell, **{name: blank[name] for name in leave_out}) for s in subjects]
    named = labels(cells)
    seeds = [_seeds(subject.training) for subject in subjects]
    known = {cell.served for cell in cells}

    def name(cell: Cell) -> str:
        told = named[cell] if len(named) > 1 else ""
        return told if told and len(known) > 1 else ", ".join(filter(None, (cell.served, told)))

    return [name(cell) + seed for cell, seed in zip(cells, seeds, strict=True)]


def _named(cell: Cell, rows: Sequence[Row]) -> Cell:
    """The cell, its strategy read off an answer where the server chose it."""
    if cell.strategy is not None:
        return cell
    told = (row.reply.trace.get("strategy") for row in rows if row.reply is not None)
    return replace(cell, strategy=next(filter(None, told), None))


def _answer(row: Row) -> Answer:
    steps = row.reply.trace["steps"] if row.reply is not None else []
    return Answer(
        question=row.question,
        thoughts=tuple(step["thought"] for step in steps),
        searches=tuple(_search(step) for step in steps if step["query"] is not None),
        score=row.score(),
    )


def _search(step: Mapping[str, Any]) -> Search:
    return tuple(Passage(p["id"], p["title"], "", score=p["score"]) for p in step["passages"])


def _seeds(training: Training | None) -> str:
    seeds = training.seeds if training is not None else ()
    return f" (seeds {', '.join(map(str, seeds))})" if len(seeds) > 1 else ""
