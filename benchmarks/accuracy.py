"""How right answers are: EM, F1 and Acc with intervals, over all, by type and by hops.

The scores are those of `steper_serve.evaluation`; a question that failed counts as wrong. What
is left out: asking (running), and time (latency).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from steper_serve import evaluation, plots
from steper_serve.benchmarks import results
from steper_serve.benchmarks.cells import Cell, labels
from steper_serve.benchmarks.rows import Row
from steper_serve.benchmarks.tables import Section, Table

SCORES = {"em": "EM", "f1": "F1", "acc": "Acc"}
_SHOWN = ("dataset", "served", "model", "strategy", "max_steps", "top_k", "concurrency")
_PARTS = {"by_type": "By type", "by_hops": "By hops", "by_type_and_hops": "By type and hops"}
_FAILURES_SHOWN = 20


def summaries(rows: Iterable[Row]) -> dict[Cell, dict[str, Any]]:
    """`evaluation.summary` of each cell, and the answers that were given in a second of asking."""
    return {
        cell: evaluation.summary([row.score() for row in group])
        | {"answers_per_second": rate(group)}
        for cell, group in results.grouped(rows).items()
    }


def rate(rows: Sequence[Row]) -> float | None:
    """Answers a second while any was in flight; pauses between runs do not count."""
    spans = sorted(
        (r.started, r.started + r.reply.times.wall_seconds) for r in rows if r.reply is not None
    )
    busy, until = 0.0, float("-inf")
    for begin, end in spans:
        busy += max(0.0, end - max(begin, until))
        until = max(until, end)
    return len(spans) / busy if busy else None


def lines(found: Mapping[Cell, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each cell's summary as the JSON that a command ends with."""
    return [_line(cell, summary) for cell, summary in found.items()]


def tables(found: Mapping[Cell, Mapping[str, Any]], rows: Iterable[Row]) -> list[Table]:
    """Scores, the same by type, by hops and by both where these are known, and what failed."""
    named = labels(found)
    main = tuple(evaluation.cells(named[cell], summary) for cell, summary in found.items())
    made = [Table("Accuracy", evaluation.HEAD, main, evaluation.NOTE)]
    for key, title in _PARTS.items():
        parts = [
            (named[c], part, s) for c, whole in found.items() for part, s in whole[key].items()
        ]
        lines = tuple(evaluation.cells(_joined(n, part, len(found)), s) for n, part, s in parts)
        made += [Table(title, evaluation.HEAD, lines)] if lines else []
    return made + _failures(named, rows)


def sections(folders: Sequence[Path]) -> list[Section]:
    """What a report says of folders of results."""
    rows = [row for each in results.load_all(folders) for row in each.rows]
    return [section("Accuracy", summaries(rows), rows)]


def section(title: str, found: Mapping[Cell, Mapping[str, Any]], rows: Iterable[Row]) -> Section:
    """The tables, and exact match with its intervals as a plot."""
    if not found:
        return Section(title, text="No question has been asked yet.")
    named = labels(found)
    shares = {named[cell]: summary["em"] for cell, summary in found.items()}
    drawn = plots.intervals("Exact match, with 95% intervals", shares)
    return Section(title, tuple(tables(found, rows)), (drawn,))


def _line(cell: Cell, summary: Mapping[str, Any]) -> dict[str, Any]:
    retrieval = ("retrieval_recall", "retrieval_complete")
    took = ("num_failed", "mean_steps", "mean_generated_tokens", *retrieval, "answers_per_second")
    return {
        **{name: getattr(cell, name) for name in _SHOWN},
        **_scores(summary),
        "acc_generated": summary["acc_generated"]["mean"],
        "intervals": {name: [summary[name]["low"], summary[name]["high"]] for name in SCORES},
        **{name: summary[name] for name in took},
        **{by: {name: _scores(s) for name, s in summary[by].items()} for by in _PARTS},
    }


def _scores(summary: Mapping[str, Any]) -> dict[str, Any]:
    means = {name: summary[name]["mean"] for name in SCORES}
    return {**means, "num_questions": summary["num_questions"]}


def _joined(name: str, part: str, num_cells: int) -> str:
    return part if num_cells == 1 else f"{name}: {part}"


def _failures(named: Mapping[Cell, str], rows: Iterable[Row]) -> list[Table]:
    failed = [(named[row.cell.group], row.failure) for row in rows if row.failure]
    kinds = Counter((name, failure.type, failure.message) for name, failure in failed)
    lines = [(name, f"{n:,}", type, said) for (name, type, said), n in kinds.most_common()]
    note = "A question that failed counts as wrong; --retry-failed asks it again."
    if len(lines) > _FAILURES_SHOWN:
        note = f"{len(lines) - _FAILURES_SHOWN:,} more kinds are not shown. {note}"
    head = ("", "failed", "error", "message")
    return [Table("Failures", head, tuple(lines[:_FAILURES_SHOWN]), note)] if lines else []
