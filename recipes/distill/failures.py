"""What can go wrong in a recipe, as typed errors. Each names the file and what to do."""

import pickle
from collections.abc import Iterator
from contextlib import contextmanager

from safetensors import SafetensorError

from steper_serve.errors import SteperError
from steper_serve.journal import BadRecord, DiskFailed

__all__ = ["BadRecord", "DiskFailed", "StageMissing", "TrainingEnded", "loading", "saving"]


class StageMissing(SteperError):
    """A stage finds nothing that an earlier one should have left."""

    code = "stage_missing"


class TrainingEnded(SteperError):
    """A training process ended before its student was done; started again, it goes on."""

    code = "training_ended"


@contextmanager
def saving(what: str, advice: str = "make room and start again") -> Iterator[None]:
    """What the writers of torch and transformers raise for a full disk, as `DiskFailed`.

    They have no error of their own for it. `what` is saved, and where.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        raise DiskFailed(f"cannot save {what}: {error}; {advice}") from error


@contextmanager
def loading(what: str, advice: str) -> Iterator[None]:
    """What the readers of torch and DeepSpeed raise for a damaged file, as `BadRecord`."""
    try:
        yield
    except (
        OSError,
        RuntimeError,
        KeyError,
        EOFError,
        AssertionError,
        pickle.UnpicklingError,
    ) as error:
        raise BadRecord(f"cannot load {what}: {error}; {advice}") from error
