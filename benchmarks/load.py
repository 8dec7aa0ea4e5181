"""How much a server can bear: answers a second, how long they take, and vLLM alone beside it.

A *load* is one cell asked once, whole: a fixed number of questions with so many in flight, and
right after it the replay of the same prompts in the engine alone (replay). A folder of results
holds one a line in `loads.jsonl`, beside the rows:

    {"config", "cell": {…}, "questions", "num_questions", "num_warmup", "started", "ended",
     "seconds", "replay": {…} | null}

The replay ratio is the replay's time divided by the served time: 1 means that the loop, HTTP,
search and prompts cost nothing that the engine does not take anyway. What is left out: asking
(sweep), and the replay itself (replay).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from steper_serve import journal, plots
from steper_serve.benchmarks import results
from steper_serve.benchmarks.cells import Cell, labels
from steper_serve.benchmarks.client import Reply
from steper_serve.benchmarks.latency import Point, front
from steper_serve.benchmarks.quantiles import quantile
from steper_serve.benchmarks.rows import Row
from steper_serve.benchmarks.tables import Section, Table
from steper_serve.journal import BadRecord, Record

LOADS = "loads.jsonl"
_SHOWN = ("dataset", "served", "model", "strategy", "max_steps", "top_k", "streamed")
_COLUMNS = {
    "answers_per_second": ("answers/s", "{:.1f}"),
    "p50_seconds": ("p50", "{:.3f}"),
    "p95_seconds": ("p95", "{:.3f}"),
    "p99_seconds": ("p99", "{:.3f}"),
    "first_byte_p50_seconds": ("first byte", "{:.3f}"),
    "first_thought_p50_seconds": ("first thought", "{:.3f}"),
    "errors": ("errors", "{:.0f}"),
    "cached_share": ("cached", "{:.1%}"),
    "later_cached_share": ("later", "{:.1%}"),
    "repeated_share": ("repeated", "{:.1%}"),
    "retrieval_share": ("retrieval", "{:.2%}"),
    "tokenise_share": ("tokenising", "{:.2%}"),
    "replay_ratio": ("replay ratio", "{:.3f}"),
    "unbounded_ratio": ("unbounded", "{:.3f}"),
}
_FIRSTS = ("first_byte", "first_thought")
_SPREAD = ("answers_per_second", "p50_seconds", "replay_ratio", "unbounded_ratio")
_NOTE = (
    "Seconds, medians of the repetitions; in brackets the least and the greatest. `cached`: the "
    "share of prompt tokens that the prefix cache held; `later`: of the prompts after an answer's "
    "first; `repeated`: the share of these (by characters) that stood in the prompt before. "
    "`retrieval`: searching's share of an answer's time; `tokenising`: that of tokenising its "
    "prompts, measured by itself after the replay. `replay ratio`: the time that vLLM alone "
    "takes for the same prompts as independent requests, as many in flight, divided by the served "
    "time; `unbounded`: with all of them sent at once. Tokenising is within both times."
)
_NO_RATIO = " A cell with errors, or one at an --endpoint, has no replay."


@dataclass(frozen=True, slots=True)
class Load:
    """One cell asked once.

    Args:
        questions: a digest of what was asked.
        started, ended: Unix times; the cell's rows that were started between are its own.
        seconds: from the first request to the end of the last answer.
        replay: what `replay.measure` told; None without one.
    """

    cell: Cell
    questions: str
    num_questions: int
    num_warmup: int
    started: float
    ended: float
    seconds: float
    replay: Mapping[str, Any] | None

    def own(self, rows: Iterable[Row]) -> list[Row]:
        """Of rows, those that this load is made of."""
        mine = (row for row in rows if row.cell == self.cell)
        return [row for row in mine if self.started <= row.started <= self.ended]


@dataclass(frozen=True, slots=True)
class Findings:
    """Figures of every cell, over its repetitions: name to median, and to (least, greatest)."""

    figures: Mapping[Cell, Mapping[str, float | None]]
    spreads: Mapping[Cell, Mapping[str, tuple[float, float]]]
    repetitions: Mapping[Cell, int]


def to_json(load: Load) -> Record:
    """The load as it is kept."""
    return {"config": load.cell.config, **asdict(load)}


def read(folder: Path) -> dict[Cell, Load]:
    """The loads of a folder; of several of one cell, the last.

    Raises:
        BadRecord: a line holds something else; names file and line.
    """
    file = folder / LOADS
    found: dict[Cell, Load] = {}
    for line, record in journal.read(file):
        try:
            fields = {name: value for name, value in record.items() if name != "config"}
            load = Load(**{**fields, "cell": Cell.from_json(record["cell"])})
        except (KeyError, TypeError) as error:
            raise BadRecord(f"{file}, line {line} is not a load ({error}): move it away") from error
        found[load.cell] = load
    return found


def find(loads: Iterable[Load], rows: Sequence[Row]) -> Findings:
    """Sum up loads, each with its own rows among `rows`."""
    groups: dict[Cell, list[dict[str, float | None]]] = {}
    for load in loads:
        groups.setdefault(load.cell.group, []).append(figures(load, load.own(rows)))
    return Findings(
        figures={cell: _medians(all_told) for cell, all_told in groups.items()},
        spreads={cell: _spreads(all_told) for cell, all_told in groups.items()},
        repetitions={cell: len(all_told) for cell, all_told in groups.items()},
    )


def figures(load: Load, rows: Sequence[Row]) -> dict[str, float | None]:
    """What one load tells; None for what it cannot."""
    replies = [row.reply for row in rows if row.reply is not None]
    walls = [reply.times.wall_seconds for reply in replies]
    steps = [step for reply in replies for step in reply.trace["steps"]]
    later = [c for reply in replies for c in _completions(reply.trace["steps"])[1:]]
    return {
        "answers_per_second": len(replies) / load.seconds if load.seconds else None,
        **{f"p{q}_seconds": quantile(walls, q / 100) for q in (50, 95, 99)},
        **{
            f"{name}_p50_seconds": _first(replies, name) for name in ("first_byte", "first_thought")
        },
        "errors": len(rows) - len(replies),
        "cached_share": _cached(_completions(steps)),
        "later_cached_share": _cached(later),
        "retrieval_share": _ratio(sum(s["retrieval_seconds"] for s in steps), sum(walls)),
        **_replayed(load, sum(walls)),
    }


def lines(found: Findings) -> list[dict[str, Any]]:
    """Each cell's figures as the JSON that the command ends with, one a line."""
    return [
        {
            "concurrency": cell.concurrency,
            **{name: told[name] for name in _COLUMNS},
            "spread": {name: list(ends) for name, ends in found.spreads[cell].items()},
            "repetitions": found.repetitions[cell],
            **{name: getattr(cell, name) for name in _SHOWN},
        }
        for cell, told in found.figures.items()
    ]


