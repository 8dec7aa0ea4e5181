"""What is asked: questions with gold answers and, where it has one, the corpus that answers them.

    bundled                                         the bundled student's corpus and questions
    fictional:seed=200,passages=4000,questions=1000 an invented world (all three may be left out)
    a folder                                        `questions.jsonl`, `corpus.jsonl` (or .gz)
    a file                                          HotpotQA, 2WikiMultiHopQA or MuSiQue as
                                                    published, or JSON lines of questions
    NAME=any of these                               the same under this name; else a file's or a
                                                    folder's own is taken

What is left out: the formats (questions, corpus).
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from steper_serve import corpus, fictional, questions
from steper_serve.corpus import records
from steper_serve.corpus.questions import is_question
from steper_serve.errors import ConfigurationError, CorpusError
from steper_serve.questions import Question
from steper_serve.retrieval import bm25

BUNDLED = "bundled"
_FICTIONAL = "fictional"
_WORLD = {"seed": 200, "passages": 4000, "questions": 1000}
_NAMED = re.compile(r"(?P<name>[^=/:]+)=(?P<source>.+)")
_SUFFIXES = re.compile(r"(\.jsonl?)?(\.gz)?$")


@dataclass(frozen=True, slots=True)
class Dataset:
    """Questions under a name.

    Args:
        source: as it was asked for.
        corpus: the passages' file; None where the questions come without.
        digest: of the corpus file's bytes; "" without one.
    """

    name: str
    source: str
    questions: tuple[Question, ...]
    corpus: Path | None = None
    digest: str = ""


def read_all(sources: Iterable[str], scratch: Path) -> list[Dataset]:
    """`read` of each.

    Raises:
        ConfigurationError: two would have one name; and as `read`.
    """
    found = [read(source, scratch) for source in sources]
    (name, count), *_ = Counter(dataset.name for dataset in found).most_common(1)
    if count > 1:
        named = ", ".join(d.source for d in found if d.name == name)
        raise ConfigurationError(
            f"{named} would all be called {name!r}: write NAME=… to tell them, or leave one out"
        )
    return found


def read(source: str, scratch: Path) -> Dataset:
    """The dataset that `source` names; an invented world is written to `scratch`.

    Raises:
        ConfigurationError: there is no such file or folder, or no such world.
        CorpusError: a file holds something else, or an id twice; names file and line.
    """
    named = _NAMED.fullmatch(source)
    if named and not Path(source).exists():
        return replace(read(named["source"], scratch), name=named["name"], source=source)
    if source == BUNDLED:
        return _folder(Path(str(files("steper_serve"))) / "assets" / "corpus", BUNDLED, source)
    if source.partition(":")[0] == _FICTIONAL and not Path(source).exists():
        return _world(source, scratch)
    path = Path(source)
    if not path.exists():
        raise ConfigurationError(
            f"there is no dataset {source}: give a folder with questions.jsonl, a file of "
            f"questions, `{BUNDLED}`, or `{_FICTIONAL}:seed=…,passages=…,questions=…`"
        )
    if path.is_dir():
        return _folder(path, path.resolve().name, source)
    holds_passages = any(is_question(record) for record in _first(path))
    name = _SUFFIXES.sub("", path.name, count=1)
    return _dataset(name, source, path, path if holds_passages else None)


def index_of(dataset: Dataset, scratch: Path) -> Path | None:
    """An index of the dataset's corpus, built in `scratch` if need be; None without a corpus.

    Raises:
        CorpusError: the corpus cannot be read; names file and line.
    """
    if dataset.corpus is None:
        return None
    target = scratch / "indexes" / f"{dataset.name}-{dataset.digest}"
    if not bm25.is_usable(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        bm25.build(corpus.read(dataset.corpus), target)
    return target


def _folder(folder: Path, name: str, source: str) -> Dataset:
    file = _there(folder, "questions")
    if file is None:
        raise ConfigurationError(
            f"{folder} holds no questions.jsonl: give a folder that does, or the file of questions"
        )
    return _dataset(name, source, file, _there(folder, "corpus"))


def _there(folder: Path, name: str) -> Path | None:
    candidates = (folder / f"{name}.jsonl", folder / f"{name}.jsonl.gz")
    return next((file for file in candidates if file.is_file()), None)


def _dataset(name: str, source: str, file: Path, corpus: Path | None) -> Dataset:
    digest = "" if corpus is None else _digest(corpus)
    return Dataset(name, source, tuple(questions.read(file)), corpus, digest)


def _first(file: Path) -> Iterable[records.Record]:
    for record in records.read(file):
        yield record
        return


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()[:12]
    except OSError as error:
        raise CorpusError(f"cannot read {file}: {error}") from error


def _world(source: str, scratch: Path) -> Dataset:
    """Written each time: the same numbers give the same bytes, unless the generator has changed."""
    world = _numbers(source)
    name = f"{_FICTIONAL}-{world['seed']}-{world['passages']}x{world['questions']}"
    folder = scratch / "worlds" / name
    try:
        fictional.write(folder, **world)
    except ValueError as error:
        raise ConfigurationError(f"{source}: {error}") from error
    except OSError as error:
        raise CorpusError(f"cannot write to {folder}: {error.strerror or error}") from error
    return _folder(folder, name, source)


def _numbers(source: str) -> Mapping[str, int]:
    world = dict(_WORLD)
    for part in filter(None, source.partition(":")[2].split(",")):
        key, _, value = part.partition("=")
        if key not in world or not value.isdecimal():
            raise ConfigurationError(
                f"{source}: {part!r} is none of seed=…, passages=…, questions=… with a number"
            )
        world[key] = int(value)
    return world
