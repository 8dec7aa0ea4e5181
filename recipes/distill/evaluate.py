"""Stage 5, `evaluate`: every student in the real loop over every dev set.

Each model is run under each way of ending a step: "eos", where it ends its steps itself, and
"sentence", where a rule does. One evaluation is two files in `evaluations/`: the trajectories,
`<model>-<step_end>-<dataset>.jsonl`, in the form of rollouts, so that a killed one goes on where
it was; and, once they are whole, `….json` with their summary (`steper_serve.evaluation`). A summary
in the folder `made` of [evaluate] that is of the very same settings stands for an evaluation while
there is no student of its own, so that a table can be told without its models. What is left out:
which of them is better (benchmarks).
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from steper_serve import evaluation, journal, questions
from steper_serve.errors import ConfigurationError
from steper_serve.evaluation import Score
from steper_serve.loop import Loop
from steper_serve.questions import Question
from steper_serve.recipes.distill import datasets, manifest, models, records, rollout
from steper_serve.recipes.distill.config import Config, digest
from steper_serve.recipes.distill.failures import BadRecord, StageMissing
from steper_serve.recipes.distill.manifest import Manifest
from steper_serve.recipes.distill.models import OpenModel
from steper_serve.recipes.distill.rollout import Job
from steper_serve.recipes.distill.sections import DatasetConfig, ModelConfig, StepEnd
from steper_serve.strategies import few_shot_prompts
from steper_serve.trajectory import Retriever


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to be evaluated, and how a step of it may end."""

    name: str
    source: ModelConfig
    step_ends: tuple[StepEnd, ...]
    is_student: bool = False


@dataclass(frozen=True, slots=True)
class Trial:
    """One evaluation; `hash` is what it is known by."""

    model: str
    dev: DatasetConfig
    step_end: StepEnd
    hash: str

    @property
    def name(self) -> str:
        return f"{self.model}-{self.step_end}-{self.dev.name}"


@dataclass(frozen=True, slots=True)
class Exam:
    """A dev set, read and indexed."""

    questions: Sequence[Question]
    retriever: Retriever


async def run(
    config: Config, open_model: OpenModel, *, only: Sequence[str] = (), retry_failed: bool = False
) -> Manifest:
    """Evaluate all models, or those named in `only`, and print one table of them.

    With `retry_failed`, questions that failed before are asked again.

    Raises:
        ConfigurationError: there is no dev set, or no model of a name.
        StageMissing: a student is not there yet.
        EngineUnavailable: a model does not start or goes down; what it answered is kept.
        DiskFailed: the disk is full; what was answered before is kept.
    """
    start = time.perf_counter()
    subjects = chosen_subjects(config, only)
    trials = {s.name: trials_of(config, s) for s in subjects}
    left = {
        name: [t for t in each if _is_left(config, t, retry_failed=retry_failed)]
        for name, each in trials.items()
    }
    for subject in subjects:  # before any engine is started
        if left[subject.name]:
            _check_there(config, subject)
    exams: dict[str, Exam] = {}
    for subject in subjects:
        await _examine(
            config, subject, left[subject.name], exams, open_model, retry_failed=retry_failed
        )
    summaries = {t.name: _finished(config, t) or {} for each in trials.values() for t in each}
    print(evaluation.table(summaries))
    return _sealed(config, trials, summaries, time.perf_counter() - start, whole=not only)


def chosen_subjects(config: Config, only: Sequence[str] = ()) -> list[Subject]:
    """The students and the extra models, or those of these names."""
    if not config.dev:
        raise ConfigurationError(f"the recipe {config.name!r} has no [[dev]] set to evaluate on")
    subjects = [*_students(config), *_extras(config)]
    names = [subject.name for subject in subjects]
    for name in only:
        if name not in names:
            raise ConfigurationError(f"there is no model {name!r}; there are: {', '.join(names)}")
    return [s for s in subjects if not only or s.name in only]


def file_of(config: Config, trial: Trial) -> Path:
    """The summary of an evaluation."""
    return config.out / "evaluations" / f"{trial.name}.json"


def _students(config: Config) -> list[Subject]:
    chosen = config.evaluate
    engine = {n: getattr(chosen, n) for n in ("max_model_len", "kv_cache_gib", "enforce_eager")}
    names = [config.student_name(s, k) for s in config.students for k in config.students[s].seeds]
    folder = config.out / "students"
    return [
        Subject(name, ModelConfig(model=str(folder / name), **engine), chosen.step_ends, True)
        for name in names
    ]


def _extras(config: Config) -> list[Subject]:
    return [
        Subject(m.name, m, m.step_ends or config.evaluate.step_ends) for m in config.evaluate.models
    ]


def _check_there(config: Config, subject: Subject) -> None:
    models.resolved(config, subject.source)
    if not subject.is_student:
        return
    folder = config.out / "students" / subject.name
    made = manifest.read(folder)
    if made is None:
        raise StageMissing(f"there is no student {folder}: run `steper-serve distill train` first")
    if made.config_hash != config.trained_hash(subject.name):
        raise StageMissing(
            f"the student {folder} was trained under other settings: put them back, or run "
            "`steper-serve distill train` again"
        )


