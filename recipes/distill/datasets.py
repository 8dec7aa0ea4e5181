"""What a recipe reads: its questions, and an index of the passages that answer them.

A dataset's files are given, or written by `steper_serve.fictional` to `worlds/<name>`. Its index
is given too, or built in `index/<name>`; a manifest (in the world's folder, in
`index/<name>.built`) says what each was made from, so that neither is made twice. What is left
out: the files' formats (corpus, questions).
"""

import time
from dataclasses import dataclass
from pathlib import Path

from steper_serve import corpus, questions
from steper_serve.errors import ConfigurationError
from steper_serve.questions import Question
from steper_serve.recipes.distill import manifest
from steper_serve.recipes.distill.config import Config, digest
from steper_serve.recipes.distill.manifest import Manifest
from steper_serve.recipes.distill.sections import DatasetConfig, Fictional
from steper_serve.retrieval import bm25
from steper_serve.retrieval.bm25 import Bm25Retriever


@dataclass(frozen=True, slots=True)
class Files:
    """Where a dataset's passages (None: only their index is known) and questions are."""

    corpus: Path | None
    questions: Path


def files(config: Config, dataset: DatasetConfig) -> Files:
    """The dataset's files; an invented world is written first if it is not there yet.

    Raises:
        ConfigurationError: a file that the configuration names does not exist.
        DiskFailed: the world cannot be written.
    """
    if dataset.fictional is not None:
        folder = config.out / "worlds" / dataset.name
        _write_world(folder, dataset.fictional)
        return Files(folder / "corpus.jsonl", folder / "questions.jsonl")
    if dataset.questions is None:  # sections.DatasetConfig has made sure
        raise ConfigurationError(f"the dataset {dataset.name!r} has no questions")
    for file in (dataset.corpus, dataset.questions, dataset.index):
        if file is not None and not file.exists():
            raise ConfigurationError(f"the dataset {dataset.name!r}: {file} does not exist")
    return Files(dataset.corpus, dataset.questions)


def read_questions(config: Config, dataset: DatasetConfig) -> list[Question]:
    """The dataset's questions; with a `limit`, a sample of them (`questions.drawn`).

    Raises:
        CorpusError: the file holds something else; names the line.
        ConfigurationError, DiskFailed: as `files`.
    """
    return questions.drawn(questions.read(files(config, dataset).questions), dataset.limit)


def open_index(config: Config, dataset: DatasetConfig) -> Bm25Retriever:
    """A retriever over the dataset's passages; the index is built if it is not there yet.

    Raises:
        CorpusError, IndexUnavailable: the passages or the index cannot be used.
        ConfigurationError, DiskFailed: as `files`.
    """
    given = files(config, dataset)
    if dataset.index is not None:
        return Bm25Retriever.open(dataset.index)
    if given.corpus is None:  # sections.DatasetConfig has made sure
        raise ConfigurationError(f"the dataset {dataset.name!r} has neither corpus nor index")
    target = config.out / "index" / dataset.name
    _build_index(given.corpus, target)
    return Bm25Retriever.open(target)


def _write_world(folder: Path, world: Fictional) -> None:
    made_from = digest(world)
    if manifest.finished(folder, made_from):
        return
    from steper_serve import fictional

    print(
        f"writing the world {folder.name}: {world.passages:,} passages, {world.questions:,} "
        "questions"
    )
    start = time.perf_counter()
    try:
        fictional.write(folder, seed=world.seed, passages=world.passages, questions=world.questions)
    except ValueError as error:
        raise ConfigurationError(f"the world {folder.name!r} cannot be made: {error}") from error
    counts = {"passages": world.passages, "questions": world.questions}
    seconds = time.perf_counter() - start
    manifest.write(folder, Manifest("world", made_from, True, seconds, counts=counts))


def _build_index(source: Path, target: Path) -> None:
    beside = target.with_name(f"{target.name}.built")
    state = source.stat()
    made_from = digest([str(source.resolve()), state.st_size, state.st_mtime_ns])
    if manifest.finished(beside, made_from) and bm25.is_usable(target):
        return
    if manifest.read(beside) is None:
        print(f"indexing {source}")
    else:
        print(
            f"indexing {source} anew: it has changed. What was answered from it before stands; to "
            f"have that answered again, remove the files of `{target.name}` in rollouts/ and "
            "evaluations/"
        )
    start = time.perf_counter()
    target.parent.mkdir(parents=True, exist_ok=True)
    info = bm25.build(corpus.read(source), target)
    seconds = time.perf_counter() - start
    counts = {"passages": info.num_documents}
    manifest.write(beside, Manifest("index", made_from, True, seconds, counts=counts))
