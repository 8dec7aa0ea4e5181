"""What rows do not hold and a judge must read: texts of passages, gold sub-questions.

Both are read from the data set that was asked, which a folder of results names. What is left
out: recipes' trajectories, which hold the texts themselves.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from steper_serve import corpus
from steper_serve.benchmarks import datasets
from steper_serve.benchmarks.datasets import Dataset
from steper_serve.benchmarks.paper.answered import Answer, Search, Subject
from steper_serve.errors import ConfigurationError
from steper_serve.evaluation import recall
from steper_serve.questions import Question
from steper_serve.trajectory import Passage


def read(
    subjects: Iterable[Subject],
    given: Sequence[str],
    told: Mapping[str, str],
    scratch: Path,
) -> dict[str, Dataset]:
    """The data sets of some subjects by name, as far as they are known.

    Args:
        given: DATASETs of the command line, which go before.
        told: by name, what a folder of results says it was asked from.
        scratch: where invented worlds are written.

    Raises:
        ConfigurationError: one is not there (any more), or two have one name.
        CorpusError: one cannot be read; names file and line.
    """
    found = (
        {dataset.name: dataset for dataset in datasets.read_all(given, scratch)} if given else {}
    )
    wanted = dict.fromkeys(subject.cell.dataset for subject in subjects)
    for name in wanted:
        if name not in found and name in told:
            found[name] = datasets.read(told[name], scratch)
    return found


def with_texts(subjects: Sequence[Subject], known: Mapping[str, Dataset]) -> list[Subject]:
    """The same subjects, every passage with its text.

    Raises:
        ConfigurationError: a passage's text is nowhere to be read.
    """
    texts: dict[str, dict[str, Passage]] = {}
    for name in dict.fromkeys(s.cell.dataset for s in subjects if _lacks_texts(s)):
        asked = [s for s in subjects if s.cell.dataset == name and _lacks_texts(s)]
        texts[name] = _passages(asked, known.get(name))
    return [_filled(s, texts[s.cell.dataset]) if _lacks_texts(s) else s for s in subjects]


def with_gold(subjects: Sequence[Subject], known: Mapping[str, Dataset]) -> list[Subject]:
    """The same subjects, each question with the sub-questions and titles that its set gives."""
    gold = {name: {q.id: q for q in dataset.questions} for name, dataset in known.items()}

    def complete(answer: Answer, questions: Mapping[str, Question]) -> Answer:
        there = questions.get(answer.question.id)
        same = there is not None and there.question == answer.question.question
        return _of(answer, there) if there is not None and same else answer

    return [
        replace(s, answers=tuple(complete(a, gold.get(s.cell.dataset, {})) for a in s.answers))
        for s in subjects
    ]


def _of(answer: Answer, question: Question) -> Answer:
    """The answer to the question as its data set has it; recall follows its supporting titles."""
    share = recall(question, {passage.title for search in answer.searches for passage in search})
    complete = None if share is None else float(share == 1.0)
    score = replace(answer.score, recall=share, complete=complete)
    return replace(answer, question=question, score=score)


def _lacks_texts(subject: Subject) -> bool:
    return any(not p.text for a in subject.answers for search in a.searches for p in search)


def _passages(subjects: Sequence[Subject], dataset: Dataset | None) -> dict[str, Passage]:
    name = subjects[0].cell.dataset
    if dataset is None or dataset.corpus is None:
        raise ConfigurationError(
            f"a judge reads the passages that were found, and there is no corpus of {name!r}: "
            "give its folder as a DATASET"
        )
    if other := {s.cell.corpus for s in subjects} - {dataset.digest}:
        raise ConfigurationError(
            f"the corpus {dataset.corpus} is not the one that was searched (digest "
            f"{dataset.digest}, not {', '.join(sorted(other)) or 'known'}): give the DATASET that "
            "was"
        )
    wanted = {p.id for s in subjects for a in s.answers for search in a.searches for p in search}
    found = {p.id: p for p in corpus.read(dataset.corpus) if p.id in wanted}
    if missing := wanted - found.keys():
        raise ConfigurationError(
            f"{dataset.corpus} holds no passage {min(missing)!r}, which was found in {name!r}: "
            "the server searched another corpus. Give the DATASET that it searched"
        )
    return found


def _filled(subject: Subject, texts: Mapping[str, Passage]) -> Subject:
    def fill(search: Search) -> Search:
        return tuple(replace(texts[p.id], score=p.score) for p in search)

    answers = (
        replace(answer, searches=tuple(map(fill, answer.searches))) for answer in subject.answers
    )
    return replace(subject, answers=tuple(answers))
