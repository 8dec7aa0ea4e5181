"""Ours beside FlashRAG: answers a second, seconds, exact match, and what the answers took.

Everything is drawn from the loads (load) and rows that a folder holds. FlashRAG's answer is what
its own parser reads off the text, scored as ours is; beside it stands the score of what our
parser reads off the same text. What is left out: measuring (asking).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

from steper_serve import answers, evaluation
from steper_serve.benchmarks import load, results
from steper_serve.benchmarks.cells import Cell, labels
from steper_serve.benchmarks.load import Findings, Load
from steper_serve.benchmarks.peers.flashrag import PACKAGE
from steper_serve.benchmarks.rows import Row
from steper_serve.benchmarks.tables import Section, Table

OURS = "steper-serve"
_HEAD = ("answers/s", "p50", "p95", "EM", "EM, read by us")
_TOOK = ("steps", "tokens", "prompt tokens", "cached", "errors")
_NOTE = (
    "Medians of the repetitions, in brackets the least and the greatest; of EM its 95% interval. "
    "`ours at N`: our answers/s with N in flight divided by those of the row, in the same "
    "repetition. Seconds: from the request, or from giving a question to FlashRAG, to the whole "
    "answer; of questions that it was given at a time FlashRAG gives all answers when the last is "
    "there. Steps, tokens generated and prompt tokens are an answer's, `cached` the share of "
    "prompt tokens that the prefix cache held."
)


@dataclass(frozen=True, slots=True)
class Compared:
    """One row of the comparison.

    Args:
        cell: all repetitions of it.
        figures, spread: of `load.Findings`.
        scores: `evaluation.summary` of its rows.
        em_read_by_us: of the answers that our parser reads; ours are read by it anyway.
        ratios: by the number that ours had in flight, our answers/s divided by this one's.
    """

    cell: Cell
    figures: Mapping[str, float | None]
    spread: Mapping[str, tuple[float, float]]
    repetitions: int
    scores: Mapping[str, Any]
    em_read_by_us: float
    ratios: Mapping[int, float]

    @property
    def system(self) -> str:
        """What answered."""
        return self.cell.model if _is_peer(self.cell) else OURS


def compare(loads: Sequence[Load], rows: Sequence[Row]) -> list[Compared]:
    """The comparison of loads, each with its own among `rows`; what belongs together in a row."""
    found = load.find(loads, rows)
    rates = {each.cell: figure for each in loads if (figure := _rate(each, rows))}
    groups: dict[Cell, list[Row]] = {}
    for each in loads:
        groups.setdefault(each.cell.group, []).extend(each.own(rows))
    compared = [_compared(found, cell, groups[cell], rates) for cell in groups if groups[cell]]
    subjects = list(dict.fromkeys(_subject(each.cell) for each in compared))
    return sorted(compared, key=lambda c: (subjects.index(_subject(c.cell)), _is_peer(c.cell)))


def lines(compared: Iterable[Compared]) -> list[dict[str, Any]]:
    """The comparison as the JSON that the command ends with."""
    return [_line(each) for each in compared]


def tables(compared: Sequence[Compared]) -> list[Table]:
    """The comparison, a system and a number at a time a row."""
    if not compared:
        return []
    numbers = sorted({number for each in compared for number in each.ratios})
    subjects = list(dict.fromkeys(_subject(each.cell) for each in compared))
    named = labels(subjects) if len(subjects) > 1 else dict.fromkeys(subjects, "")
    head = ("", _HEAD[0], *(f"ours at {number}" for number in numbers), *_HEAD[1:], *_TOOK)
    rows = tuple(
        (_named(each, named[_subject(each.cell)]), *_row(each, numbers)) for each in compared
    )
    return [Table(f"Beside {PACKAGE}", head, rows, _NOTE)]


def sections(folders: Sequence[Path]) -> list[Section]:
    """What a report says of folders of results, one section a folder."""
    made = []
    for folder in folders:
        loads, rows = list(load.read(folder).values()), results.load(folder).rows
        title = "FlashRAG beside" if len(folders) == 1 else f"FlashRAG beside: {folder}"
        drawn = load.plot(load.find(loads, rows))
        text = "" if loads else "Nothing has been measured to its end yet."
        found = tables(compare(loads, rows))
        made.append(Section(title, tuple(found), tuple(filter(None, [drawn])), text))
    return made


def _compared(
    found: Findings, cell: Cell, rows: Sequence[Row], rates: Mapping[Cell, float]
) -> Compared:
    return Compared(
        cell=cell,
        figures=found.figures[cell],
        spread=found.spreads[cell],
        repetitions=found.repetitions[cell],
        scores=evaluation.summary([row.score() for row in rows]),
        em_read_by_us=fmean(_em_read_by_us(row) for row in rows),
        ratios=dict(_ratios(cell, rates)) if _is_peer(cell) else {},
    )


def _ratios(cell: Cell, rates: Mapping[Cell, float]) -> Iterator[tuple[int, float]]:
    """Our answers/s to those of a cell of FlashRAG's, by our number in flight."""
    theirs = {c.repetition: rate for c, rate in rates.items() if c.group == cell}
    by_number: dict[int, list[float]] = {}
    for ours, rate in rates.items():
        of_same = not _is_peer(ours) and _subject(ours) == _subject(cell)
        if of_same and ours.repetition in theirs:
            ratios = by_number.setdefault(ours.concurrency or 1, [])
            ratios.append(rate / theirs[ours.repetition])
    for number in sorted(by_number):
        yield number, median(by_number[number])