def trials_of(config: Config, subject: Subject) -> list[Trial]:
    """The evaluations of a model: of each dev set under each way of ending a step."""
    return [
        Trial(subject.name, dev, end, config.evaluation_hash(subject.name, dev, end))
        for dev in config.dev
        for end in subject.step_ends
    ]


async def _examine(
    config: Config,
    subject: Subject,
    left: Sequence[Trial],
    exams: dict[str, Exam],
    open_model: OpenModel,
    *,
    retry_failed: bool,
) -> None:
    """What is left of a model's evaluations."""
    if not left:
        print(f"{subject.name}: evaluated before under this configuration; skipped")
        return
    for trial in left:  # before an engine is started for nothing
        if trial.dev.name not in exams:
            exams[trial.dev.name] = _exam(config, trial.dev)
    source = models.resolved(config, subject.source)
    few_shot = few_shot_prompts(source.prompts)
    async with open_model(source) as (model, format):
        for trial in left:
            ending = replace(format, step_end=trial.step_end)
            job = Job(
                dataset=trial.name,
                config=trial.hash,
                file=file_of(config, trial).with_suffix(".jsonl"),
                concurrency=config.evaluate.concurrency,
                retry_failed=retry_failed,
            )
            exam = exams[trial.dev.name]
            most = config.step_tokens_for(subject.name, trial.step_end)
            loop = models.loop_of(
                config, model, exam.retriever, ending, few_shot, max_step_tokens=most
            )
            await _try(config, trial, job, exam.questions, loop)


def _is_left(config: Config, trial: Trial, *, retry_failed: bool) -> bool:
    found = _finished(config, trial)
    return found is None or (retry_failed and found["num_failed"] > 0)


async def _try(
    config: Config, trial: Trial, job: Job, asked: Sequence[Question], loop: Loop
) -> None:
    """Ask what is left of an evaluation's questions, and write its summary."""
    await rollout.collect(job, asked, loop)
    summary = evaluation.summary(scores_of(config, trial, asked))
    told = {
        "model": trial.model,
        "dataset": trial.dev.name,
        "strategy": config.strategy,
        "step_end": trial.step_end,
        "config_hash": trial.hash,
    }
    journal.write_json(file_of(config, trial), told | summary)


def is_answered(config: Config, trial: Trial) -> bool:
    """Whether all questions of an evaluation were asked here."""
    return _read(file_of(config, trial), trial) is not None


def is_told(config: Config, trial: Trial) -> bool:
    """Whether there is a summary of an evaluation, made here or bundled."""
    return _finished(config, trial) is not None


def scores_of(config: Config, trial: Trial, asked: Sequence[Question]) -> list[Score]:
    """The scores of all questions, from their trajectories on disk; a failed one scores 0."""
    file = file_of(config, trial).with_suffix(".jsonl")
    held = records.scan(file, trial.hash)
    scores: dict[str, Score] = {}
    by_id = {q.id: q for q in asked}
    for place, record in journal.read_at(file, held.done.values()):
        if question := by_id.get(record["id"]):
            trajectory = records.trajectory(record, file, place)
            seconds = records.required(record, "seconds", file, place)
            scores[question.id] = evaluation.score(question, trajectory, seconds)
    return [scores.get(q.id) or evaluation.score(q, None) for q in asked]


def _exam(config: Config, dev: DatasetConfig) -> Exam:
    asked = questions.drawn(datasets.read_questions(config, dev), config.evaluate.limit)
    return Exam(asked, datasets.open_index(config, dev))


def _finished(config: Config, trial: Trial) -> dict[str, Any] | None:
    """The summary of an evaluation under this configuration; a bundled one is of another student
    than that which was trained here."""
    here, bundled = file_of(config, trial), config.evaluate.made
    if (found := _read(here, trial)) or bundled is None or _is_trained(config, trial.model):
        return found
    return _read(bundled / here.name, trial)


def _is_trained(config: Config, model: str) -> bool:
    made = manifest.read(config.out / "students" / model)
    return made is not None and made.config_hash == config.trained_hash(model)


def _read(file: Path, trial: Trial) -> dict[str, Any] | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return found if found["config_hash"] == trial.hash else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadRecord(f"{file} is not an evaluation's summary ({error}): delete it") from error


def _sealed(
    config: Config,
    trials: Mapping[str, Sequence[Trial]],
    summaries: Mapping[str, Mapping[str, Any]],
    seconds: float,
    *,
    whole: bool,
) -> Manifest:
    """The stage's manifest, written when every model has been evaluated."""
    config_hash = digest([trial.hash for each in trials.values() for trial in each])
    tokens = sum(round(s["mean_generated_tokens"] * s["num_questions"]) for s in summaries.values())
    counts = {
        name: {key: s[key] for key in ("num_questions", "num_failed", "em", "f1", "acc")}
        for name, s in summaries.items()
    }
    made = Manifest("evaluate", config_hash, whole, seconds, tokens, {"evaluations": counts})
    if whole:
        manifest.write(config.out / "evaluations", made)
    return made
