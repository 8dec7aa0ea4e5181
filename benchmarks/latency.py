"""How long answers take, beside how right they are: the paper's Figure 6.

Everything is measured at the client, over a stream that carries its trace: the first byte, the
first piece of a thought and of the answer, and the whole. A step's time is split by the trace:
retrieval; vLLM's queue, prefill and decode; its front end, which is the rest of the time in a
generation (tokenising, hand-offs between processes, passing tokens on); and outside, which is
what the client waited beyond all generations (retrieval, prompts, HTTP, JSON, the client
itself). What is left out: load (how many answers a second a server can give at all).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from steper_serve import plots
from steper_serve.benchmarks import accuracy, results
from steper_serve.benchmarks.accuracy import SCORES
from steper_serve.benchmarks.cells import Cell, labels
from steper_serve.benchmarks.quantiles import quantile
from steper_serve.benchmarks.rows import Row
from steper_serve.benchmarks.tables import Section, Table
from steper_serve.evaluation import share

_ENGINE = ("queue", "prefill", "decode")
_PARTS = ("retrieval", *_ENGINE, "front_end", "outside", "wall")
_FIRSTS = ("first_byte", "first_thought", "first_answer")
_NOTE = (
    "Times in seconds, medians but for p95 and the mean. `cached`: the share of prompt tokens that "
    "the engine's prefix cache held; what is asked twice of one server is found there."
)
_STEP_NOTE = (
    "Milliseconds, median and quartiles over answers of an answer's mean step. `front end`: "
    "generation beyond queue, prefill and decode; `outside`: all but generation, so retrieval too."
)


@dataclass(frozen=True, slots=True)
class Point:
    """A cell in the plane of Figure 6; `score` is {"mean", "low", "high"}."""

    cell: Cell
    seconds: float
    score: Mapping[str, float]
    num_parameters: int | None


@dataclass(frozen=True, slots=True)
class Findings:
    """What rows tell.

    Args:
        score: which of `SCORES` stands against time.
        summaries: of every cell (accuracy).
        timed: what the answers of each cell took; a cell without an answer is left out.
        names: of every cell.
        points: of every timed cell.
        front: those of them on the Pareto front, fastest first.
    """

    score: str
    summaries: Mapping[Cell, Mapping[str, Any]]
    timed: Mapping[Cell, Mapping[str, Any]]
    names: Mapping[Cell, str]
    points: Sequence[Point]
    front: Sequence[Point]


def find(rows: Sequence[Row], sizes: Mapping[str, int | None], score: str) -> Findings:
    """Sum up rows; `sizes` are parameters by what is served."""
    summaries = accuracy.summaries(rows)
    groups = results.grouped(row for row in rows if row.reply is not None)
    timed = {cell: _timing(group) for cell, group in groups.items()}
    points = [
        Point(cell, timing["p50_seconds"], summaries[cell][score], sizes.get(cell.served))
        for cell, timing in timed.items()
    ]
    return Findings(score, summaries, timed, labels(summaries), points, front(points))


def front(points: Sequence[Point]) -> list[Point]:
    """The Pareto front, fastest first: nothing else is as fast and as right, and more so in one."""

    def beaten(point: Point) -> bool:
        mine = (point.seconds, -point.score["mean"])
        others = ((p.seconds, -p.score["mean"]) for p in points)
        return any(o != mine and o[0] <= mine[0] and o[1] <= mine[1] for o in others)

    best = [point for point in points if not beaten(point)]
    return sorted(best, key=lambda p: (p.seconds, -p.score["mean"]))


def lines(found: Findings, sizes: Mapping[str, int | None]) -> list[dict[str, Any]]:
    """Each cell's scores and times as the JSON that the command ends with."""
    best = {point.cell for point in found.front}
    scored = zip(found.summaries, accuracy.lines(found.summaries), strict=True)
    return [
        {
            **line,
            **found.timed.get(cell, {}),
            "num_parameters": sizes.get(cell.served),
            "pareto": cell in best,
        }
        for cell, line in scored
    ]


def tables(found: Findings) -> list[Table]:
    """Accuracy and latency side by side, the Pareto front named; and where a step's time goes."""
    if not found.points:
        return []
    title = SCORES[found.score]
    head = ("", title, "p50", "p95", "mean", "first byte", "first thought", "first answer")
    shown = tuple(_row(found, point) for point in found.points)
    path = " → ".join(found.names[point.cell] for point in found.front)
    note = f"Pareto front ({title} over p50): {path}\n\n{_NOTE}"
    parts = ("", *(_part(name) for name in _PARTS))
    steps = tuple((found.names[cell], *_step(timing)) for cell, timing in found.timed.items())
    return [
        Table("Latency", (*head, "answers/s", "cached", "parameters", "Pareto"), shown, note),
        Table("A step", parts, steps, _STEP_NOTE),
    ]


