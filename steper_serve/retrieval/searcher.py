"""Open a generation of an index, and search it.

What is left out: writing (bm25).
"""

import logging
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import tantivy

from steper_serve.errors import IndexUnavailable, PassageNotFound
from steper_serve.retrieval import generations, manifest
from steper_serve.retrieval.fields import FIELDS, Reading, analyser, encodable, register, to_passage
from steper_serve.retrieval.manifest import IndexInfo
from steper_serve.trajectory import CorpusInfo, Passage

_log = logging.getLogger(__name__)

_RETRIES = 3
# A search of 16,000 passages takes 0.3 ms (p95 0.7); handing it to a thread and back cost 0.4 ms
# to an idle event loop, 1.2 ms to one that streams and 8 ms to one with 32 streams
# (bench latency on 2 cores).
_QUICK_DOCUMENTS = 20_000


class Bm25Retriever:
    """A `Retriever` over the live generation of an index. Threads may share it.

    It writes nothing into the index. `info` is the generation that it searches.
    """

    def __init__(self, target: Path, opened: "Opened") -> None:
        self._target = target
        self._opened = opened
        self._reloading = threading.Lock()
        self._told: generations.Stamp | None = opened.stamp

    @classmethod
    def open(cls, target: Path, reading: Reading | None = None) -> Self:
        """Open the live generation of `target`. `reading` is for measurements alone.

        Raises:
            IndexUnavailable: there is no index, or this version cannot read it.
        """
        return cls(target, open_live(target, reading or Reading()))

    @property
    def info(self) -> IndexInfo:
        return self._opened.info

    @property
    def num_documents(self) -> int:
        return self._opened.info.num_documents

    @property
    def quick(self) -> bool:
        """See `Retriever.quick`."""
        return self.num_documents <= _QUICK_DOCUMENTS

    def search(self, query: str, top_k: int) -> tuple[Passage, ...]:
        """The at most `top_k` best passages for the words of `query`, best first, scored."""
        return self._opened.search(query, top_k)

    def passage(self, id: str) -> Passage:
        """The passage with this id, without a score.

        Raises:
            PassageNotFound: there is none.
        """
        opened = self._opened
        by_id = tantivy.Query.term_query(opened.schema, "id", encodable(id), "basic")
        hits = opened.searcher.search(by_id, 1, count=False).hits
        if not hits:
            raise PassageNotFound(f"no passage has the id {id!r} in this index")
        return to_passage(opened.searcher.doc(hits[0][1]))

    def describe(self) -> CorpusInfo:
        """See `Retriever.describe`."""
        info = self.info
        number = generations.number_of(info.generation)
        return CorpusInfo(info.num_documents, info.size_bytes, info.created, number)

    def reload_if_changed(self) -> bool:
        """Go over to another generation if one has become live; costs one stat if not.

        Opening one takes some milliseconds (2 to 7 for 4,000 passages as for 300,000). Searches
        that are under way end on the generation they began with, whose files stay on disk until
        the last of them is done.

        Raises:
            IndexUnavailable: the new generation cannot be opened; the old one goes on serving,
                and the next call tries again. It is logged once for each such generation.
        """
        if generations.stamp(self._target) == self._opened.stamp:
            return False
        with self._reloading:  # threads that come at once open it once
            found = generations.stamp(self._target)
            if found == self._opened.stamp:
                return False
            try:
                self._opened = open_live(self._target, self._opened.reading)
            except IndexUnavailable as error:
                self._tell(found, error)
                raise
            info = self.info
            _log.info(
                "the index was switched to generation %s: %d passages",
                info.generation,
                info.num_documents,
                extra={
                    "event": "index_switch",
                    "generation": info.generation,
                    "num_passages": info.num_documents,
                },
            )
        return True

    def _tell(self, found: generations.Stamp | None, error: IndexUnavailable) -> None:
        """Callers go on with the old generation, so that the log alone says that they do."""
        if found != self._told:
            self._told = found
            _log.warning(
                "the index as it was goes on serving: %s",
                error.message,
                extra={"event": "index_unavailable"},
            )


