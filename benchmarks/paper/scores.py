"""EM, F1 and Acc beside the paper's: Tables 1, 2 and 3, Figures 4 and 5.

What is left out: the scores themselves (evaluation).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from steper_serve import evaluation, plots
from steper_serve.benchmarks.accuracy import SCORES
from steper_serve.benchmarks.paper.answered import Subject, Training, names
from steper_serve.benchmarks.paper.findings import (
    Finding,
    as_the_paper,
    lines_by,
    percent,
    told_apart,
)
from steper_serve.benchmarks.paper.published import Line, published
from steper_serve.benchmarks.tables import Table
from steper_serve.errors import ConfigurationError

_WEIGHTINGS = {
    "uniform": "Uniform",
    "first": "Weight First",
    "last": "Weight Last",
    "difficulty": "Difficulty-Aware",
}
_RETRIEVAL = {"direct": "No", "single": "Single", "ircot": "Multi", "self-ask": "Multi"}
_ALL_STEPS = "first, mid, final"
_ACC = (
    "Acc: a gold answer stands in the final answer. By the paper's wording, anywhere in the "
    "generated text: Acc* below."
)
_BESIDE = ("dataset", "corpus")
_SHORT = {"2Wiki": "2W", "HotpotQA": "HQ", "MuSiQue": "MQ"}
_SAME_SIZE = 0.1  # a share: Qwen2.5's 7B has 7.62B parameters


def table1(subjects: Sequence[Subject]) -> Finding:
    """Strategies and models by data set; kinds are how often was searched."""
    found = _grid(subjects, lambda subject: _RETRIEVAL.get(subject.strategy, "?"))
    return replace(found, lines=[_averaged(line) for line in found.lines])


def table2(subjects: Sequence[Subject]) -> Finding:
    """Weightings: students of a recipe that learnt from every kind of step, or whatever is given.

    Raises:
        ConfigurationError: no student did.
    """
    of_recipe = [subject for subject in subjects if subject.training is not None]
    if not of_recipe:
        return _grid(subjects, lambda subject: "not told")
    chosen = [s for s in of_recipe if s.training and _learnt_from_all(s.training)]
    if not chosen:
        raise ConfigurationError(
            "no student of the recipe learnt from first, middle and final steps alike: train one "
            "for each weighting (`[students.NAME] weighting = …`)"
        )
    out = dict.fromkeys(s.cell.served for s in subjects if s not in chosen)
    note = f"Not students of all kinds of step, and so left out: {', '.join(out)}." if out else ""
    return _grid(chosen, _weighting, [note] if note else [])


def table3(subjects: Sequence[Subject]) -> Finding:
    """Self-Ask.

    Raises:
        ConfigurationError: nothing was answered by it.
    """
    chosen = [subject for subject in subjects if subject.strategy == "self-ask"]
    if not chosen:
        raise ConfigurationError("nothing was answered by self-ask: measure it, or give its recipe")
    return _grid(chosen, _distilled)


def fig4(subjects: Sequence[Subject]) -> Finding:
    """Accuracy by number of parameters."""
    sized = [subject for subject in subjects if subject.num_parameters]
    named = names(sized, leave_out=_BESIDE)
    lines = lines_by(
        (_distilled(s), f"{name}, {s.cell.dataset}", {_size(s): _score(s, "acc")})
        for s, name in zip(sized, named, strict=True)
    )
    series: dict[str, list[tuple[float, float]]] = {}
    for subject in sized:
        point = (float(subject.num_parameters or 0), subject.summary["acc"]["mean"])
        series.setdefault(f"{subject.cell.dataset}, {_distilled(subject)}", []).append(point)
    drawn = plots.lines("Accuracy by size", "parameters", series, by_size=True)
    unsized = dict.fromkeys(s.cell.served for s in subjects if not s.num_parameters)
    notes = [
        "Accuracy (Acc) by parameters.",
        "A model within a tenth of one of the paper's sizes stands in its column.",
    ]
    notes += [f"Of unknown size (--parameters): {', '.join(unsized)}."] if unsized else []
    return Finding(lines, notes, [_details(subjects)], [drawn] if drawn else [])


def fig5(subjects: Sequence[Subject], trained: Mapping[str, str]) -> Finding:
    """Accuracy by what a model was trained on and tested on.

    Args:
        trained: the data by what is served, where a recipe does not tell.
    """

    def came_from(subject: Subject) -> str:
        known = subject.training.data if subject.training is not None else ""
        return trained.get(subject.cell.served) or known or "unknown"

    named = names(subjects, leave_out=_BESIDE)
    called = told_apart(s.cell.dataset for s in subjects)
    lines = lines_by(
        (
            _distilled(s),
            name,
            {_pair(came_from(s), s.cell.dataset, called[s.cell.dataset]): _score(s, "acc")},
        )
        for s, name in zip(subjects, named, strict=True)
    )
    notes = [
        "Accuracy (Acc): trained on → tested on. Invented worlds differ in their names and facts, "
        "not in their relations or wording: less of a change than between the paper's data sets.",
    ]
    if any(came_from(subject) == "unknown" for subject in subjects):
        notes.append("What a served model was trained on is said by --trained NAME=DATA.")
    return Finding(lines, notes, [_details(subjects)])


def _grid(
    subjects: Sequence[Subject], kind: Callable[[Subject], str], notes: Sequence[str] = ()
) -> Finding:
    """All three scores by data set."""
    named = names(subjects, leave_out=_BESIDE)
    called = told_apart(subject.cell.dataset for subject in subjects)
    lines = lines_by(
        (
            kind(subject),
            name,
            {
                f"{called[subject.cell.dataset]} {title}": (_mean(subject, score), "")
                for score, title in SCORES.items()
            },
        )
        for subject, name in zip(subjects, named, strict=True)
    )
    return Finding(lines, [_ACC, *notes], [_details(subjects)])


def _details(subjects: Sequence[Subject]) -> Table:
    """Ours with intervals, steps and retrieval."""
    named = names(subjects)
    rows = tuple(evaluation.cells(n, s.summary) for n, s in zip(named, subjects, strict=True))
    return Table("Here, with 95% intervals (as shares)", evaluation.HEAD, rows, evaluation.NOTE)


def _score(subject: Subject, score: str) -> tuple[float, str]:
    return _mean(subject, score), percent(subject.summary[score])


def _mean(subject: Subject, score: str) -> float:
    return round(100 * float(subject.summary[score]["mean"]), 4)


def _averaged(line: Line) -> Line:
    """With the paper's averages, where all three of its data sets were answered."""
    values = dict(line.values)
    for title in SCORES.values():
        each = [line.values.get(f"{name} {title}") for name in _SHORT]
        known = [value for value in each if value is not None]
        if len(known) == len(each):
            values[f"Avg. {title}"] = round(fmean(known), 4)
    return replace(line, values=values)


def _size(subject: Subject) -> str:
    """Its parameters, as the paper calls a model of that size."""
    number = subject.num_parameters or 0
    for column in published()["fig4"].columns:
        size = float(column.removesuffix("B")) * 1e9
        if abs(number - size) < _SAME_SIZE * size:
            return column
    return plots.count(number)


def _pair(came_from: str, dataset: str, called: str) -> str:
    """Trained on → tested on: the paper's column where it has this pair, else by our names."""
    data = {as_the_paper(name) for name in came_from.split(", ")}
    learnt = data.pop() if len(data) == 1 else came_from
    theirs = f"{_SHORT.get(learnt, learnt)} → {_SHORT.get(called, called)}"
    return theirs if theirs in published()["fig5"].columns else f"{came_from} → {dataset}"


def _distilled(subject: Subject) -> str:
    return "distilled" if subject.training is not None else "not told"


def _weighting(subject: Subject) -> str:
    weighting = subject.training.weighting if subject.training is not None else ""
    return _WEIGHTINGS.get(weighting, weighting or "not told")


def _learnt_from_all(training: Training) -> bool:
    """Whether it learnt from every step; a card that does not tell is given the doubt."""
    return training.steps in ("", _ALL_STEPS)
