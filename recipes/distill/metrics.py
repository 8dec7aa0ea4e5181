"""What a training tells: JSON lines, TensorBoard, and the plot of sigma. Rank 0 only.

logs/metrics.jsonl          one line a step; a resumed run goes on where its checkpoint was
logs/tensorboard/           the same figures
logs/normalised_sigma.svg   at the end, where weights were learned
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from steper_serve import journal, plots
from steper_serve.journal import Appender
from steper_serve.recipes.distill.batches import KINDS
from steper_serve.recipes.distill.failures import saving

FILE = "metrics.jsonl"


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """Figures of one optimizer step.

    Args:
        loss: the objective.
        losses: L of each kind (scaled as in the objective), None where absent.
        sigma, normalised_sigma: by kind, as they weighed this step; None for fixed weights.
        grad_norm: before clipping.
        tokens: tokens read in this step over all ranks, shared prefixes once.
        targets: tokens that bore loss.
        total_tokens: `tokens` summed over the run.
        tokens_per_second: of this step.
    """

    step: int
    epoch: int
    loss: float
    losses: Mapping[str, float | None]
    sigma: Mapping[str, float] | None
    normalised_sigma: Mapping[str, float] | None
    learning_rate: float
    grad_norm: float
    tokens: int
    targets: int
    total_tokens: int
    tokens_per_second: float


class Log:
    """Writes metrics to a folder; a context manager.

    Args:
        folder: where to.
        start: steps that are done already; what was logged beyond them is dropped.
    """

    def __init__(self, folder: Path, start: int) -> None:
        self._folder = folder
        self._file = appended(folder, start)
        self._told = f"the TensorBoard log in {folder}"
        with saving(self._told):
            self._board = SummaryWriter(folder / "tensorboard", purge_step=start + 1)

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *error: Any) -> None:
        self._file.close()
        self._board.close()

    def write(self, metrics: StepMetrics) -> None:
        """Log a step.

        Raises:
            DiskFailed: the disk refused.
        """
        figures = asdict(metrics)
        self._file.append(figures)
        with saving(self._told):
            for name, value in _flat(figures):
                self._board.add_scalar(name, value, metrics.step)

    def plot(self, title: str) -> None:
        """Write the plot of normalised sigma, if there was any."""
        lines = [line for line in read(self._folder) if line["normalised_sigma"]]
        if lines:
            sigmas: dict[str, list[tuple[float, float]]] = {
                kind: [(line["step"], line["normalised_sigma"][kind]) for line in lines]
                for kind in KINDS
            }
            drawn = plots.lines(f"{title}: normalised σ", "step", sigmas)
            journal.write_text(self._folder / "normalised_sigma.svg", plots.standalone(drawn))


def read(folder: Path) -> Sequence[Mapping[str, Any]]:
    """The lines of a log so far; a torn last line, which a kill may leave, is not one."""
    return [line for _, line in journal.read(folder / FILE)]


def appended(folder: Path, step: int) -> Appender:
    """A log to append to, without what a killed run told of steps beyond `step`, where it goes on.

    Raises:
        DiskFailed: the disk refused, or another process writes this log, so trains this model.
    """
    file = Appender(folder / FILE)
    try:
        file.cut_back(lambda line: line["step"] > step)
    except BaseException:
        file.close()
        raise
    return file


def _flat(figures: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """The numbers of nested mappings, with paths as names."""
    flat: list[tuple[str, float]] = []
    for name, value in figures.items():
        if isinstance(value, Mapping):
            flat += _flat(value, f"{prefix}{name}/")
        elif value is not None and name != "step":
            flat.append((f"{prefix}{name}", value))
    return flat
