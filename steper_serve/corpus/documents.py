"""Documents (.txt, .md, .pdf) as passages of about 120 words that carry the document's title.

Passages end where paragraphs end: paragraphs are put together until there are 120 words. One of
more than 160 words is divided at its sentences, and a sentence of more than that at its words.
Every word of a document is in exactly one passage; spacing within a paragraph is not kept. The
title is the first heading of a .md file, otherwise the file's name without its ending. Ids are
`relative/path#n`, n from 1. Files and folders whose name begins with a dot are passed over.

What is left out: pictures, text in them, and the layout of tables.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pypdf
from pypdf.errors import DependencyError, PyPdfError

from steper_serve.corpus.lines import numbered_lines
from steper_serve.corpus.records import checked
from steper_serve.errors import CorpusError
from steper_serve.trajectory import Passage

_SUFFIXES = (".txt", ".md", ".pdf")
_NUM_WORDS, _MAX_WORDS = 120, 160
# beside its own errors pypdf lets through whatever a damaged file makes its parsers stumble over
_PDF_ERRORS = (
    PyPdfError,
    DependencyError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RecursionError,
)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_HEADING = re.compile(r"#{1,6}\s+(.*?)[\s#]*")


def is_document(file: Path) -> bool:
    """Whether a file's name says that this module reads it."""
    return file.suffix.lower() in _SUFFIXES


def read_folder(folder: Path) -> Iterator[Passage]:
    """The passages of all documents under `folder`, in the order of their paths.

    Raises:
        CorpusError: there is none, or one has no text or cannot be read.
    """
    num = 0
    for file in _files(folder):
        if is_document(file):
            yield from read_file(file, file.relative_to(folder).as_posix())
            num += 1
    if num == 0:
        raise CorpusError(
            f"{folder} holds no {', '.join(_SUFFIXES)} file and no corpus.jsonl: give a folder "
            "that does, or the file to read"
        )


def read_file(file: Path, name: str) -> Iterator[Passage]:
    """The passages of one document; `name` begins their ids.

    Raises:
        CorpusError: it has no text or cannot be read.
    """
    checked(name, "the name of the file", str(file))
    title, paragraphs = _title(file), _paragraphs(file)
    number = 0
    for number, text in enumerate(_packed(paragraphs), 1):
        yield Passage(id=f"{name}#{number}", title=title, text=text)
    if number == 0:
        raise CorpusError(
            f"{file} holds no text: remove it, or, if it is a scan, run text recognition on it"
        )


def others(folder: Path) -> Counter[str]:
    """How many files of each ending under `folder` are not documents that this module reads."""
    return Counter(
        file.suffix.lower() or file.name for file in _files(folder) if not is_document(file)
    )


def _files(folder: Path) -> Iterator[Path]:
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield Path(where) / name


def _title(file: Path) -> str:
    if file.suffix.lower() == ".md":
        for _, line in numbered_lines(file):
            if (heading := _HEADING.fullmatch(line.strip())) and heading[1]:
                return heading[1]
    return file.stem


def _paragraphs(file: Path) -> Iterator[str]:
    """The paragraphs of a document: runs of lines that are not blank, joined by spaces."""
    lines = _pdf_lines(file) if file.suffix.lower() == ".pdf" else _text_lines(file)
    open_lines: list[str] = []
    for line in lines:
        words = " ".join(line.split())
        if words:
            open_lines.append(words)
        elif open_lines:
            yield " ".join(open_lines)
            open_lines = []
    if open_lines:
        yield " ".join(open_lines)


def _text_lines(file: Path) -> Iterator[str]:
    return (line for _, line in numbered_lines(file))


def _pdf_lines(file: Path) -> Iterator[str]:
    """The lines of each page; a page ends a paragraph."""
    place = str(file)
    try:
        with pypdf.PdfReader(file) as reader:
            for number, page in enumerate(reader.pages, 1):
                place = f"{file}, page {number}"
                yield from checked(page.extract_text(), "the text", place).splitlines()
                yield ""
    except _PDF_ERRORS as error:
        raise CorpusError(
            f"{place}: cannot be read as PDF ({error}): open and save it again, without a "
            "password, or convert it to text"
        ) from error


def _packed(paragraphs: Iterable[str]) -> Iterator[str]:
    """Pieces put together until there are about 120 words, a line for each piece."""
    pieces: list[str] = []
    num = 0
    for piece in (piece for paragraph in paragraphs for piece in _pieces(paragraph)):
        more = len(piece.split())
        if pieces and (num >= _NUM_WORDS or num + more > _MAX_WORDS):
            yield "\n".join(pieces)
            pieces, num = [], 0
        pieces.append(piece)
        num += more
    if pieces:
        yield "\n".join(pieces)


def _pieces(paragraph: str) -> Iterator[str]:
    """A paragraph, whole if it is short enough to be; else its sentences, put together."""
    if len(paragraph.split()) <= _MAX_WORDS:
        yield paragraph
        return
    open_words: list[str] = []
    for sentence in _SENTENCE_END.split(paragraph):
        words = sentence.split()
        if open_words and len(open_words) + len(words) > _NUM_WORDS:
            yield " ".join(open_words)
            open_words = []
        open_words += words
        while len(open_words) > _MAX_WORDS:
            yield " ".join(open_words[:_NUM_WORDS])
            open_words = open_words[_NUM_WORDS:]
    if open_words:
        yield " ".join(open_words)
