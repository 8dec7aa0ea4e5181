"""`steper-serve bench retrieval`: the index by itself, beside bm25s.

What is left out: what is measured and how (benchmarks.retrieval, searches, tokenisation).
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from steper_serve.cli.bench import results_of, say
from steper_serve.errors import ConfigurationError
from steper_serve.strategies.options import TOP_K

_ENGINES = ("steper-serve", "bm25s", "bm25s-as-it-comes")
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
    type=click.Choice(_ENGINES),
    default=_ENGINES[:2],
    show_default=True,
    help="What is measured; may be repeated.",
)
@click.option("--top-k", type=click.IntRange(*TOP_K), default=4, show_default=True)
@click.option(
    "--queries",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Most questions a dataset (a random sample).",
)
@click.option("--repeat", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--bm25s-limit",
    type=click.IntRange(min=1),
    default=1_000_000,
    show_default=True,
    help="Most passages that bm25s is given, since it holds them in memory.",
)
@click.option(
    "--variants", is_flag=True, help="Compare ways of reading words instead; keeps no results."
)
@click.option(
    "--out",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the results; needed but with --variants.",
)
def retrieval(datasets: tuple[str, ...], folder: Path | None, variants: bool, **flags: Any) -> None:
    """Documents and queries a second, recall, memory and disk of the index, beside bm25s.

    A DATASET has a corpus: a folder with corpus.jsonl and questions.jsonl, a published file,
    `fictional:seed=200,passages=1000000,questions=1000`, or `bundled`. Each engine builds in a
    process of its own and searches in another. bm25s is installed by `pip install 'bm25s[core]'`.
    """
    world = f"fictional:questions={flags['queries']},passages="
    sizes = [f"{world}{size}" for size in dict.fromkeys(flags["passages"])]
    sources = [*datasets, *sizes] or ["bundled"]
    if variants:
        _variants(sources)
        return
    if folder is None:
        raise ConfigurationError("give --out: the folder that results are kept in")
    from steper_serve.benchmarks import datasets as data
    from steper_serve.benchmarks import retrieval as told
    from steper_serve.benchmarks.searches import Plan, measure

    plan = Plan(
        datasets=data.read_all(sources, folder),
        engines=tuple(dict.fromkeys(flags["engines"])),
        top_k=flags["top_k"],
        num_queries=flags["queries"],
        repetitions=flags["repeat"],
        most_documents=flags["bm25s_limit"],
    )
    with results_of(folder, "retrieval", {"datasets": sources, **flags}) as results:
        found = told.summaries(measure(plan, results, folder))
    say(told.tables(found), told.lines(found))


def _variants(sources: Sequence[str]) -> None:
    import tempfile

    from steper_serve.benchmarks import datasets as data
    from steper_serve.benchmarks import tokenisation

    with tempfile.TemporaryDirectory() as scratch:
        made = [
            tokenisation.measure(dataset, name, reading)
            for dataset in data.read_all(sources, Path(scratch))
            for name, reading in tokenisation.VARIANTS.items()
        ]
    say([tokenisation.table(made)], [asdict(each) for each in made])
