"""The commands `index build|add|delete|info`, over `corpus` and `retrieval.bm25`.

What they find wrong goes up as a SteperError; whoever holds the command group shows it. What is
left out: searching (`ask`, `serve`).
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import click
from tqdm import tqdm

from steper_serve import corpus
from steper_serve.corpus import documents
from steper_serve.corpus.lines import numbered_lines
from steper_serve.retrieval import bm25
from steper_serve.trajectory import Passage

_FOLDER = click.Path(path_type=Path)
_CORPORA = click.argument("corpora", metavar="CORPUS...", nargs=-1, required=True, type=_FOLDER)
_INDEX = click.option("--index", "target", required=True, type=_FOLDER, help="Folder of the index.")


@click.group()
def index() -> None:
    """Build, change and describe the index that questions are answered from.

    A CORPUS is a file of JSON lines {id, title, text[, url]} (.gz too), a BEIR file or folder, a
    HotpotQA, 2WikiMultiHopQA or MuSiQue file as published, or a .txt, .md or .pdf file or a
    folder of them.
    """


@index.command()
@_CORPORA
@click.option("--out", "target", required=True, type=_FOLDER, help="Folder of the index.")
def build(corpora: tuple[Path, ...], target: Path) -> None:
    """Build an index of all CORPUS in the folder --out.

    An index that is there goes on serving until the new one has passed its self-check.
    """
    _write(bm25.build, corpora, target)


@index.command()
@_CORPORA
@_INDEX
def add(corpora: tuple[Path, ...], target: Path) -> None:
    """Add the passages of all CORPUS to an index."""
    _write(bm25.add, corpora, target)


@index.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@_INDEX
@click.option("--ids-file", type=_FOLDER, help="File with more ids, one a line.")
def delete(ids: tuple[str, ...], target: Path, ids_file: Path | None) -> None:
    """Delete the passages with these ids from an index; all of them or, if one is unknown, none."""
    listed = [] if ids_file is None else [line.strip() for _, line in numbered_lines(ids_file)]
    wanted = list(dict.fromkeys([*ids, *filter(None, listed)]))
    if not wanted:
        raise click.UsageError("no id: give ids, or a file of them with --ids-file")
    info = bm25.delete(wanted, target)
    click.echo(f"{len(wanted):,} passages deleted, {info.num_documents:,} left in {target}")


@index.command()
@click.argument("target", metavar="DIR", type=_FOLDER)
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
def info(target: Path, as_json: bool) -> None:
    """Describe the live generation of an index."""
    found = bm25.info(target)
    if as_json:
        click.echo(json.dumps(asdict(found)))
        return
    rows = {
        "passages": f"{found.num_documents:,}",
        "size": _megabytes(found.size_bytes),
        "created": found.created,
        "generation": found.generation,
        "analyser": found.analyser,
        "schema": str(found.schema_version),
        "written by": found.tantivy_version,
    }
    for name, value in rows.items():
        click.echo(f"{name:<12}{value}")


def _write(
    write: Callable[[Iterable[Passage], Path], bm25.IndexInfo],
    corpora: tuple[Path, ...],
    target: Path,
) -> None:
    for folder in corpora:
        _tell_what_is_passed_over(folder)
    begin = time.perf_counter()
    stream = chain.from_iterable(corpus.read(each) for each in corpora)
    with tqdm(unit=" documents", unit_scale=True, delay=0.1) as bar:
        info = write(_shown(stream, bar.update), target)
        num = bar.n
    seconds = time.perf_counter() - begin
    click.echo(
        f"{num:,.0f} documents in {seconds:.1f} s ({num / seconds:,.0f} documents/s); "
        f"{target} holds {info.num_documents:,}, {_megabytes(info.size_bytes)}; self-check passed"
    )


def _shown(stream: Iterable[Passage], tick: Callable[[], object]) -> Iterator[Passage]:
    for passage in stream:
        tick()
        yield passage


def _tell_what_is_passed_over(folder: Path) -> None:
    if not folder.is_dir() or corpus.holds_records(folder):
        return
    passed_over = documents.others(folder)
    if passed_over:
        kinds = ", ".join(f"{num:,} {kind}" for kind, num in passed_over.most_common(8))
        click.echo(f"{folder}: passed over what is no .txt, .md or .pdf file: {kinds}", err=True)


def _megabytes(num: int) -> str:
    return f"{num / 1e6:,.1f} MB"
