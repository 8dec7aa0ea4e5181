"""Have each engine of retrieval build and search each dataset, in processes of its own.

What was measured to its end is not measured again. Indexes are removed when they have been
searched: those of millions of passages are large. What is left out: the engines (searching), and
what the figures tell (retrieval).
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from steper_serve import corpus, journal, questions
from steper_serve.benchmarks import server
from steper_serve.benchmarks.datasets import Dataset
from steper_serve.benchmarks.results import Results
from steper_serve.benchmarks.retrieval import SEARCHES, Search, Subject, read, to_json
from steper_serve.benchmarks.searching import OURS, THEIRS, Hit
from steper_serve.errors import ConfigurationError
from steper_serve.evaluation import recall
from steper_serve.journal import Appender
from steper_serve.questions import Question

_NEEDED = ("bm25s", "numba")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.

    Args:
        engines: names of `searching.ENGINES`; the order in which they take turns.
        num_queries: most queries of a dataset (a random sample, ever the same).
        most_documents: of a corpus that other engines than ours are given: they hold it in memory.
    """

    datasets: Sequence[Dataset]
    engines: Sequence[str]
    top_k: int
    num_queries: int
    repetitions: int
    most_documents: int


@dataclass(frozen=True, slots=True)
class _Job:
    """What is measured on one dataset."""

    dataset: Dataset
    corpus: Path
    asked: Sequence[Question]
    subject: Subject


def measure(plan: Plan, results: Results, scratch: Path) -> list[Search]:
    """Measure what `results` does not hold; the measurements of all of the plan.

    Raises:
        ConfigurationError: a dataset has no corpus, or an engine is not installed.
        ServerFailed: an engine's process failed; names what it said. What was measured is kept.
        CorpusError: a corpus cannot be read; names file and line.
        DiskFailed: the disk is full.
    """
    _check(plan.engines)
    jobs = [_job(dataset, plan) for dataset in plan.datasets]
    found: list[Search] = []
    with Appender(results.folder / SEARCHES) as out:
        known = read(results.folder)
        for job in jobs:
            _note(job, results)
            for repetition in range(plan.repetitions):
                for engine in plan.engines:
                    search = known.get((job.subject, engine, repetition))
                    if search is None:
                        search = _measured(job, plan, engine, repetition, scratch)
                        if search is None:
                            continue
                        out.append(to_json(search))
                    found.append(search)
    return found


def _measured(job: _Job, plan: Plan, engine: str, repetition: int, scratch: Path) -> Search | None:
    told = f"{job.dataset.name}, {engine}" + (f", {repetition + 1}" if repetition else "")
    reading = _run("read", str(job.corpus))
    if engine in THEIRS and reading["num_documents"] > plan.most_documents:
        click.echo(f"{told}: left out, beyond --bm25s-limit {plan.most_documents:,}", err=True)
        return None
    click.echo(f"{told}: building …", err=True)
    target, asked = scratch / "searched", scratch / "queries.json"
    shutil.rmtree(target, ignore_errors=True)
    journal.write_text(asked, json.dumps([q.question for q in job.asked]))
    try:
        built = _run("build", engine, str(job.corpus), str(target))
        click.echo(f"{told}: searching …", err=True)
        searched = _run("search", engine, str(target), str(asked), str(plan.top_k))
    finally:
        shutil.rmtree(target, ignore_errors=True)
        asked.unlink(missing_ok=True)
    known = _resolved(job.corpus, searched.pop("hits"))
    return Search(
        subject=job.subject,
        engine=engine,
        repetition=repetition,
        **reading,
        **built,
        **searched,
        hits=[[id for id, _ in each] for each in known],
        recalls=_recalls(job.asked, [{title for _, title in each} for each in known]),
    )


def _run(*arguments: str) -> dict[str, Any]:
    """One operation of `searching` in a process of its own."""
    command = [sys.executable, "-m", "steper_serve.benchmarks.searching", *arguments]
    return server.told_by(
        command,
        name=f"`{' '.join(arguments[:2])}`",
        advice="What was measured is kept; --engine and --bm25s-limit leave it out of some corpora",
    )


def _resolved(file: Path, hits: Sequence[Sequence[Hit]]) -> list[list[tuple[str, str]]]:
    """Ids and titles of hits, which are ids or places; the corpus is read once more for them."""
    wanted = {hit for each in hits for hit in each}
    known: dict[Hit, tuple[str, str]] = {}
    for place, passage in enumerate(corpus.read(file)):
        for hit in (place, passage.id):
            if hit in wanted:
                known[hit] = (passage.id, passage.title)
    return [[known[hit] for hit in each] for each in hits]


def _recalls(asked: Sequence[Question], titles: Sequence[set[str]]) -> list[float]:
    shares = [recall(question, found) for question, found in zip(asked, titles, strict=True)]
    return [share for share in shares if share is not None]


def _job(dataset: Dataset, plan: Plan) -> _Job:
    if dataset.corpus is None:
        raise ConfigurationError(
            f"{dataset.source} has questions and no passages: give a folder with a corpus.jsonl"
        )
    asked = questions.drawn(dataset.questions, plan.num_queries)
    text = repr([(q.id, q.question) for q in asked])
    digest = hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]
    subject = Subject(dataset.name, dataset.digest, digest, plan.top_k)
    return _Job(dataset, dataset.corpus, asked, subject)


def _note(job: _Job, results: Results) -> None:
    results.manifest.datasets[job.dataset.name] = {
        "source": job.dataset.source,
        "num_questions": len(job.dataset.questions),
        "num_queries": len(job.asked),
        "corpus": str(job.corpus),
        "corpus_bytes": job.corpus.stat().st_size,
        "digest": job.dataset.digest,
    }
    results.write_manifest()


def _check(engines: Sequence[str]) -> None:
    """Refuse what is not installed before anything is measured."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing and any(engine in THEIRS for engine in engines):
        raise ConfigurationError(
            f"{' and '.join(missing)} is not installed, which `bench retrieval` measures beside: "
            f"pip install 'bm25s[core]', or give --engine {OURS} alone"
        )
