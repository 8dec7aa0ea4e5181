"""Figure 6 (accuracy over latency) and Figure 7 (normalised σ while training).

What is left out: how times are taken (latency), and learning σ (recipes/distill).
"""

from collections.abc import Mapping, Sequence

from steper_serve import plots
from steper_serve.benchmarks import latency
from steper_serve.benchmarks.paper.findings import Compared, Finding, lines_by, percent
from steper_serve.benchmarks.paper.published import Published
from steper_serve.benchmarks.paper.recipe import KINDS, Sigmas
from steper_serve.benchmarks.rows import Row
from steper_serve.benchmarks.tables import Table
from steper_serve.errors import ConfigurationError

_ABILITIES = dict(zip(KINDS, ("Initialization", "Expansion", "Aggregation"), strict=True))
_PLACES = (0.0, 0.25, 0.5, 0.75, 1.0)


def fig6(rows: Sequence[Row], sizes: Mapping[str, int | None]) -> Finding:
    """Accuracy and mean seconds of an answer, the Pareto front named.

    Raises:
        ConfigurationError: nothing was timed.
    """
    timed = [row for row in rows if row.cell.concurrency is not None]
    found = latency.find(timed, sizes, "acc")
    if not found.points:
        raise ConfigurationError(
            "no answer here was timed: give the folder of a `bench latency`, or measure anew"
        )
    lines = lines_by(
        (
            "not told",
            f"{found.names[point.cell]}, {point.cell.dataset}",
            {
                "Accuracy": (round(100 * point.score["mean"], 4), percent(point.score)),
                "Seconds": (found.timed[point.cell]["mean_seconds"], _seconds(found, point)),
            },
        )
        for point in found.points
    )
    notes = ["Seconds: the mean of the client's times, over HTTP; the paper's is inference alone."]
    drawn = latency.plot(found)
    more = {"latency": latency.lines(found, sizes)}
    return Finding(lines, notes, latency.tables(found), [drawn] if drawn else [], more)


def fig7(trainings: Sequence[Sigmas]) -> Finding:
    """σ of each kind of step over the sum of the three, over the steps of each training."""
    lines = lines_by(("end of training", each.student, _last(each)) for each in trainings)
    return Finding(lines, [], [_course(each) for each in trainings], [*map(_drawn, trainings)])


def differences(told: Published, trainings: Sequence[Sigmas]) -> list[Compared]:
    """What was trained, in the paper and here."""
    models = "; ".join(f"{each.student} of the recipe {each.recipe}" for each in trainings)
    data = "; ".join(dict.fromkeys(each.data or "unknown" for each in trainings))
    settings = "; ".join(dict.fromkeys(f"those of {each.recipe}" for each in trainings))
    return [
        Compared("models", told.models, models),
        Compared("data", told.data, data),
        Compared("settings", told.loop, settings),
    ]


def _last(training: Sigmas) -> dict[str, tuple[float | int | None, str]]:
    ends = {name: training.by_kind[kind][-1] for kind, name in _ABILITIES.items()}
    return {name: (value, f"{value:.3f}") for name, value in ends.items()}


def _seconds(found: latency.Findings, point: latency.Point) -> str:
    return f"{found.timed[point.cell]['mean_seconds']:.3f}"


def _course(training: Sigmas) -> Table:
    """Its values at the start, after each quarter, and at the end."""
    last = len(training.steps) - 1
    places = sorted({round(share * last) for share in _PLACES})
    rows = tuple(
        (f"step {training.steps[n]:,}", *(f"{training.by_kind[k][n]:.3f}" for k in KINDS))
        for n in places
    )
    return Table(f"Normalised σ of {training.student}", ("", *_ABILITIES.values()), rows)


def _drawn(training: Sigmas) -> str:
    series = {
        name: list(zip(map(float, training.steps), training.by_kind[kind], strict=True))
        for kind, name in _ABILITIES.items()
    }
    return plots.lines(f"Normalised σ of {training.student}", "step", series)
