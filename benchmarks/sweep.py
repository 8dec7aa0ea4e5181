"""Ask a server with so many questions in flight, and replay the same prompts right after.

Every repetition of every cell has a server of its own (unless it is at an --endpoint), so that
none finds its prompts in the prefix cache of another; then that server ends, and a process with
the same model, index and flags replays its answers in the engine alone. Both sides are warmed up
with the same questions, which are not among the measured ones. A cell is measured whole: what a
kill left of one is asked again. What is left out: what loads tell (load).
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import uvloop
from tqdm import tqdm

from steper_serve import questions
from steper_serve.benchmarks import datasets, lean, replaying, server
from steper_serve.benchmarks.cells import Cell
from steper_serve.benchmarks.client import Client
from steper_serve.benchmarks.datasets import Dataset
from steper_serve.benchmarks.failures import AnswerFailed, EndpointUnreachable
from steper_serve.benchmarks.lean import LeanClient, Sent
from steper_serve.benchmarks.load import LOADS, Load, read, to_json
from steper_serve.benchmarks.replaying import Recording
from steper_serve.benchmarks.results import Results
from steper_serve.benchmarks.rows import Failure, Row
from steper_serve.benchmarks.running import Plan, gone, note
from steper_serve.benchmarks.server import Served
from steper_serve.crew import answer_all
from steper_serve.errors import ConfigurationError, SteperError
from steper_serve.journal import Appender
from steper_serve.questions import Question

Tick = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Sweep:
    """What `bench load` asks.

    Args:
        plan: of the rest; its concurrency is that of none of the cells.
        concurrencies: answers in flight, one cell after the other.
        streamed: whether streams are asked for, or whole answers.
        replays: whether the engine alone is measured too.
    """

    plan: Plan
    concurrencies: Sequence[int]
    streamed: bool = True
    replays: bool = True

    def jobs(self, dataset: Dataset) -> "list[Job]":
        """All cells of a dataset, each repetition of all before the next.

        Raises:
            ConfigurationError: the warm-up leaves no question.
        """
        warmup, asked = self._questions(dataset)
        plans = [replace(self.plan, concurrency=number) for number in self.concurrencies]
        jobs = [
            Job(dataset, served, replace(cell, streamed=self.streamed), warmup, asked)
            for served in self.plan.served
            for plan in plans
            for cell in plan.cells(dataset, served)
        ]
        return sorted(jobs, key=lambda job: job.cell.repetition)

    def _questions(self, dataset: Dataset) -> tuple[list[Question], list[Question]]:
        """Those of the warm-up, and those that are measured."""
        num_left = len(dataset.questions) - self.plan.num_warmup
        if num_left < 1:
            raise ConfigurationError(
                f"{dataset.name} has {len(dataset.questions)} questions, and "
                f"{self.plan.num_warmup} are for warming up: give a larger dataset, or a smaller "
                "--warmup"
            )
        asked = questions.drawn(dataset.questions, min(self.plan.limit or num_left, num_left))
        measured = {question.id for question in asked}
        others = [question for question in dataset.questions if question.id not in measured]
        return others[: self.plan.num_warmup], asked


@dataclass(frozen=True, slots=True)
class Job:
    """A cell that is to be asked."""

    dataset: Dataset
    served: Served
    cell: Cell
    warmup: Sequence[Question]
    asked: Sequence[Question]

    @property
    def digest(self) -> str:
        """Of what is asked: a load of other questions is another load."""
        text = repr([(q.id, q.question) for q in (*self.warmup, *self.asked)])
        return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class _Ended:
    """What came for a question, not yet read."""

    question: Question
    started: float
    sent: Sent | None
    error: SteperError | None


@dataclass(frozen=True, slots=True)
class _Asked:
    """A cell's answers and, as in `Load`, when they came."""

    recording: Recording
    started: float
    ended: float
    seconds: float


def measure(sweep: Sweep, results: Results, scratch: Path) -> list[Load]:
    """Measure every cell that `results` does not hold whole; the loads of all of them.

    Args:
        scratch: where indexes and recordings are put.

    Raises:
        ConfigurationError: a dataset is too small for the warm-up.
        EndpointUnreachable, RequestRefused: what is to be measured does not answer.
        ServerFailed: a server, or a replay, ended.
        DiskFailed: the disk is full. Cells that were measured are kept.
    """
    jobs = [job for d in sweep.plan.datasets for job in sweep.jobs(d)]
    note(sweep.plan, results)
    with Appender(results.folder / LOADS) as out:
        known, found = read(results.folder), list[Load]()
        for number, job in enumerate(jobs, 1):
            load = known.get(job.cell)
            if load is None or not is_whole(load, job, sweep, results):
                click.echo(f"{number} of {len(jobs)}: {_told(job)}", err=True)
                load, recording = _load(job, sweep, results, scratch)
                out.append(to_json(load))
                if recording is not None:
                    load = replace(load, replay=_replayed(job, recording, scratch))
                    out.append(to_json(load))
            found.append(load)
    return found


