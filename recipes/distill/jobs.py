"""What one training is about: a student and a seed, and the samples it learns from.

What is left out: the training itself (train.py).
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steper_serve.recipes.distill import examples, tables
from steper_serve.recipes.distill.config import Config
from steper_serve.recipes.distill.failures import StageMissing
from steper_serve.recipes.distill.packing import KINDS, Sample
from steper_serve.recipes.distill.sections import StepChoice, TrainConfig
from steper_serve.recipes.distill.tokenization import StepTokenizer

_COLUMNS = ("dataset", "question_id", "step", "kind", "prompt", "prefix", "target")
_KIND_NAMES = {"first": "init", "mid": "exp", "final": "agg"}


@dataclass(frozen=True, slots=True)
class Job:
    """One student to be trained, and what follows from the configuration for it."""

    config: Config
    student: str
    seed: int
    train: TrainConfig
    folder: Path
    hash: str

    @classmethod
    def of(cls, config: Config, student: str, seed: int) -> "Job":
        """The job of a student and a seed.

        Raises:
            ConfigurationError: there is no such student.
        """
        settings_hash = config.student_hash(student, seed)
        folder = config.out / "students" / config.student_name(student, seed)
        return cls(config, student, seed, config.train_for(student), folder, settings_hash)


def read_samples(job: Job) -> tuple[list[Sample], Counter[str]]:
    """The samples that a student learns from, and how many were left out, by reason.

    Raises:
        StageMissing, BadRecord: see `launch`.
    """
    config, file = job.config, examples.path(job.config, job.config.target_for(job.student))
    steps = config.students[job.student].steps
    tokenizer = StepTokenizer.load(
        config.model_path(config.student.model), templated=examples.is_templated(config)
    )
    rows = (row for row in tables.read(file, _COLUMNS) if is_chosen(row, steps))
    left_out: Counter[str] = Counter()
    samples = []
    for sample in tokenizer.samples(rows, config.target_for(job.student)):
        if len(sample.context_ids) + len(sample.completion_ids) > job.train.max_length:
            left_out["longer than max_length"] += 1
        else:
            samples.append(sample)
    if not samples:
        raise StageMissing(
            f"{file} has no sample for the student {job.student!r} (steps {list(steps)}, left "
            f"out: {dict(left_out) or 'none'}): choose other steps, or raise train.max_length"
        )
    return samples, left_out


def size_of_examples(config: Config, student: str) -> int | None:
    """Bytes of the file that a student learns from: other examples, other size. None without it."""
    file = examples.path(config, config.target_for(student))
    return file.stat().st_size if file.exists() else None


def is_chosen(row: tables.Row, steps: tuple[StepChoice, ...]) -> bool:
    """Whether a row is among the steps of a student: by its kind, or by its number."""
    return any(
        row["step"] == step if isinstance(step, int) else row["kind"] == _KIND_NAMES[step]
        for step in steps
    )


def count(samples: list[Sample], left_out: Counter[str]) -> dict[str, Any]:
    """What a manifest says of them."""
    kinds = Counter(sample.kind for sample in samples)
    return {
        "samples": {kind: kinds[kind] for kind in KINDS},
        "questions": len({sample.question for sample in samples}),
        "left_out": dict(left_out),
    }