def tables(found: Findings) -> list[Table]:
    """All figures, a cell a row."""
    if not found.figures:
        return []
    named = labels(found.figures)
    rows = tuple(
        (named[cell], *(_cell(found, cell, name) for name in _COLUMNS)) for cell in found.figures
    )
    without = any(told["replay_ratio"] is None for told in found.figures.values())
    head = ("", *(title for title, _ in _COLUMNS.values()))
    return [Table("Load", head, rows, _NOTE + (_NO_RATIO if without else ""))]


def plot(found: Findings) -> str:
    """Answers a second over their median time, as SVG; "" without any."""
    named, points = labels(found.figures), []
    for cell, told in found.figures.items():
        rate, seconds = told["answers_per_second"], told["p50_seconds"]
        if rate is not None and seconds is not None:
            low, high = found.spreads[cell].get("answers_per_second", (rate, rate))
            points.append(Point(cell, seconds, {"mean": rate, "low": low, "high": high}, None))
    best = front(points)
    markers = [plots.Marker(named[p.cell], p.seconds, p.score, None, p in best) for p in points]
    return plots.scatter(markers, "seconds an answer (p50)", "answers a second")


def sections(folders: Sequence[Path]) -> list[Section]:
    """What a report says of folders of results, one section a folder."""
    made = []
    for folder in folders:
        found = find(read(folder).values(), results.load(folder).rows)
        title = "Load" if len(folders) == 1 else f"Load: {folder}"
        text = "" if found.figures else "Nothing has been measured to its end yet."
        made.append(Section(title, tuple(tables(found)), tuple(filter(None, [plot(found)])), text))
    return made


def _first(replies: Sequence[Reply], name: str) -> float | None:
    told = [getattr(reply.times, f"{name}_seconds") for reply in replies]
    return quantile([seconds for seconds in told if seconds is not None], 0.5)


def _replayed(load: Load, answer_seconds: float) -> dict[str, float | None]:
    told = load.replay or {}
    alone, unbounded = told.get("seconds"), told.get("unbounded_seconds")
    return {
        "repeated_share": told.get("repeated_share"),
        "tokenise_share": _ratio(told.get("tokenise_seconds"), answer_seconds),
        "replay_ratio": _ratio(alone, load.seconds),
        "unbounded_ratio": _ratio(unbounded, load.seconds),
    }


def _completions(steps: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [completion for step in steps for completion in step["completions"]]


def _cached(completions: Sequence[Mapping[str, Any]]) -> float | None:
    total = sum(completion["num_prompt_tokens"] for completion in completions)
    return _ratio(sum(completion["num_cached_tokens"] for completion in completions), total)


def _ratio(part: float | None, whole: float) -> float | None:
    return None if part is None or not whole else part / whole


def _medians(all_told: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    known = {name: _known(all_told, name) for name in _COLUMNS}
    found = {name: median(values) if values else None for name, values in known.items()}
    return {**found, "errors": sum(known["errors"])}


def _spreads(all_told: Sequence[Mapping[str, float | None]]) -> dict[str, tuple[float, float]]:
    known = {name: _known(all_told, name) for name in _SPREAD}
    return {name: (min(values), max(values)) for name, values in known.items() if values}


def _known(all_told: Sequence[Mapping[str, float | None]], name: str) -> list[float]:
    return [value for told in all_told if (value := told[name]) is not None]


def _cell(found: Findings, cell: Cell, name: str) -> str:
    value, form = found.figures[cell][name], _COLUMNS[name][1]
    if value is None:
        return "–"
    return form.format(value) + "".join(_ends(found, cell, name, form))


def _ends(found: Findings, cell: Cell, name: str, form: str) -> Iterator[str]:
    if found.repetitions[cell] > 1 and name in found.spreads[cell]:
        low, high = found.spreads[cell][name]
        yield f" [{form.format(low)}, {form.format(high)}]"
