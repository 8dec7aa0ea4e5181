"""`bench retrieval`: sums worked out by hand, real processes, and a stand-in where bm25s is not."""

import io
import json
import os
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from steper_serve import corpus, fictional
from steper_serve.benchmarks import report, retrieval, searches, searching, server
from steper_serve.benchmarks.retrieval import Search, Subject
from steper_serve.benchmarks.searching import BM25S, BM25S_AS_IT_COMES, ENGINES, OURS, VARIANTS
from steper_serve.journal import BadRecord
from tests.benchmarks.worlds import bench, last_line, write_dataset

ROOT = Path(__file__).parents[2]
SUBJECT = Subject("world", "d1", "q1", 4)
MEASURED = Search(
    subject=SUBJECT,
    engine=OURS,
    repetition=0,
    num_documents=1000,
    read_seconds=0.5,
    build_seconds=4.0,
    save_seconds=0.0,
    size_bytes=3000,
    build_peak_rss_bytes=200,
    open_seconds=0.1,
    milliseconds=(1.0, 2.0, 3.0, 4.0),
    at_once_seconds=None,
    search_peak_rss_bytes=100,
    search_anonymous_bytes=50,
    hits=(("a", "b"), ("c",), (), ("d", "e")),
    recalls=(1.0, 0.5, 0.0),
)
THEIRS = replace(
    MEASURED,
    engine=BM25S,
    build_seconds=2.0,
    save_seconds=9.0,
    at_once_seconds=0.005,
    hits=(("b", "x"), ("c",), (), ("y",)),
)
# Finds what holds most of a query's words; the interface of bm25s, as far as it is used.
STAND_IN = """
import json, pathlib, re

def tokenize(texts, token_pattern=r"(?u)\\\\b\\\\w\\\\w+\\\\b", stopwords="en", show_progress=True):
    assert not show_progress
    return [re.findall(token_pattern, text.lower()) for text in texts]

class BM25:
    def __init__(self, k1, b, method, backend):
        assert (k1, b, method, backend) == (1.2, 0.75, "lucene", "numba")

    def compile(self, activate_numba):
        pass

    def index(self, words, show_progress):
        self.texts = [sorted(set(each)) for each in words]

    def save(self, target, show_progress):
        target.mkdir()
        (target / "texts.json").write_text(json.dumps(self.texts))

    @classmethod
    def load(cls, target, show_progress):
        made = cls(1.2, 0.75, "lucene", "numba")
        made.texts = json.loads((target / "texts.json").read_text())
        made.scores = {"num_docs": len(made.texts)}
        return made

    def retrieve(self, queries, k, show_progress):
        found = []
        for words in queries:
            scores = [len(set(words) & set(text)) for text in self.texts]
            best = sorted(range(len(scores)), key=lambda n: -scores[n])[:k]
            found.append((best, [scores[n] for n in best]))
        return [f[0] for f in found], [f[1] for f in found]
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """bm25s and Numba are there, for this process and those that it starts."""
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / "bm25s.py").write_text(STAND_IN)
    (folder / "numba.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{ROOT}")
    monkeypatch.setattr(searches, "find_spec", lambda name: SimpleNamespace(name=name))


def test_the_figures_of_one_engine():
    """By hand: 4 queries in 10 ms; the other has a faster way, all in 5 ms."""
    told = retrieval.figures(MEASURED)
    assert told["build_documents_per_second"] == 250
    assert told["read_documents_per_second"] == 2000
    assert told["queries_per_second"] == 400
    assert told["p50_milliseconds"] == 2.5
    assert told["p95_milliseconds"] == pytest.approx(3.85)
    assert (told["recall"], told["complete"]) == (0.5, pytest.approx(1 / 3))
    assert told["peak_rss_bytes"] == 200
    theirs = retrieval.figures(THEIRS)
    assert theirs["queries_per_second"] == 800
    assert theirs["build_documents_per_second"] == 500  # saving is not held against it
    assert retrieval.figures(replace(MEASURED, recalls=()))["recall"] is None


def test_ratios_are_ours_to_theirs_by_repetition():
    """By hand: 400/800 and 400/400 queries; 250/500 and 250/1000 documents. Hits in common: 1 of
    2, all, none on both sides, 0 of 2."""
    slower = replace(THEIRS, repetition=1, at_once_seconds=None, build_seconds=1.0)
    given = [slower, THEIRS, MEASURED, replace(MEASURED, repetition=1)]
    found = retrieval.summaries(given)
    assert list(found[SUBJECT]) == [OURS, BM25S]
    (line,) = retrieval.lines(found)
    assert line["queries_per_second"] == 400
    assert line["bm25s_queries_ratio"] == pytest.approx(0.75)
    assert line["bm25s_build_ratio"] == pytest.approx(0.375)
    assert line["bm25s_same"] == pytest.approx((0.5 + 1 + 1 + 0) / 4)
    assert line["peak_rss_bytes"] == 200
    (table,) = retrieval.tables(found)
    assert [row[0] for row in table.rows] == ["world, steper-serve", "world, bm25s"]
    assert table.rows[1][4] == "600 (ours × 0.75)"


def test_without_the_other_there_is_no_ratio():
    (line,) = retrieval.lines(retrieval.summaries([MEASURED]))
    assert (line["bm25s_queries_ratio"], line["bm25s_build_ratio"]) == (None, None)
    alone = replace(THEIRS, subject=replace(SUBJECT, dataset="large"))
    assert retrieval.lines(retrieval.summaries([alone]))[0]["bm25s_queries_ratio"] is None
    assert retrieval.tables({}) == []


def test_speed_is_drawn_over_sizes_where_there_are_several():
    larger = replace(MEASURED, num_documents=9000, subject=replace(SUBJECT, dataset="large"))
    assert retrieval.plot(retrieval.summaries([MEASURED, THEIRS])) == ""
    drawn = retrieval.plot(retrieval.summaries([MEASURED, THEIRS, larger]))
    assert drawn.count("<polyline") == 2


def test_a_measurement_is_read_back_and_the_last_one_counts(tmp_path):
    newer = replace(MEASURED, build_seconds=3.0)
    lines = [json.dumps(retrieval.to_json(each)) for each in (MEASURED, THEIRS, newer)]
    (tmp_path / "searches.jsonl").write_text("\n".join([*lines, ""]))
    found = retrieval.read(tmp_path)
    assert [search.build_seconds for search in found.values()] == [3.0, 2.0]
    assert retrieval.lines(retrieval.summaries(found.values()))
    with (tmp_path / "searches.jsonl").open("a") as out:
        out.write('{"subject": {}}\n')
    with pytest.raises(BadRecord, match=r"searches\.jsonl, line 4 is not a measurement"):
        retrieval.read(tmp_path)


def test_memory_is_this_processs_own():
    used = searching.memory()
    assert 0 < used["RssAnon"] < used["VmHWM"]


@pytest.mark.parametrize("engine", [BM25S, BM25S_AS_IT_COMES])
def test_bm25s_itself_finds_what_we_find(tmp_path, engine):
    """The real one, where it is installed, over a world of 1,000 passages."""
    pytest.importorskip("bm25s")
    pytest.importorskip("numba")
    world = fictional.World(7, 1000)
    passages = [fictional.passage(world, entity) for entity in world.entities()]
    asked = [question.question for question in fictional.questions(world, 100)]
    found = []
    for name in (OURS, engine):
        made = ENGINES[name]()
        made.build(passages, tmp_path / name)
        made.open(tmp_path / name)
        hits = [made.hits(made.search(query, 4)) for query in asked]
        found.append([[h if isinstance(h, str) else passages[h].id for h in each] for each in hits])
    assert retrieval.same(*found) > 0.6
    assert made.hits(made.search("qqqqq", 4)) == []


def test_hits_are_ids_or_places(tmp_path):
    file = tmp_path / "corpus.jsonl"
    lines = [{"id": str(n + 5), "title": f"T{n}", "text": "x"} for n in range(3)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [passage.id for passage in corpus.read(file)] == ["5", "6", "7"]
    assert searches._resolved(file, [["6"], [2, 0], []]) == [
        [("6", "T1")],
        [("7", "T2"), ("5", "T0")],
        [],
    ]


async def test_each_engine_builds_and_searches_in_processes_of_its_own(tmp_path, stand_in):
    world, out = write_dataset(tmp_path / "world", range(12)), tmp_path / "o"
    command = ("retrieval", world, "--out", out, "--repeat", 2)
    line = last_line(await bench(*command))
    assert (line["dataset"], line["num_documents"], line["num_queries"]) == ("world", 24, 12)
    # By hand: "Where was the painter of Work 7 born?" shares "work 7" and "painter" with the one
    # supporting passage, "painter" and "born" with the other and with all painters alike.
    assert line["recall"] >= 0.5
    for name in ("queries_per_second", "build_documents_per_second", "peak_rss_bytes"):
        assert line[name] > 0
    assert line["bm25s_queries_ratio"] > 0 < line["bm25s_build_ratio"]
    assert set(line["engines"]) == {OURS, BM25S}
    kept = (out / "searches.jsonl").read_text()
    assert len(kept.splitlines()) == 4
    assert not (out / "searched").exists()
    again = await bench(*command)
    assert last_line(again) == line
    assert (out / "searches.jsonl").read_text() == kept
    fewer = last_line(await bench(*command, "--queries", 5, "--engine", OURS))
    assert (fewer["num_queries"], fewer["bm25s_queries_ratio"]) == (5, None)
    section = next(s for s in report.make([out]).sections if s.title == "Retrieval")
    assert "world, bm25s" in [row[0] for row in section.tables[0].rows]


async def test_large_corpora_and_invented_ones(tmp_path, stand_in):
    out = tmp_path / "o"
    sizes = ("--passages", 100, "--passages", 200, "--bm25s-limit", 150, "--queries", 5)
    done = await bench("retrieval", "--out", out, *sizes)
    small, large = last_line(done)
    assert (small["num_documents"], large["num_documents"]) == (100, 200)
    assert small["bm25s_queries_ratio"] > 0
    assert large["bm25s_queries_ratio"] is None
    assert "left out, beyond --bm25s-limit 150" in done.stderr


async def test_what_is_missing_is_said_before_anything_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(searches, "find_spec", lambda name: None)
    world = write_dataset(tmp_path / "world", range(3))
    done = await bench("retrieval", world, "--out", tmp_path / "o")
    assert done.exit_code == 1
    assert "bm25s and numba is not installed" in done.stderr
    assert "pip install 'bm25s[core]', or give --engine steper-serve alone" in done.stderr
    done = await bench("retrieval", world, "--out", tmp_path / "o", "--engine", OURS)
    assert done.exit_code == 0
    nowhere = await bench("retrieval", world)
    assert "Missing option '--out'" in nowhere.stderr


async def test_questions_without_passages_are_refused(tmp_path):
    world = write_dataset(tmp_path / "world", range(3))
    file = world / "questions.jsonl"
    done = await bench("retrieval", file, "--out", tmp_path / "o", "--engine", OURS)
    assert f"{file} has questions and no passages" in done.stderr


async def test_an_engine_that_fails_is_named_and_the_rest_is_kept(tmp_path, stand_in):
    world, out = write_dataset(tmp_path / "world", range(3)), tmp_path / "o"
    package = tmp_path / "packages" / "bm25s.py"
    package.write_text("import os; os.kill(os.getpid(), 9)")
    done = await bench("retrieval", world, "--out", out)
    assert done.exit_code == 1
    assert "`build bm25s` was ended by signal 9: had it enough memory?" in done.stderr
    package.write_text("raise RuntimeError('it is not for this machine')")
    done = await bench("retrieval", world, "--out", out)
    assert "`build bm25s` ended with code 1" in done.stderr
    assert "it is not for this machine" in done.stderr
    package.write_text(STAND_IN)
    done = await bench("retrieval", world, "--out", out)
    assert last_line(done)["bm25s_build_ratio"] > 0
    assert "steper-serve: building" not in done.stderr


@pytest.fixture
def words(tmp_path, monkeypatch) -> Path:
    """A dataset of two words, and each operation in this process: they are many."""

    def told_by(command, **_):
        out = io.StringIO()
        with redirect_stdout(out):
            searching.main(command[3:])
        return json.loads(out.getvalue())

    monkeypatch.setattr(server, "told_by", told_by)
    folder = tmp_path / "d"
    folder.mkdir()
    texts = [
        {"id": "1", "title": "A", "text": "The work of Zoë."},
        {"id": "2", "title": "B", "text": "Nothing of it."},
    ]
    asked = {"question": "works", "answers": ["x"], "supporting_titles": ["A"]}
    more = {"id": 2, "question": "zoe", "answers": ["x"], "supporting_titles": ["A"]}
    write = {"corpus.jsonl": texts, "questions.jsonl": [{"id": 1, **asked}, more]}
    for name, lines in write.items():
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


async def test_ways_of_reading_words_are_engines(words, tmp_path):
    """By hand: without stemming "works" finds no "work", with its accent "Zoë" is no "zoe"."""
    out = tmp_path / "o"
    command = ("retrieval", words, "--variants", "--engine", OURS, "--out", out)
    line = last_line(await bench(*command))
    found = {name: told["recall"] for name, told in line["engines"].items()}
    assert set(found) == {OURS, *VARIANTS}
    assert (found[OURS], found[f"{OURS}, stemmed"]) == (0.5, 1)
    assert found[f"{OURS}, accents kept"] == 0
    assert found[f"{OURS}, stemmed, accents kept"] == 0.5
    kept = (out / "searches.jsonl").read_text()
    assert len(kept.splitlines()) == 1 + len(VARIANTS)
    assert last_line(await bench(*command)) == line
    assert (out / "searches.jsonl").read_text() == kept
    section = next(s for s in report.make([out]).sections if s.title == "Retrieval")
    assert "d, steper-serve, stemmed" in [row[0] for row in section.tables[0].rows]


async def test_a_way_of_reading_words_is_measured_as_it_is_asked_for(words, tmp_path):
    """One question, one passage each; no other engine is asked for, so none needs to be there."""
    few = ("--queries", 1, "--top-k", 1, "--engine", f"{OURS}, stemmed")
    line = last_line(await bench("retrieval", words, *few, "--out", tmp_path / "o"))
    assert (line["num_queries"], line["top_k"]) == (1, 1)
    assert list(line["engines"]) == [f"{OURS}, stemmed"]
    (kept,) = (tmp_path / "o" / "searches.jsonl").read_text().splitlines()
    assert [len(hits) for hits in json.loads(kept)["hits"]] == [1]


def test_the_processes_know_their_operations():
    with pytest.raises(SystemExit, match="searching read CORPUS"):
        searching.main(["dance"])