def plot(found: Findings) -> str:
    """Figure 6 as SVG; "" while nothing is timed."""
    markers = [
        plots.Marker(found.names[p.cell], p.seconds, p.score, p.num_parameters, p in found.front)
        for p in found.points
    ]
    return plots.scatter(markers, "seconds an answer (p50)", SCORES[found.score])


def sections(folders: Sequence[Path]) -> list[Section]:
    """What a report says of folders of results."""
    loaded = results.load_all(folders)
    sizes = sizes_of([each.manifest.served for each in loaded])
    rows = [row for each in loaded for row in each.rows]
    found = find(rows, sizes, "acc")
    drawn = tuple(filter(None, (plot(found), _bars(found))))
    made = Section("Latency", tuple(tables(found)), drawn)
    scored = accuracy.section("Accuracy of what was timed", found.summaries, rows)
    return [made, scored]


def sizes_of(manifests: Iterable[Mapping[str, Any]]) -> dict[str, int | None]:
    """Parameters by what is served, from manifests."""
    return {n: told.get("num_parameters") for served in manifests for n, told in served.items()}


def _timing(rows: Sequence[Row]) -> dict[str, Any]:
    walls = [row.reply.times.wall_seconds for row in rows if row.reply]
    timing: dict[str, Any] = {
        "mean_seconds": fmean(walls),
        "p50_seconds": quantile(walls, 0.5),
        "p95_seconds": quantile(walls, 0.95),
    }
    for first in _FIRSTS:
        told = [getattr(row.reply.times, f"{first}_seconds") for row in rows if row.reply]
        known = [seconds for seconds in told if seconds is not None]
        for name, q in (("p50", 0.5), ("p95", 0.95)):
            timing[f"{first}_{name}_seconds"] = quantile(known, q)
    timing["answers_per_second"] = accuracy.rate(rows)
    num_prompt = sum(row.usage.num_prompt_tokens for row in rows)
    num_cached = sum(row.usage.num_cached_tokens for row in rows)
    timing["cached_share"] = num_cached / num_prompt if num_prompt else None
    return timing | {"step_seconds": _steps(rows)}


def _steps(rows: Sequence[Row]) -> dict[str, dict[str, float | None]]:
    """Median and quartiles of each part of a step, over the answers that have it."""
    split = [step_seconds(row) for row in rows if row.reply and row.reply.trace["steps"]]
    parts = {name: [each[name] for each in split if name in each] for name in _PARTS}
    shares = {"p25": 0.25, "p50": 0.5, "p75": 0.75}
    return {
        name: {key: quantile(seconds, q) for key, q in shares.items()}
        for name, seconds in parts.items()
        if seconds
    }


def step_seconds(row: Row) -> dict[str, float]:
    """An answer's mean step, by part; without vLLM's own times where the engine tells none, or
    was asked nothing."""
    if row.reply is None:
        raise ValueError("a failed question has no steps")
    steps, wall = row.reply.trace["steps"], row.reply.times.wall_seconds

    def total(name: str) -> float:
        return sum(step.get(f"{name}_seconds") or 0.0 for step in steps)

    engine = {name: total(name) for name in _ENGINE}
    generation, known = total("generation"), sum(engine.values())
    parts = {"retrieval": total("retrieval"), "outside": wall - generation, "wall": wall}
    if known:
        parts |= engine | {"front_end": generation - known}
    return {name: seconds / len(steps) for name, seconds in parts.items()}


def _bars(found: Findings) -> str:
    parts = [name for name in _PARTS if name not in ("retrieval", "wall")]
    steps = {found.names[cell]: timing["step_seconds"] for cell, timing in found.timed.items()}
    shown = {
        name: {_part(part): 1e3 * known[part]["p50"] for part in parts}
        for name, known in steps.items()
        if "decode" in known
    }
    return plots.bars("Where a step's time goes", "milliseconds a step (medians)", shown)


def _row(found: Findings, point: Point) -> tuple[str, ...]:
    timing = found.timed[point.cell]
    seconds = [timing[f"{key}_seconds"] for key in ("p50", "p95", "mean")]
    firsts = [timing[f"{first}_p50_seconds"] for first in _FIRSTS]
    per_second, cached = timing["answers_per_second"], timing["cached_share"]
    return (
        found.names[point.cell],
        share(point.score),
        *("–" if value is None else f"{value:.3f}" for value in (*seconds, *firsts)),
        "–" if per_second is None else f"{per_second:.1f}",
        "–" if cached is None else f"{cached:.0%}",
        plots.count(point.num_parameters) or "–",
        "yes" if point in found.front else "",
    )


def _step(timing: Mapping[str, Any]) -> list[str]:
    told = [timing["step_seconds"].get(name) for name in _PARTS]
    return ["–" if t is None else _milliseconds(t) for t in told]


def _milliseconds(told: Mapping[str, float]) -> str:
    low, middle, high = (1e3 * told[name] for name in ("p25", "p50", "p75"))
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def _part(name: str) -> str:
    return "step" if name == "wall" else name.replace("_", " ")
