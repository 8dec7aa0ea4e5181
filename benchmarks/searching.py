"""One engine of retrieval at work in a process of its own, so that its memory is its own.

    python -m steper_serve.benchmarks.searching read CORPUS
    python -m steper_serve.benchmarks.searching build ENGINE CORPUS TARGET
    python -m steper_serve.benchmarks.searching search ENGINE TARGET QUERIES TOP_K

Each ends with one line of JSON. The engines are ours, and `bm25s` as its documentation says for
speed: its Numba backend, compiled before anything is timed, index in memory, one thread; it reads
words as ours does (a run of letters and digits, lower case, no stemming, without English stop
words; accents are not folded), or as it comes (at least two letters), in one field of title and
text. Ours may read words in other ways than the product does, each an engine of its own
("steper-serve, stemmed"). What is left out: what the figures mean (retrieval).
"""

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from steper_serve import corpus
from steper_serve.trajectory import Passage

OURS, BM25S, BM25S_AS_IT_COMES = "steper-serve", "bm25s", "bm25s-as-it-comes"
THEIRS = (BM25S, BM25S_AS_IT_COMES)
# Ours with other fields of `retrieval.fields.Reading`.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    f"{OURS}, accents kept": {"fold": False},
    f"{OURS}, stemmed": {"stem": True},
    f"{OURS}, stemmed, accents kept": {"stem": True, "fold": False},
    f"{OURS}, stop words of texts too": {"stop_words": ("title", "text")},
    f"{OURS}, no stop words": {"stop_words": ()},
    f"{OURS}, repeats counted": {"count_repeats": True},
    f"{OURS}, title x 0.5": {"title_boost": 0.5},
    f"{OURS}, title x 1.5": {"title_boost": 1.5},
}
_WORDS = r"[^\W_]+"
_K1, _B = 1.2, 0.75  # as Tantivy has them

Hit = str | int  # a passage's id, or its place in the corpus


class Engine(Protocol):
    """What is measured. `build` returns the seconds that it takes, and those of saving apart."""

    def build(self, passages: Iterable[Passage], target: Path) -> tuple[float, float]: ...

    def open(self, target: Path) -> None: ...

    def search(self, query: str, top_k: int) -> Sequence[Any]:
        """What is found; `hits` makes hits of it, which is not timed."""
        ...

    def search_all(self, queries: Sequence[str], top_k: int) -> bool:
        """Search all at once; False if the engine has no way to."""
        ...

    def hits(self, found: Sequence[Any]) -> list[Hit]: ...


@dataclass(slots=True)
class Ours:
    """The product's index. Building ends with everything on disk and checked.

    `reading` is how it reads words, {} for as it is served.
    """

    reading: Mapping[str, Any]
    _retriever: Any = None

    def build(self, passages: Iterable[Passage], target: Path) -> tuple[float, float]:
        """As the protocol's; saving is part of building."""
        from steper_serve.retrieval import bm25
        from steper_serve.retrieval.fields import Reading

        start = time.perf_counter()
        bm25.build_with(Reading(**self.reading), passages, target)
        return time.perf_counter() - start, 0.0

    def open(self, target: Path) -> None:
        """As the protocol's."""
        from steper_serve.retrieval.bm25 import Bm25Retriever
        from steper_serve.retrieval.fields import Reading

        self._retriever = Bm25Retriever.open(target, Reading(**self.reading))

    def search(self, query: str, top_k: int) -> Sequence[Passage]:
        """As the protocol's; passages with their texts."""
        found: Sequence[Passage] = self._retriever.search(query, top_k)
        return found

    def search_all(self, queries: Sequence[str], top_k: int) -> bool:
        """As the protocol's."""
        return False

    def hits(self, found: Sequence[Passage]) -> list[Hit]:
        """As the protocol's."""
        return [passage.id for passage in found]