def _rate(each: Load, rows: Sequence[Row]) -> float | None:
    return load.figures(each, each.own(rows))["answers_per_second"]


def _em_read_by_us(row: Row) -> float:
    trace = {} if row.reply is None else row.reply.trace
    return answers.exact_match(
        trace.get("read_by_us", trace.get("answer", "")), row.question.answers
    )


def _is_peer(cell: Cell) -> bool:
    return cell.model.startswith(f"{PACKAGE} ")


def _subject(cell: Cell) -> Cell:
    """What two cells must have in common to be compared."""
    return replace(cell.group, model="", strategy=None, streamed=False, concurrency=None)


def _line(each: Compared) -> dict[str, Any]:
    scores, em = each.scores, each.scores["em"]
    shown = ("dataset", "served", "max_steps", "top_k", "streamed")
    told = ("answers_per_second", "p50_seconds", "p95_seconds", "errors", "cached_share")
    return {
        "system": each.system,
        "concurrency": each.cell.concurrency,
        **{name: each.figures[name] for name in told},
        "spread": {name: list(ends) for name, ends in each.spread.items()},
        "ours_ratio": {str(number): ratio for number, ratio in each.ratios.items()},
        "em": em["mean"],
        "em_interval": [em["low"], em["high"]],
        "em_read_by_us": each.em_read_by_us,
        "num_questions": scores["num_questions"],
        "mean_steps": scores["mean_steps"],
        "mean_generated_tokens": scores["mean_generated_tokens"],
        "mean_prompt_tokens": scores["mean_prompt_tokens"],
        "repetitions": each.repetitions,
        **{name: getattr(each.cell, name) for name in shown},
    }


def _named(each: Compared, subject: str) -> str:
    number = each.cell.concurrency or 1
    how = f"{number} at a time" if _is_peer(each.cell) else f"{number} in flight"
    return ", ".join(filter(None, (subject, each.system, how)))


def _row(each: Compared, numbers: Sequence[int]) -> Iterator[str]:
    scores = each.scores
    yield _spread(each, "answers_per_second", "{:.1f}")
    for number in numbers:
        yield f"× {each.ratios[number]:.2f}" if number in each.ratios else "–"
    yield _spread(each, "p50_seconds", "{:.3f}")
    yield _said(each.figures["p95_seconds"], "{:.3f}")
    yield evaluation.share(scores["em"])
    yield f"{each.em_read_by_us:.3f}"
    yield f"{scores['mean_steps']:.2f}"
    yield f"{scores['mean_generated_tokens']:.1f}"
    yield f"{scores['mean_prompt_tokens']:,.0f}"
    yield _said(each.figures["cached_share"], "{:.1%}")
    yield _said(each.figures["errors"], "{:.0f}")


def _spread(each: Compared, name: str, form: str) -> str:
    ends = each.spread.get(name) if each.repetitions > 1 else None
    beside = f" [{form.format(ends[0])}, {form.format(ends[1])}]" if ends else ""
    return f"{_said(each.figures[name], form)}{beside}"


def _said(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)
