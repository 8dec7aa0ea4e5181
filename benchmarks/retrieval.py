"""Retrieval: what each way of reading words finds for the question alone, and how fast.

    python -m steper_serve.benchmarks.retrieval DATASET_DIR... [--json]

A dataset is a folder with `corpus.jsonl` and `questions.jsonl` (question, supporting_titles). It
goes through the product's own readers, index and retriever, with one `Reading` after another.
Recall is the share of a question's supporting titles among the titles of the top 4, averaged
over questions; "complete" is the share of questions with all of them. Speeds are of one thread;
each index is built once and each question asked twice, the second time measured.

What is left out: retrieval inside the loop (bench accuracy).
"""

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median, quantiles

import click

from steper_serve import corpus
from steper_serve.retrieval.bm25 import Bm25Retriever, build_with
from steper_serve.retrieval.fields import Reading

TOP_K = 4
VARIANTS = {
    "as served": Reading(),
    "accents kept": Reading(fold=False),
    "stemmed": Reading(stem=True),
    "stemmed, accents kept": Reading(stem=True, fold=False),
    "no stop words": Reading(stop_words=False),
    "stemmed, no stop words": Reading(stem=True, stop_words=False),
    "repeats counted": Reading(count_repeats=True),
    "title x 0.5": Reading(title_boost=0.5),
    "title x 1.5": Reading(title_boost=1.5),
}


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the titles of the passages that answer it."""

    text: str
    supporting_titles: frozenset[str]


@dataclass(frozen=True, slots=True)
class Result:
    """One variant on one data set. Latencies are of one search."""

    dataset: str
    variant: str
    recall: float
    complete: float
    documents_per_second: float
    queries_per_second: float
    p50_milliseconds: float
    p95_milliseconds: float


@click.command()
@click.argument("datasets", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print nothing but one line of JSON.")
def main(datasets: tuple[Path, ...], as_json: bool) -> None:
    """Measure every variant on every data set; print a table and one line of JSON."""
    results = [
        measure(folder, name, reading) for folder in datasets for name, reading in VARIANTS.items()
    ]
    if not as_json:
        click.echo(table(results))
    click.echo(json.dumps([asdict(result) for result in results]))


def measure(folder: Path, name: str, reading: Reading) -> Result:
    """Build, search and score one variant."""
    questions = read_questions(folder / "questions.jsonl")
    with tempfile.TemporaryDirectory() as scratch:
        begin = time.perf_counter()
        info = build_with(reading, corpus.read(folder / "corpus.jsonl"), Path(scratch) / "index")
        build_seconds = time.perf_counter() - begin
        retriever = Bm25Retriever.open(Path(scratch) / "index", reading)
        shares = [recall(retriever, question) for question in questions]
        seconds = [search_seconds(retriever, question) for question in questions]
    return Result(
        dataset=folder.name,
        variant=name,
        recall=fmean(shares),
        complete=fmean(share == 1.0 for share in shares),
        documents_per_second=info.num_documents / build_seconds,
        queries_per_second=len(seconds) / sum(seconds),
        p50_milliseconds=1e3 * median(seconds),
        p95_milliseconds=1e3 * quantiles(seconds, n=20)[-1],
    )


def read_questions(file: Path) -> list[Question]:
    with file.open(encoding="utf-8") as lines:
        found = [json.loads(line) for line in lines]
    return [Question(each["question"], frozenset(each["supporting_titles"])) for each in found]


def recall(retriever: Bm25Retriever, question: Question) -> float:
    """The share of the supporting titles among the titles of the top passages."""
    titles = {passage.title for passage in retriever.search(question.text, TOP_K)}
    return len(titles & question.supporting_titles) / len(question.supporting_titles)


def search_seconds(retriever: Bm25Retriever, question: Question) -> float:
    begin = time.perf_counter()
    retriever.search(question.text, TOP_K)
    return time.perf_counter() - begin


def table(results: Sequence[Result]) -> str:
    """The results as a Markdown table."""
    rows = [
        "| data set | variant | recall@4 | complete | documents/s | queries/s | p50 ms | p95 ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows += [
        f"| {r.dataset} | {r.variant} | {r.recall:.3f} | {r.complete:.3f} "
        f"| {r.documents_per_second:,.0f} | {r.queries_per_second:,.0f} "
        f"| {r.p50_milliseconds:.2f} | {r.p95_milliseconds:.2f} |"
        for r in results
    ]
    return "\n".join(rows)


if __name__ == "__main__":
    main()
