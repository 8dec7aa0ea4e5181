"""Verdicts, kept as they come: `verdicts.jsonl`, a line a reply.

    {"key", "form", "judge", "url", "dataset", "id", "prompt", "reply" | null,
     "values": {…} | null, "problem": "…" | null, "error" | null, "asked"}

The key stands for judge and prompt, and so for all that a verdict depends on: what is there is
not asked again, whoever gave the same answer. `values` and `problem` stand there for whoever
reads the file; what is printed is read anew from the reply. What is left out: what verdicts add
up to (judged).
"""

import asyncio
import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from tqdm import tqdm

from steper_serve import journal
from steper_serve.benchmarks.failures import AnswerFailed, EndpointUnreachable, RequestRefused
from steper_serve.benchmarks.paper.answered import Answer, Subject
from steper_serve.benchmarks.paper.forms import Form, OutsideForm, parse
from steper_serve.benchmarks.paper.judge import Judge
from steper_serve.crew import answer_all
from steper_serve.errors import SteperError
from steper_serve.journal import Appender, BadRecord, Record

VERDICTS = "verdicts.jsonl"


@dataclass(frozen=True, slots=True)
class Court:
    """Who judges: `model` at `url`, with its `key`, so many prompts at once.

    `ask_again` asks for those again whose reply was outside the form.
    """

    url: str
    model: str
    key: str | None = None
    concurrency: int = 8
    timeout: float = 600.0
    ask_again: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge said of an answer.

    Args:
        values: of the form's fields; None if there are none.
        problem: why there are none: a reply outside the form, or none at all.
        failed: there was no reply.
    """

    values: dict[str, float] | None
    problem: str = ""
    failed: bool = False


@dataclass(frozen=True, slots=True)
class _Item:
    key: str
    dataset: str
    answer: Answer
    prompt: str


@dataclass(frozen=True, slots=True)
class _Ended:
    item: _Item
    reply: str | None
    error: SteperError | None


class Verdicts:
    """The verdicts of one judge by one form, in a folder."""

    def __init__(self, folder: Path, form: Form, court: Court) -> None:
        self._file = folder / VERDICTS
        self._form = form
        self._court = court
        self._held: dict[str, Record] = {}

    def of(self, answer: Answer) -> Verdict | None:
        """The verdict on an answer; None where it cannot be judged."""
        prompt = self._form.prompt(answer)
        if prompt is None:
            return None
        record = self._held.get(self._key(prompt))
        if record is None or record["reply"] is None:
            return Verdict(None, record["error"] if record else "not asked", failed=True)
        return self._read(record["reply"], answer)

    def collect(self, subjects: Iterable[Subject]) -> None:
        """Ask for every verdict that is not there yet; questions that failed are not judged.

        Raises:
            EndpointUnreachable: the judge does not answer; names its URL. Verdicts are kept.
            RequestRefused: it refuses the key or the model.
            BadRecord: what is kept cannot be read; names file and line.
            DiskFailed: the disk is full, or another process judges into the folder.
        """
        with Appender(self._file) as out:
            for line, record in journal.read(self._file):
                if not isinstance(record.get("key"), str) or "reply" not in record:
                    raise BadRecord(f"{self._file}, line {line} is not a verdict: delete it")
                self._held[record["key"]] = record
            items = list(self._items(subjects))
            left = [item for item in items if self._is_left(item)]
            told = f"{len(items):,} to judge, {len(items) - len(left):,} judged before"
            click.echo(f"{self._court.model} at {self._court.url}: {told}", err=True)
            if left:
                asyncio.run(self._ask(left, out))

    async def _ask(self, left: Sequence[_Item], out: Appender) -> None:
        court = self._court
        with tqdm(total=len(left), unit=" verdicts") as bar:
            async with Judge(court.url, court.model, key=court.key, timeout=court.timeout) as judge:

                async def ask(item: _Item) -> _Ended:
                    try:
                        return _Ended(item, await judge.ask(item.prompt), None)
                    except (EndpointUnreachable, AnswerFailed) as error:
                        return _Ended(item, None, error)

                def take(ended: _Ended) -> None:
                    record = self._record(ended)
                    out.append(record)
                    self._held[ended.item.key] = record
                    bar.update()

                try:
                    await answer_all(
                        left, ask, take, concurrency=court.concurrency, check=judge.check
                    )
                except (EndpointUnreachable, RequestRefused) as error:
                    raise type(error)(self._ended_early(error)) from error

    def _items(self, subjects: Iterable[Subject]) -> Iterable[_Item]:
        """What is judged, each prompt once."""
        found: dict[str, _Item] = {}
        for subject in subjects:
            for answer in subject.answers:
                prompt = None if answer.score.failed else self._form.prompt(answer)
                if prompt is not None:
                    key = self._key(prompt)
                    found[key] = _Item(key, subject.cell.dataset, answer, prompt)
        return found.values()

    def _is_left(self, item: _Item) -> bool:
        record = self._held.get(item.key)
        if record is None or record["reply"] is None:
            return True
        return self._court.ask_again and self._read(record["reply"], item.answer).values is None

    def _read(self, reply: str, answer: Answer) -> Verdict:
        try:
            return Verdict(parse(self._form, reply, answer))
        except OutsideForm as problem:
            return Verdict(None, str(problem))

    def _record(self, ended: _Ended) -> Record:
        item, reply = ended.item, ended.reply
        read = None if reply is None else self._read(reply, item.answer)
        return {
            "key": item.key,
            "form": self._form.name,
            "judge": self._court.model,
            "url": self._court.url,
            "dataset": item.dataset,
            "id": item.answer.question.id,
            "prompt": item.prompt,
            "reply": reply,
            "values": read and read.values,
            "problem": (read and read.problem) or None,
            "error": ended.error and ended.error.message,
            "asked": round(time.time(), 3),
        }

    def _key(self, prompt: str) -> str:
        text = json.dumps([self._court.model, self._form.name, prompt], ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def _ended_early(self, error: SteperError) -> str:
        return (
            f"{error.message.rstrip('.')}. {len(self._held):,} verdicts are kept in {self._file}: "
            "start the same command again when it judges."
        )
