"""A BM25 index with Tantivy, embedded: build, change and describe it.

Scores are Tantivy's BM25 (k1 = 1.2, b = 0.75, idf = ln(1 + (N - n + 0.5) / (n + 0.5))), summed
over the fields title and text. A word is a run of letters and digits, lower-cased, without
accents, at most 40 bytes long. It is not stemmed, since that finds no more of the supporting
passages (benchmarks/README.md, "Field tokenisation") and confuses names: "Gavos" with "Gavo".

A query is words and never syntax: it passes through the same analyser, and each distinct word
becomes one optional term of each field; an English stop word of the title alone, unless the other
words find fewer passages than are wanted. So "The Who" and the film "It" are found by name, and
the longest lists of passages are not read, which is most of the time of a search in a large
corpus. Ties break by Tantivy's document order, which is the order of the corpus as long as the
index is one segment, and is fixed for the life of a generation in any case.

Memory is bounded whatever the size of the corpus (280 MB at a million passages, file pages that
the system can take back included): the writer's heap is bounded, and duplicate ids are found by
reading the ids back from a temporary file and asking the finished index for each. One segment
holds over a million passages of 35 words; a search of a million took 2.8 ms in one and 4.9 in two.

What is left out: languages without spaces between words (their sentences stay whole), and the
folder with its generations and its lock (generations), and searching (searcher).
"""

import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import tantivy

from steper_serve.errors import CorpusError, IndexUnavailable, PassageNotFound
from steper_serve.retrieval import generations, manifest
from steper_serve.retrieval.fields import Reading, num_with_id, register, schema, to_document
from steper_serve.retrieval.manifest import IndexInfo as IndexInfo
from steper_serve.retrieval.searcher import Bm25Retriever as Bm25Retriever
from steper_serve.retrieval.searcher import Opened, open_generation
from steper_serve.retrieval.self_check import Sample, failed, self_check
from steper_serve.trajectory import Passage

_HEAP_BYTES = 512_000_000


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
            index = tantivy.Index(schema(), path=str(new))
        register(index, reading)
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
        missing = [id for id in wanted if not num_with_id(old.searcher, index.schema, id)]
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


def is_usable(target: Path) -> bool:
    """Whether there is an index that this version can search; if not, one is to be built."""
    try:
        Bm25Retriever.open(target)
    except IndexUnavailable:
        return False
    return True


def info(target: Path) -> IndexInfo:
    """The live generation of the index at `target`.

    Raises:
        IndexUnavailable: there is none, or this version cannot read it.
    """
    return manifest.read(generations.live(target))


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
def _heir(target: Path) -> Iterator[tuple[Opened, Path, Any]]:
    """The live generation, and a new one that begins with all it holds."""
    generations.live(target)  # before a folder is made for nothing
    with generations.writing(target) as new:
        live = generations.live(target)
        old = open_generation(live, Reading(), generations.stamp(target))
        # Tantivy replaces these two by rename, but copies cost nothing and need no trust
        copied = frozenset({"meta.json", ".managed.json"})
        left = frozenset({manifest.FILE_NAME, ".tantivy-meta.lock", ".tantivy-writer.lock"})
        generations.inherit(live, new, copied=copied, left=left)
        with _storage(target):
            index = tantivy.Index.open(str(new))
        register(index, old.reading)
        yield old, new, index


def _finish(
    target: Path,
    new: Path,
    index: Any,
    reading: Reading,
    passages: Iterable[Passage],
    *,
    num_before: int,
    old: Opened | None = None,
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
    self_check(open_generation(new, reading, None), sample.passages)
    return info


def _feed(
    target: Path,
    index: Any,
    passages: Iterable[Passage],
    ids: IO[str],
    sample: Sample,
    old: Opened | None,
) -> int:
    """Index `passages` with one thread, so that their order is kept; give their number."""
    num = 0
    with _storage(target):
        writer = index.writer(_HEAP_BYTES, num_threads=1)
    for passage in passages:
        if old is not None and num_with_id(old.searcher, old.schema, passage.id):
            raise CorpusError(f"the id {passage.id!r} is already in the index: delete it first")
        document = to_document(passage)
        with _storage(target):
            writer.add_document(document)
        ids.write(json.dumps(passage.id) + "\n")
        sample.offer(passage)
        num += 1
    with _storage(target):
        writer.commit()
        writer.wait_merging_threads()
    return num


def _expect_count(index: Any, num: int) -> None:
    index.reload()
    if index.searcher().num_docs != num:
        raise failed(f"{num} passages went in and {index.searcher().num_docs} are there")


def _refuse_duplicates(index: Any, ids: IO[str]) -> None:
    searcher = index.searcher()
    ids.seek(0)
    for line in ids:
        id = json.loads(line)
        if searcher.doc_freq("id", id) > 1 and num_with_id(searcher, index.schema, id) > 1:
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


def _some(names: list[str], num: int = 5) -> str:
    return ", ".join(names[:num]) + (", …" if len(names) > num else "")
