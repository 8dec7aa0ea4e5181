"""The index against a reference scorer, against kills and other writers, and on real questions."""

import json
import math
import os
import random
import re
import resource
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from steper_serve import corpus
from steper_serve.errors import CorpusError, IndexUnavailable, PassageNotFound
from steper_serve.retrieval import generations, searcher
from steper_serve.retrieval.bm25 import Bm25Retriever, add, build, delete, info
from steper_serve.retrieval.self_check import Sample, self_check
from steper_serve.trajectory import Passage

WORLD = [
    Passage("a", "Alpha", "the first letter of an alphabet", url="https://example.org/a?x=é"),
    Passage("b", "Beta", "the second letter of an alphabet"),
    Passage("c", "Gamma rays", "Rays that pass through the hand and the wall."),
    Passage("d", "Delta", "Where a river meets the sea; also a letter."),
]

NEW = Passage("e", "Epsilon", "a small letter")


@pytest.fixture
def index(tmp_path: Path) -> Path:
    build(WORLD, tmp_path / "index")
    return tmp_path / "index"


def ids(passages: Sequence[Passage]) -> list[str]:
    return [passage.id for passage in passages]


# --- scores -------------------------------------------------------------------------------------


def reference_scores(passages: Sequence[Passage], query: str) -> dict[str, float]:
    """BM25 by its definition, over texts of plain lower-case words."""
    scores: Counter[str] = Counter()
    for field in ("title", "text"):
        counts = {p.id: Counter(getattr(p, field).split()) for p in passages}
        average = sum(c.total() for c in counts.values()) / len(counts)
        for word in set(query.split()):
            n = sum(word in c for c in counts.values())
            idf = math.log(1 + (len(counts) - n + 0.5) / (n + 0.5))
            for id, c in counts.items():
                length = 1 - 0.75 + 0.75 * c.total() / average
                scores[id] += idf * c[word] * 2.2 / (c[word] + 1.2 * length)
    return {id: score for id, score in scores.items() if score > 0}


def invented(num: int, *, shortest: int, longest: int) -> list[Passage]:
    """Passages of words drawn with a Zipf-like law, so that frequencies differ."""
    draw = random.Random(7)
    words = [f"w{n}" for n in range(300)]
    weights = [1 / (n + 1) for n in range(300)]

    def some(low: int, high: int) -> str:
        return " ".join(draw.choices(words, weights, k=draw.randint(low, high)))

    return [Passage(f"p{n}", some(1, 4), some(shortest, longest)) for n in range(num)]


def assert_scored_like_reference(
    passages: list[Passage], query: str, found: Sequence[Passage], tolerance: float
) -> None:
    expected = reference_scores(passages, query)
    assert len(found) == len(expected)
    for passage in found:
        assert passage.score == pytest.approx(expected[passage.id], rel=tolerance)
    best = sorted(expected.values(), reverse=True)
    # rank by rank, so that passages whose scores are equal may stand in either order
    for passage, score in zip(found, best, strict=True):
        assert expected[passage.id] == pytest.approx(score, rel=2 * tolerance)


def test_scores_and_ranking_of_short_passages_are_the_reference_s(tmp_path: Path) -> None:
    """Up to 40 words Tantivy's 8-bit field length is exact."""
    passages = invented(200, shortest=1, longest=40)
    build(passages, tmp_path / "index")
    retriever = Bm25Retriever.open(tmp_path / "index")
    for query in ("w0", "w3 w77", "w0 w1 w2 w250 w250 unknown", passages[9].text):
        found = retriever.search(query, 200)
        assert_scored_like_reference(passages, query, found, tolerance=1e-5)


def test_scores_of_long_passages_are_near_the_reference_s(tmp_path: Path) -> None:
    """Beyond, the length is rounded down to one of a few steps: scores differ by up to 5%."""
    passages = invented(200, shortest=60, longest=400)
    build(passages, tmp_path / "index")
    retriever = Bm25Retriever.open(tmp_path / "index")
    for query in ("w0", "w3 w77", "w0 w1 w2 w250 unknown"):
        found = retriever.search(query, 200)
        assert_scored_like_reference(passages, query, found, tolerance=0.05)


