"""Stage 1, `rollout`: the teacher answers every question through the served loop.

One file a dataset, `rollouts/<name>.jsonl`, one line an attempt:

    {"id", "config", "dataset", "question", "answers", "type", "hops",
     "trajectory": Trajectory.to_json() | null, "error": {"type", "message"} | null, "seconds"}

A finished question is on disk at once (journal), keyed by its id and the hash of what it was
made with, so that a stage that was killed goes on where it was. A question that failed is kept
with its error and asked again with `retry_failed`. A teacher that is down ends the stage.
What is left out: judging what the teacher wrote (filter).
"""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from steper_serve import answers, evaluation, journal
from steper_serve.errors import EngineUnavailable
from steper_serve.evaluation import Outcome
from steper_serve.journal import Appender, Record
from steper_serve.loop import Loop
from steper_serve.questions import Question
from steper_serve.recipes.distill import datasets, estimates, manifest, models, records
from steper_serve.recipes.distill.config import Config
from steper_serve.recipes.distill.manifest import Manifest
from steper_serve.recipes.distill.models import OpenModel
from steper_serve.recipes.distill.recorded import Recorded, recorded
from steper_serve.recipes.distill.sections import DatasetConfig
from steper_serve.strategies import few_shot_prompts
from steper_serve.trajectory import LanguageModel, Sampling, Trajectory


@dataclass(frozen=True, slots=True)
class Job:
    """Questions to be answered into a file.

    Args:
        dataset: its name.
        config: the hash that each record is keyed by, beside its question's id.
        file: what records are appended to.
        concurrency: questions in flight.
        sampling: how the model draws tokens.
        retry_failed: ask those again that failed before.
    """

    dataset: str
    config: str
    file: Path
    concurrency: int
    sampling: Sampling = Sampling()
    retry_failed: bool = False


@dataclass(slots=True)
class Tally:
    """What came of a job, earlier runs of it included. `tokens` are generated ones."""

    questions: int = 0
    done: int = 0
    failed: int = 0
    right: int = 0
    tokens: int = 0

    def count(self, trajectory: Trajectory | None, gold: Sequence[str]) -> None:
        """Count a question; None in place of a trajectory is a failure."""
        if trajectory is None:
            self.failed += 1
            return
        self.done += 1
        self.tokens += trajectory.usage.num_completion_tokens
        self.right += int(answers.exact_match(trajectory.answer, gold))


def file_of(config: Config, dataset: DatasetConfig) -> Path:
    """The dataset's rollouts."""
    return config.out / "rollouts" / f"{dataset.name}.jsonl"


async def run(config: Config, open_model: OpenModel, *, retry_failed: bool = False) -> Manifest:
    """Answer the questions of every dataset with the teacher.

    Raises:
        EngineUnavailable: the teacher is down; all that it finished is kept.
        DiskFailed: the disk is full; all that was finished before is kept.
        SteperError: the questions, the index or the teacher cannot be used.
    """
    folder, config_hash = config.out / "rollouts", config.stage_hash("rollout")
    done = manifest.finished(folder, config_hash)
    if done and not (retry_failed and _num_failed(done)):
        return done
    start = time.perf_counter()
    print(f"rollout: {len(config.datasets)} datasets to read and to index")
    teacher = models.resolved(config, config.teacher)
    few_shot = few_shot_prompts(teacher.prompts)
    sources = [  # before a teacher is started for nothing
        (d, datasets.read_questions(config, d), datasets.open_index(config, d))
        for d in config.datasets
    ]
    tallies: dict[str, Any] = {}
    async with open_model(teacher) as (model, format):
        with _recorded(model, config) as model:
            for dataset, questions, retriever in sources:
                job = job_of(config, dataset, retry_failed=retry_failed)
                loop = models.loop_of(config, model, retriever, format, few_shot)
                tallies[dataset.name] = asdict(await collect(job, questions, loop))
            if isinstance(model, Recorded):
                print(f"{model.num_asked:,} generations of the teacher added to {model.file}")
    tokens = sum(tally["tokens"] for tally in tallies.values())
    seconds = time.perf_counter() - start + (done.seconds if done else 0)
    made = Manifest("rollout", config_hash, True, seconds, tokens, {"datasets": tallies})
    manifest.write(folder, made)
    return made


