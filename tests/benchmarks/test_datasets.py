"""Datasets: folders, published files, invented worlds; what is wrong is named."""

import gzip
import json

import pytest

from steper_serve.benchmarks import datasets
from steper_serve.benchmarks.paper.findings import as_the_paper
from steper_serve.errors import ConfigurationError, CorpusError
from steper_serve.retrieval.bm25 import Bm25Retriever
from tests.benchmarks.worlds import write_dataset

HOTPOT = {
    "_id": "h1",
    "question": "Q?",
    "answer": "x",
    "type": "bridge",
    "supporting_facts": [["A", 0], ["B", 1]],
    "context": [["A", ["One.", " Two."]], ["B", ["Three."]]],
}
MUSIQUE = {
    "id": "2hop__1_2",
    "question": "Q?",
    "answer": "x",
    "answer_aliases": ["y"],
    "paragraphs": [
        {"title": "A", "paragraph_text": "One.", "is_supporting": True},
        {"title": "B", "paragraph_text": "Two.", "is_supporting": False},
    ],
    "question_decomposition": [{"question": "1"}, {"question": "2"}],
}


def test_a_folder_is_questions_and_corpus(tmp_path):
    found = datasets.read(str(write_dataset(tmp_path / "world", range(3))), tmp_path)
    assert (found.name, len(found.questions)) == ("world", 3)
    assert found.corpus == tmp_path / "world" / "corpus.jsonl"
    (tmp_path / "world" / "corpus.jsonl").unlink()
    alone = datasets.read(str(tmp_path / "world"), tmp_path)
    assert (alone.corpus, alone.digest) == (None, "")
    assert datasets.index_of(alone, tmp_path) is None


def test_another_corpus_has_another_digest(tmp_path):
    digests = {
        datasets.read(str(write_dataset(tmp_path / "world", range(n))), tmp_path).digest
        for n in (3, 3, 4)
    }
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("name", "text", "answers", "num_hops"),
    [
        ("hotpot_dev_v1.json", json.dumps([HOTPOT]), ("x",), None),
        ("musique_ans_v1.0_dev.jsonl", json.dumps(MUSIQUE) + "\n", ("x", "y"), 2),
    ],
)
def test_a_published_file_is_questions_and_corpus_in_one(tmp_path, name, text, answers, num_hops):
    (tmp_path / name).write_text(text)
    found = datasets.read(str(tmp_path / name), tmp_path)
    assert found.name == name.removesuffix(".jsonl").removesuffix(".json")
    (question,) = found.questions
    assert (question.answers, question.hops) == (answers, num_hops)
    index = datasets.index_of(found, tmp_path)
    titles = {p.title for p in Bm25Retriever.open(index).search("one two three", 5)}
    assert titles == {"A", "B"}


OFFICIAL = {
    "hotpot_dev_distractor_v1.json": "HotpotQA",
    "hotpot_dev_fullwiki_v1.json": "HotpotQA",
    "hotpot_train_v1.1.json": "HotpotQA",
    "musique_ans_v1.0_dev.jsonl": "MuSiQue",
    "musique_ans_v1.0_train.jsonl.gz": "MuSiQue",
    "2wiki=dev.json": "2Wiki",
}


def test_official_files_are_told_apart_and_known_to_be_the_papers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in OFFICIAL:
        pack = gzip.compress if name.endswith(".gz") else bytes
        file = tmp_path / (name.partition("=")[2] or name)
        file.write_bytes(pack(json.dumps([HOTPOT]).encode()))
    found = datasets.read_all(OFFICIAL, tmp_path)
    assert {each.source: as_the_paper(each.name) for each in found} == OFFICIAL
    assert found[4].name == "musique_ans_v1.0_train"
    assert found[5].name == "2wiki"
    assert [datasets.read(each.source, tmp_path) for each in found] == found


def test_any_dataset_may_be_given_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path / "a=b", range(2))
    given = ("a=b", "mine=a=b", "w=fictional:seed=7,passages=300,questions=20", "few=bundled")
    found = datasets.read_all(given, tmp_path)
    assert [each.name for each in found] == ["a=b", "mine", "w", "few"]
    assert found[1].corpus == found[0].corpus
    with pytest.raises(ConfigurationError, match=r"there is no dataset gone\.json"):
        datasets.read("x=gone.json", tmp_path)
    with pytest.raises(ConfigurationError, match="called 'a=b': write NAME=… to tell them"):
        datasets.read_all(["a=b", str(tmp_path / "a=b")], tmp_path)


def test_a_name_of_two_of_the_papers_sets_is_neithers():
    assert as_the_paper("musique-and-hotpotqa") == "musique-and-hotpotqa"


def test_an_index_is_built_once_for_a_corpus(tmp_path, monkeypatch):
    found = datasets.read(str(write_dataset(tmp_path / "world", range(3))), tmp_path)
    index = datasets.index_of(found, tmp_path / "out")
    assert Bm25Retriever.open(index).num_documents == 6
    monkeypatch.setattr(datasets.bm25, "build", None)
    assert datasets.index_of(found, tmp_path / "out") == index


def test_an_invented_world_has_its_numbers_in_its_name(tmp_path):
    found = datasets.read("fictional:seed=7,passages=300,questions=20", tmp_path)
    assert found.name == "fictional-7-300x20"
    assert len(found.questions) == 20
    assert len(found.corpus.read_text().splitlines()) == 300
    again = datasets.read("fictional:questions=20,passages=300,seed=7", tmp_path / "elsewhere")
    assert (again.digest, again.questions) == (found.digest, found.questions)


def test_the_bundled_questions_are_at_hand(tmp_path):
    found = datasets.read("bundled", tmp_path)
    assert (found.name, len(found.questions)) == ("bundled", 300)
    assert found.corpus is not None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("/no/such", "there is no dataset /no/such"),
        ("fictional:seed=x", "'seed=x' is none of seed"),
        ("fictional:sede=3", "'sede=3' is none of seed"),
        ("fictional:passages=10", "passages"),
    ],
)
def test_what_is_no_dataset_is_named(tmp_path, source, message):
    with pytest.raises(ConfigurationError, match=message):
        datasets.read(source, tmp_path)


def test_a_folder_without_questions_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match=r"empty holds no questions\.jsonl"):
        datasets.read(str(tmp_path / "empty"), tmp_path)


def test_two_datasets_of_one_name_are_told_apart_by_their_reader(tmp_path):
    sources = [str(write_dataset(tmp_path / part / "dev", range(2))) for part in "ab"]
    with pytest.raises(ConfigurationError, match=r"a/dev.*b/dev.*called 'dev'"):
        datasets.read_all(sources, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": None}, "item 2: `answers` must be"),
        ({"_id": "h1"}, "item 2: the id 'h1' occurs"),
    ],
)
def test_a_published_question_that_is_none_is_named(tmp_path, change, message):
    file = tmp_path / "dev.json"
    file.write_text(json.dumps([HOTPOT, HOTPOT | {"_id": "h2"} | change]))
    with pytest.raises(CorpusError, match=rf"dev\.json, {message}"):
        datasets.read(str(file), tmp_path)
