"""Rows of `bench attack`: one question under one arm, as kept in `attacks.jsonl`.

    {"id", "config", "arm": {…}, "question", "answers", "type", "hops", "supporting_titles",
     "wanted", "hostile", "changed", "trajectory": {…} | null,
     "error": {"type", "message", "body"} | null}

Whatever is printed is drawn anew from the trajectory. What is left out: asking (asking), and sums
(telling).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from steper_serve import answers, evaluation, journal
from steper_serve.benchmarks.rows import Failure, question_json, question_of
from steper_serve.evaluation import Score
from steper_serve.journal import BadRecord, Record
from steper_serve.questions import Question
from steper_serve.trajectory import Trajectory

ATTACKS = "attacks.jsonl"
CLEAN = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is attacked.

    Args:
        corpus: digest of the dataset's corpus.
        served: the model, by the name that tables show.
        weights: digest of a model directory's files, "" of other models.
        prompts: digest of how its prompts are written.
    """

    dataset: str
    corpus: str
    served: str
    weights: str
    prompts: str
    strategy: str
    max_steps: int
    top_k: int


@dataclass(frozen=True, slots=True)
class Arm:
    """A subject under one form of attack (CLEAN for none), as it is served or without defence.

    `payload` is the digest of the form.
    """

    subject: Subject
    form: str
    payload: str
    defended: bool

    @property
    def config(self) -> str:
        """The hash that rows are keyed by."""
        text = json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Arm":
        """The inverse of `dataclasses.asdict`."""
        return cls(**{**data, "subject": Subject(**data["subject"])})


@dataclass(frozen=True, slots=True)
class Row:
    """What became of a question under an arm; `trajectory` or `failure` is None.

    Args:
        wanted: what an attacker wants to hear.
        hostile: the id of the passage with which he tries, "" in a clean arm.
        changed: whether rendering changes a passage that was found.
    """

    arm: Arm
    question: Question
    wanted: str
    hostile: str
    changed: bool
    trajectory: Trajectory | None
    failure: Failure | None

    @property
    def key(self) -> tuple[str, str]:
        """What a later row supersedes this one by."""
        return self.arm.config, self.question.id

    @property
    def found(self) -> bool:
        """Whether the hostile passage was among those that the loop found."""
        passages = self.trajectory.passages if self.trajectory else ()
        return any(passage.id == self.hostile for passage in passages)

    @property
    def gives_wanted(self) -> bool:
        """Whether the final answer holds what the attacker wants to hear."""
        answer = self.trajectory.answer if self.trajectory else ""
        return bool(answers.accuracy(answer, [self.wanted]))

    @property
    def ends_at_once(self) -> bool:
        """Whether the loop answered in its first step."""
        t = self.trajectory
        return t is not None and len(t.steps) == 1 and t.stop_reason == "answer"

    @property
    def score(self) -> Score:
        """The question's score; a failure scores 0."""
        return evaluation.score(self.question, self.trajectory)

    def is_of(self, question: Question, wanted: str) -> bool:
        """Whether it is of this very question, not of an earlier one of the same id."""
        mine = (self.question.question, self.question.answers, self.wanted)
        return mine == (question.question, question.answers, wanted)


def to_json(row: Row) -> Record:
    """The row as it is kept."""
    return {
        "id": row.question.id,
        "config": row.arm.config,
        "arm": asdict(row.arm),
        **question_json(row.question),
        "wanted": row.wanted,
        "hostile": row.hostile,
        "changed": row.changed,
        "trajectory": row.trajectory and row.trajectory.to_json(),
        "error": row.failure and asdict(row.failure),
    }


def read(folder: Path) -> dict[tuple[str, str], Row]:
    """The rows of a folder by their keys; of several of one key, the last.

    Raises:
        BadRecord: a line holds something else; names file and line.
    """
    file = folder / ATTACKS
    rows = (_row(record, file, line) for line, record in journal.read(file))
    return {row.key: row for row in rows}


def _row(record: Record, file: Path, line: int) -> Row:
    try:
        told = record["trajectory"]
        return Row(
            arm=Arm.from_json(record["arm"]),
            question=question_of(record),
            wanted=record["wanted"],
            hostile=record["hostile"],
            changed=record["changed"],
            trajectory=None if told is None else Trajectory.from_json(told),
            failure=None if record["error"] is None else Failure(**record["error"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadRecord(
            f"{file}, line {line} is not a row of `bench attack` ({type(error).__name__}: "
            f"{error}): was it written by another version? Move the file away, or mend the line"
        ) from error
