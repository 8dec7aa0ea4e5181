"""Cells: the sets of settings that a benchmark compares, each known by a hash.

A cell is all that an answer may depend on but the question: what is served, the dataset, the
request's own settings and, where time is measured, what else was in flight. What is left out:
the questions; a row is known by its cell's hash and its question's id.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from typing import Any

from steper_serve.errors import ConfigurationError

_DEFAULT_MODEL = "steper"
# What goes with another field, and is no news beside it.
_GOES_WITH = {"corpus": "dataset", "weights": "served", "flags": "served"}


@dataclass(frozen=True, slots=True)
class Cell:
    """One set of settings.

    Args:
        dataset: its name.
        corpus: the digest of its corpus, "" without one.
        served: what is measured, by the name that tables show.
        weights: the digest of a model directory that was served from this machine, "" of others.
        flags: what a server that the benchmark started was given beside.
        model: the model id that is asked for, `steper…`.
        strategy: None leaves it to the model id or the server.
        max_steps, top_k: None leaves them to the server.
        streamed: whether a stream is asked for.
        concurrency: answers in flight; None where only their content counts.
        repetition: from 0.
    """

    dataset: str
    corpus: str
    served: str
    weights: str
    flags: tuple[str, ...]
    model: str
    strategy: str | None
    max_steps: int | None
    top_k: int | None
    streamed: bool = False
    concurrency: int | None = None
    repetition: int = 0

    @property
    def config(self) -> str:
        """The hash that rows are keyed by."""
        text = json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def group(self) -> "Cell":
        """The cell that all repetitions of it are summed up under."""
        return replace(self, repetition=0)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Cell":
        """The inverse of `dataclasses.asdict`, by way of JSON."""
        return cls(**{**data, "flags": tuple(data["flags"])})


@dataclass(frozen=True, slots=True)
class Setting:
    """The part of a cell that stands in a request."""

    model: str
    strategy: str | None
    max_steps: int | None
    top_k: int | None


def matrix(
    models: Sequence[str],
    strategies: Sequence[str | None],
    max_steps: Sequence[int | None],
    top_k: Sequence[int | None],
) -> list[Setting]:
    """Every combination, in order; what is empty is left to the server.

    Raises:
        ConfigurationError: a model id is a strategy already, and another is asked for.
    """
    combined = product(
        models or [_DEFAULT_MODEL], strategies or [None], max_steps or [None], top_k or [None]
    )
    settings = list(dict.fromkeys(Setting(*each) for each in combined))
    for setting in settings:
        _check(setting)
    return settings


def labels(cells: Iterable[Cell]) -> dict[Cell, str]:
    """A short name for each cell: what it does not have in common with all others."""
    known = list(dict.fromkeys(cells))
    differing = [f.name for f in fields(Cell) if _differs(f.name, known)]
    named = {cell: ", ".join(_said(cell, differing)) for cell in known}
    return {cell: name or cell.dataset for cell, name in named.items()}


def _differs(name: str, cells: Sequence[Cell]) -> bool:
    other = _GOES_WITH.get(name)
    values = {(other and getattr(cell, other), getattr(cell, name)) for cell in cells}
    return len(values) > (len({getattr(cell, other) for cell in cells}) if other else 1)


def _said(cell: Cell, differing: Sequence[str]) -> Iterator[str]:
    for name in differing:
        value = getattr(cell, name)
        match name:
            case "max_steps":
                yield "default steps" if value is None else f"{value} steps"
            case "top_k":
                yield "default top k" if value is None else f"top {value}"
            case "strategy":
                yield value or "default strategy"
            case "concurrency":
                yield "any number in flight" if value is None else f"{value} in flight"
            case "streamed":
                yield "streamed" if value else "whole"
            case "flags":
                yield " ".join(value) or "no flags"
            case "corpus" | "weights":
                yield f"{name} {value[:6] or 'unknown'}"
            case "repetition":
                yield f"repetition {value + 1}"
            case _:
                yield str(value)


def _check(setting: Setting) -> None:
    own = setting.model.partition("-")[2]
    if own and setting.strategy and own != setting.strategy:
        raise ConfigurationError(
            f"--model {setting.model} is a strategy of its own and --strategy asks for "
            f"{setting.strategy}: give `--model {_DEFAULT_MODEL}` with strategies, or models alone"
        )
