"""All that a table or figure is drawn from: measured rows, folders of results, recipes.

What is left out: measuring (running), and asking a judge (verdicts).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from steper_serve.benchmarks import latency, results
from steper_serve.benchmarks.paper import answered, recipe
from steper_serve.benchmarks.paper.answered import Subject
from steper_serve.benchmarks.paper.recipe import Sigmas
from steper_serve.benchmarks.results import Loaded
from steper_serve.benchmarks.rows import Row
from steper_serve.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Gathered:
    """What there is.

    Args:
        subjects: everything that was answered.
        rows: those of benchmarks, with their times.
        sizes: parameters by what is served.
        served: what each is, in words.
        sources: by data set, the DATASET that it was asked from.
        trainings: σ while training.
    """

    subjects: Sequence[Subject] = ()
    rows: Sequence[Row] = ()
    sizes: Mapping[str, int | None] = field(default_factory=dict)
    served: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    trainings: Sequence[Sigmas] = ()

    @property
    def names(self) -> list[str]:
        """What was served, each once."""
        return list(dict.fromkeys(subject.cell.served for subject in self.subjects))

    def with_sizes(self, given: Mapping[str, int]) -> "Gathered":
        """The same with parameters by what is served, where the folders do not tell.

        Raises:
            ConfigurationError: a name is not among what was answered.
        """
        check_served("--parameters", given, self.names)
        sized = [
            replace(s, num_parameters=given.get(s.cell.served, s.num_parameters))
            for s in self.subjects
        ]
        return replace(self, subjects=sized, sizes={**self.sizes, **given})

    def sampled(self, limit: int | None) -> "Gathered":
        """The same with at most `limit` questions a subject, and of each the same rows."""
        if limit is None:
            return self
        subjects = [subject.sampled(limit) for subject in self.subjects]
        groups = results.grouped(self.rows).values()
        return replace(self, subjects=subjects, rows=[r for g in groups for r in _drawn(g, limit)])


def check_served(option: str, given: Iterable[str], names: Sequence[str]) -> None:
    """Return if what an option names is all among `names`.

    Raises:
        ConfigurationError: something is not.
    """
    if unknown := [name for name in given if name not in names]:
        raise ConfigurationError(
            f"{option} names {unknown[0]!r}, which is not here; there is {', '.join(names)}"
        )


def of_folders(folders: Sequence[Path], recipes: Sequence[Path]) -> Gathered:
    """What folders of results and recipes' output folders hold.

    Raises:
        ConfigurationError: a folder holds none, or no question was answered.
        BadRecord: what it holds cannot be read; names file and line.
    """
    gathered = of_results(results.load_all(folders))
    subjects, served = list(gathered.subjects), dict(gathered.served)
    for folder in recipes:
        found = recipe.subjects(folder)
        subjects += _told_apart(found, folder) if len(recipes) > 1 else found
        served |= {s.cell.served: f"of the recipe {folder}" for s in subjects[-len(found) :]}
    if not subjects:
        raise ConfigurationError("no question has been answered in these folders yet")
    return replace(gathered, subjects=subjects, served=served)


def of_results(loaded: Sequence[Loaded]) -> Gathered:
    """What folders of results hold, read."""
    rows = [row for each in loaded for row in each.rows]
    sizes = latency.sizes_of([each.manifest.served for each in loaded])
    served = {name: told for each in loaded for name, told in each.manifest.served.items()}
    asked = {name: told for each in loaded for name, told in each.manifest.datasets.items()}
    return Gathered(
        subjects=answered.of_rows(rows, sizes),
        rows=rows,
        sizes=sizes,
        served={name: _said(told) for name, told in served.items()},
        sources={name: told["source"] for name, told in asked.items()},
    )


def of_trainings(recipes: Sequence[Path]) -> Gathered:
    """How σ went in the trainings of recipes.

    Raises:
        ConfigurationError: none of its students learned it.
        BadRecord: a log cannot be read.
    """
    return Gathered(trainings=recipe.sigmas(recipes))


def _drawn(rows: Sequence[Row], limit: int) -> list[Row]:
    chosen = answered.drawn((row.question for row in rows), limit)
    return [row for row in rows if row.question.id in chosen]


def _told_apart(subjects: Sequence[Subject], folder: Path) -> list[Subject]:
    return [
        replace(s, cell=replace(s.cell, served=f"{s.cell.served} of {folder.name}"))
        for s in subjects
    ]


def _said(told: Mapping[str, Any]) -> str:
    return str(told.get("url") or told.get("model") or "the bundled student")
