"""Our server and FlashRAG, in turns, on the same questions; each answer kept as a row.

Ours is asked over HTTP as `bench load` asks (sweep). FlashRAG answers in a process of its own
(`bench peer`) with the model, index and flags of our server, started once a repetition and right
after ours. To that process goes a file with a `Task` as JSON; what comes back are the runs of
`answering.measure`. What is left out: what the figures mean (comparing).
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click

from steper_serve import journal
from steper_serve.benchmarks import datasets, server, sweep
from steper_serve.benchmarks.cells import Cell
from steper_serve.benchmarks.client import Reply, Times
from steper_serve.benchmarks.load import LOADS, Load, read, to_json
from steper_serve.benchmarks.peers.flashrag import INSTALL, PACKAGE, version_in
from steper_serve.benchmarks.results import Results
from steper_serve.benchmarks.rows import Failure, Row
from steper_serve.benchmarks.sweep import Job, Sweep
from steper_serve.errors import ConfigurationError
from steper_serve.journal import Appender
from steper_serve.questions import Question


@dataclass(frozen=True, slots=True)
class Peer:
    """FlashRAG as it was installed into a folder; `name` is what cells call it."""

    folder: Path
    version: str

    @property
    def name(self) -> str:
        return f"{PACKAGE} {self.version}"


@dataclass(frozen=True, slots=True)
class Task:
    """What FlashRAG's process is asked.

    Args:
        folder: where FlashRAG is.
        max_steps, top_k: None leaves them to the flags that the process has.
        at_a_time: how many questions it is given at once, one run after the other.
    """

    folder: str
    max_steps: int | None
    top_k: int | None
    warmup: Sequence[str]
    asked: Sequence[str]
    at_a_time: Sequence[int]


def read_task(file: Path) -> Task:
    """The task in a file.

    Raises:
        ConfigurationError: there is none.
        BadRecord: it holds something else.
    """
    task = journal.read_as(Task, file, "`bench peers` writes it; run that")
    if task is None:
        raise ConfigurationError(f"there is no file {file}: `bench peers` writes it; run that")
    return task


def peers_in(folders: Iterable[Path]) -> list[Peer]:
    """FlashRAG as it is in each folder.

    Raises:
        ConfigurationError: it is not in one of them, or two hold one version.
    """
    found: dict[str, Peer] = {}
    for folder in dict.fromkeys(folders):
        version = version_in(folder)
        if version is None:
            raise ConfigurationError(
                f"FlashRAG is not in {folder}. Put it there, beside what you have installed:\n  "
                f"{INSTALL.format(folder=folder)}"
            )
        if version in found:
            raise ConfigurationError(
                f"{found[version].folder} and {folder} both hold FlashRAG {version}: leave one out"
            )
        found[version] = Peer(folder, version)
    return list(found.values())


def measure(asked: Sweep, peers: Sequence[Peer], results: Results, scratch: Path) -> list[Load]:
    """Measure all that `results` does not hold whole; the loads of all of it, ours and theirs.

    Args:
        asked: of our server, without replays; FlashRAG is given as many questions at a time as
            ours has in flight and, one run more, all of them.
        scratch: where indexes and tasks are put.

    Raises:
        ServerFailed: a server, or FlashRAG's process, ended; the message holds what it said.
        SteperError: as `sweep.measure`.
    """
    found: dict[Cell, Load] = {}
    for repetition in range(asked.plan.repetitions):
        part = replace(asked, plan=replace(asked.plan, repetitions=repetition + 1))
        found |= {load.cell: load for load in sweep.measure(part, results, scratch)}
        for first in _firsts(part, repetition):
            for peer in peers:
                theirs = _of_peer(peer, first, part, results, scratch)
                found |= {load.cell: load for load in theirs}
    return list(found.values())


def _firsts(asked: Sweep, repetition: int) -> Iterator[Job]:
    """One job of each set of settings, whose concurrency is of no account."""
    seen = set()
    for job in (job for dataset in asked.plan.datasets for job in asked.jobs(dataset)):
        setting = replace(job.cell, concurrency=None)
        if job.cell.repetition == repetition and setting not in seen:
            seen.add(setting)
            yield job


def _of_peer(peer: Peer, first: Job, asked: Sweep, results: Results, scratch: Path) -> list[Load]:
    """FlashRAG's loads beside those of the job's settings; what is missing is measured."""
    found, left, known = list[Load](), list[Job](), read(results.folder)
    for job in _jobs(peer, first, asked, results):
        load = known.get(job.cell)
        if load is not None and sweep.is_whole(load, job, asked, results):
            found.append(load)
        else:
            left.append(job)
    if not left:
        return found
    click.echo(f"{peer.name}, {first.served.name}, {first.dataset.name} …", err=True)
    told = _answered(peer, left, scratch)
    takes_many = told["takes_many"]
    results.manifest.served[peer.name] = {"folder": str(peer.folder), "takes_many": takes_many}
    with Appender(results.folder / LOADS) as out:
        for run in told["runs"]:
            cell = replace(left[0].cell, concurrency=run["at_a_time"])
            for row in _rows(cell, first.asked, run["answers"]):
                results.add(row)
            found.append(_load(cell, first, run))
            out.append(to_json(found[-1]))
    return found


def _jobs(peer: Peer, first: Job, asked: Sweep, results: Results) -> list[Job]:
    """What FlashRAG is to be asked; if it answers one by one, that is one run."""
    all_of_them = len(first.asked)
    numbers = [*(min(n, all_of_them) for n in asked.concurrencies), all_of_them]
    if results.manifest.served.get(peer.name, {}).get("takes_many") is False:
        numbers = [1]
    cell = replace(first.cell, model=peer.name, strategy="ircot", streamed=False)
    return [replace(first, cell=replace(cell, concurrency=n)) for n in dict.fromkeys(numbers)]


def _answered(peer: Peer, jobs: Sequence[Job], scratch: Path) -> Mapping[str, Any]:
    """What FlashRAG's process tells: `takes_many`, and `runs` (answering.Run)."""
    first, file = jobs[0], scratch / "task.json"
    task = Task(
        folder=str(peer.folder),
        max_steps=first.cell.max_steps,
        top_k=first.cell.top_k,
        warmup=[question.question for question in first.warmup],
        asked=[question.question for question in first.asked],
        at_a_time=[job.cell.concurrency or 1 for job in jobs],
    )
    journal.write_json(file, asdict(task))
    command = [sys.executable, "-m", "steper_serve", "bench", "peer", str(file)]
    flags = server.flags_of(first.served, datasets.index_of(first.dataset, scratch))
    return server.told_by(
        [*command, *flags],
        name=f"{peer.name} in {peer.folder}",
        advice="What was measured before is kept",
    )


def _rows(
    cell: Cell, asked: Sequence[Question], answers: Sequence[Mapping[str, Any]]
) -> Iterator[Row]:
    for question, answer in zip(asked, answers, strict=True):
        trace, failure = answer["trace"], answer["failure"]
        times = Times(answer["wall_seconds"])
        yield Row(
            cell,
            question,
            answer["started"],
            None if trace is None else Reply(trace["answer"], trace, times),
            None if failure is None else Failure(**failure),
        )


def _load(cell: Cell, job: Job, run: Mapping[str, Any]) -> Load:
    times = {name: run[name] for name in ("started", "ended", "seconds")}
    return Load(cell, job.digest, len(job.asked), len(job.warmup), **times, replay=None)
