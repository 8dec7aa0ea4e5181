"""Records of JSON: one a line, or the items of one array; and the passage that a record holds.

What is left out: question sets, whose records hold many passages (questions).
"""

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ijson

from steper_serve.corpus.lines import BYTE_ORDER_MARK, numbered_lines, opened
from steper_serve.errors import CorpusError
from steper_serve.trajectory import Passage

_SHAPE = 'a passage is {"id": …, "title": …, "text": …} with an optional "url"'


@dataclass(frozen=True, slots=True)
class Record:
    """A JSON object and where it stands, such as "corpus.jsonl, line 7"."""

    place: str
    fields: Mapping[str, Any]

    def text(self, name: str) -> str:
        """The field `name`, which must be a string."""
        return string(self.fields, name, self.place)


def read(file: Path) -> Iterator[Record]:
    """The objects of a file of JSON lines, or of one JSON array, as a stream.

    Raises:
        CorpusError: something is no JSON object; names the line or the item.
    """
    return _items(file) if _begins_array(file) else _lines(file)


def passage(record: Record) -> Passage:
    """The passage of a record in this project's shape or BEIR's.

    Raises:
        CorpusError: a field is missing, of the wrong type, or empty.
    """
    beir = "_id" in record.fields and "id" not in record.fields
    id, text = _id(record, "_id" if beir else "id"), record.text("text")
    title = record.text("title")
    if not text.strip():
        raise CorpusError(f"{record.place}: the field 'text' is empty: fill it or drop the passage")
    return Passage(id=id, title=title, text=text, url=_url(record))


def string(fields: Mapping[str, Any], name: str, place: str) -> str:
    """The field `name` of `fields`, which must be there, a string, and valid Unicode."""
    if name not in fields:
        there = ", ".join(map(repr, list(fields)[:8])) or "none"
        raise CorpusError(
            f"{place}: the field {name!r} is missing (fields here: {there}); {_SHAPE}"
        )
    return checked(fields[name], f"the field {name!r}", place)


def checked(value: Any, what: str, place: str) -> str:
    """`value`, if it is a string that UTF-8 can hold."""
    if not isinstance(value, str):
        raise CorpusError(f"{place}: {what} must be a string and is {_kind(value)}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CorpusError(
            f"{place}: {what} holds half a surrogate pair at character {error.start + 1}, which "
            "is not Unicode text: remove it"
        ) from error
    return value


def parse(text: str, place: str) -> Any:
    """`text` read as JSON."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise CorpusError(
            f"{place}: not valid JSON at character {error.pos + 1} ({error.msg}): correct the line"
        ) from error
    except RecursionError as error:
        raise CorpusError(f"{place}: the JSON is nested too deeply") from error


def _lines(file: Path) -> Iterator[Record]:
    for number, line in numbered_lines(file):
        if line.strip():
            place = f"{file}, line {number}"
            yield Record(place, _an_object(parse(line, place), place))


def _items(file: Path) -> Iterator[Record]:
    number = 1
    with opened(file) as stream:
        if stream.read(len(BYTE_ORDER_MARK)) != BYTE_ORDER_MARK:
            stream.seek(0)
        items = ijson.items(stream, "item", use_float=True)
        while True:
            place = f"{file}, item {number}"
            try:
                item = next(items)
            except StopIteration:
                return
            except ijson.JSONError as error:
                raise CorpusError(f"{place}: {_first_line(error)}: correct the JSON") from error
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise CorpusError(
                    f"{place}: the gzip data is cut off or damaged ({error}): copy or download "
                    "the file again"
                ) from error
            yield Record(place, _an_object(item, place))
            number += 1


def _begins_array(file: Path) -> bool:
    with opened(file) as stream:
        try:
            head = stream.read(4096)  # not a line: an array may be one line of a gigabyte
        except (EOFError, gzip.BadGzipFile, zlib.error):
            return False  # the reader of lines will meet it again and say where
    return head.removeprefix(BYTE_ORDER_MARK).lstrip().startswith(b"[")


def _an_object(value: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise CorpusError(f"{place}: must be a JSON object and is {_kind(value)}; {_SHAPE}")
    return value


def _id(record: Record, name: str) -> str:
    value = record.fields.get(name)
    # numbers are common as ids, and have one spelling
    id = str(value) if type(value) is int else record.text(name)
    if not id.strip():
        raise CorpusError(f"{record.place}: the field {name!r} is empty: give each passage an id")
    return id


def _url(record: Record) -> str | None:
    metadata = record.fields.get("metadata")
    fields = (
        metadata if "url" not in record.fields and isinstance(metadata, dict) else record.fields
    )
    return string(fields, "url", record.place) or None if fields.get("url") is not None else None


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "true or false"}
    return "null" if value is None else names.get(type(value), "a number")


def _first_line(error: Exception) -> str:
    raw = error.args[0] if error.args else ""
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
    return f"not valid JSON ({text.strip().splitlines()[0] if text.strip() else 'unreadable'})"
