"""What can go wrong in a recipe, as typed errors. Each names the file and what to do."""

from steper_serve.errors import SteperError


class BadRecord(SteperError):
    """A line of a file that a stage reads is not what the stage before would have written."""

    code = "bad_record"


class DiskFailed(SteperError):
    """A file could not be written: the disk is full, or it refused. What was whole stays so."""

    code = "disk_failed"


class StageMissing(SteperError):
    """A stage finds nothing that an earlier one should have left."""

    code = "stage_missing"


class TrainingEnded(SteperError):
    """A training process ended before its student was done; started again, it goes on."""

    code = "training_ended"