def job_of(config: Config, dataset: DatasetConfig, *, retry_failed: bool = False) -> Job:
    """The rollouts of one dataset."""
    return Job(
        dataset=dataset.name,
        config=config.rollout_hash(dataset),
        file=file_of(config, dataset),
        concurrency=config.teacher.concurrency,
        sampling=Sampling(temperature=config.teacher.temperature, seed=config.seed),
        retry_failed=retry_failed,
    )


async def collect(job: Job, questions: Sequence[Question], loop: Loop) -> Tally:
    """Answer what is not answered yet, append each to the job's file as it ends.

    Args:
        job: where to, and how.
        questions: all of the dataset's; those that the file holds are not asked again.
        loop: answers them.

    Raises:
        EngineUnavailable: the model is down; what it finished is in the file.
        DiskFailed: the disk is full, or another process writes to the file.
        BadRecord: the file holds something else; names the line.
    """
    with Appender(job.file) as out:
        left, tally = _what_is_left(job, questions)
        known = (tally.done, tally.failed)
        print(estimates.announcement(job.dataset, *known, left, loop, tally.tokens))
        with tqdm(total=len(left), unit=" questions", disable=not left) as bar:

            def take(outcome: Outcome) -> None:
                out.append(record_of(job, outcome))
                tally.count(outcome.trajectory, outcome.question.answers)
                bar.set_postfix(right=tally.right, failed=tally.failed, refresh=False)
                bar.update()

            try:
                await evaluation.run(
                    loop, left, take, concurrency=job.concurrency, sampling=job.sampling
                )
            except EngineUnavailable as error:
                raise _down(job, tally, error) from error
    return tally


def _recorded(model: LanguageModel, config: Config) -> AbstractContextManager[LanguageModel]:
    file = config.teacher.recorded
    return nullcontext(model) if file is None else recorded(model, file, config.teacher_hash())


def record_of(job: Job, outcome: Outcome) -> Record:
    """A question's outcome as the line that is kept of it."""
    question, error = outcome.question, outcome.error
    return {
        "id": question.id,
        "config": job.config,
        "dataset": job.dataset,
        "question": question.question,
        "answers": list(question.answers),
        "type": question.type,
        "hops": question.hops,
        "trajectory": outcome.trajectory and outcome.trajectory.to_json(),
        "error": error and {"type": type(error).__name__, "message": error.message},
        "seconds": round(outcome.seconds, 4),
    }


def _what_is_left(job: Job, questions: Sequence[Question]) -> tuple[list[Question], Tally]:
    """The questions to be asked, and the tally of those that the file holds."""
    held, tally = records.scan(job.file, job.config), Tally(len(questions))
    gold = {q.id: q.answers for q in questions}
    for place, record in journal.read_at(job.file, held.done.values()):
        if record["id"] in gold:
            tally.count(records.trajectory(record, job.file, place), gold[record["id"]])
    if not job.retry_failed:
        tally.failed = len(gold.keys() & held.failed.keys())
    known = held.done.keys() if job.retry_failed else held.done.keys() | held.failed.keys()
    return [q for q in questions if q.id not in known], tally


def _down(job: Job, tally: Tally, error: EngineUnavailable) -> EngineUnavailable:
    left = tally.questions - tally.done - tally.failed
    return EngineUnavailable(
        f"{job.dataset}: the model is down ({error.message.rstrip('.')}). {tally.done:,} questions "
        f"are answered and kept in {job.file}, {left:,} are left: start the same command again "
        "when it is back."
    )


def _num_failed(done: Manifest) -> int:
    return sum(int(tally["failed"]) for tally in done.counts["datasets"].values())
