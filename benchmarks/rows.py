"""Rows: one question under one cell's settings, its trace, scores, times or failure, as kept.

    {"id", "config", "cell": {…}, "question", "answers", "type", "hops", "supporting_titles",
     "started", "content", "trace": {…} | null, "times": {…} | null, "scores": {…} | null,
     "error": {"type", "message", "body"} | null}

`scores` stand there for whoever reads the file; whatever is printed is scored anew from the
trace. What is left out: where rows are kept (results), and sums over them (accuracy, latency).
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from steper_serve.benchmarks.cells import Cell
from steper_serve.benchmarks.client import Reply, Times
from steper_serve.errors import SteperError
from steper_serve.evaluation import Answered, Score, score_answer
from steper_serve.journal import BadRecord, Record
from steper_serve.questions import Question
from steper_serve.trajectory import Usage

_SCORED = ("em", "f1", "acc", "acc_generated", "recall", "complete")
_COUNTS = ("num_prompt_tokens", "num_completion_tokens", "num_cached_tokens")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a question has no answer; `body` is what the endpoint said of it, if anything."""

    type: str
    message: str
    body: Any = None

    @classmethod
    def of(cls, error: SteperError) -> "Failure":
        return cls(type(error).__name__, error.message, getattr(error, "body", None))


@dataclass(frozen=True, slots=True)
class Row:
    """What became of a question. `reply` or `failure` is None; `started` is Unix time."""

    cell: Cell
    question: Question
    started: float
    reply: Reply | None
    failure: Failure | None

    @property
    def key(self) -> tuple[str, str]:
        """What a later row supersedes this one by."""
        return self.cell.config, self.question.id

    @property
    def usage(self) -> Usage:
        """Tokens over all steps; none for a failure."""
        told = self.reply.trace["usage"] if self.reply else {}
        return Usage(**{name: told.get(name) or 0 for name in _COUNTS})

    def score(self) -> Score:
        """The question's score; a failure scores 0."""
        if self.reply is None:
            return score_answer(self.question, None)
        steps = self.reply.trace["steps"]
        answered = Answered(
            answer=self.reply.trace["answer"],
            thoughts=tuple(step["thought"] for step in steps),
            titles=frozenset(p["title"] for step in steps for p in step["passages"]),
            usage=self.usage,
        )
        return score_answer(self.question, answered, self.reply.times.wall_seconds)

    def is_of(self, question: Question) -> bool:
        """Whether it answers this very question, not an earlier one of the same id."""
        mine = self.question
        return (mine.question, mine.answers) == (question.question, question.answers)


def to_json(row: Row) -> Record:
    """The row as it is kept."""
    score, reply, question = row.score(), row.reply, row.question
    return {
        "id": question.id,
        "config": row.cell.config,
        "cell": asdict(row.cell),
        **question_json(question),
        "started": row.started,
        "content": reply and reply.content,
        "trace": reply and reply.trace,
        "times": reply and asdict(reply.times),
        "scores": reply and {name: getattr(score, name) for name in _SCORED},
        "error": row.failure and asdict(row.failure),
    }


def from_json(record: Record, file: Path, line: int) -> Row:
    """The row that a line holds.

    Raises:
        BadRecord: it holds something else; names file and line.
    """
    try:
        row = Row(
            cell=Cell.from_json(record["cell"]),
            question=question_of(record),
            started=float(record["started"]),
            reply=_reply(record) if record["error"] is None else None,
            failure=None if record["error"] is None else Failure(**record["error"]),
        )
        row.score()  # what it is made of is all there
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadRecord(
            f"{file}, line {line} is not a row of a benchmark ({type(error).__name__}: {error}): "
            "was it written by another version, or by hand? Move the file away, or mend the line"
        ) from error
    return row


def question_json(question: Question) -> Record:
    """A question without its id, as every row of a benchmark holds it."""
    return {
        "question": question.question,
        "answers": list(question.answers),
        "type": question.type,
        "hops": question.hops,
        "supporting_titles": list(question.supporting_titles),
    }


def question_of(record: Record) -> Question:
    """The question of a row, which has an "id" besides.

    Raises:
        KeyError, TypeError: something of it is missing.
    """
    return Question(
        id=record["id"],
        question=record["question"],
        answers=tuple(record["answers"]),
        supporting_titles=tuple(record["supporting_titles"]),
        type=record["type"],
        hops=record["hops"],
    )


def _reply(record: Record) -> Reply:
    return Reply(record["content"], record["trace"], Times(**record["times"]))
