"""BM25 search with Tantivy, embedded: build, change, open and search an index.

Scores are Tantivy's BM25 (k1 = 1.2, b = 0.75, idf = ln(1 + (N - n + 0.5) / (n + 0.5))), summed
over the fields title and text. A word is a run of letters and digits, lower-cased, without
accents, at most 40 bytes long. It is not stemmed, and stop words stay, because neither finds
more of the supporting passages (benchmarks/README.md, "Field tokenisation") and both confuse
names: "Gavos" with "Gavo", the film "It" with nothing.

A query is words and never syntax: it passes through the same analyser, and each distinct word
becomes one optional term of each field. Ties break by Tantivy's document order, which is the
order of the corpus as long as the index is one segment, and is fixed for the life of a generation
in any case.

Memory is constant in the size of the corpus (about 200 MB while building, beside file pages that
the system can take back): the writer's heap is bounded, and duplicate ids are found by reading
the ids back from a temporary file and asking the finished index for each. One segment holds
about 300,000 passages of 100 words.

What is left out: languages without spaces between words (their sentences stay whole), and the
folder with its generations and its lock (generations).
"""

import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Self

import tantivy

from steper_serve.errors import CorpusError, IndexUnavailable, PassageNotFound
from steper_serve.retrieval import generations, manifest
from steper_serve.retrieval.manifest import IndexInfo as IndexInfo
from steper_serve.retrieval.self_check import Sample, failed, self_check
from steper_serve.trajectory import Passage

_FIELDS = ("title", "text")
_HEAP_BYTES = 128_000_000
_MAX_WORD_BYTES = 40
_MAX_ID_BYTES = 4_096  # Tantivy drops terms beyond 65,530 without a word
_RETRIES = 3


@dataclass(frozen=True, slots=True)
class Reading:
    """How texts and queries become words. The product has one, the default.

    benchmarks/retrieval.py measures the others. `stem` and `fold` (to ASCII) belong to the
    index; the rest acts on queries alone.
    """

    stem: bool = False
    fold: bool = True
    stop_words: bool = True
    count_repeats: bool = False
    title_boost: float = 1.0

    @property
    def analyser(self) -> str:
        """The name of how the fields are tokenised, kept with the index."""
        filters = ("ascii",) * self.fold + ("english-stems",) * self.stem
        return "+".join(("words", f"max{_MAX_WORD_BYTES}bytes", "lower", *filters))


def build(passages: Iterable[Passage], target: Path) -> IndexInfo:
    """Build an index of `passages` and make it the live generation of `target`.

    It is built beside the live one and switched in when it has passed its self-check. `passages`
    is read once, as a stream; wrap it to show progress.

    Raises:
        CorpusError: there is no passage, an id occurs twice, or `passages` raised it.
        IndexUnavailable: another process writes here, `target` holds other files, the disk
            refused, or the self-check failed. Whatever was live stays live.
    """
    return build_with(Reading(), passages, target)


def build_with(reading: Reading, passages: Iterable[Passage], target: Path) -> IndexInfo:
    """`build` with another way of reading words: for measurements, see `Reading`."""
    with generations.writing(target) as new:
        with _storage(target):
            index = tantivy.Index(_schema(), path=str(new))
        _register(index, reading)
        return _finish(target, new, index, reading, passages, num_before=0)


def add(passages: Iterable[Passage], target: Path) -> IndexInfo:
    """Add `passages` to the live index of `target`, as a new generation.

    Unchanged files are shared with the old generation, so this costs what is added.

    Raises:
        CorpusError: as in `build`, or an id is already in the index (delete it first).
        IndexUnavailable: as in `build`, or there is no index.
    """
    with _heir(target) as (old, new, index):
        return _finish(
            target, new, index, old.reading, passages, num_before=old.searcher.num_docs, old=old
        )


