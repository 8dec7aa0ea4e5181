"""Searches: how many an answer took, and what they found. Tables 6, 7 and 8.

Recall and duplicativeness are the paper's (appendix B.2), taken of each answer and averaged:
relevant passages that were found over all relevant ones, and passages that an earlier search of
the same answer had found already over all that were found. What is left out: searching.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from steper_serve.benchmarks.paper.answered import Answer, Search, Subject, names
from steper_serve.benchmarks.paper.findings import Finding, lines_by, percent
from steper_serve.evaluation import interval

_Cells = dict[str, tuple[float | int | None, str]]
_BESIDE = ("max_steps", "dataset", "corpus")


def duplicates(searches: Sequence[Search]) -> list[str]:
    """The title of every passage that was found again, as often as it was."""
    found: set[str] = set()
    again = []
    for search in searches:
        again += [passage.title for passage in search if passage.id in found]
        found |= {passage.id for passage in search}
    return again


def duplicativeness(searches: Sequence[Search]) -> float | None:
    """Passages found again over passages found; None where nothing was found."""
    num_found = sum(map(len, searches))
    return len(duplicates(searches)) / num_found if num_found else None


def supporting_share(answers: Sequence[Answer]) -> float | None:
    """Of all duplicates of all answers, the share that is a supporting passage by its title.

    None where there is no duplicate, or a question's supporting titles are unknown.
    """
    told = [(again, a) for a in answers for again in duplicates(a.searches)]
    if not told or any(not answer.question.supporting_titles for _, answer in told):
        return None
    return fmean(title in answer.question.supporting_titles for title, answer in told)


def table6(subjects: Sequence[Subject]) -> Finding:
    """Accuracy by the most steps allowed; a line for all that is alike but for these."""
    limited = [subject for subject in subjects if subject.cell.max_steps is not None]
    named = names(limited, leave_out=_BESIDE)
    lines = lines_by(
        ("", f"{name}, {s.cell.dataset}", {str(s.cell.max_steps): _accuracy(s)})
        for s, name in zip(limited, named, strict=True)
    )
    left = len(subjects) - len(limited)
    notes = ["Accuracy (Acc), 95% intervals in brackets."]
    notes += [f"{left} without --max-steps of its own is left out."] if left else []
    return Finding(lines, notes)


def table7(subjects: Sequence[Subject]) -> Finding:
    """How many searches answers took, and the accuracy of those that took as many."""
    cells: list[tuple[str, str, _Cells]] = []
    for subject, name in zip(subjects, names(subjects), strict=True):
        counted = _by_num_searches(subject.answers)
        rows = zip(("answers", "right", "accuracy"), _counts(counted), strict=True)
        cells += [(kind, name, row) for kind, row in rows]
    notes = ["Right: by Acc.", *_failures(subjects)]
    return Finding(lines_by(cells), notes)


def table8(subjects: Sequence[Subject]) -> Finding:
    """Accuracy, recall and duplicativeness by the most steps allowed."""
    named = names(subjects, leave_out=_BESIDE)
    lines = lines_by(
        (_allowed(s), f"{name}, {s.cell.dataset}", _found(s))
        for s, name in zip(subjects, named, strict=True)
    )
    notes = [
        "Recall: the share of a question's supporting passages (by title) that its searches found.",
        "Duplicativeness: of the passages that its searches found, the share that an earlier one "
        "had found already. Both are means over answers.",
        "Again relevant: of all duplicates, the share that are supporting passages.",
    ]
    return Finding(lines, notes)


def _by_num_searches(answers: Sequence[Answer]) -> dict[int, list[float]]:
    counted: dict[int, list[float]] = {}
    for answer in answers:
        if not answer.score.failed:
            counted.setdefault(len(answer.searches), []).append(answer.score.acc)
    return counted


def _counts(counted: Mapping[int, Sequence[float]]) -> list[_Cells]:
    """Three rows: answers, right ones, and the latter as a percentage of the former."""
    columns = {str(n): counted.get(n, []) for n in sorted({*range(1, 6), *counted})}
    columns["Total"] = [acc for accs in counted.values() for acc in accs]
    return [
        {column: (len(accs), "") for column, accs in columns.items()},
        {column: (round(sum(accs)), "") for column, accs in columns.items()},
        {column: (100 * fmean(accs) if accs else None, "") for column, accs in columns.items()},
    ]


def _failures(subjects: Sequence[Subject]) -> list[str]:
    failed = sum(answer.score.failed for subject in subjects for answer in subject.answers)
    return [f"Failed, without a search, and left out: {failed:,}."] if failed else []


def _allowed(subject: Subject) -> str:
    match subject.strategy, subject.cell.max_steps:
        case ("direct", _):
            return "no search"
        case ("single", _):
            return "1 search"
        case (_, None):
            return "its own"
        case (_, steps):
            return f"{steps} steps"


def _found(subject: Subject) -> _Cells:
    answers = [answer for answer in subject.answers if not answer.score.failed]
    recalls = [a.score.recall for a in answers if a.score.recall is not None]
    shares = [d for a in answers if (d := duplicativeness(a.searches)) is not None]
    relevant = supporting_share(answers)
    return {
        "Accuracy": _accuracy(subject),
        "Recall": _mean(recalls),
        "Duplicativeness": _mean(shares),
        "Again relevant": (relevant, "–" if relevant is None else f"{relevant:.2f}"),
    }


def _mean(values: Sequence[float]) -> tuple[float | None, str]:
    if not values:
        return None, "–"
    low, high = interval(values)
    return fmean(values), f"{fmean(values):.2f} [{low:.2f}, {high:.2f}]"


def _accuracy(subject: Subject) -> tuple[float, str]:
    accuracy: Mapping[str, Any] = subject.summary["acc"]
    return round(100 * float(accuracy["mean"]), 4), percent(accuracy)
