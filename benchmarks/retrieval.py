"""Retrieval by itself: building, searching, memory and disk, beside `bm25s` on the same queries.

Each engine builds an index of a dataset's corpus in a process of its own, and searches it in
another (searching); both read the same file by the same reader. A folder of results holds one
line for each engine and repetition in `searches.jsonl`, with every query's time and hits. Recall
is the share of a question's supporting titles among the titles of the top k. What is left out:
retrieval inside the loop (accuracy).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean, median
from typing import Any

from steper_serve import journal, plots
from steper_serve.benchmarks.quantiles import quantile
from steper_serve.benchmarks.searching import BM25S, OURS
from steper_serve.benchmarks.tables import Section, Table
from steper_serve.journal import BadRecord, Record

SEARCHES = "searches.jsonl"
_NOTE = (
    "Documents/s: from the file to a finished index, reading included (`read`: reading alone); "
    "ours ends on disk and checked, bm25s in memory. Queries/s: one thread, the fastest of one by "
    "one and all at once; milliseconds one by one. Ours gives passages with their texts, bm25s "
    "places in the corpus. `same`: the mean share of hits that {ours} finds too. Peak memory of "
    "the building and of the searching process, file pages included."
)
_HEAD = (
    *("", "passages", "documents/s", "read", "queries/s", "p50 ms", "p95 ms", "p99 ms"),
    *("recall", "complete", "same", "build memory", "search memory", "disk"),
)
_COMPARED = ("queries_per_second", "build_documents_per_second")


@dataclass(frozen=True, slots=True)
class Subject:
    """What an engine is measured on.

    Args:
        corpus: digest of the corpus file.
        queries: digest of the queries.
        top_k: passages a query.
    """

    dataset: str
    corpus: str
    queries: str
    top_k: int


@dataclass(frozen=True, slots=True)
class Search:
    """One engine measured once; see `searching` for the figures.

    Args:
        hits: ids of each query's passages, best first.
        recalls: of each query whose supporting titles are known.
    """

    subject: Subject
    engine: str
    repetition: int
    num_documents: int
    read_seconds: float
    build_seconds: float
    save_seconds: float
    size_bytes: int
    build_peak_rss_bytes: int
    open_seconds: float
    milliseconds: Sequence[float]
    at_once_seconds: float | None
    search_peak_rss_bytes: int
    search_anonymous_bytes: int
    hits: Sequence[Sequence[str]]
    recalls: Sequence[float]

    @property
    def key(self) -> tuple[Subject, str, int]:
        """What a later one supersedes this by."""
        return self.subject, self.engine, self.repetition


def to_json(search: Search) -> Record:
    """The measurement as it is kept."""
    return asdict(search)


def read(folder: Path) -> dict[tuple[Subject, str, int], Search]:
    """The measurements of a folder; of several of one thing, the last.

    Raises:
        BadRecord: a line holds something else; names file and line.
    """
    file = folder / SEARCHES
    found = {}
    names = {field.name for field in fields(Search)}
    for line, record in journal.read(file):
        try:
            if names - record.keys():
                raise KeyError(min(names - record.keys()))
            search = Search(**{**record, "subject": Subject(**record["subject"])})
        except (KeyError, TypeError) as error:
            raise BadRecord(
                f"{file}, line {line} is not a measurement of retrieval ({error}): move it away"
            ) from error
        found[search.key] = search
    return found


def figures(search: Search) -> dict[str, float | None]:
    """What one measurement tells; None for what it cannot."""
    num, one_by_one = len(search.milliseconds), sum(search.milliseconds) / 1e3
    seconds = min(s for s in (one_by_one, search.at_once_seconds) if s is not None)
    return {
        "build_documents_per_second": search.num_documents / search.build_seconds,
        "read_documents_per_second": search.num_documents / search.read_seconds,
        "queries_per_second": num / seconds,
        **{f"p{q}_milliseconds": quantile(search.milliseconds, q / 100) for q in (50, 95, 99)},
        "recall": fmean(search.recalls) if search.recalls else None,
        "complete": fmean(r == 1.0 for r in search.recalls) if search.recalls else None,
        "peak_rss_bytes": max(search.build_peak_rss_bytes, search.search_peak_rss_bytes),
        "build_peak_rss_bytes": search.build_peak_rss_bytes,
        "search_peak_rss_bytes": search.search_peak_rss_bytes,
        "search_anonymous_bytes": search.search_anonymous_bytes,
        "size_bytes": search.size_bytes,
    }


def summaries(searches: Iterable[Search]) -> dict[Subject, dict[str, dict[str, float | None]]]:
    """Medians over repetitions, by subject and engine; ratios to ours where both were measured.

    A ratio is ours to the other's, of the same repetition, so above 1 where ours is faster.
    """
    groups: dict[Subject, dict[str, dict[int, Search]]] = {}
    for search in searches:
        engines = groups.setdefault(search.subject, {})
        engines.setdefault(search.engine, {})[search.repetition] = search
    return {
        subject: {name: _summary(engines, name) for name in sorted(engines, key=_ours_first)}
        for subject, engines in groups.items()
    }


def lines(found: Mapping[Subject, Mapping[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Each subject's figures as the JSON that the command ends with."""
    return [_line(subject, engines) for subject, engines in found.items()]


