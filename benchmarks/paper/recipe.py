"""What a recipe's output folder tells: evaluations, how students were trained, σ while training.

    evaluations/<model>-<step_end>-<dataset>.json, .jsonl   a summary, and the trajectories
    students/<name>-seed<n>/README.md                       its steps and settings
    students/<name>-seed<n>/logs/metrics.jsonl              normalised σ by step
    rollouts/manifest.json                                  what was trained on
    worlds/<dataset>/questions.jsonl                        gold sub-questions of invented worlds

Students that differ in their seed alone are one subject. What is left out: writing any of it
(recipes/distill), which is not imported: only what is on disk counts.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from steper_serve import evaluation, journal, questions
from steper_serve.benchmarks import server
from steper_serve.benchmarks.cells import Cell
from steper_serve.benchmarks.paper.answered import Answer, Subject, Training
from steper_serve.errors import ConfigurationError
from steper_serve.journal import BadRecord, Record
from steper_serve.questions import Question
from steper_serve.trajectory import Trajectory

KINDS = ("init", "exp", "agg")
_SEED = re.compile(r"(?P<name>.+)-seed(?P<seed>\d+)")
_FACTS = re.compile(r"```json\n(?P<facts>\{.*?\n\})\n```", re.DOTALL)
_STEPS = re.compile(r"on steps\s+(?P<steps>.+?) of its teacher's")
_MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Sigmas:
    """Normalised σ of a training: steps, ascending, and as many values of each kind."""

    student: str
    recipe: str
    data: str
    steps: tuple[int, ...]
    by_kind: Mapping[str, tuple[float, ...]]


def subjects(folder: Path) -> list[Subject]:
    """What a recipe evaluated, seeds of a student together.

    Raises:
        ConfigurationError: there is no finished evaluation in the folder.
        BadRecord: a file holds something else; names it, with its line.
    """
    found = [_evaluated(folder, file) for file in _files(folder / "evaluations", "*.json")]
    if not found:
        raise ConfigurationError(
            f"{folder} holds no finished evaluation (evaluations/*.json): is it a recipe's `out`, "
            "and has `steper-serve distill evaluate` ended?"
        )
    together: dict[Cell, Subject] = {}
    for subject in found:
        before = together.get(subject.cell)
        together[subject.cell] = subject if before is None else _joined(before, subject)
    return list(together.values())


def sigmas(folders: Sequence[Path]) -> list[Sigmas]:
    """The trainings of some recipes in which σ was learned.

    Raises:
        ConfigurationError: there is none.
        BadRecord: a log holds something else; names file and line.
    """
    found = [
        _sigmas(folder, file)
        for folder in folders
        for file in _files(folder / "students", "*/logs/metrics.jsonl")
    ]
    learned = [each for each in found if each.steps]
    if not learned:
        where = ", ".join(map(str, folders))
        raise ConfigurationError(
            f"no training with learned σ (students/*/logs/metrics.jsonl) in {where}: "
            'only `weighting = "difficulty"` has one'
        )
    return learned


def gold_questions(folder: Path, dataset: str) -> list[Question]:
    """The questions of an invented world of the recipe; none where it has no such world."""
    file = folder / "worlds" / dataset / "questions.jsonl"
    return questions.read(file) if file.is_file() else []


def _files(folder: Path, pattern: str) -> list[Path]:
    return [file for file in sorted(folder.glob(pattern)) if file.name != _MANIFEST]


def _evaluated(folder: Path, file: Path) -> Subject:
    told = _read(file)
    try:
        model, dataset, end, made = (
            told[name] for name in ("model", "dataset", "step_end", "config_hash")
        )
        strategy, count = told["strategy"], told["num_questions"]
    except KeyError as error:
        raise BadRecord(f"{file} is not an evaluation's summary: it has no {error}") from error
    gold = {question.id: question for question in gold_questions(folder, dataset)}
    answers = tuple(_answers(file.with_suffix(".jsonl"), made, gold))
    if len({answer.question.id for answer in answers}) < count:
        raise BadRecord(
            f"{file} tells of {count} questions, {file.with_suffix('.jsonl').name} of "
            f"{len(answers)}: evaluate anew (`steper-serve distill evaluate`)"
        )
    match = _SEED.fullmatch(model)
    home = folder / "students" / model
    cell = Cell(
        dataset, "", match["name"] if match else model, "", (end,), "", strategy, None, None
    )
    training = _training(folder, home, int(match["seed"])) if match else None
    return Subject(cell, answers, server.num_parameters(home), training)


def _answers(file: Path, made: str, gold: Mapping[str, Question]) -> Iterator[Answer]:
    """The newest answer to each question that was given under one configuration."""
    newest: dict[str, tuple[int, Record]] = {}
    for line, record in journal.read(file):
        if record.get("config") == made and "id" in record:
            newest[record["id"]] = (line, record)
    for line, record in newest.values():
        try:
            yield _answer(record, gold.get(record["id"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadRecord(
                f"{file}, line {line} is not an evaluated question ({type(error).__name__}: "
                f"{error}): was it written by another version?"
            ) from error


def _answer(record: Record, gold: Question | None) -> Answer:
    question = _question(record)
    if gold is not None and (gold.question, gold.answers) == (question.question, question.answers):
        question = gold  # with its supporting titles and sub-questions
    told = record["trajectory"]
    if told is None:
        return Answer(question, (), (), evaluation.score(question, None))
    done = Trajectory.from_json(told)
    return Answer(
        question=question,
        thoughts=tuple(step.thought for step in done.steps),
        searches=tuple(step.passages for step in done.steps if step.query is not None),
        score=evaluation.score(question, done, record["seconds"]),
    )


def _question(record: Record) -> Question:
    return Question(
        id=record["id"],
        question=record["question"],
        answers=tuple(record["answers"]),
        type=record["type"],
        hops=record["hops"],
    )


def _joined(one: Subject, other: Subject) -> Subject:
    seeds = [s for each in (one, other) if each.training for s in each.training.seeds]
    training = one.training and replace(one.training, seeds=tuple(sorted(seeds)))
    return replace(one, answers=one.answers + other.answers, training=training)


def _training(folder: Path, home: Path, seed: int) -> Training:
    card = home / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    facts, steps = _FACTS.search(text), _STEPS.search(text)
    settings = _object(facts["facts"], card).get("settings", {}) if facts else {}
    return Training(
        weighting=settings.get("weighting", ""),
        steps=steps["steps"] if steps else "",
        data=_trained_on(folder),
        seeds=(seed,),
    )


def _trained_on(folder: Path) -> str:
    manifest = folder / "rollouts" / _MANIFEST
    counts = _read(manifest).get("counts", {}) if manifest.is_file() else {}
    names = list(counts.get("datasets", {}))
    if len(names) <= 3:
        return ", ".join(names)
    return f"{names[0]} to {names[-1]} ({len(names)})"


def _sigmas(folder: Path, file: Path) -> Sigmas:
    told: list[tuple[int, Mapping[str, float]]] = []
    for number, line in journal.read(file):
        try:
            if line["normalised_sigma"] is not None:
                told.append((line["step"], {k: line["normalised_sigma"][k] for k in KINDS}))
        except (KeyError, TypeError) as error:
            raise BadRecord(f"{file}, line {number} is not a training's: no {error}") from error
    return Sigmas(
        student=file.parents[1].name,
        recipe=str(folder),
        data=_trained_on(folder),
        steps=tuple(step for step, _ in told),
        by_kind={kind: tuple(values[kind] for _, values in told) for kind in KINDS},
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        return _object(file.read_text(encoding="utf-8"), file)
    except OSError as error:
        raise BadRecord(f"cannot read {file}: {error}") from error


def _object(text: str, file: Path) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise BadRecord(f"{file} does not hold JSON where it should: {error}") from error
    if not isinstance(found, dict):
        raise BadRecord(f"{file} is not a JSON object")
    return found