def test_top_k_is_the_head_of_the_whole_ranking(tmp_path: Path) -> None:
    """Tantivy skips blocks that cannot reach the top; that must not change it."""
    build(invented(500, shortest=5, longest=40), tmp_path / "index")
    retriever = Bm25Retriever.open(tmp_path / "index")
    whole = retriever.search("w1 w2 w3 w40", 500)
    for top_k in (1, 4, 20):
        assert retriever.search("w1 w2 w3 w40", top_k) == whole[:top_k]


def test_ties_break_in_the_order_of_the_corpus(tmp_path: Path) -> None:
    build([Passage(f"id{n}", "same", "same text") for n in range(50)], tmp_path / "index")
    retriever = Bm25Retriever.open(tmp_path / "index")
    assert ids(retriever.search("same text", 20)) == [f"id{n}" for n in range(20)]


def test_a_word_counts_once_however_often_a_query_says_it(index: Path) -> None:
    retriever = Bm25Retriever.open(index)
    assert retriever.search("letter letter rays letter", 4) == retriever.search("rays letter", 4)


# --- queries are words ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("title:Gamma", "title gamma"),
        ('"gamma rays"', "gamma rays"),
        ("+gamma -rays", "gamma rays"),
        ("alphabet AND NOT first", "alphabet and not first"),
        ("(first OR second) letter^9", "first or second letter 9"),
        ("text:[a TO z] id:a *", "text a to z id a"),
        ("rays~2 lett*", "rays 2 lett"),
        ("GÁMMA ràys", "gamma rays"),
        ("id IN [a b]", "id in a b"),
    ],
)
def test_syntax_is_read_as_words(index: Path, written: str, words: str) -> None:
    retriever = Bm25Retriever.open(index)
    found = retriever.search(written, 4)
    assert found
    assert found == retriever.search(words, 4)


@pytest.mark.parametrize(
    "query", ["", "   ", '"', "*", "():-+^~", "zzz", "\x00", "\ud800", "x" * 99]
)
def test_a_query_without_known_words_finds_nothing(index: Path, query: str) -> None:
    assert Bm25Retriever.open(index).search(query, 4) == ()


@given(query=st.text(), top_k=st.integers(-1, 10))
@example(query="\ud800 gamma", top_k=4)
@example(query="gamma\x00rays", top_k=4)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_query_raises(retriever: Bm25Retriever, query: str, top_k: int) -> None:
    found = retriever.search(query, top_k)
    assert len(found) <= max(0, top_k)
    assert [p.score for p in found] == sorted((p.score or 0.0 for p in found), reverse=True)
    # whatever ASCII signs stand between words, they only separate them
    if query.isascii():
        assert found == retriever.search(" ".join(re.findall("[A-Za-z0-9]+", query)), top_k)


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Bm25Retriever:
    target = tmp_path_factory.mktemp("words") / "index"
    build([*WORLD, *(Passage(f"c{c}", chr(c), f"{chr(c)} x") for c in range(33, 127))], target)
    return Bm25Retriever.open(target)


def test_a_very_long_query_is_answered(index: Path) -> None:
    query = " ".join(f"word{n}" for n in range(20_000)) + " gamma"
    assert ids(Bm25Retriever.open(index).search(query, 4)) == ["c"]


# --- what is stored -------------------------------------------------------------------------------


def test_a_passage_comes_back_as_it_went_in(index: Path) -> None:
    retriever = Bm25Retriever.open(index)
    assert [retriever.passage(p.id) for p in WORLD] == WORLD
    assert retriever.num_documents == len(WORLD)
    (hit,) = retriever.search("first", 4)
    assert hit == Passage(**{**_fields(WORLD[0]), "score": hit.score})


def _fields(passage: Passage) -> dict[str, object]:
    return {name: getattr(passage, name) for name in passage.__slots__}


@pytest.mark.parametrize("id", ["", "A", "a ", "alpha", "\ud800"])
def test_ids_are_exact(index: Path, id: str) -> None:
    with pytest.raises(PassageNotFound, match="no passage has the id"):
        Bm25Retriever.open(index).passage(id)