def tables(found: Mapping[Subject, Mapping[str, Mapping[str, Any]]]) -> list[Table]:
    """All figures, an engine a row."""
    rows = tuple(
        _row(subject, name, told)
        for subject, engines in found.items()
        for name, told in engines.items()
    )
    return [Table("Retrieval", _HEAD, rows, _NOTE.format(ours=OURS))] if rows else []


def plot(found: Mapping[Subject, Mapping[str, Mapping[str, Any]]]) -> str:
    """Queries a second over passages, as SVG; "" where all corpora are of one size."""
    series: dict[str, list[tuple[float, float]]] = {}
    for engines in found.values():
        for name, told in engines.items():
            point = (told["num_documents"], told["queries_per_second"])
            series.setdefault(name, []).append(point)
    if len({size for line in series.values() for size, _ in line}) < 2:
        return ""
    return plots.lines("Queries a second", "passages", series, by_size=True)


def sections(folders: Sequence[Path]) -> list[Section]:
    """What a report says of folders of results, one section a folder."""
    made = []
    for folder in folders:
        found = summaries(read(folder).values())
        title = "Retrieval" if len(folders) == 1 else f"Retrieval: {folder}"
        text = "" if found else "Nothing has been measured to its end yet."
        made.append(Section(title, tuple(tables(found)), tuple(filter(None, [plot(found)])), text))
    return made


def _summary(engines: Mapping[str, Mapping[int, Search]], name: str) -> dict[str, float | None]:
    mine, ours = engines[name], engines.get(OURS, {})
    told = {number: figures(search) for number, search in mine.items()}
    summary = _medians(list(told.values()))
    pairs = [(figures(ours[n]), told[n], ours[n], mine[n]) for n in mine if n in ours]
    for compared in _COMPARED:
        ratios = [(a[compared] or 0.0) / (b[compared] or 1.0) for a, b, _, _ in pairs]
        summary[f"{compared}_ratio"] = median(ratios) if ratios else None
    summary["same"] = fmean(same(a.hits, b.hits) for _, _, a, b in pairs) if pairs else None
    one = next(iter(mine.values()))
    return {"num_documents": one.num_documents, "num_queries": len(one.hits), **summary}


def same(ours: Sequence[Sequence[str]], others: Sequence[Sequence[str]]) -> float:
    """The mean share of a query's hits that both found; 1 for a query without any on both sides."""
    shares = [
        len(set(a) & set(b)) / max(len(a), len(b)) if a or b else 1.0
        for a, b in zip(ours, others, strict=True)
    ]
    return fmean(shares)


def _medians(told: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    known = {name: [v for each in told if (v := each[name]) is not None] for name in told[0]}
    return {name: median(values) if values else None for name, values in known.items()}


def _line(subject: Subject, engines: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    mine = engines.get(OURS) or next(iter(engines.values()))
    theirs = engines.get(BM25S, {})
    return {
        "dataset": subject.dataset,
        "top_k": subject.top_k,
        **{name: value for name, value in mine.items() if not name.endswith(("_ratio", "same"))},
        "bm25s_queries_ratio": theirs.get("queries_per_second_ratio"),
        "bm25s_build_ratio": theirs.get("build_documents_per_second_ratio"),
        "bm25s_same": theirs.get("same"),
        "engines": {name: dict(told) for name, told in engines.items()},
    }


def _row(subject: Subject, name: str, told: Mapping[str, Any]) -> tuple[str, ...]:
    def rate(key: str) -> str:
        ratio = told.get(f"{key}_ratio")
        beside = "" if name == OURS or ratio is None else f" (ours × {ratio:.2f})"
        return f"{told[key]:,.0f}{beside}"

    times = (f"{told[f'p{q}_milliseconds']:.3f}" for q in (50, 95, 99))
    shares = (told[key] for key in ("recall", "complete", "same"))
    sizes = (told[key] for key in ("build_peak_rss_bytes", "search_peak_rss_bytes", "size_bytes"))
    return (
        f"{subject.dataset}, {name}",
        f"{told['num_documents']:,}",
        rate("build_documents_per_second"),
        f"{told['read_documents_per_second']:,.0f}",
        rate("queries_per_second"),
        *times,
        *("–" if share is None else f"{share:.3f}" for share in shares),
        *(f"{size / 1e6:,.0f} MB" for size in sizes),
    )


def _ours_first(name: str) -> tuple[bool, str]:
    return name != OURS, name