def delete(ids: Iterable[str], target: Path) -> IndexInfo:
    """Remove the passages with these ids from the live index, as a new generation.

    Until Tantivy merges a segment, the words of its deleted passages still count in the
    frequencies that scores are made of.

    Raises:
        PassageNotFound: some ids are not in the index; nothing is deleted.
        IndexUnavailable: as in `add`.
    """
    with _heir(target) as (old, new, index):
        wanted = dict.fromkeys(ids)
        missing = [id for id in wanted if not _num_with_id(old.searcher, index.schema, id)]
        if missing:
            raise PassageNotFound(
                f"{len(missing)} of {len(wanted)} ids are not in the index at {target} "
                f"({_some(missing)}): nothing was deleted; leave them out"
            )
        with _storage(target):
            writer = index.writer(_HEAP_BYTES, num_threads=1)
            for id in wanted:
                writer.delete_documents_by_term("id", id)
            writer.commit()
            writer.wait_merging_threads()
        num = old.searcher.num_docs - len(wanted)
        _expect_count(index, num)
        return _seal(new, num, old.reading)


def info(target: Path) -> IndexInfo:
    """The live generation of the index at `target`.

    Raises:
        IndexUnavailable: there is none, or this version cannot read it.
    """
    return manifest.read(generations.live(target))


class Bm25Retriever:
    """A `Retriever` over the live generation of an index. Threads may share it.

    It writes nothing into the index. `info` is the generation that it searches.
    """

    def __init__(self, target: Path, opened: "_Opened") -> None:
        self._target = target
        self._opened = opened

    @classmethod
    def open(cls, target: Path, reading: Reading | None = None) -> Self:
        """Open the live generation of `target`. `reading` is for measurements alone.

        Raises:
            IndexUnavailable: there is no index, or this version cannot read it.
        """
        return cls(target, _open_live(target, reading or Reading()))

    @property
    def info(self) -> IndexInfo:
        return self._opened.info

    @property
    def num_documents(self) -> int:
        return self._opened.info.num_documents

    def search(self, query: str, top_k: int) -> tuple[Passage, ...]:
        """The at most `top_k` best passages for the words of `query`, best first, scored."""
        return self._opened.search(query, top_k)

    def passage(self, id: str) -> Passage:
        """The passage with this id, without a score.

        Raises:
            PassageNotFound: there is none.
        """
        opened = self._opened
        by_id = tantivy.Query.term_query(opened.schema, "id", _encodable(id), "basic")
        hits = opened.searcher.search(by_id, 1, count=False).hits
        if not hits:
            raise PassageNotFound(f"no passage has the id {id!r} in this index")
        return _passage(opened.searcher.doc(hits[0][1]))

    def reload_if_changed(self) -> bool:
        """Go over to another generation if one has become live; costs one stat if not.

        Searches that are under way end on the generation they began with.

        Raises:
            IndexUnavailable: the new generation cannot be opened; the old one goes on serving.
        """
        if generations.stamp(self._target) == self._opened.stamp:
            return False
        self._opened = _open_live(self._target, self._opened.reading)
        return True


@dataclass(frozen=True, slots=True)
class _Opened:
    """An open generation: all that a search needs, replaced as a whole."""

    searcher: Any
    schema: Any
    reading: Reading
    query_analyser: Any
    info: IndexInfo
    stamp: generations.Stamp | None

    def search(self, query: str, top_k: int) -> tuple[Passage, ...]:
        num = min(top_k, self.searcher.num_docs)
        if num < 1:  # Tantivy panics at a limit of 0
            return ()
        hits = self.searcher.search(self.query(query), num, count=False).hits
        return tuple(_passage(self.searcher.doc(where), score) for score, where in hits)

    def words(self, text: str) -> list[str]:
        """The words that `text` is read as in a query."""
        found: list[str] = self.query_analyser.analyze(_encodable(text))
        return found

    def query(self, text: str) -> Any:
        """The words of `text` as optional terms of each field."""
        words = Counter(self.words(text))
        terms = [self._term(field, word, n) for field in _FIELDS for word, n in words.items()]
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
        both = tantivy.Query.boolean_query(
            [(must, tantivy.Query.const_score_query(by_id, 0.0)), (must, self.query(query))]
        )
        hits = self.searcher.search(both, 1, count=False).hits
        return hits[0][0] if hits else None


