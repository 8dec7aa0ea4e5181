"""What a command of `bench paper` found: our lines beside the paper's, and what differs.

What is left out: how each table's lines come about (scores, searches, judged, figures).
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from steper_serve import plots
from steper_serve.benchmarks.paper.answered import Subject
from steper_serve.benchmarks.paper.published import Line, Published
from steper_serve.benchmarks.tables import Section, Table

PAPER, HERE = "paper · ", "here · "
_KNOWN = {
    "2wikimultihopqa": "2Wiki",
    "2wiki": "2Wiki",
    "hotpot": "HotpotQA",
    "hotpotqa": "HotpotQA",
    "musique": "MuSiQue",
}
_DRAWN = "The paper draws these values and prints none of them."


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found here.

    Args:
        lines: to stand beside the paper's.
        notes: how our values are defined, and what was left out.
        tables: more of ours.
        plots: SVG.
        more: what else the JSON says.
    """

    lines: Sequence[Line]
    notes: Sequence[str] = ()
    tables: Sequence[Table] = ()
    plots: Sequence[str] = ()
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Compared:
    """What stands on either side: a phrase of the paper's, and ours."""

    what: str
    paper: str
    here: str


def section(told: Published, found: Finding, differing: Sequence[Compared]) -> Section:
    """All of it, for the terminal and for a report."""
    notes = [*told.claims, *([_DRAWN] if told.is_drawn else []), *found.notes]
    sides = [
        f"{each.what}, {side}: {said}"
        for each in differing
        for side, said in (("paper", each.paper), ("here", each.here))
    ]
    note = "\n".join(f"- {text}" for text in (*notes, *sides))
    table = Table(told.title, *_beside(told, found.lines), note)
    return Section(told.title, (table, *found.tables), tuple(found.plots))


def line_of_json(
    name: str, told: Published, found: Finding, differing: Sequence[Compared]
) -> dict[str, Any]:
    """What the command ends with; shares are percentages, as in the paper."""
    return {
        "paper": name,
        "title": told.title,
        "published": [_json(line) for line in told.lines],
        "here": [_json(line) for line in found.lines],
        **found.more,
        "differs": [
            {"what": each.what, "paper": each.paper, "here": each.here} for each in differing
        ],
    }


def differences(
    told: Published,
    subjects: Sequence[Subject],
    served: Mapping[str, str],
    datasets: Mapping[str, str],
    judge: str = "",
) -> list[Compared]:
    """What was measured with, in the paper and here; nothing is taken to be the same.

    Args:
        served: by what is served, what it is (a URL, a model, a recipe's student).
        datasets: by name, where the data came from.
        judge: ours.
    """
    models = dict.fromkeys(_model(subject, served) for subject in subjects)
    data = dict.fromkeys(_data(subject, datasets) for subject in subjects)
    loops = dict.fromkeys(_loop(subject) for subject in subjects)
    compared = [
        Compared("models", told.models, "; ".join(models)),
        Compared("data", told.data, "; ".join(data)),
        Compared("loop", told.loop, "; ".join(loops)),
    ]
    return compared + ([Compared("judge", told.judge, judge)] if told.judge else [])


def as_the_paper(dataset: str) -> str:
    """The paper's name of a data set of ours, or its own where the paper has none of its name."""
    words = re.split(r"[^a-z0-9]+", dataset.lower())
    known = {_KNOWN[word] for word in words if word in _KNOWN}
    return known.pop() if len(known) == 1 else dataset


def told_apart(datasets: Iterable[str]) -> dict[str, str]:
    """`as_the_paper` of each, or its own where two of ours would have one name."""
    known = {name: as_the_paper(name) for name in datasets}
    num = Counter(known.values())
    return {ours: theirs if num[theirs] == 1 else ours for ours, theirs in known.items()}


def percent(value: Mapping[str, float]) -> str:
    """A share with its interval, as a percentage."""
    mean, low, high = (100 * value[name] for name in ("mean", "low", "high"))
    return f"{mean:.2f} [{low:.1f}, {high:.1f}]"


def _beside(
    told: Published, ours: Sequence[Line]
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Head and rows: of each kind the paper's, then ours; our columns after the paper's."""
    own = dict.fromkeys(column for line in ours for column in line.values)
    columns = _ordered(told.columns, [column for column in own if column not in told.columns])
    lines = [(PAPER, line) for line in told.lines] + [(HERE, line) for line in ours]
    kinds = list(dict.fromkeys(line.kind for _, line in lines))
    lines.sort(key=lambda each: kinds.index(each[1].kind))
    has_kinds = any(kinds)
    head = ("", *(["kind"] if has_kinds else []), *columns)
    rows = tuple(
        (
            source + line.name,
            *([line.kind] if has_kinds else []),
            *(line.shown(column) for column in columns),
        )
        for source, line in lines
    )
    return head, rows


def _ordered(paper: Sequence[str], own: Sequence[str]) -> list[str]:
    """The paper's columns, then ours; numbers (of steps) among each other by their size."""
    if not all(column.isdecimal() for column in own):
        return [*paper, *own]
    numbers = sorted((c for c in (*paper, *own) if c.isdecimal()), key=int)
    return [*numbers, *(c for c in paper if not c.isdecimal())]


def _json(line: Line) -> dict[str, Any]:
    return {"kind": line.kind, "name": line.name, **line.values}


def _model(subject: Subject, served: Mapping[str, str]) -> str:
    size = plots.count(subject.num_parameters)
    told = [f"{size} parameters" if size else "size unknown", served.get(subject.cell.served, "")]
    if subject.training is not None and subject.training.data:
        told.append(f"trained on {subject.training.data}")
    return f"{subject.cell.served} ({', '.join(filter(None, told))})"


def _data(subject: Subject, datasets: Mapping[str, str]) -> str:
    name = subject.cell.dataset
    num = len({answer.question.id for answer in subject.answers})
    known = as_the_paper(name)
    same = (
        "not the paper's data"
        if known == name and name not in _KNOWN.values()
        else f"{known} by its name; this sample of it, and this corpus"
    )
    source = datasets.get(name, "")
    told = f" from {source}" if source and source != name else ""
    return f"{name}{told}: {num:,} questions ({same})"


def _loop(subject: Subject) -> str:
    cell = subject.cell
    steps = "its own most steps" if cell.max_steps is None else f"at most {cell.max_steps} steps"
    top = "its own top k" if cell.top_k is None else f"top {cell.top_k}"
    return f"{subject.strategy or 'its own strategy'}, {top}, {steps}"


def lines_by(
    subjects: Iterable[tuple[str, str, Mapping[str, tuple[float | int | None, str]]]],
) -> list[Line]:
    """Lines of (kind, name, {column: (value, text)}); those of one kind and name are joined."""
    joined: dict[tuple[str, str], tuple[dict[str, Any], dict[str, str]]] = {}
    for kind, name, cells in subjects:
        values, texts = joined.setdefault((kind, name), ({}, {}))
        values |= {column: value for column, (value, _) in cells.items()}
        texts |= {column: text for column, (_, text) in cells.items() if text}
    return [Line(kind, name, *both) for (kind, name), both in joined.items()]
