"""`bench peers`: the whole command with servers, and with stand-ins for FlashRAG and the engine."""

import asyncio
import json
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from steper_serve import corpus
from steper_serve.benchmarks import report, server
from steper_serve.cli import bench_peers, main
from steper_serve.errors import EngineFailed, EngineUnavailable
from steper_serve.generation.scripted import ScriptedModel
from steper_serve.retrieval import bm25
from steper_serve.retrieval.bm25 import Bm25Retriever
from steper_serve.trajectory import Completion, Generate
from tests.api.serving import served
from tests.benchmarks.flashrags import install
from tests.benchmarks.worlds import bench, last_line, number_of, rows, write_dataset
from tests.recipes.worlds import city, loop


def respond(request: Generate) -> str:
    """Two thoughts, told apart by what stands in the prompt; numbers are no part of FlashRAG's."""
    number = number_of(request)
    if not request.prompt.text.endswith(f"painted by Painter {number}."):
        return f" Work {number} was painted by Painter {number}."
    return f" Painter {number} was born in {city(number)}. So the answer is: {city(number)}."


class Whole(ScriptedModel):
    """A scripted engine that gives completions whole, as `VllmEngine` can."""

    model = "student"

    def __init__(self, script=respond) -> None:
        super().__init__(script)
        self.resets: list[int] = []
        self.most_running = self._num_now = 0

    async def generate_whole(self, request: Generate) -> Completion:
        self._num_now += 1
        self.most_running = max(self.most_running, self._num_now)
        try:
            given = [each async for each in self.generate(request)]
        finally:
            self._num_now -= 1
        assert isinstance(given[-1], Completion)
        return given[-1]

    async def reset_prefix_cache(self) -> None:
        self.resets.append(len(self.requests))


class Sides:
    """In place of processes: serves a scripted engine, and has FlashRAG's side run here, by the
    real command, with an engine of its own each time."""

    def __init__(self, monkeypatch) -> None:
        self.model, self.script = Whole(), respond
        self.engines: list[Whole] = []
        self.num_servers = 0
        self.commands: list[list[str]] = []
        self._monkeypatch = monkeypatch
        monkeypatch.setattr(server, "running", self.running)
        monkeypatch.setattr(server, "subprocess", SimpleNamespace(run=self.run))
        monkeypatch.setattr(bench_peers, "open_loop", self.open_loop)

    @contextmanager
    def running(self, served_, index):
        self.num_servers += 1
        yield f"{self.url}/v1"

    def run(self, command, **options):
        self.commands.append(command[command.index("peer") :])
        with forgotten(self._monkeypatch):
            done = CliRunner().invoke(main, command[command.index("bench") :])
        return subprocess.CompletedProcess(command, done.exit_code, done.stdout, done.stderr)

    @asynccontextmanager
    async def open_loop(self, settings):
        self.engines.append(Whole(self.script))
        yield loop(self.engines[-1], Bm25Retriever.open(settings.index))


