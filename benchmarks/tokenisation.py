"""Field tokenisation: what each way of reading words finds for the question alone, and how fast.

A dataset goes through the product's own readers, index and retriever, with one `Reading` after
another (`bench retrieval DATASET... --variants`). Recall is the share of a question's supporting
titles among the titles of the top 4, averaged over questions; "complete" is the share of
questions with all of them. Speeds are of one thread; each index is built once and each question
asked twice, the second time measured.

What is left out: speed beside others (retrieval), and retrieval inside the loop (accuracy).
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median, quantiles

from steper_serve import corpus
from steper_serve.benchmarks.datasets import Dataset
from steper_serve.benchmarks.tables import Table
from steper_serve.errors import ConfigurationError
from steper_serve.questions import Question
from steper_serve.retrieval.bm25 import Bm25Retriever, build_with
from steper_serve.retrieval.fields import Reading

TOP_K = 4
VARIANTS = {
    "as served": Reading(),
    "accents kept": Reading(fold=False),
    "stemmed": Reading(stem=True),
    "stemmed, accents kept": Reading(stem=True, fold=False),
    "stop words of texts too": Reading(stop_words=("title", "text")),
    "no stop words": Reading(stop_words=()),
    "repeats counted": Reading(count_repeats=True),
    "title x 0.5": Reading(title_boost=0.5),
    "title x 1.5": Reading(title_boost=1.5),
}


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


def measure(dataset: Dataset, name: str, reading: Reading) -> Result:
    """Build, search and score one variant.

    Raises:
        ConfigurationError: the dataset has no corpus, or does not say what supports its answers.
    """
    if dataset.corpus is None:
        raise ConfigurationError(f"{dataset.source} has no passages: give one with a corpus.jsonl")
    questions = [question for question in dataset.questions if question.supporting_titles]
    if not questions:
        raise ConfigurationError(f"{dataset.source} tells no supporting titles: there is no recall")
    with tempfile.TemporaryDirectory() as scratch:
        begin = time.perf_counter()
        info = build_with(reading, corpus.read(dataset.corpus), Path(scratch) / "index")
        build_seconds = time.perf_counter() - begin
        retriever = Bm25Retriever.open(Path(scratch) / "index", reading)
        shares = [recall(retriever, question) for question in questions]
        seconds = [search_seconds(retriever, question) for question in questions]
    return Result(
        dataset=dataset.name,
        variant=name,
        recall=fmean(shares),
        complete=fmean(share == 1.0 for share in shares),
        documents_per_second=info.num_documents / build_seconds,
        queries_per_second=len(seconds) / sum(seconds),
        p50_milliseconds=1e3 * median(seconds),
        p95_milliseconds=1e3 * quantiles(seconds, n=20)[-1],
    )


def recall(retriever: Bm25Retriever, question: Question) -> float:
    """The share of the supporting titles among the titles of the top passages."""
    titles = {passage.title for passage in retriever.search(question.question, TOP_K)}
    wanted = set(question.supporting_titles)
    return len(titles & wanted) / len(wanted)


def search_seconds(retriever: Bm25Retriever, question: Question) -> float:
    begin = time.perf_counter()
    retriever.search(question.question, TOP_K)
    return time.perf_counter() - begin


def table(results: Sequence[Result]) -> Table:
    """The results, a variant a row."""
    head = ("", "variant", "recall@4", "complete", "documents/s", "queries/s", "p50 ms", "p95 ms")
    rows = tuple(
        (
            r.dataset,
            r.variant,
            f"{r.recall:.3f}",
            f"{r.complete:.3f}",
            f"{r.documents_per_second:,.0f}",
            f"{r.queries_per_second:,.0f}",
            f"{r.p50_milliseconds:.2f}",
            f"{r.p95_milliseconds:.2f}",
        )
        for r in results
    )
    return Table("Field tokenisation", head, rows)
