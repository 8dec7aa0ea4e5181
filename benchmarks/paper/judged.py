"""What a judge's verdicts add up to: Figure 3 (abilities) and Table 4 (sub-questions).

A question that failed has no reasoning and scores 0 without being judged; a reply outside the
form is counted, shown and left out of the means. What is left out: asking (verdicts).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from steper_serve.benchmarks.paper.answered import Subject, names
from steper_serve.benchmarks.paper.findings import Finding, lines_by
from steper_serve.benchmarks.paper.forms import ABILITIES
from steper_serve.benchmarks.paper.verdicts import Verdicts
from steper_serve.benchmarks.tables import Table
from steper_serve.evaluation import interval

_Cell = tuple[float | int | None, str]
_SUB_QUESTIONS = ("answerability", "main", "all_subs", "contradicts")
_HEAD = ("", "answers", "in the form", "outside it", "no reply", "failed", "not to be judged")
_COUNTS = ("num_answers", "num_in_form", "num_outside", "num_silent", "num_failed", "num_left_out")


@dataclass(slots=True)
class Tally:
    """The verdicts on one subject, and what has none.

    Args:
        values: of every verdict in the form, and zeros for every question that failed.
        accuracies: Acc of everything that could be judged.
        outside: how often a reply was outside the form, by what was wrong with it.
        num_silent: without a reply; num_failed: questions; num_left_out: not to be judged.
    """

    name: str
    subject: Subject
    values: list[dict[str, float]] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    outside: Counter[str] = field(default_factory=Counter)
    num_silent: int = 0
    num_failed: int = 0
    num_left_out: int = 0

    @property
    def num_answers(self) -> int:
        return len(self.subject.answers)

    @property
    def num_outside(self) -> int:
        return self.outside.total()

    @property
    def num_in_form(self) -> int:
        return len(self.values) - self.num_failed


def fig3(subjects: Sequence[Subject], verdicts: Verdicts) -> Finding:
    """Means of the three abilities."""
    tallies = _tallies(subjects, verdicts, ABILITIES)
    lines = lines_by(
        (_kind(t.subject), t.name, {_short(a): _mean(v[a] for v in t.values) for a in ABILITIES})
        for t in tallies
    )
    notes = ["Percent of answers that were given a 1, 95% intervals in brackets."]
    return Finding(lines, notes, _counted(tallies), more=_more(tallies))


def table4(subjects: Sequence[Subject], verdicts: Verdicts) -> Finding:
    """Accuracy, sub-question answerability and reasoning integrity."""
    tallies = _tallies(subjects, verdicts, _SUB_QUESTIONS)
    lines = lines_by((_kind(t.subject), t.name, _validity(t)) for t in tallies)
    notes = [
        "Accuracy: Acc over the questions that have sub-questions.",
        "SQA: the mean share of its sub-questions that an answer's reasoning answers. The paper's "
        "questions have two each; here they have as many as gold steps, at least two.",
        "RI: of the answers that the judge calls correct, the share of those whose sub-questions "
        "are all answered correctly.",
    ]
    if num := sum(int(v["contradicts"]) for t in tallies for v in t.values):
        notes.append(f"In {num:,} verdicts the two fields contradict each other; both count.")
    return Finding(lines, notes, _counted(tallies), more=_more(tallies))


def _tallies(subjects: Sequence[Subject], verdicts: Verdicts, fields: Iterable[str]) -> list[Tally]:
    nothing = dict.fromkeys(fields, 0.0)
    named = zip(names(subjects), subjects, strict=True)
    return [_tally(Tally(name, subject), verdicts, nothing) for name, subject in named]


def _tally(tally: Tally, verdicts: Verdicts, nothing: dict[str, float]) -> Tally:
    for answer in tally.subject.answers:
        verdict = verdicts.of(answer)
        if verdict is None:
            tally.num_left_out += 1
            continue
        tally.accuracies.append(answer.score.acc)
        if answer.score.failed:
            tally.num_failed += 1
            tally.values.append(nothing)
        elif verdict.values is not None:
            tally.values.append(verdict.values)
        elif verdict.failed:
            tally.num_silent += 1
        else:
            tally.outside[verdict.problem] += 1
    return tally


def _validity(tally: Tally) -> dict[str, _Cell]:
    correct = [values for values in tally.values if values["main"]]
    return {
        "Accuracy": _mean(tally.accuracies),
        "SQA": _mean(values["answerability"] for values in tally.values),
        "RI": _mean(values["all_subs"] for values in correct),
    }


def _counted(tallies: Sequence[Tally]) -> list[Table]:
    """How many verdicts there are, and what was wrong with those that do not count."""
    rows = tuple((t.name, *(f"{getattr(t, name):,}" for name in _COUNTS)) for t in tallies)
    note = "A reply outside the form is in no mean. A question that failed counts as 0."
    tables = [Table("Verdicts", _HEAD, rows, note)]
    wrong = tuple((t.name, f"{n:,}", why) for t in tallies for why, n in t.outside.most_common())
    return [*tables, Table("Outside the form", ("", "replies", "why"), wrong)] if wrong else tables


def _more(tallies: Sequence[Tally]) -> dict[str, list[dict[str, str | int]]]:
    counts = [{name: getattr(t, name) for name in _COUNTS} for t in tallies]
    return {"verdicts": [{"name": t.name, **n} for t, n in zip(tallies, counts, strict=True)]}


def _mean(values: Iterable[float]) -> _Cell:
    """Their mean as a percentage with its interval; a dash without any."""
    known = [100 * value for value in values]
    if not known:
        return None, ""
    low, high = interval(known)
    return round(fmean(known), 4), f"{fmean(known):.2f} [{low:.1f}, {high:.1f}]"


def _kind(subject: Subject) -> str:
    """What a student learnt from, as far as its card tells."""
    training = subject.training
    return "not told" if training is None else f"steps {training.steps or 'unknown'}"


def _short(ability: str) -> str:
    return ability.removeprefix("Reasoning ")
