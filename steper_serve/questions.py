"""Sets of questions with gold answers, as JSON lines.

    {"id": "q1", "question": "…", "answers": ["…"], "supporting_titles": ["…"],
     "type": "bridge", "hops": 2, "steps": [{…}, …]}

`question` and `answers` are needed; the rest may be missing or null, and other keys are passed
over. Without `hops` their number is that of the `steps`, or is read off a type like "3hop1".

HotpotQA, 2WikiMultiHopQA and MuSiQue are read as published, too: `answer` with
`answer_aliases`, `supporting_facts`, or `paragraphs` and `question_decomposition`. Of
2WikiMultiHopQA an `answer_id` takes its aliases from `id_aliases.json` beside the file, as the
official scorer does. What is left out: the passages (corpus).
"""

import hashlib
import heapq
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steper_serve.corpus import records
from steper_serve.errors import CorpusError

_ALIASES = "id_aliases.json"
_HOPS = re.compile(r"(\d+)\s*-?\s*hop", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Question:
    """A question, what counts as its answer, and what is known of it.

    Args:
        supporting_titles: titles of the passages that it takes; empty where unknown.
        type: the set's own name for its kind, "" where it gives none.
        hops: how many facts it takes, one after the other; None where unknown.
        steps: its gold decomposition as the set gives it.
    """

    id: str
    question: str
    answers: tuple[str, ...]
    supporting_titles: tuple[str, ...] = ()
    type: str = ""
    hops: int | None = None
    steps: tuple[Mapping[str, Any], ...] = ()


def read(file: Path) -> list[Question]:
    """The questions of a file.

    Raises:
        CorpusError: the file is missing or empty, a line is not a question, or an id occurs
            twice; names file, line and field.
    """
    questions: dict[str, Question] = {}
    for place, question in _read(file):
        if question.id in questions:
            raise CorpusError(f"{place}: the id {question.id!r} occurs twice: make ids distinct")
        questions[question.id] = question
    if not questions:
        raise CorpusError(f"{file} is empty: give a file with questions")
    return list(questions.values())


def drawn(questions: Sequence[Question], limit: int | None) -> list[Question]:
    """`limit` of the questions, or all, in their order: a random sample, ever the same.

    It is drawn by the questions' ids, so that a greater limit keeps what a smaller one took.
    """
    if limit is None or limit >= len(questions):
        return list(questions)
    chosen = {q.id for q in heapq.nsmallest(limit, questions, key=_lot)}
    return [question for question in questions if question.id in chosen]


def _lot(question: Question) -> str:
    return hashlib.sha256(question.id.encode()).hexdigest()


def _read(file: Path) -> Iterator[tuple[str, Question]]:
    aliases = _aliases(file.with_name(_ALIASES))
    for number, record in enumerate(records.read(file), 1):
        yield record.place, _question(record.fields, number, record.place, aliases)


def _aliases(file: Path) -> dict[str, tuple[str, ...]]:
    """Other names of an answer, by its id at Wikidata; nothing where there is no such file."""
    if not file.is_file():
        return {}
    found: dict[str, tuple[str, ...]] = {}
    for record in records.read(file):
        id, place = record.fields.get("Q_id"), record.place
        if not isinstance(id, str):
            raise CorpusError(f"{place}: `Q_id` must be a text, not {id!r}")
        names = ("aliases", "demonyms")
        found[id] = tuple(text for name in names for text in _texts(record.fields, name, place))
    return found


def _question(
    data: Mapping[str, Any], number: int, place: str, aliases: Mapping[str, Sequence[str]]
) -> Question:
    if "answer" in data and "answers" not in data:
        data = _published(data, place, aliases)
    text, type = data.get("question"), data.get("type") or ""
    if not isinstance(text, str) or not text.strip():
        raise CorpusError(f"{place}: `question` is missing or is no text")
    steps = data.get("steps") or []
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise CorpusError(f"{place}: `steps` must be a list of objects")
    id = data.get("id")
    return Question(
        id=str(number if id is None else id),
        question=text,
        answers=_texts(data, "answers", place, needed=True),
        supporting_titles=_texts(data, "supporting_titles", place),
        type=str(type),
        hops=_hops(data.get("hops"), len(steps), str(type), place),
        steps=tuple(steps),
    )


def _published(
    data: Mapping[str, Any], place: str, aliases: Mapping[str, Sequence[str]]
) -> Mapping[str, Any]:
    """A question of HotpotQA, 2WikiMultiHopQA or MuSiQue in this module's own form."""
    id = data.get("id", data.get("_id"))
    own, others = data.get("answer_aliases") or [], aliases.get(str(data.get("answer_id")), ())
    return {
        "question": data.get("question"),
        "answers": [data["answer"], *(own if isinstance(own, list) else []), *others],
        "supporting_titles": _supporting(data, place),
        "type": data.get("type"),
        "steps": data.get("question_decomposition"),
    } | ({} if id is None else {"id": id})


def _supporting(data: Mapping[str, Any], place: str) -> list[str]:
    """Titles of `supporting_facts` or of the `paragraphs` that support, each once."""
    facts = data.get("supporting_facts")
    if isinstance(facts, str):  # as some copies have it
        facts = records.parse(facts, f"{place}, supporting_facts")
    try:
        match facts:
            case {"title": [*titles]}:
                pass
            case [*pairs]:
                titles = [title for title, *_ in pairs]
            case _:
                paragraphs = data.get("paragraphs") or []
                titles = [p["title"] for p in paragraphs if p.get("is_supporting")]
        return list(dict.fromkeys(titles))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        name = "paragraphs" if facts is None else "supporting_facts"
        raise CorpusError(
            f"{place}: `{name}` is not as the data sets have it: {error!r}"
        ) from error


def _texts(
    data: Mapping[str, Any], name: str, place: str, *, needed: bool = False
) -> tuple[str, ...]:
    value = data.get(name)
    if value is None and not needed:
        return ()
    fits = isinstance(value, list) and all(isinstance(text, str) for text in value)
    if not fits or (needed and not value):
        raise CorpusError(f"{place}: `{name}` must be a list of texts, not {value!r}")
    return tuple(value or ())


def _hops(given: Any, num_steps: int, type: str, place: str) -> int | None:
    if given is not None:
        if not isinstance(given, int) or isinstance(given, bool):
            raise CorpusError(f"{place}: `hops` must be a number, not {given!r}")
        return given
    if num_steps:
        return num_steps
    found = _HOPS.search(type)
    return int(found[1]) if found else None