def test_info_describes_the_live_generation(index: Path) -> None:
    found = info(index)
    assert found.num_documents == 4
    (generation,) = (index / "generations").iterdir()
    assert found.generation == generation.name
    assert 0 < found.size_bytes <= sum(f.stat().st_size for f in generation.iterdir())
    assert found == Bm25Retriever.open(index).info


def test_a_reader_writes_nothing_into_the_index(index: Path) -> None:
    """A corpus may be mounted read-only."""
    before = {f: f.stat().st_mtime_ns for f in index.rglob("*")}
    Bm25Retriever.open(index).search("letter", 4)
    assert {f: f.stat().st_mtime_ns for f in index.rglob("*")} == before


def test_threads_share_a_retriever(index: Path) -> None:
    retriever = Bm25Retriever.open(index)
    queries = ["letter", "gamma rays", "river sea", "first alphabet"] * 50
    expected = [retriever.search(query, 4) for query in queries]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda query: retriever.search(query, 4), queries)) == expected


# --- generations ----------------------------------------------------------------------------------


def test_a_switch_is_seen_when_asked_for(index: Path) -> None:
    retriever = Bm25Retriever.open(index)
    assert retriever.reload_if_changed() is False
    build([Passage("z", "Zeta", "the sixth letter")], index)
    assert set(ids(retriever.search("letter", 4))) == {"a", "b", "d"}
    assert retriever.reload_if_changed() is True
    assert ids(retriever.search("letter", 4)) == ["z"]
    assert retriever.num_documents == 1
    assert retriever.reload_if_changed() is False


def test_an_open_reader_outlives_its_generation(index: Path) -> None:
    retriever = Bm25Retriever.open(index)
    old = retriever.info.generation
    for _ in range(3):
        build([Passage("z", "Zeta", "the sixth letter")], index)
    assert not (index / "generations" / old).exists()
    assert ids(retriever.search("rays", 4)) == ["c"]
    assert retriever.passage("a") == WORLD[0]


def test_the_generation_before_stays(index: Path) -> None:
    names = [build(WORLD, index).generation for _ in range(3)]
    assert sorted(f.name for f in (index / "generations").iterdir()) == names[-2:]


def test_a_broken_new_generation_leaves_the_reader_as_it_was(index: Path) -> None:
    retriever = Bm25Retriever.open(index)
    (index / "CURRENT").unlink()
    with pytest.raises(IndexUnavailable, match="never finished"):
        retriever.reload_if_changed()
    assert ids(retriever.search("rays", 4)) == ["c"]


def test_readers_never_miss_a_generation_while_a_writer_switches(index: Path) -> None:
    def read(_: int) -> int:
        return len(Bm25Retriever.open(index).search("alphabet river rays", 4))

    with ThreadPoolExecutor(3) as pool:
        writing = pool.submit(lambda: [build(WORLD, index) for _ in range(15)])
        assert set(pool.map(read, range(100))) == {4}
        assert len(writing.result()) == 15


def test_add_and_delete_make_generations(index: Path) -> None:
    retriever = Bm25Retriever.open(index)
    first = info(index)
    added = add([NEW], index)
    assert (first.num_documents, added.num_documents) == (4, 5)
    assert retriever.reload_if_changed()
    assert ids(retriever.search("epsilon", 4)) == ["e"]
    assert set(ids(retriever.search("letter", 9))) == {"a", "b", "d", "e"}
    assert delete(["a", "e", "a"], index).num_documents == 3
    assert retriever.reload_if_changed()
    assert set(ids(retriever.search("letter", 9))) == {"b", "d"}
    with pytest.raises(PassageNotFound):
        retriever.passage("e")
    assert add([Passage("e", "Epsilon", "back again")], index).num_documents == 4
    assert retriever.reload_if_changed()
    assert retriever.passage("e").text == "back again"


@pytest.mark.parametrize("change", [lambda at: delete(["a"], at), lambda at: add([NEW], at)])
def test_the_generation_that_a_change_begins_from_is_untouched(
    index: Path, change: Callable[[Path], object]
) -> None:
    """The new one shares its files, so nothing may write into them."""
    (folder,) = (index / "generations").iterdir()
    before = {f.name: f.read_bytes() for f in folder.iterdir()}
    change(index)
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == before


