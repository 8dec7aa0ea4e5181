"""`steper-serve bench …`: how right answers are, how long they take, and a page of both.

The benchmarks are imported when a command runs. What is left out: how anything is measured
(benchmarks); each benchmark prints its tables and ends with one line of JSON.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from steper_serve.cli.lazy import LazyGroup
from steper_serve.cli.options import add
from steper_serve.errors import ConfigurationError
from steper_serve.generation.endpoint_key import key_in
from steper_serve.strategies import STRATEGIES
from steper_serve.strategies.options import MAX_STEPS, TOP_K

if TYPE_CHECKING:
    from steper_serve.benchmarks.results import Results
    from steper_serve.benchmarks.running import Plan
    from steper_serve.benchmarks.tables import Table

_COMMANDS = {
    "attack": "bench_attack",
    "load": "bench_load",
    "page": "bench_page",
    "paper": "bench_paper",
    "peer": "bench_peers",
    "peers": "bench_peers",
    "pictures": "bench_page",
    "replay": "bench_load",
    "retrieval": "bench_retrieval",
    "soak": "bench_soak",
}

F = TypeVar("F", bound=Callable[..., Any])

_FOLDER = click.Path(file_okay=False, path_type=Path)
_ASKED = (
    click.argument("datasets", metavar="[DATASET]...", nargs=-1),
    click.option(
        "--endpoint",
        "endpoints",
        multiple=True,
        metavar="[NAME=]URL",
        help="A running server, up to /v1; may be repeated. Without one, a server is started.",
    ),
    click.option(
        "--serve",
        "serve",
        multiple=True,
        metavar="[NAME=]MODEL",
        help="Start a server with this model directory or hub id (default: the bundled student).",
    ),
    click.option("--serve-flag", "flags", multiple=True, help="A flag for servers started here."),
    click.option("--model", "models", multiple=True, help="Model id to ask for (default: steper)."),
    click.option("--strategy", "strategies", multiple=True, type=click.Choice(list(STRATEGIES))),
    click.option("--max-steps", multiple=True, type=click.IntRange(*MAX_STEPS)),
    click.option("--top-k", multiple=True, type=click.IntRange(*TOP_K)),
    click.option(
        "--limit", type=click.IntRange(min=1), help="Most questions a dataset (a random sample)."
    ),
    click.option(
        "--parameters",
        multiple=True,
        metavar="NAME=NUMBER",
        help="Size of a served model, such as gpu=7.6B, where it cannot be counted here.",
    ),
    click.option("--retry-failed", is_flag=True, help="Ask questions again that failed."),
    click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=600.0,
        show_default=True,
        help="Seconds of silence after which an answer is given up.",
    ),
    click.option("--key-env", metavar="VARIABLE", help="Environment variable with the API key."),
    click.option("--out", "folder", required=True, type=_FOLDER, help="Folder of the results."),
)


def asked(command: F) -> F:
    return add(command, _ASKED)


@click.group(cls=LazyGroup, lazy=_COMMANDS)
def bench() -> None:
    """Measure a served model: accuracy, latency, and a page of the results.

    A DATASET is a folder with questions.jsonl (and corpus.jsonl), a file of HotpotQA,
    2WikiMultiHopQA or MuSiQue as published, `fictional:seed=200,passages=4000,questions=1000`,
    or `bundled`, the default; NAME= before it gives it another name. Options that may be repeated
    make a matrix. What is in --out already is not asked again, so a command that was ended goes
    on where it was.
    """


@bench.command()
@asked
@click.option("--concurrency", type=click.IntRange(min=1), default=32, show_default=True)
def accuracy(folder: Path, **flags: Any) -> None:
    """EM, F1 and Acc with 95% intervals, by type and by hops."""
    from steper_serve.benchmarks import accuracy as scoring
    from steper_serve.benchmarks.running import measure

    plan = plan_of(flags, folder, timed=False)
    with results_of(folder, "accuracy", flags) as results:
        rows = measure(plan, results, folder)
    found = scoring.summaries(rows)
    say(scoring.tables(found, rows), scoring.lines(found))


@bench.command()
@asked
@click.option("--concurrency", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--warmup", type=click.IntRange(min=0), default=8, show_default=True)
@click.option("--repeat", "repetitions", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--score",
    type=click.Choice(["em", "f1", "acc"]),
    default="acc",
    show_default=True,
    help="What stands against time.",
)
def latency(folder: Path, score: str, **flags: Any) -> None:
    """Accuracy over latency: first byte, first answer, each step's time, the whole.

    Each combination has a server of its own, unless it is asked of an --endpoint.
    """
    from steper_serve import journal, plots
    from steper_serve.benchmarks import accuracy as scoring
    from steper_serve.benchmarks import latency as timing
    from steper_serve.benchmarks.running import measure

    plan = plan_of(flags, folder, timed=True)
    with results_of(folder, "latency", flags) as results:
        rows = measure(plan, results, folder)
        sizes = timing.sizes_of([results.manifest.served])
    found = timing.find(rows, sizes, score)
    if drawn := timing.plot(found):
        journal.write_text(folder / "latency.svg", plots.standalone(drawn))
    tables = [*scoring.tables(found.summaries, rows), *timing.tables(found)]
    say(tables, timing.lines(found, sizes))


@bench.command()
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=_FOLDER)
@click.option(
    "--out",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="The page; its tables go to a file of Markdown beside it.",
)
def report(folders: tuple[Path, ...], file: Path) -> None:
    """One self-contained page of the results in any folders, and its tables as Markdown."""
    from steper_serve.benchmarks import report as reports

    if file.suffix == ".md":
        raise ConfigurationError(f"--out {file} is the page: give it a name that ends in .html")
    made = reports.make(folders)
    markdown = reports.write(made, file)
    click.echo(made.markdown())
    click.echo(json.dumps({"html": str(file), "markdown": str(markdown)}))


def plan_of(flags: dict[str, Any], folder: Path, *, timed: bool) -> "Plan":
    from steper_serve.benchmarks import datasets, server
    from steper_serve.benchmarks.cells import matrix
    from steper_serve.benchmarks.running import Plan

    served = server.all_served(
        flags["endpoints"], flags["serve"], flags["flags"], flags["parameters"]
    )
    settings = matrix(flags["models"], flags["strategies"], flags["max_steps"], flags["top_k"])
    return Plan(
        datasets=datasets.read_all(flags["datasets"] or [datasets.BUNDLED], folder),
        served=served,
        settings=settings,
        concurrency=flags["concurrency"],
        limit=flags["limit"],
        timed=timed,
        num_warmup=flags.get("warmup", 0),
        repetitions=flags.get("repetitions", 1),
        retry_failed=flags["retry_failed"],
        timeout=flags["timeout"],
        key=key_in(flags["key_env"], "--key-env"),
    )


def results_of(folder: Path, benchmark: str, flags: dict[str, Any]) -> "Results":
    from steper_serve.benchmarks.results import Results

    return Results(folder, benchmark, {name: value for name, value in flags.items() if value})


def say(tables: "Iterable[Table]", lines: Sequence[dict[str, Any]]) -> None:
    """The tables, and the JSON: of one cell its object, of several a list."""
    for table in tables:
        click.echo(f"{table.text()}\n")
    click.echo(json.dumps(lines[0] if len(lines) == 1 else lines, ensure_ascii=False))