@dataclass(frozen=True, slots=True)
class Opened:
    """An open generation: all that a search needs, replaced as a whole."""

    searcher: Any
    schema: Any
    reading: Reading
    analyser: Any
    analyser_without_stop_words: Any
    info: IndexInfo
    stamp: generations.Stamp | None

    def search(self, query: str, top_k: int) -> tuple[Passage, ...]:
        num = min(top_k, self.searcher.num_docs)
        if num < 1:  # Tantivy panics at a limit of 0
            return ()
        hits = self._hits(self.query(query), num)
        if len(hits) < num and self.reading.stop_words != FIELDS:
            hits = self._hits(self.query(query, stop_words=FIELDS), num)
        return tuple(to_passage(self.searcher.doc(where), score) for score, where in hits)

    def words(self, text: str) -> list[str]:
        """The words that `text` is read as in a query."""
        found: list[str] = self.analyser.analyze(encodable(text))
        return found

    def _hits(self, query: Any, num: int) -> list[tuple[float, Any]]:
        found: list[tuple[float, Any]] = self.searcher.search(query, num, count=False).hits
        return found

    def query(self, text: str, stop_words: tuple[str, ...] | None = None) -> Any:
        """The words of `text` as optional terms of each field.

        Args:
            stop_words: the fields in which stop words count, by default those of the reading.
        """
        words = Counter(self.words(text))
        content = frozenset(self.analyser_without_stop_words.analyze(encodable(text)))
        counted = self.reading.stop_words if stop_words is None else stop_words
        terms = [
            self._term(field, word, n)
            for field in FIELDS
            for word, n in words.items()
            if word in content or field in counted
        ]
        return tantivy.Query.boolean_query([(tantivy.Occur.Should, term) for term in terms])

    def _term(self, field: str, word: str, num: int) -> Any:
        # "freq" or the scorer takes every term frequency for 1
        term = tantivy.Query.term_query(self.schema, field, word, "freq")
        weight = num if self.reading.count_repeats else 1
        boost = weight * (self.reading.title_boost if field == "title" else 1.0)
        return term if boost == 1.0 else tantivy.Query.boost_query(term, boost)

    def own_score(self, query: str, id: str) -> float | None:
        """What the passage `id` scores for `query`; None where it has none of the words."""
        by_id = tantivy.Query.term_query(self.schema, "id", id, "basic")
        must = tantivy.Occur.Must
        for words in (self.query(query), self.query(query, stop_words=FIELDS)):
            both = tantivy.Query.boolean_query(
                [(must, tantivy.Query.const_score_query(by_id, 0.0)), (must, words)]
            )
            if hits := self._hits(both, 1):
                return hits[0][0]
        return None


def open_live(target: Path, reading: Reading) -> Opened:
    """Open what CURRENT names; look again if a writer removed that in between."""
    for _ in range(_RETRIES):
        before = generations.stamp(target)
        try:
            return open_generation(generations.live(target), reading, before)
        except IndexUnavailable:
            if generations.stamp(target) == before:
                raise
    return open_generation(generations.live(target), reading, generations.stamp(target))


def open_generation(generation: Path, reading: Reading, stamp: generations.Stamp | None) -> Opened:
    info = manifest.read(generation)
    if info.analyser != reading.analyser:
        raise IndexUnavailable(
            f"the index in {generation} was built with the analyser {info.analyser!r} and "
            f"this program reads {reading.analyser!r}: build the index again"
        )
    try:
        index = _open_read_only(generation)
        register(index, reading)
        return Opened(
            index.searcher(),
            index.schema,
            reading,
            analyser(reading),
            analyser(reading, stop_words=False),
            info,
            stamp,
        )
    except (ValueError, OSError) as error:
        raise IndexUnavailable(
            f"Tantivy cannot open the index in {generation}: {error}; build it again "
            "(steper-serve index build)"
        ) from error


def _open_read_only(generation: Path) -> Any:
    """Open an index without writing into its folder.

    Tantivy's reader makes a lock file, which a read-only mount refuses. So it gets a folder of
    links, which is not needed any longer once the files are mapped.
    """
    # the first reader, made in `open`, may still be at its lock file when the folder goes
    with tempfile.TemporaryDirectory(prefix="steper-index-", ignore_cleanup_errors=True) as links:
        for file in generation.resolve().iterdir():
            if file.suffix != ".lock":
                (Path(links) / file.name).symlink_to(file)
        index = tantivy.Index.open(links)
        index.config_reader("manual")  # generations never change: nothing to watch
        index.reload()
        return index