def test_everything_can_be_deleted(index: Path) -> None:
    assert delete(ids(WORLD), index).num_documents == 0
    assert Bm25Retriever.open(index).search("letter", 4) == ()
    assert add(WORLD, index).num_documents == 4


def test_an_unknown_id_deletes_nothing(index: Path) -> None:
    before = info(index)
    with pytest.raises(PassageNotFound, match=r"1 of 2 ids .* \(nope\): nothing was deleted"):
        delete(["a", "nope"], index)
    assert info(index) == before


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("passages", "message"),
    [
        ([], "no passage"),
        ([WORLD[0], WORLD[1], WORLD[0]], r"'a' occurs 2 times \(passages 1, 3 "),
        ([Passage("", "t", "x")], "id has 1 to"),
        ([Passage("i" * 5000, "t", "x")], "id has 1 to"),
        ([Passage("s", "t", "half \ud800 pair")], "'s' is not valid Unicode"),
    ],
)
def test_a_bad_corpus_is_refused_and_the_live_index_stays(
    index: Path, passages: list[Passage], message: str
) -> None:
    before = info(index)
    with pytest.raises(CorpusError, match=message):
        build(passages, index)
    assert info(index) == before
    assert len(list((index / "generations").iterdir())) == 1


def test_a_reader_of_the_corpus_that_fails_leaves_the_live_index(index: Path) -> None:
    def stream() -> Iterator[Passage]:
        yield WORLD[0]
        raise CorpusError("line 2 is bad")

    before = info(index)
    with pytest.raises(CorpusError, match="line 2 is bad"):
        build(stream(), index)
    with pytest.raises(CorpusError, match="line 2 is bad"):
        add((Passage(p.id + "+", p.title, p.text) for p in stream()), index)
    assert info(index) == before


def test_adding_an_id_that_is_there_is_refused(index: Path) -> None:
    with pytest.raises(CorpusError, match="'b' is already in the index: delete it first"):
        add([Passage("new", "t", "x"), WORLD[1]], index)
    with pytest.raises(CorpusError, match="'new' occurs 2 times"):
        add([Passage("new", "t", "x")] * 2, index)
    assert info(index).num_documents == 4


def test_what_is_no_index_is_named(tmp_path: Path, index: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    for name, message in {
        "nowhere": "no index at .*nowhere: build one",
        "folder": "is no index",
        "file": "is a file",
    }.items():
        for use in (
            info,
            Bm25Retriever.open,
            lambda at: add(WORLD, at),
            lambda at: delete("a", at),
        ):
            with pytest.raises(IndexUnavailable, match=message):
                use(tmp_path / name)
        assert name != "nowhere" or not (tmp_path / name).exists()
    (index / "CURRENT").write_text("000009-nothing\n")
    with pytest.raises(IndexUnavailable, match="names the generation '000009-nothing'"):
        Bm25Retriever.open(index)


def test_a_folder_with_other_things_is_not_built_into(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(IndexUnavailable, match="holds other files"):
        build(WORLD, tmp_path)
    with pytest.raises(IndexUnavailable, match="it is a file"):
        build(WORLD, tmp_path / "thesis.txt")
    (tmp_path / "generations" / "000009-abcdef").mkdir(parents=True)
    (tmp_path / "thesis.txt").unlink()
    with pytest.raises(IndexUnavailable, match="holds other files"):
        build(WORLD, tmp_path)
    assert [str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*")] == [
        "generations",
        "generations/000009-abcdef",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 0}, "has schema version 0 and this program reads 1: build"),
        ({"analyser": "letters"}, "built with the analyser 'letters'"),
        ({"unknown": 1}, "missing or broken"),
    ],
)
def test_an_index_of_another_version_is_named(
    index: Path, change: dict[str, object], message: str
) -> None:
    file = index / "generations" / info(index).generation / "steper-index.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(IndexUnavailable, match=message):
        Bm25Retriever.open(index)


@pytest.mark.parametrize("name", ["meta.json", "steper-index.json"])
@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_damaged_index_is_named(index: Path, name: str, content: str | None) -> None:
    file = index / "generations" / info(index).generation / name
    file.unlink()
    if content is not None:
        file.write_text(content)
    with pytest.raises(IndexUnavailable, match="build"):
        Bm25Retriever.open(index)


