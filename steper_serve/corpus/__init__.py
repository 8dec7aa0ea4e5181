"""Readers: files and folders of many kinds as one stream of passages.

    JSON lines {id, title, text[, url]}, plain or .gz     records.py
    BEIR (`_id`; metadata.url), a file or its folder      records.py
    HotpotQA, 2WikiMultiHopQA, MuSiQue as published       questions.py
    .txt, .md, .pdf and folders of them                   documents.py

Everything is streamed: memory does not grow with the corpus, save for the published question
sets, whose repeated paragraphs are told apart by a set of 8-byte digests (about 100 bytes of
memory for each distinct paragraph).

What is left out: whether an id occurs twice, which the index finds when it is built; folders of
other kinds of documents (`documents.others` says what was passed over).
"""

from collections.abc import Iterator
from pathlib import Path

from steper_serve.corpus import documents, questions, records
from steper_serve.errors import CorpusError
from steper_serve.trajectory import Passage

_BEIR_FILES = ("corpus.jsonl", "corpus.jsonl.gz")


def read(path: Path) -> Iterator[Passage]:
    """The passages of a file or folder, in its order, read as they are asked for.

    A file's kind is told by its name (.txt, .md, .pdf) or else by its first record, which all
    others must then be like.

    Raises:
        CorpusError: while reading, at the first thing that is wrong; names file and line (or
            question), and what to do.
    """
    if not path.exists():
        raise CorpusError(f"{path} does not exist: give a file or folder that does")
    if path.is_dir():
        records_file = holds_records(path)
        return _read_records(records_file) if records_file else documents.read_folder(path)
    if documents.is_document(path):
        return documents.read_file(path, path.name)
    return _read_records(path)


def holds_records(folder: Path) -> Path | None:
    """The file that makes a folder a BEIR one; None for a folder of documents."""
    files = (folder / name for name in _BEIR_FILES)
    return next((file for file in files if file.is_file()), None)


def _read_records(file: Path) -> Iterator[Passage]:
    stream = records.read(file)
    first = next(stream, None)
    if first is None:
        raise CorpusError(f"{file} is empty: give a file with passages")
    if questions.is_question(first):
        yield from questions.passages(first, stream)
        return
    yield records.passage(first)
    for record in stream:
        yield records.passage(record)
