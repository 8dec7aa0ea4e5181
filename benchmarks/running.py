"""Ask what is left to ask, of one server after another, and keep each row as it ends.

A server is started only if something is left for it. Where only answers count, everything that
a server is asked makes one batch; where time counts, each cell is a batch of its own, warmed up
before, on a server of its own if it is started here (so that no cell finds its prompts in the
cache of another). What is left out: what rows tell (accuracy, latency).
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from tqdm import tqdm

from steper_serve import questions
from steper_serve.benchmarks import datasets, server
from steper_serve.benchmarks.cells import Cell, Setting
from steper_serve.benchmarks.client import Client
from steper_serve.benchmarks.datasets import Dataset
from steper_serve.benchmarks.failures import AnswerFailed, EndpointUnreachable
from steper_serve.benchmarks.results import Item, Results
from steper_serve.benchmarks.rows import Failure, Row
from steper_serve.benchmarks.server import Served
from steper_serve.crew import answer_all
from steper_serve.errors import SteperError

_RETRIES = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """What a benchmark asks.

    Args:
        settings: of the requests; each with each of `served` and of `datasets` is a cell.
        concurrency: answers in flight.
        limit: most questions of a dataset (a random sample, ever the same); None for all.
        timed: time counts: streams, one cell after the other, `num_warmup` questions before.
        repetitions: how often everything is asked.
        retry_failed: ask again what failed before.
        timeout: seconds of silence after which an answer is given up.
        key: of an endpoint that wants one.
    """

    datasets: Sequence[Dataset]
    served: Sequence[Served]
    settings: Sequence[Setting]
    concurrency: int
    limit: int | None = None
    timed: bool = False
    num_warmup: int = 0
    repetitions: int = 1
    retry_failed: bool = False
    timeout: float = 600.0
    key: str | None = None

    def cells(self, dataset: Dataset, served: Served) -> list[Cell]:
        """All cells of one dataset and one server."""
        return [
            Cell(
                dataset=dataset.name,
                corpus=dataset.digest,
                served=served.name,
                weights=served.weights,
                flags=served.flags,
                **asdict(setting),
                streamed=self.timed,
                concurrency=self.concurrency if self.timed else None,
                repetition=repetition,
            )
            for setting in self.settings
            for repetition in range(self.repetitions)
        ]

    def items(self, dataset: Dataset, cells: Sequence[Cell]) -> list[Item]:
        """Every question of a dataset under every one of the cells."""
        asked = questions.drawn(dataset.questions, self.limit)
        return [(cell, question) for cell in cells for question in asked]

    def all_items(self) -> list[Item]:
        """Everything that is asked, of whichever server."""
        pairs = [(dataset, served) for served in self.served for dataset in self.datasets]
        return [item for d, s in pairs for item in self.items(d, self.cells(d, s))]


@dataclass(frozen=True, slots=True)
class _Ended:
    row: Row
    error: SteperError | None


def measure(plan: Plan, results: Results, scratch: Path) -> list[Row]:
    """Ask all of a plan that `results` does not hold yet; the rows of all of it.

    Args:
        scratch: where indexes are built for servers that are started here.

    Raises:
        EndpointUnreachable: nothing answers; names the URL. What was answered is kept.
        RequestRefused: a model, a setting or the key is refused.
        ServerFailed: a server does not start.
        DiskFailed: the disk is full. What was answered is kept.
    """
    note(plan, results)
    for served in plan.served:
        for dataset in plan.datasets:
            cells = plan.cells(dataset, served)
            alone = plan.timed and served.url is None
            for part in [[cell] for cell in cells] if alone else [cells]:
                _session(plan, results, dataset, served, part, scratch)
    rows = (results.find(*item) for item in plan.all_items())
    return [row for row in rows if row is not None]


def _session(
    plan: Plan,
    results: Results,
    dataset: Dataset,
    served: Served,
    cells: Sequence[Cell],
    scratch: Path,
) -> None:
    """What is left of some cells, asked of one server."""
    parts = [[cell] for cell in cells] if plan.timed else [cells]
    asked = [plan.items(dataset, part) for part in parts]
    batches = [results.left(items, retry_failed=plan.retry_failed) for items in asked]
    num_left, total = sum(map(len, batches)), sum(map(len, asked))
    told = f"{served.name}, {dataset.name}: {total:,} to ask, {total - num_left:,} asked before"
    click.echo(told, err=True)
    if num_left == 0:
        return
    if served.url is None and dataset.corpus is None:
        click.echo(f"{dataset.name} has no corpus: the server searches its own", err=True)
    index = None if served.url else datasets.index_of(dataset, scratch)
    if served.url is None:
        click.echo(f"starting a server of {served.name} …", err=True)
    with server.running(served, index) as url, tqdm(total=num_left, unit=" questions") as bar:
        asyncio.run(ask(plan, results, served, dataset, url, batches, bar.update))


async def ask(
    plan: Plan,
    results: Results,
    served: Served,
    dataset: Dataset,
    url: str,
    batches: Sequence[Sequence[Item]],
    tick: Callable[[], object],
) -> None:
    """Ask the endpoint at `url` one batch after the other; `tick` is called with each row."""
    retries = 0 if plan.timed else _RETRIES  # a second try would be timed with the first
    async with Client(url, key=plan.key, timeout=plan.timeout, num_retries=retries) as client:

        def take(ended: _Ended) -> None:
            results.add(ended.row)
            tick()

        async def check() -> None:
            await client.models()

        async def answer(item: Item) -> _Ended:
            return await _answer(client, item)

        try:
            results.manifest.served[served.name]["models"] = await client.models()
            results.write_manifest()
            for batch in filter(None, batches):
                for items, then in ((_warm_up(plan, dataset, batch), _forget), (batch, take)):
                    await answer_all(items, answer, then, concurrency=plan.concurrency, check=check)
        except EndpointUnreachable as error:
            raise gone(error, results) from error


async def _answer(client: Client, item: Item) -> _Ended:
    """A question's row; what makes every question fail is raised."""
    cell, question = item
    started = round(time.time(), 6)
    try:
        reply = await client.ask(cell, question.question)
    except (AnswerFailed, EndpointUnreachable) as error:
        return _Ended(Row(cell, question, started, None, Failure.of(error)), error)
    return _Ended(Row(cell, question, started, reply, None), None)


