"""What can go wrong in a recipe, as typed errors. Each names the file and what to do."""

from steper_serve.errors import SteperError
from steper_serve.journal import BadRecord, DiskFailed

__all__ = ["BadRecord", "DiskFailed", "StageMissing", "TrainingEnded"]


class StageMissing(SteperError):
    """A stage finds nothing that an earlier one should have left."""

    code = "stage_missing"


class TrainingEnded(SteperError):
    """A training process ended before its student was done; started again, it goes on."""

    code = "training_ended"