def _schema() -> Any:
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("id", stored=True, tokenizer_name="raw", index_option="basic")
    for field in _FIELDS:
        builder.add_text_field(field, stored=True, tokenizer_name="words", index_option="freq")
    builder.add_bytes_field("url", stored=True)  # bytes can be stored without being indexed
    return builder.build()


def _analyser(reading: Reading, *, for_query: bool) -> Any:
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    filters = [tantivy.Filter.remove_long(_MAX_WORD_BYTES + 1), tantivy.Filter.lowercase()]
    if for_query and not reading.stop_words:
        filters.append(tantivy.Filter.stopword("english"))
    if reading.fold:
        filters.append(tantivy.Filter.ascii_fold())
    if reading.stem:
        filters.append(tantivy.Filter.stemmer("english"))
    for each in filters:
        builder = builder.filter(each)
    return builder.build()


def _register(index: Any, reading: Reading) -> None:
    index.register_tokenizer("words", _analyser(reading, for_query=False))


def _encodable(text: str) -> str:
    """`text` without lone surrogates, which have no UTF-8."""
    return text.encode("utf-8", "ignore").decode("utf-8")


def _passage(document: Any, score: float | None = None) -> Passage:
    url = document.get_first("url")
    id, title, text = (document.get_first(name) for name in ("id", *_FIELDS))
    return Passage(id, title, text, None if url is None else bytes(url).decode("utf-8"), score)


def _document(passage: Passage) -> Any:
    if not 0 < len(passage.id.encode("utf-8", "replace")) <= _MAX_ID_BYTES:
        raise CorpusError(
            f"the id {passage.id[:60]!r} has {len(passage.id)} characters: an id has 1 to "
            f"{_MAX_ID_BYTES} bytes"
        )
    url = {} if passage.url is None else {"url": passage.url.encode("utf-8", "replace")}
    try:
        return tantivy.Document(id=passage.id, title=passage.title, text=passage.text, **url)
    except ValueError as error:
        raise CorpusError(f"passage {passage.id!r} is not valid Unicode: {error}") from error


@contextmanager
def _storage(target: Path) -> Iterator[None]:
    """Tantivy's errors, all of them ValueError, as what they mean for whoever writes."""
    try:
        yield
    except ValueError as error:
        raise IndexUnavailable(
            f"Tantivy could not write the index at {target}: {error}; see that the disk has "
            "room and the files are as they were, then try again"
        ) from error


@contextmanager
def _heir(target: Path) -> Iterator[tuple[_Opened, Path, Any]]:
    """The live generation, and a new one that begins with all it holds."""
    generations.live(target)  # before a folder is made for nothing
    with generations.writing(target) as new:
        live = generations.live(target)
        old = _open(live, Reading(), generations.stamp(target))
        # Tantivy replaces these two by rename, but copies cost nothing and need no trust
        copied = frozenset({"meta.json", ".managed.json"})
        left = frozenset({manifest.FILE_NAME, ".tantivy-meta.lock", ".tantivy-writer.lock"})
        generations.inherit(live, new, copied=copied, left=left)
        with _storage(target):
            index = tantivy.Index.open(str(new))
        _register(index, old.reading)
        yield old, new, index