@dataclass(slots=True)
class Bm25s:
    """`bm25s`. `splitting` is how its tokenizer reads words, {} for as it comes."""

    splitting: Mapping[str, Any]
    _retriever: Any = None

    def build(self, passages: Iterable[Passage], target: Path) -> tuple[float, float]:
        """As the protocol's; it holds all texts in memory."""
        import bm25s

        retriever = bm25s.BM25(k1=_K1, b=_B, method="lucene", backend="numba")
        retriever.compile(activate_numba=True)
        # Compiles what indexing uses; its own warm-up (0.3.16) writes beyond an array's end.
        retriever.index(self._words(["a word", "another"]), show_progress=False)
        start = time.perf_counter()
        texts = [f"{passage.title} {passage.text}" for passage in passages]
        retriever.index(self._words(texts), show_progress=False)
        seconds, start = time.perf_counter() - start, time.perf_counter()
        retriever.save(target, show_progress=False)
        return seconds, time.perf_counter() - start

    def open(self, target: Path) -> None:
        """As the protocol's: into memory, which it says is the fastest."""
        import bm25s

        self._retriever = bm25s.BM25.load(target, show_progress=False)

    def search(self, query: str, top_k: int) -> Sequence[Any]:
        """As the protocol's; places and scores, without texts."""
        places, scores = self._found([query], top_k)
        return list(zip(places[0], scores[0], strict=True))

    def search_all(self, queries: Sequence[str], top_k: int) -> bool:
        """As the protocol's."""
        self._found(queries, top_k)
        return True

    def hits(self, found: Sequence[Any]) -> list[Hit]:
        """As the protocol's; what has none of the words is found with a score of nothing."""
        return [int(place) for place, score in found if score > 0]

    def _found(self, queries: Sequence[str], top_k: int) -> Any:
        top_k = min(top_k, self._retriever.scores["num_docs"])
        return self._retriever.retrieve(self._words(queries), k=top_k, show_progress=False)

    def _words(self, texts: Sequence[str]) -> Any:
        import bm25s

        return bm25s.tokenize(list(texts), **self.splitting, show_progress=False)


ENGINES: Mapping[str, Callable[[], Engine]] = {
    OURS: lambda: Ours({}),
    **{name: partial(Ours, reading) for name, reading in VARIANTS.items()},
    BM25S: lambda: Bm25s({"token_pattern": _WORDS, "stopwords": "en"}),
    BM25S_AS_IT_COMES: lambda: Bm25s({}),
}


def read(file: Path) -> dict[str, Any]:
    """How long it takes to read a corpus and do nothing with it, which building has to as well."""
    start = time.perf_counter()
    num = sum(1 for _ in corpus.read(file))
    return {"num_documents": num, "read_seconds": time.perf_counter() - start}


def build(engine: Engine, file: Path, target: Path) -> dict[str, Any]:
    """Build an index of a corpus, reading it included."""
    seconds, save_seconds = engine.build(corpus.read(file), target)
    return {
        "build_seconds": seconds,
        "save_seconds": save_seconds,
        "size_bytes": sum(each.stat().st_size for each in target.rglob("*") if each.is_file()),
        "build_peak_rss_bytes": memory()["VmHWM"],
    }


def search(engine: Engine, target: Path, queries: Sequence[str], top_k: int) -> dict[str, Any]:
    """Ask every query once to warm up, once more by itself, and all at once if it can be done."""
    start = time.perf_counter()
    engine.open(target)
    open_seconds = time.perf_counter() - start
    found, milliseconds = [], []
    for query in queries:
        engine.search(query, top_k)
    for query in queries:
        start = time.perf_counter()
        found.append(engine.search(query, top_k))
        milliseconds.append(1e3 * (time.perf_counter() - start))
    engine.search_all(queries, top_k)
    start = time.perf_counter()
    at_once = engine.search_all(queries, top_k)
    seconds = time.perf_counter() - start
    used = memory()
    return {
        "open_seconds": open_seconds,
        "milliseconds": [round(each, 4) for each in milliseconds],
        "at_once_seconds": seconds if at_once else None,
        "search_peak_rss_bytes": used["VmHWM"],
        "search_anonymous_bytes": used["RssAnon"],
        "hits": [engine.hits(each) for each in found],
    }


def memory() -> dict[str, int]:
    """This process's memory in bytes as Linux tells it: VmHWM, the most there was; RssAnon, now,
    without file pages. The most that `getrusage` tells may be that of the parent."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    told = dict(line.split(":", 1) for line in lines)
    return {name: int(told[name].split()[0]) * 1024 for name in ("VmHWM", "RssAnon")}


def main(arguments: Sequence[str]) -> None:
    """Do one of the above; see there."""
    match arguments:
        case ["read", file]:
            told = read(Path(file))
        case ["build", name, file, target]:
            told = build(ENGINES[name](), Path(file), Path(target))
        case ["search", name, target, queries, top_k]:
            asked = json.loads(Path(queries).read_text(encoding="utf-8"))
            told = search(ENGINES[name](), Path(target), asked, int(top_k))
        case _:
            sys.exit(__doc__)
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1:])