@contextmanager
def forgotten(monkeypatch):
    """What is imported of FlashRAG, and where from, is as before afterwards."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "path", list(sys.path))
        patch.setattr(sys, "dont_write_bytecode", True)
        try:
            yield
        finally:
            for name in [n for n in sys.modules if n.partition(".")[0] == "flashrag"]:
                del sys.modules[name]


@pytest.fixture
async def sides(tmp_path, monkeypatch):
    world, index = write_dataset(tmp_path / "world", range(12)), tmp_path / "index"
    bm25.build(corpus.read(world / "corpus.jsonl"), index)
    install(tmp_path / "many", "0.3.0.dev1", takes_many=True)
    install(tmp_path / "one", "0.1.2", takes_many=False)
    sides = Sides(monkeypatch)
    async with served(loop(sides.model, Bm25Retriever.open(index))) as sides.url:
        yield sides


def command(tmp_path: Path, *more: object, flashrag: str = "many") -> tuple:
    few = ("--concurrency", 1, "--concurrency", 3, "--repeat", 2, "--warmup", 4)
    out = ("--out", tmp_path / "o", "--max-steps", 3, "--flashrag", tmp_path / flashrag)
    return ("peers", tmp_path / "world", *out, *few, *more)


def by_cell(lines) -> dict:
    return {(line["system"], line["concurrency"]): line for line in lines}


async def test_ours_and_theirs_answer_the_same_questions(sides, tmp_path):
    done = await bench(*command(tmp_path, "--serve-flag", "--enforce-eager"))
    found = by_cell(last_line(done))
    many = "flashrag-dev 0.3.0.dev1"
    assert list(found) == [
        ("steper-serve", 1),
        ("steper-serve", 3),
        (many, 1),
        (many, 3),
        (many, 8),
    ]
    for line in found.values():
        assert (line["em"], line["em_read_by_us"], line["errors"]) == (1.0, 1.0, 0)
        assert (line["num_questions"], line["repetitions"]) == (8, 2)
        assert line["mean_steps"] == 2
        assert line["answers_per_second"] > 0 < line["p50_seconds"]
        assert line["mean_generated_tokens"] == found["steper-serve", 1]["mean_generated_tokens"]
    ours, theirs = found["steper-serve", 3], found[many, 8]
    assert (set(theirs["ours_ratio"]), ours["ours_ratio"]) == ({"1", "3"}, {})
    assert "× " in done.stdout
    assert "flashrag-dev 0.3.0.dev1, 8 at a time" in done.stdout
    # A server for each of ours; an engine for each repetition of theirs, forgetting before a run.
    assert (sides.num_servers, len(sides.engines)) == (4, 2)
    assert [engine.resets for engine in sides.engines] == [[0, 24, 48]] * 2
    assert [engine.most_running for engine in sides.engines] == [8, 8]
    assert sides.commands[0][2:4] == ["--index", sides.commands[1][3]]
    assert sides.commands[0][4:] == ["--enforce-eager"]
    cells = [(r["cell"]["model"], r["cell"]["repetition"]) for r in rows(tmp_path / "o")]
    assert list(dict.fromkeys(cells)) == [("steper", 0), (many, 0), ("steper", 1), (many, 1)]


@pytest.mark.parametrize("flashrag", ["many", "one"])
async def test_theirs_is_given_the_prompts_that_ours_has(sides, tmp_path, flashrag):
    done = await bench(*command(tmp_path, flashrag=flashrag))
    assert done.exit_code == 0, done.output
    ours = {request.prompt.text for request in sides.model.requests}
    assert len(ours) == 2 * 12
    for engine in sides.engines:
        assert {request.prompt.text for request in engine.requests} == ours
        assert {request.stop for request in engine.requests} == {("\n",)}
        assert {request.max_tokens for request in engine.requests} == {128}
    kept = [row for row in rows(tmp_path / "o") if row["cell"]["model"] != "steper"]
    assert all(row["content"] in ("Oslo.", "Turin.", "Lagos.") for row in kept)
    step = kept[0]["trace"]["steps"][1]
    assert step["query"] == kept[0]["trace"]["steps"][0]["thought"]
    assert step["passages"][0]["score"] > 0
    assert step["generation_seconds"] > 0


async def test_one_by_one_is_one_run_and_ours_is_compared_with_it(sides, tmp_path):
    found = by_cell(last_line(await bench(*command(tmp_path, flashrag="one"))))
    assert list(found) == [("steper-serve", 1), ("steper-serve", 3), ("flashrag-dev 0.1.2", 1)]
    assert set(found["flashrag-dev 0.1.2", 1]["ours_ratio"]) == {"1", "3"}
    assert [engine.most_running for engine in sides.engines] == [1, 1]
    told = json.loads((tmp_path / "o" / "manifest.json").read_text())["served"]
    assert told["flashrag-dev 0.1.2"]["takes_many"] is False


@pytest.mark.parametrize("flashrag", ["many", "one"])
async def test_what_is_whole_is_not_measured_again(sides, tmp_path, flashrag):
    first = await bench(*command(tmp_path, flashrag=flashrag))
    again = await bench(*command(tmp_path, flashrag=flashrag))
    assert (again.exit_code, again.stdout) == (0, first.stdout)
    assert (sides.num_servers, len(sides.engines)) == (4, 2)
    # What a kill has left out is measured; so is another version, of which nothing is there.
    file = tmp_path / "o" / "loads.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    assert (await bench(*command(tmp_path, flashrag=flashrag))).exit_code == 0
    assert (sides.num_servers, len(sides.engines)) == (4, 3)
    both = ("--flashrag", tmp_path / ("one" if flashrag == "many" else "many"))
    assert len(last_line(await bench(*command(tmp_path, *both, flashrag=flashrag)))) == 6
    assert (sides.num_servers, len(sides.engines)) == (4, 5)


async def test_an_answer_of_theirs_that_fails_counts_as_wrong(sides, tmp_path):
    def broken(request):
        return EngineFailed("it broke") if number_of(request) == 3 else respond(request)

    sides.script = broken
    found = by_cell(last_line(await bench(*command(tmp_path, "--warmup", 1))))
    assert found["flashrag-dev 0.3.0.dev1", 1]["errors"] == 2  # of two repetitions
    assert found["flashrag-dev 0.3.0.dev1", 1]["em"] == pytest.approx(10 / 11)
    failed = next(row for row in rows(tmp_path / "o") if row["error"])
    assert failed["error"]["message"] == "it broke"


async def test_an_engine_that_is_down_ends_theirs_and_keeps_ours(sides, tmp_path):
    sides.script = lambda request: EngineUnavailable("no engine today")
    done = await bench(*command(tmp_path))
    assert done.exit_code == 1
    assert "flashrag-dev 0.3.0.dev1 in" in done.stderr
    assert "no engine today" in done.stderr
    assert len(rows(tmp_path / "o")) == 2 * 8


async def test_a_package_that_it_lacks_is_named(sides, tmp_path):
    install(tmp_path / "bare", "0.4", takes_many=True, needs="no_such_package")
    done = await bench(*command(tmp_path, flashrag="bare"))
    assert done.exit_code == 1
    folder = tmp_path / "bare"
    assert f"pip install --no-deps --target {folder} no_such_package" in done.stderr


async def test_what_cannot_be_compared_is_refused(sides, tmp_path, monkeypatch):
    monkeypatch.setenv("STEPER_CACHE_DIR", str(tmp_path / "cache"))
    missing = await bench(*command(tmp_path)[:4], "--max-steps", 3)
    assert missing.exit_code == 1
    assert f"FlashRAG is not in {tmp_path}/cache/flashrag" in missing.stderr
    assert (
        f"pip install --no-deps --target {tmp_path}/cache/flashrag flashrag-dev" in missing.stderr
    )
    install(tmp_path / "same", "0.1.2", takes_many=False)
    twice = await bench(*command(tmp_path, "--flashrag", tmp_path / "one", flashrag="same"))
    assert "both hold FlashRAG 0.1.2: leave one out" in twice.stderr
    for option, value in (("--endpoint", sides.url), ("--model", "x"), ("--strategy", "single")):
        done = await bench(*command(tmp_path, option, value))
        assert done.exit_code == 1
        assert f"`bench peers` has no use for {option}" in done.stderr
    assert sides.num_servers == 0


async def test_a_report_shows_them(sides, tmp_path):
    await bench(*command(tmp_path, "--repeat", 1))
    made = await asyncio.to_thread(report.make, [tmp_path / "o"])
    assert "FlashRAG beside" in [section.title for section in made.sections]
    assert "ours at 3" in made.markdown()
    assert "answers a second over seconds an answer (p50)" in made.html()


async def test_a_task_that_is_none_is_refused(tmp_path):
    (tmp_path / "task.json").write_text('{"folder": "x"}')
    done = await bench("peer", tmp_path / "task.json")
    assert done.exit_code == 1
    (said,) = done.stderr.splitlines()
    assert f"{tmp_path}/task.json is not as it was written" in said
    assert "missing 5 required" in said
    assert said.endswith("`bench peers` writes it; run that")