# --- the self-check -------------------------------------------------------------------------------


class Fake:
    """An index that answers everything with the same passages."""

    def __init__(self, hits: Sequence[Passage], own: float | None) -> None:
        self._hits, self._own = tuple(hits), own

    def search(self, query: str, top_k: int) -> Sequence[Passage]:
        return self._hits

    def words(self, text: str) -> list[str]:
        return text.split()

    def own_score(self, query: str, id: str) -> float | None:
        return self._own


@pytest.mark.parametrize(
    ("hits", "own", "message"),
    [
        ([], None, "is not found"),
        ([], 3.0, "is not found"),
        ([Passage("z", "t", "x", score=2.0)], 3.0, "is not found"),
        ([Passage("z", "t", "x", score=3.0)], 3.0, "4 different queries found the same"),
        ([Passage("a", "Alpha", "the first", score=3.0)], 3.0, "does not come back"),
    ],
)
def test_the_self_check_notices(hits: list[Passage], own: float | None, message: str) -> None:
    with pytest.raises(IndexUnavailable, match=message):
        self_check(Fake(hits, own), WORLD)


def test_a_failed_self_check_leaves_the_live_index(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = info(index)
    monkeypatch.setattr(searcher.Opened, "words", lambda self, text: text.upper().split())
    with pytest.raises(IndexUnavailable, match="failed its self-check"):
        build(WORLD, index)
    monkeypatch.undo()
    assert info(index) == before
    assert ids(Bm25Retriever.open(index).search("rays", 4)) == ["c"]


def test_identical_texts_and_texts_without_words_pass_the_self_check(tmp_path: Path) -> None:
    same = [Passage(f"s{n}", "Same", "the same text everywhere") for n in range(200)]
    assert build([*same, Passage("dots", "…", "...")], tmp_path / "i").num_documents == 201


@given(st.integers(1, 2000))
def test_a_sample_is_spread_evenly(num: int) -> None:
    sample = Sample()
    for n in range(num):
        sample.offer(Passage(str(n), "", ""))
    places = [int(p.id) for p in sample.passages]
    assert min(num, 64) <= len(places) <= 128
    assert places[0] == 0
    assert len({b - a for a, b in pairwise(places)}) <= 1


# --- kills and other writers ----------------------------------------------------------------------

PAUSING_WRITER = textwrap.dedent("""
    import sys, time
    from pathlib import Path
    from steper_serve.retrieval import bm25, generations
    from steper_serve.trajectory import Passage

    target, point = Path(sys.argv[1]), sys.argv[2]

    def pause(*args):
        print("paused", flush=True)
        time.sleep(600)

    def stream():
        for n in range(3000):
            yield Passage(f"n{n}", f"New {n}", f"the new text of {n}")
        if point == "feeding":
            pause()

    if point == "committed":
        bm25._refuse_duplicates = pause
    if point == "sealed":
        bm25.self_check = pause
    if point == "switching":
        generations._switch = pause
    if point == "switched":
        generations._prune = pause
    if sys.argv[3] == "delete":
        bm25.delete(["a"], target)
    getattr(bm25, sys.argv[3])(stream(), target)
""")


@pytest.fixture
def paused(index: Path) -> Iterator["Paused"]:
    writer = Paused(index)
    yield writer
    writer.kill()


class Paused:
    """A writer in another process that stops at a point of its work."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._process: subprocess.Popen[str] | None = None

    def start(self, point: str, command: str = "build") -> int:
        arguments = [sys.executable, "-c", PAUSING_WRITER, str(self._target), point, command]
        self._process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "paused\n"
        return self._process.pid

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@pytest.mark.parametrize("command", ["build", "add"])
@pytest.mark.parametrize("point", ["feeding", "committed", "sealed", "switching"])
def test_a_killed_writer_leaves_the_last_complete_generation(
    index: Path, paused: Paused, point: str, command: str
) -> None:
    before = info(index)
    paused.start(point, command)
    assert len(list((index / "generations").iterdir())) == 2
    paused.kill()
    assert info(index) == before
    retriever = Bm25Retriever.open(index)
    assert [retriever.passage(p.id) for p in WORLD] == WORLD
    assert ids(retriever.search("rays", 4)) == ["c"]
    after = add([NEW], index)
    assert after.num_documents == 5
    kept = sorted(f.name for f in (index / "generations").iterdir())
    assert kept == [before.generation, after.generation]


def test_a_writer_killed_after_the_switch_has_done_its_work(index: Path, paused: Paused) -> None:
    paused.start("switched")
    paused.kill()
    assert info(index).num_documents == 3000
    assert Bm25Retriever.open(index).passage("n17").title == "New 17"
    assert build(WORLD, index).num_documents == 4


def test_a_first_build_that_was_killed_is_no_index(tmp_path: Path) -> None:
    writer = Paused(tmp_path / "index")
    writer.start("feeding")
    writer.kill()
    with pytest.raises(IndexUnavailable, match="was never finished: build it again"):
        Bm25Retriever.open(tmp_path / "index")
    assert build(WORLD, tmp_path / "index").num_documents == 4
    assert len(list((tmp_path / "index" / "generations").iterdir())) == 1


def test_a_second_writer_is_refused_and_readers_go_on(index: Path, paused: Paused) -> None:
    pid = paused.start("feeding")
    holder = re.escape(f"{index} is being written by process {pid} on {os.uname().nodename}")
    for write in (build, add):
        with pytest.raises(IndexUnavailable, match=holder):
            write([NEW], index)
    with pytest.raises(IndexUnavailable, match=holder):
        delete(["a"], index)
    assert ids(Bm25Retriever.open(index).search("rays", 4)) == ["c"]
    paused.kill()
    assert add([NEW], index).num_documents == 5


def test_leftovers_of_a_killed_switch_are_cleared(index: Path) -> None:
    (index / ".CURRENT.0badcafe").write_text("half")
    build(WORLD, index)
    assert not list(index.glob(".CURRENT.*"))


def test_a_disk_without_hard_links_gets_copies(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(generations.os, "link", refuse)
    assert add([NEW], index).num_documents == 5


@pytest.mark.parametrize("most_bytes", [200_000, 2_000, 100])
@pytest.mark.parametrize("write", [build, add])
def test_a_full_disk_leaves_the_live_index(
    index: Path, write: Callable[[list[Passage], Path], object], most_bytes: int
) -> None:
    """A limit on the size of files stands in for the end of the disk."""
    before = info(index)
    passages = invented(2000, shortest=60, longest=100)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, limits[1]))
    try:
        with pytest.raises(IndexUnavailable, match="write the index at"):
            write([Passage(p.id + "+", p.title, p.text) for p in passages], index)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert info(index) == before
    assert ids(Bm25Retriever.open(index).search("rays", 4)) == ["c"]
    assert add([NEW], index).num_documents == 5


# --- real questions -------------------------------------------------------------------------------

DATA = os.environ.get("STEPER_DATA_DIR")


@pytest.mark.skipif(DATA is None, reason="STEPER_DATA_DIR (hotpotqa/, musique/, …) is not set")
@pytest.mark.parametrize(
    ("name", "least"), [("hotpotqa", 0.743), ("musique", 0.489), ("2wikimultihopqa", 0.658)]
)
def test_recall_of_supporting_passages(tmp_path: Path, name: str, least: float) -> None:
    """Question alone, top 4; the least is what stemmed English over title and text found."""
    folder = Path(DATA or "") / name
    build(corpus.read(folder), tmp_path / "index")
    retriever = Bm25Retriever.open(tmp_path / "index")
    shares = []
    for line in (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines():
        question = json.loads(line)
        titles = {p.title for p in retriever.search(question["question"], 4)}
        wanted = set(question["supporting_titles"])
        shares.append(len(titles & wanted) / len(wanted))
    assert sum(shares) / len(shares) >= least


def test_another_database_is_not_built_into(tmp_path: Path) -> None:
    (tmp_path / "LOCK").touch()
    (tmp_path / "CURRENT").write_text("MANIFEST-000004\n")
    with pytest.raises(IndexUnavailable, match="holds other files"):
        build(WORLD, tmp_path)
    assert (tmp_path / "CURRENT").read_text() == "MANIFEST-000004\n"
