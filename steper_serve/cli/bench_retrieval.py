"""`steper-serve bench retrieval`: the index by itself, beside bm25s.

What is left out: what is measured and how (benchmarks.retrieval, searches).
"""

from pathlib import Path
from typing import Any

import click

from steper_serve.benchmarks.searching import BM25S, ENGINES, OURS, THEIRS, VARIANTS
from steper_serve.cli.bench import results_of, say
from steper_serve.strategies.options import TOP_K

_LEAST_PASSAGES = 100


@click.command()
@click.argument("datasets", metavar="[DATASET]...", nargs=-1)
@click.option(
    "--passages",
    multiple=True,
    type=click.IntRange(min=_LEAST_PASSAGES),
    help="An invented corpus of this size (world 200); may be repeated.",
)
@click.option(
    "--engine",
    "engines",
    multiple=True,
    type=click.Choice(list(ENGINES)),
    default=(OURS, BM25S),
    show_default=True,
    metavar="NAME",
    help=f"What is measured: {OURS}, {', '.join(THEIRS)} or one of --variants; may be repeated.",
)
@click.option(
    "--variants",
    is_flag=True,
    help=f"Also {OURS} with every other way of reading words (`{next(iter(VARIANTS))}`, …).",
)
@click.option("--top-k", type=click.IntRange(*TOP_K), default=4, show_default=True)
@click.option(
    "--queries",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Most questions a dataset (a random sample).",
)
@click.option("--repeat", "repetitions", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--bm25s-limit",
    type=click.IntRange(min=1),
    default=1_000_000,
    show_default=True,
    help="Most passages that bm25s is given, since it holds them in memory.",
)
@click.option(
    "--out",
    "folder",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the results.",
)
def retrieval(datasets: tuple[str, ...], folder: Path, **flags: Any) -> None:
    """Documents and queries a second, recall, memory and disk of the index, beside bm25s.

    A DATASET has a corpus: a folder with corpus.jsonl and questions.jsonl, a published file,
    `fictional:seed=200,passages=1000000,questions=1000`, or `bundled`; NAME= before it gives it
    another name. Each engine builds in a process of its own and searches in another. bm25s is
    installed by `pip install 'bm25s[core]'`.
    """
    world = f"fictional:questions={flags['queries']},passages="
    sizes = [f"{world}{size}" for size in dict.fromkeys(flags["passages"])]
    sources = [*datasets, *sizes] or ["bundled"]
    engines = [*flags["engines"], *(VARIANTS if flags["variants"] else ())]
    from steper_serve.benchmarks import datasets as data
    from steper_serve.benchmarks import retrieval as told
    from steper_serve.benchmarks.searches import Plan, measure

    plan = Plan(
        datasets=data.read_all(sources, folder),
        engines=tuple(dict.fromkeys(engines)),
        top_k=flags["top_k"],
        num_queries=flags["queries"],
        repetitions=flags["repetitions"],
        most_documents=flags["bm25s_limit"],
    )
    with results_of(folder, "retrieval", {"datasets": sources, **flags}) as results:
        found = told.summaries(measure(plan, results, folder))
    say(told.tables(found), told.lines(found))
