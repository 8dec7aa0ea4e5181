"""When a server is started, with what, and when it is not."""

from contextlib import contextmanager

import pytest

from steper_serve.benchmarks import server
from steper_serve.generation.scripted import ScriptedModel
from steper_serve.retrieval.bm25 import Bm25Retriever
from tests.api.serving import served
from tests.benchmarks.worlds import bench, last_line, rows, write_dataset
from tests.recipes.worlds import loop, reason


class Started:
    """In place of starting servers: remembers what is started, and with how many passages."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.all: list[tuple[str, tuple[str, ...], int | None]] = []
        self.num_running = 0

    @contextmanager
    def __call__(self, served, index):
        passages = None if index is None else Bm25Retriever.open(index).num_documents
        self.all.append((served.name, served.flags, passages))
        self.num_running += 1
        assert self.num_running == 1
        yield f"{self.url}/v1"
        self.num_running -= 1


@pytest.fixture
def worlds(tmp_path):
    return [write_dataset(tmp_path / name, range(size)) for name, size in (("a", 3), ("b", 4))]


async def test_answers_need_one_server_a_dataset_and_none_when_all_is_asked(
    worlds, tmp_path, monkeypatch
):
    async with served(loop(ScriptedModel(reason))) as url:
        started = Started(url)
        monkeypatch.setattr(server, "running", started)
        command = ("accuracy", *worlds, "--out", tmp_path / "o", "--serve-flag", "--enforce-eager")
        command += ("--max-steps", 3, "--max-steps", 4)
        found = last_line(await bench(*command))
        flags = ("--enforce-eager",)
        assert started.all == [("student", flags, 6), ("student", flags, 8)]
        assert [(c["dataset"], c["max_steps"], c["num_questions"]) for c in found] == [
            *(("a", 3, 3), ("a", 4, 3)),
            *(("b", 3, 4), ("b", 4, 4)),
        ]
        again = await bench(*command)
    assert last_line(again) == found
    assert len(started.all) == 2
    assert "student, a: 6 to ask, 6 asked before" in again.stderr


async def test_time_needs_a_server_for_each_cell_and_repetition(worlds, tmp_path, monkeypatch):
    async with served(loop(ScriptedModel(reason))) as url:
        started = Started(url)
        monkeypatch.setattr(server, "running", started)
        command = ("latency", worlds[0], "--out", tmp_path / "o", "--warmup", 0)
        last_line(await bench(*command, "--max-steps", 3))
        assert len(started.all) == 1
        last_line(await bench(*command, "--max-steps", 3, "--max-steps", 4, "--repeat", 2))
    assert len(started.all) == 4
    assert len(rows(tmp_path / "o")) == 4 * 3


async def test_questions_without_a_corpus_are_asked_of_the_servers_own(
    worlds, tmp_path, monkeypatch
):
    async with served(loop(ScriptedModel(reason))) as url:
        started = Started(url)
        monkeypatch.setattr(server, "running", started)
        done = await bench("accuracy", worlds[0] / "questions.jsonl", "--out", tmp_path / "o")
    assert last_line(done)["em"] == 1
    assert started.all == [("student", (), None)]
    assert "questions has no corpus: the server searches its own" in done.stderr