def _finish(
    target: Path,
    new: Path,
    index: Any,
    reading: Reading,
    passages: Iterable[Passage],
    *,
    num_before: int,
    old: _Opened | None = None,
) -> IndexInfo:
    """Feed `passages` to the new generation, check it and seal it."""
    sample = Sample()
    with tempfile.TemporaryFile("w+", encoding="utf-8", dir=new) as ids:
        num = _feed(target, index, passages, ids, sample, old)
        if num == 0:
            raise CorpusError("there is no passage in the corpus: give one that has some")
        _expect_count(index, num_before + num)
        _refuse_duplicates(index, ids)
    info = _seal(new, num_before + num, reading)
    self_check(_open(new, reading, None), sample.passages)
    return info


def _feed(
    target: Path,
    index: Any,
    passages: Iterable[Passage],
    ids: IO[str],
    sample: Sample,
    old: _Opened | None,
) -> int:
    """Index `passages` with one thread, so that their order is kept; give their number."""
    num = 0
    with _storage(target):
        writer = index.writer(_HEAP_BYTES, num_threads=1)
    for passage in passages:
        if old is not None and _num_with_id(old.searcher, old.schema, passage.id):
            raise CorpusError(f"the id {passage.id!r} is already in the index: delete it first")
        document = _document(passage)
        with _storage(target):
            writer.add_document(document)
        ids.write(json.dumps(passage.id) + "\n")
        sample.offer(passage)
        num += 1
    with _storage(target):
        writer.commit()
        writer.wait_merging_threads()
    return num


def _num_with_id(searcher: Any, schema: Any, id: str) -> int:
    id = _encodable(id)
    if searcher.doc_freq("id", id) == 0:
        return 0
    # the frequency still counts deleted passages, a search does not
    by_id = tantivy.Query.term_query(schema, "id", id, "basic")
    return int(searcher.search(by_id, 1, count=True).count)


def _expect_count(index: Any, num: int) -> None:
    index.reload()
    if index.searcher().num_docs != num:
        raise failed(f"{num} passages went in and {index.searcher().num_docs} are there")


def _refuse_duplicates(index: Any, ids: IO[str]) -> None:
    searcher = index.searcher()
    ids.seek(0)
    for line in ids:
        id = json.loads(line)
        if searcher.doc_freq("id", id) > 1 and _num_with_id(searcher, index.schema, id) > 1:
            ids.seek(0)
            places = [str(n) for n, other in enumerate(ids, 1) if other == line]
            raise CorpusError(
                f"the id {id!r} occurs {len(places)} times (passages {_some(places)} in the order "
                "of reading): ids must differ; rename or remove all but one"
            )


def _seal(new: Path, num_documents: int, reading: Reading) -> IndexInfo:
    """Write the manifest that makes a folder of Tantivy's a generation."""
    sealed = IndexInfo(
        generation=new.name,
        num_documents=num_documents,
        size_bytes=generations.size_bytes(new),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        schema_version=manifest.SCHEMA_VERSION,
        analyser=reading.analyser,
        tantivy_version=tantivy.__version__,
    )
    manifest.write(new, sealed)
    return sealed


def _open_live(target: Path, reading: Reading) -> _Opened:
    """Open what CURRENT names; look again if a writer removed that in between."""
    for _ in range(_RETRIES):
        before = generations.stamp(target)
        try:
            return _open(generations.live(target), reading, before)
        except IndexUnavailable:
            if generations.stamp(target) == before:
                raise
    return _open(generations.live(target), reading, generations.stamp(target))


def _open(generation: Path, reading: Reading, stamp: generations.Stamp | None) -> _Opened:
    info = manifest.read(generation)
    if info.analyser != reading.analyser:
        raise IndexUnavailable(
            f"the index in {generation} was built with the analyser {info.analyser!r} and "
            f"this program reads {reading.analyser!r}: build the index again"
        )
    try:
        index = _open_read_only(generation)
        _register(index, reading)
        return _Opened(
            index.searcher(),
            index.schema,
            reading,
            _analyser(reading, for_query=True),
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


def _some(names: list[str], num: int = 5) -> str:
    return ", ".join(names[:num]) + (", …" if len(names) > num else "")