def _warm_up(plan: Plan, dataset: Dataset, batch: Sequence[Item]) -> list[Item]:
    """What is asked first and forgotten: if possible none of what is measured."""
    cell = batch[0][0]
    measured = {question.id for _, question in batch}
    others = [(cell, question) for question in dataset.questions if question.id not in measured]
    return [*others, *reversed(batch)][: plan.num_warmup]


def _forget(ended: _Ended) -> None:
    """Do nothing with an answer of the warm-up."""


def note(plan: Plan, results: Results) -> None:
    """What is asked of what, for the manifest."""
    for dataset in plan.datasets:
        results.manifest.datasets[dataset.name] = {
            "source": dataset.source,
            "num_questions": len(dataset.questions),
            "corpus": dataset.corpus and str(dataset.corpus),
            "digest": dataset.digest,
        }
    for served in plan.served:
        told = {name: getattr(served, name) for name in ("url", "model", "flags", "num_parameters")}
        known = results.manifest.served.get(served.name, {})
        results.manifest.served[served.name] = {**told, "models": known.get("models", [])}
    results.write_manifest()


def gone(error: EndpointUnreachable, results: Results) -> EndpointUnreachable:
    """The error that says what to do when the endpoint is back."""
    return EndpointUnreachable(
        f"{error.message.rstrip('.')}. {len(results.rows):,} rows are kept in {results.folder}: "
        "start the same command again when it is back."
    )
