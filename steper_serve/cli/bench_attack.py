"""`steper-serve bench attack`: hostile passages against the loop, with its defence and without.

What is left out: what is measured and how (benchmarks.attack).
"""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import uvloop

from steper_serve.cli.bench import results_of, say
from steper_serve.cli.options import loop_options, model_options, settings_from
from steper_serve.cli.wiring import open_loop
from steper_serve.errors import ConfigurationError
from steper_serve.settings import Settings

if TYPE_CHECKING:
    from steper_serve.benchmarks.attack.asking import Plan
    from steper_serve.benchmarks.attack.rows import Row
    from steper_serve.benchmarks.results import Results
    from steper_serve.benchmarks.server import Served


@click.command()
@click.argument("datasets", metavar="[DATASET]...", nargs=-1)
@click.option("--form", "forms", multiple=True, help="A form of attack; may be repeated.")
@click.option(
    "--limit", type=click.IntRange(min=1), help="Most questions a dataset (a random sample)."
)
@click.option("--concurrency", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--retry-failed", is_flag=True, help="Ask questions again that failed.")
@click.option(
    "--out",
    "folder",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the results.",
)
@model_options
@loop_options
def attack(
    datasets: tuple[str, ...],
    forms: tuple[str, ...],
    limit: int | None,
    concurrency: int,
    retry_failed: bool,
    folder: Path,
    **flags: Any,
) -> None:
    """How often hostile passages succeed, with the defence and without it, and its cost.

    A DATASET has a corpus: a folder with corpus.jsonl and questions.jsonl, a published file,
    `fictional:seed=200,passages=4000,questions=1000`, or `bundled`, the default; NAME= before it
    gives it another name. For each question and form of attack a passage is added that a search
    finds and that is after another answer. The model runs in this process, since no server can be
    told to do without the defence.
    """
    from steper_serve.benchmarks import datasets as data
    from steper_serve.benchmarks.attack import telling
    from steper_serve.benchmarks.attack.asking import Plan
    from steper_serve.benchmarks.attack.forms import FORMS, chosen

    if flags["index"] is not None:
        raise ConfigurationError(
            "`bench attack` makes an index of each dataset's own corpus: leave out --index"
        )
    if unknown := [name for name in forms if name not in FORMS]:
        raise ConfigurationError(f"there is no form {unknown[0]!r}; there are {', '.join(FORMS)}")
    given = {k: str(v) if isinstance(v, Path) else v for k, v in flags.items() if v}
    settings = settings_from(flags).model_copy(update={"index": None})
    plan = Plan(
        datasets=data.read_all(datasets or [data.BUNDLED], folder),
        served=_served(settings),
        forms=chosen(forms),
        limit=limit,
        concurrency=concurrency,
        retry_failed=retry_failed,
    )
    told = {"datasets": datasets, "forms": forms, "limit": limit, "concurrency": concurrency}
    with (
        results_of(folder, "attack", {**given, **told}) as results,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        found = telling.find(runner.run(_measured(settings, plan, results, folder)))
    say(telling.tables(found), telling.lines(found))


async def _measured(
    settings: Settings, plan: "Plan", results: "Results", folder: Path
) -> "list[Row]":
    from steper_serve.benchmarks.attack.asking import measure

    async with open_loop(settings) as loop:
        return await measure(plan, loop, results, folder)


def _served(settings: Settings) -> "Served":
    from steper_serve.benchmarks import server

    if settings.endpoint is not None and settings.model is not None:
        return server.Served(settings.model, url=settings.endpoint, model=settings.model)
    models = () if settings.model is None else (settings.model,)
    (served,) = server.all_served((), models, (), ())
    return served
