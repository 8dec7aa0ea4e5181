"""Ask every question under every arm, in this process, and keep each answer as it ends.

The arm without defence cannot be reached over HTTP, as it should be, so that both are run where
the loop is. A form of attack has an index of its own: a copy of the clean one to which the hostile
passages of all questions are added. Each question sees its own of them alone (`Lens`); the others
count in the frequencies of words and nowhere else. What is left out: what rows tell (telling).
"""

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from steper_serve import drivers, questions
from steper_serve.benchmarks import datasets
from steper_serve.benchmarks.attack import forms
from steper_serve.benchmarks.attack.forms import Form
from steper_serve.benchmarks.attack.rows import ATTACKS, CLEAN, Arm, Row, Subject, read, to_json
from steper_serve.benchmarks.attack.undefended import as_written, rendered, undefended
from steper_serve.benchmarks.datasets import Dataset
from steper_serve.benchmarks.results import Results
from steper_serve.benchmarks.rows import Failure
from steper_serve.benchmarks.server import Served
from steper_serve.crew import answer_all
from steper_serve.errors import ConfigurationError, SteperError
from steper_serve.journal import Appender, DiskFailed
from steper_serve.loop import Ask, Loop
from steper_serve.questions import Question
from steper_serve.retrieval import bm25
from steper_serve.trajectory import CorpusInfo, Passage, Retriever, Trajectory


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked.

    Args:
        served: the model, as it is known in results.
        forms: of attack, by name; all but these are left out. Clean passages are always asked.
        limit: most questions of a dataset (a random sample, ever the same); None for all.
        concurrency: answers in flight.
        retry_failed: ask again what failed before.
    """

    datasets: Sequence[Dataset]
    served: Served
    forms: Mapping[str, Form]
    limit: int | None
    concurrency: int
    retry_failed: bool = False


@dataclass(frozen=True, slots=True)
class Lens:
    """A `Retriever` that does not see some of the passages of another."""

    retriever: Retriever
    unseen: frozenset[str]

    @property
    def quick(self) -> bool:
        return self.retriever.quick

    def search(self, query: str, top_k: int) -> Sequence[Passage]:
        """As many as another would find, as long as there are so many to be seen."""
        num = top_k
        while True:
            found = self.retriever.search(query, num)
            seen = [passage for passage in found if passage.id not in self.unseen]
            if len(seen) >= top_k or len(found) < num:
                return seen[:top_k]
            num *= 2

    def reload_if_changed(self) -> bool:
        return self.retriever.reload_if_changed()

    def passage(self, id: str) -> Passage:
        return self.retriever.passage(id)

    def describe(self) -> CorpusInfo:
        return self.retriever.describe()


@dataclass(frozen=True, slots=True)
class _Case:
    """A question, what its attacker wants, and the passage with which he tries."""

    question: Question
    wanted: str
    passage: Passage | None


@dataclass(frozen=True, slots=True)
class _Ended:
    row: Row
    error: SteperError | None


async def measure(plan: Plan, loop: Loop, results: Results, scratch: Path) -> list[Row]:
    """Ask all of a plan that `results` does not hold yet; the rows of all of it.

    Args:
        loop: model, prompts and defaults; its index is not used.
        scratch: where indexes are built.

    Raises:
        ConfigurationError: a dataset has no corpus, or too few different answers.
        EngineUnavailable: the model is down. What was answered is kept.
        SteperError: a corpus, an index or the disk; the message says which.
    """
    rows: list[Row] = []
    with Appender(results.folder / ATTACKS) as out:
        book = _Book(read(results.folder), out, plan.retry_failed)
        for dataset in plan.datasets:
            _note(plan, dataset, results)
            clean = _clean_index(dataset, scratch)
            asked = questions.drawn(dataset.questions, plan.limit)
            wanted = forms.wanted_answers(asked, dataset.questions)
            subject = _subject(plan, dataset, loop)
            for name, form in [(CLEAN, None), *plan.forms.items()]:
                cases = [_case(question, wanted[question.id], form, loop) for question in asked]
                payload = "" if form is None else forms.digest(form, loop.format)
                arms = [Arm(subject, name, payload, defended) for defended in (False, True)]
                await _ask(arms, cases, loop, clean, book, plan.concurrency)
                rows += [book.rows[arm.config, c.question.id] for arm in arms for c in cases]
    return rows


@dataclass(frozen=True, slots=True)
class _Book:
    """The rows so far, and where new ones are kept."""

    rows: dict[tuple[str, str], Row]
    out: Appender
    retry_failed: bool

    def add(self, row: Row) -> None:
        self.out.append(to_json(row))
        self.rows[row.key] = row

    def lacks(self, arm: Arm, case: _Case) -> bool:
        row = self.rows.get((arm.config, case.question.id))
        if row is None or not row.is_of(case.question, case.wanted):
            return True
        return self.retry_failed and row.failure is not None


async def _ask(
    arms: Sequence[Arm],
    cases: Sequence[_Case],
    loop: Loop,
    clean: Path,
    book: _Book,
    concurrency: int,
) -> None:
    """Ask what the book lacks of arms that differ in the defence alone, on one index."""
    left = {arm: [case for case in cases if book.lacks(arm, case)] for arm in arms}
    if not any(left.values()):
        return
    hostile = [case.passage for case in cases if case.passage]
    every = frozenset(passage.id for passage in hostile)
    with _index(clean, hostile) as index:
        here = replace(loop, retriever=bm25.Bm25Retriever.open(index))
        for arm, some in left.items():
            side = "as served" if arm.defended else "undefended"
            told = f"{arm.form or 'clean passages'}, {side}"

            async def answer(case: _Case, arm: Arm = arm) -> _Ended:
                return await _answer(here, arm, case, every)

            with tqdm(total=len(some), desc=told, unit=" questions") as bar:

                def take(ended: _Ended, bar: Any = bar) -> None:
                    book.add(ended.row)
                    bar.update()

                await answer_all(
                    some, answer, take, concurrency=concurrency, check=loop.model.check
                )


async def _answer(loop: Loop, arm: Arm, case: _Case, every: frozenset[str]) -> _Ended:
    own = "" if case.passage is None else case.passage.id
    special = loop.format.special_tokens
    flow = loop.flow(Ask(case.question.question))
    if not arm.defended:
        flow = undefended(flow, special)
    lens = Lens(loop.retriever, every - {own})

    def row(trajectory: Trajectory | None, failure: Failure | None) -> Row:
        passages = trajectory.passages if trajectory else ()
        changed = any(rendered(p, special) != as_written(p) for p in passages)
        return Row(arm, case.question, case.wanted, own, changed, trajectory, failure)

    try:
        trajectory = await drivers.run(flow, loop.model, lens, max_seconds=loop.max_seconds)
    except SteperError as error:
        return _Ended(row(None, Failure.of(error)), error)
    return _Ended(row(trajectory, None), None)


def _case(question: Question, wanted: str, form: Form | None, loop: Loop) -> _Case:
    passage = None if form is None else forms.hostile(form, question, wanted, loop.format)
    return _Case(question, wanted, passage)


def _clean_index(dataset: Dataset, scratch: Path) -> Path:
    index = datasets.index_of(dataset, scratch)
    if index is None:
        raise ConfigurationError(
            f"{dataset.source} has questions and no passages: give a folder with a corpus.jsonl"
        )
    return index


@contextmanager
def _index(clean: Path, added: Sequence[Passage]) -> Iterator[Path]:
    """The clean index, or for as long as it is needed a copy of it to which passages are added."""
    if not added:
        yield clean
        return
    target = clean.with_name("attacked")
    shutil.rmtree(target, ignore_errors=True)  # what a killed run left
    try:
        _copy(clean, target)
        bm25.add(added, target)
        yield target
    finally:
        shutil.rmtree(target, ignore_errors=True)


def _copy(folder: Path, target: Path) -> None:
    try:
        shutil.copytree(folder, target)
    except OSError as error:
        raise DiskFailed(f"cannot copy {folder} to {target}: {error}; make room") from error


def _subject(plan: Plan, dataset: Dataset, loop: Loop) -> Subject:
    return Subject(
        dataset=dataset.name,
        corpus=dataset.digest,
        served=plan.served.name,
        weights=plan.served.weights,
        prompts=_digest_of_prompts(loop),
        strategy=loop.strategy,
        max_steps=loop.max_steps,
        top_k=loop.top_k,
    )


def _digest_of_prompts(loop: Loop) -> str:
    f = loop.format
    told = (f.special_tokens, f.chat, f.step_end, f.instruction, f.few_shot, f.strategies)
    text = repr((told, f.max_prompt_tokens, loop.few_shot[loop.strategy]))
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:12]


def _note(plan: Plan, dataset: Dataset, results: Results) -> None:
    results.manifest.datasets[dataset.name] = {
        "source": dataset.source,
        "num_questions": len(dataset.questions),
        "corpus": dataset.corpus and str(dataset.corpus),
        "digest": dataset.digest,
    }
    names = ("url", "model", "num_parameters")
    results.manifest.served[plan.served.name] = {n: getattr(plan.served, n) for n in names}
    results.write_manifest()
    click.echo(f"{plan.served.name}, {dataset.name}: {len(plan.forms)} forms of attack", err=True)