def is_whole(load: Load, job: Job, sweep: Sweep, results: Results) -> bool:
    """Whether a load that was measured before is all that this job asks for."""
    rows = load.own(results.rows.values())
    has_failed = any(row.failure for row in rows)
    if load.questions != job.digest or len(rows) != len(job.asked):
        return False
    if has_failed:
        return not sweep.plan.retry_failed
    return load.replay is not None or not sweep.replays or job.served.url is not None


def _load(job: Job, sweep: Sweep, results: Results, scratch: Path) -> tuple[Load, Recording | None]:
    """Ask a cell's questions and keep its rows; what there is to replay."""
    index = None if job.served.url else datasets.index_of(job.dataset, scratch)
    try:
        with (
            server.running(job.served, index) as url,
            tqdm(total=len(job.asked), unit=" questions") as bar,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            done = runner.run(_ask(job, sweep, results, url, bar.update))
    except EndpointUnreachable as error:
        raise gone(error, results) from error
    for row in done.recording.rows:
        results.add(row)
    replays = sweep.replays and job.served.url is None and all(r.reply for r in done.recording.rows)
    load = Load(
        cell=job.cell,
        questions=job.digest,
        num_questions=len(job.asked),
        num_warmup=len(job.warmup),
        started=done.started,
        ended=done.ended,
        seconds=done.seconds,
        replay=None,
    )
    return load, done.recording if replays else None


def _replayed(job: Job, recording: Recording, scratch: Path) -> dict[str, Any]:
    click.echo("replaying the same prompts in the engine alone …", err=True)
    index = datasets.index_of(job.dataset, scratch)
    return replaying.replayed(job.served, index, recording, scratch)


async def _ask(job: Job, sweep: Sweep, results: Results, url: str, tick: Tick) -> _Asked:
    plan = sweep.plan
    async with (
        Client(url, key=plan.key) as official,
        LeanClient(url, key=plan.key, timeout=plan.timeout) as client,
    ):
        results.manifest.served[job.served.name]["models"] = await official.models()

        async def ask_all(asked: Sequence[Question], tick: Tick) -> list[_Ended]:
            return await _ask_all(client, official, job.cell, asked, tick)

        warm = await ask_all(job.warmup, lambda: None)
        started, start = round(time.time(), 6), time.perf_counter()
        done = await ask_all(job.asked, tick)
        seconds, ended = time.perf_counter() - start, round(time.time(), 6)
    warmup, rows = ([_row(each, job.cell, url) for each in side] for side in (warm, done))
    recording = Recording(job.cell.concurrency or 1, warmup, rows)
    return _Asked(recording, started, ended, round(seconds, 6))


async def _ask_all(
    client: LeanClient, official: Client, cell: Cell, asked: Sequence[Question], tick: Tick
) -> list[_Ended]:
    done: list[_Ended] = []

    async def check() -> None:
        await official.models()

    async def answer(question: Question) -> _Ended:
        return await _answer(client, cell, question)

    def take(ended: _Ended) -> None:
        done.append(ended)
        tick()

    await answer_all(asked, answer, take, concurrency=cell.concurrency or 1, check=check)
    return done


async def _answer(client: LeanClient, cell: Cell, question: Question) -> _Ended:
    started = round(time.time(), 6)
    try:
        return _Ended(question, started, await client.ask(cell, question.question), None)
    except (AnswerFailed, EndpointUnreachable) as error:
        return _Ended(question, started, None, error)


def _row(ended: _Ended, cell: Cell, url: str) -> Row:
    """The row of what came; what makes every question fail is raised."""
    error, reply = ended.error, None
    if ended.sent is not None:
        try:
            reply = lean.read(ended.sent, url)
        except (AnswerFailed, EndpointUnreachable) as unreadable:
            error = unreadable
    failure = None if error is None else Failure.of(error)
    return Row(cell, ended.question, ended.started, reply, failure)


def _told(job: Job) -> str:
    repetition = f", repetition {job.cell.repetition + 1}" if job.cell.repetition else ""
    return (
        f"{job.served.name}, {job.dataset.name}: {len(job.asked):,} questions, "
        f"{job.cell.concurrency} in flight{repetition}"
    )
