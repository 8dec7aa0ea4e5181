"""Published question sets as corpora: HotpotQA, 2WikiMultiHopQA and MuSiQue, file as it comes.

    HotpotQA, 2WikiMultiHopQA   {"context": [[title, [sentence, …]], …]}   (also as a JSON string,
                                or as {"title": […], "sentences": [[…], …]})
    MuSiQue                     {"paragraphs": [{"title": …, "paragraph_text": …}, …]}

The questions of a set share paragraphs, so each distinct one (title and text) is given once, and
its id is a hash of both: the same in every file and every run. Paragraphs without text, which
the published files contain here and there, are passed over.

What is left out: the questions themselves (benchmarks, recipes).
"""

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

from steper_serve.corpus.records import Record, checked, parse, string
from steper_serve.errors import CorpusError
from steper_serve.trajectory import Passage

_DIGEST_BYTES = 8


def is_question(record: Record) -> bool:
    """Whether a record is a question with its paragraphs, rather than a passage."""
    return "context" in record.fields or "paragraphs" in record.fields


def passages(first: Record, rest: Iterator[Record]) -> Iterator[Passage]:
    """The distinct paragraphs of the questions, in order of first occurrence.

    Raises:
        CorpusError: a question is not of the first one's shape; names it.
    """
    key = "paragraphs" if "paragraphs" in first.fields else "context"
    seen: set[bytes] = set()
    yield from _new(first, key, seen)
    for record in rest:
        yield from _new(record, key, seen)


def _new(record: Record, key: str, seen: set[bytes]) -> Iterator[Passage]:
    if key not in record.fields:
        raise CorpusError(f"{record.place}: the question has no {key!r}, as the first one has")
    pairs = _paragraphs if key == "paragraphs" else _context
    for title, text in pairs(record):
        if not text:
            continue
        digest = blake2b(f"{title}\0{text}".encode(), digest_size=_DIGEST_BYTES)
        if digest.digest() not in seen:
            seen.add(digest.digest())
            yield Passage(id=digest.hexdigest(), title=title, text=text)


def _paragraphs(record: Record) -> Iterator[tuple[str, str]]:
    for number, paragraph in enumerate(_list(record, record.fields["paragraphs"]), 1):
        place = f"{record.place}, paragraph {number}"
        if not isinstance(paragraph, Mapping):
            raise CorpusError(f"{place}: must be an object with title and paragraph_text")
        yield string(paragraph, "title", place), string(paragraph, "paragraph_text", place).strip()


def _context(record: Record) -> Iterator[tuple[str, str]]:
    context = record.fields["context"]
    if isinstance(context, str):
        context = parse(context, f"{record.place}, context")
    if isinstance(context, Mapping):
        columns = [_list(record, context.get(name)) for name in ("title", "sentences")]
        context = [list(pair) for pair in zip(*columns, strict=False)]
    for number, paragraph in enumerate(_list(record, context), 1):
        place = f"{record.place}, paragraph {number}"
        match paragraph:
            case [title, [*sentences]]:
                parts = [checked(sentence, "a sentence", place).strip() for sentence in sentences]
                yield checked(title, "the title", place), " ".join(filter(None, parts))
            case _:
                raise CorpusError(f"{place}: must be [title, [sentence, …]]")


def _list(record: Record, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise CorpusError(
            f"{record.place}: the paragraphs of the question must be an array: is this the file "
            "as published?"
        )
    return value
