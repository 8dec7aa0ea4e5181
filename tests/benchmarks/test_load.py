"""`bench load`: sums worked out by hand, and the whole command with servers and replays."""

import asyncio
import json
import subprocess
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from steper_serve import corpus
from steper_serve.benchmarks import load, report, server
from steper_serve.benchmarks.cells import Cell
from steper_serve.benchmarks.client import Reply, Times
from steper_serve.benchmarks.load import Load
from steper_serve.benchmarks.rows import Failure, Row
from steper_serve.cli import bench_load, bench_peers, main
from steper_serve.cli.serve import serve
from steper_serve.errors import EngineFailed
from steper_serve.journal import BadRecord
from steper_serve.retrieval import bm25
from steper_serve.retrieval.bm25 import Bm25Retriever
from tests.api.serving import served
from tests.benchmarks.engines import Alone
from tests.benchmarks.worlds import bench, last_line, rows, write_dataset
from tests.recipes.worlds import loop, question, reason

CELL = Cell("d", "", "here", "", (), "steper", None, None, None, streamed=True, concurrency=8)
REPLAY = {
    "seconds": 1.0,
    "unbounded_seconds": 0.5,
    "repeated_share": 0.75,
    "tokenise_seconds": 0.04,
}
LOAD = Load(CELL, "digest", 4, 8, 100.0, 110.0, 2.0, REPLAY)


def wrote(num_prompt: int, num_cached: int) -> dict:
    counts = {"num_prompt_tokens": num_prompt, "num_cached_tokens": num_cached}
    return {"text": "x", "finish_reason": "stop", "num_completion_tokens": 3, **counts}


def step(retrieval: float, *completions: dict) -> dict:
    return {
        "query": "Q?",
        "passages": [],
        "thought": "x",
        "completions": list(completions),
        "forced": False,
        "retrieval_seconds": retrieval,
        "generation_seconds": 0.5,
    }


def row(number: int, wall: float, *, started: float = 105.0, cell: Cell = CELL) -> Row:
    """Two steps; the second writes twice. 30 of 100 tokens cached, later 30 of 60."""
    steps = [step(0.01, wrote(40, 0)), step(0.01, wrote(20, 10), wrote(40, 20))]
    end = {"answer": "x", "stop_reason": "answer", "usage": {}, "seconds": wall}
    reply = Reply("x", {"steps": steps, **end}, Times(wall, wall / 10))
    return Row(cell, question(number), started, reply, None)


FAILED = Row(CELL, question(9), 106.0, None, Failure("AnswerFailed", "it broke"))


def test_the_figures_of_one_load():
    """By hand: 5 answers in 2 seconds; 0.02 s of searching in each."""
    given = [row(n, wall) for n, wall in enumerate((0.1, 0.2, 0.3, 0.4, 1.0))]
    told = load.figures(LOAD, [*given, FAILED])
    assert told["answers_per_second"] == 2.5
    assert told["p50_seconds"] == pytest.approx(0.3)
    assert told["p95_seconds"] == pytest.approx(0.88)  # 0.4 + 0.8 * 0.6
    assert told["p99_seconds"] == pytest.approx(0.976)
    assert told["first_byte_p50_seconds"] == pytest.approx(0.03)
    assert told["first_thought_p50_seconds"] is None
    assert told["errors"] == 1
    assert told["cached_share"] == pytest.approx(0.3)
    assert told["later_cached_share"] == pytest.approx(0.5)
    assert told["retrieval_share"] == pytest.approx(0.1 / 2.0)
    assert (told["replay_ratio"], told["unbounded_ratio"]) == (0.5, 0.25)
    assert told["repeated_share"] == 0.75
    assert told["tokenise_share"] == pytest.approx(0.04 / 2.0)


def test_without_answers_or_replay_there_are_no_figures():
    told = load.figures(replace(LOAD, replay=None), [FAILED])
    assert told["errors"] == 1
    assert told["answers_per_second"] == 0
    known = {"answers_per_second", "errors"}
    assert all(value is None for name, value in told.items() if name not in known)


def test_a_load_has_rows_of_its_own_cell_and_time():
    mine = row(1, 0.1)
    others = [
        row(1, 0.1, started=99.9),
        row(1, 0.1, started=110.1),
        row(1, 0.1, cell=replace(CELL, concurrency=4)),
        row(1, 0.1, cell=replace(CELL, repetition=1)),
    ]
    assert LOAD.own([*others, mine]) == [mine]


def test_repetitions_are_summed_up_by_their_medians():
    """By hand: answers/s 1/2, 1/4 and 1/1; ratios 1/2, 1/4 and 1/1; errors 0, 0 and 1."""
    cells = [replace(CELL, repetition=n) for n in range(3)]
    seconds = zip(cells, (2.0, 4.0, 1.0), strict=True)
    loads = [replace(LOAD, cell=cell, seconds=s) for cell, s in seconds]
    given = [row(1, 0.1, cell=cell) for cell in cells] + [replace(FAILED, cell=cells[2])]
    found = load.find(loads, given)
    (line,) = load.lines(found)
    assert line["concurrency"] == 8
    assert (line["answers_per_second"], line["replay_ratio"], line["errors"]) == (0.5, 0.5, 1)
    assert line["spread"]["answers_per_second"] == [0.25, 1.0]
    assert line["spread"]["replay_ratio"] == [0.25, 1.0]
    assert line["repetitions"] == 3
    (table,) = load.tables(found)
    assert "0.500 [0.250, 1.000]" in table.rows[0]
    assert dict(zip(table.head, table.rows[0], strict=True))["tokenising"] == "40.00%"


def test_a_load_is_read_back_and_the_last_one_counts(tmp_path):
    newer = replace(LOAD, seconds=3.0)
    lines = [json.dumps(load.to_json(each)) for each in (LOAD, newer)]
    (tmp_path / "loads.jsonl").write_text("\n".join([*lines, ""]))
    assert load.read(tmp_path) == {CELL: newer}
    with (tmp_path / "loads.jsonl").open("a") as out:
        out.write("{}\n")
    with pytest.raises(BadRecord, match=r"loads\.jsonl, line 3 is not a load"):
        load.read(tmp_path)


def test_nothing_measured_has_no_table_and_no_plot():
    found = load.find([], [])
    assert (load.tables(found), load.plot(found), load.lines(found)) == ([], "", [])


@pytest.mark.parametrize("hidden", [bench_load.replay, bench_peers.peer])
def test_an_engine_alone_takes_all_flags_of_a_server(hidden):
    def options(command) -> set[str]:
        return {name for p in command.params for name in (*p.opts, *p.secondary_opts)}

    assert options(serve) - options(hidden) == set()


class Servers:
    """In place of processes: serves a scripted engine for each `bench load` starts, and replays
    in this process with an engine of its own, by the real command."""

    def __init__(self, monkeypatch) -> None:
        self.model = Alone(reason)
        self.alone: list[Alone] = []
        self.indexes: list[Path] = []
        self.commands: list[list[str]] = []
        monkeypatch.setattr(server, "running", self.running)
        monkeypatch.setattr(server, "subprocess", SimpleNamespace(run=self.run))
        monkeypatch.setattr(bench_load, "open_loop", self.open_loop)

    @contextmanager
    def running(self, served_, index):
        self.indexes.append(index)
        yield served_.url or f"{self.url}/v1"

    def run(self, command, **options):
        self.commands.append(command[command.index("replay") :])
        done = CliRunner().invoke(main, command[command.index("bench") :])
        return subprocess.CompletedProcess(command, done.exit_code, done.stdout, done.stderr)

    @asynccontextmanager
    async def open_loop(self, settings):
        self.alone.append(Alone())
        yield loop(self.alone[-1], Bm25Retriever.open(settings.index))


@pytest.fixture
async def servers(tmp_path, monkeypatch):
    world, index = write_dataset(tmp_path / "world", range(12)), tmp_path / "index"
    bm25.build(corpus.read(world / "corpus.jsonl"), index)
    servers = Servers(monkeypatch)
    async with served(loop(servers.model, Bm25Retriever.open(index))) as servers.url:
        yield servers


def command(tmp_path, *more) -> tuple:
    few = ("--concurrency", 1, "--concurrency", 3, "--repeat", 2, "--warmup", 4)
    return ("load", tmp_path / "world", "--out", tmp_path / "o", "--max-steps", 3, *few, *more)


async def test_each_cell_has_a_server_a_replay_and_a_line(servers, tmp_path):
    flags = ("--enforce-eager", "--no-page", "--max-running=512", "--log-format=json")
    done = await bench(*command(tmp_path, *(f"--serve-flag={flag}" for flag in flags)))
    assert done.exit_code == 0, done.output
    one, three = last_line(done)
    assert (one["concurrency"], three["concurrency"]) == (1, 3)
    wanted = ("answers_per_second", "p50_seconds", "p95_seconds", "first_byte_p50_seconds")
    assert one["first_byte_p50_seconds"] <= one["first_thought_p50_seconds"] <= one["p50_seconds"]
    assert all(one[name] > 0 for name in (*wanted, "replay_ratio", "unbounded_ratio"))
    assert 0 < one["tokenise_share"] < 1
    assert (one["errors"], one["repetitions"]) == (0, 2)
    assert len(servers.indexes) == len(servers.alone) == 4
    # Eight questions of two generations are measured, four warm up; the replay does it twice.
    assert len(servers.model.requests) == 4 * (8 + 4) * 2
    assert [len(engine.again) for engine in servers.alone] == [2 * (8 + 4) * 2] * 4
    assert [engine.resets for engine in servers.alone] == [[0, 24]] * 4
    sent = {request.prompt.text for request in servers.model.requests}
    assert {request.prompt.text for engine in servers.alone for request in engine.again} == sent
    assert servers.commands[0][2:] == ["--index", str(servers.indexes[0]), *flags]
    cells = [(r["cell"]["concurrency"], r["cell"]["repetition"]) for r in rows(tmp_path / "o")]
    assert list(dict.fromkeys(cells)) == [(1, 0), (3, 0), (1, 1), (3, 1)]
    assert len(cells) == 4 * 8
    assert (tmp_path / "o" / "load.svg").read_text().startswith("<?xml")


async def test_what_is_whole_is_not_measured_again(servers, tmp_path):
    first = await bench(*command(tmp_path))
    again = await bench(*command(tmp_path))
    assert again.stdout == first.stdout
    assert len(servers.indexes) == 4
    # Other questions are another load, and so is one whose line a kill has left out.
    more = await bench(*command(tmp_path, "--limit", 5))
    assert (more.exit_code, len(servers.indexes)) == (0, 8)
    file = tmp_path / "o" / "loads.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    assert (await bench(*command(tmp_path, "--limit", 5))).exit_code == 0
    assert len(servers.indexes) == 9


async def test_warming_up_asks_what_is_not_measured(servers, tmp_path):
    await bench(*command(tmp_path, "--no-replay"))
    measured = {each["question"] for each in rows(tmp_path / "o")}
    warm = {request.prompt.text for request in servers.model.requests[:8]}
    assert len(measured) == 8
    assert not any(asked in text for text in warm for asked in measured)
    assert servers.alone == []
    small = await bench(*command(tmp_path, "--warmup", 12))
    assert small.exit_code == 1
    assert "world has 12 questions, and 12 are for warming up" in small.stderr


async def test_an_endpoint_has_no_replay(servers, tmp_path):
    done = await bench(*command(tmp_path, "--endpoint", f"here={servers.url}/v1", "--whole"))
    line = last_line(done)[-1]
    assert (line["replay_ratio"], line["streamed"]) == (None, False)
    assert line["first_byte_p50_seconds"] > 0
    assert "or one at an --endpoint, has no replay" in done.stdout
    assert servers.alone == []


async def test_errors_are_counted_and_leave_no_ratio(servers, tmp_path):
    def respond(request):
        broken = "Work 3 " in request.prompt.text
        return EngineFailed("it broke") if broken else reason(request)

    servers.model._respond = respond
    options = ("--concurrency", 2, "--repeat", 1, "--warmup", 1)
    world, out = tmp_path / "world", tmp_path / "o"
    done = await bench("load", world, "--out", out, *options)
    line = last_line(done)
    assert (line["errors"], line["replay_ratio"]) == (1, None)
    assert len(rows(out)) == 11
    servers.model._respond = reason
    again = await bench("load", world, "--out", out, *options)
    assert again.stdout == done.stdout
    mended = await bench("load", world, "--out", out, *options, "--retry-failed")
    line = last_line(mended)
    assert line["errors"] == 0
    assert line["replay_ratio"] > 0


async def test_a_replay_that_fails_keeps_the_rows_and_is_named(servers, tmp_path, monkeypatch):
    @asynccontextmanager
    async def broken(settings):
        raise EngineFailed("no engine today")
        yield

    monkeypatch.setattr(bench_load, "open_loop", broken)
    done = await bench(*command(tmp_path))
    assert done.exit_code == 1
    assert "the replay in the engine alone ended with code 1" in done.stderr
    assert "no engine today" in done.stderr
    assert len(rows(tmp_path / "o")) == 8
    before = rows(tmp_path / "o")
    again = await bench(*command(tmp_path, "--no-replay"))
    assert again.exit_code == 0
    assert rows(tmp_path / "o")[:8] == before
    assert "1 of" not in again.stderr  # what was answered is not asked again


async def test_a_server_that_is_not_there_is_named_with_what_to_do(servers, tmp_path):
    done = await bench(*command(tmp_path, "--endpoint", "http://127.0.0.1:9/v1"))
    assert done.exit_code == 1
    assert "http://127.0.0.1:9/v1 does not answer" in done.stderr
    assert "start the same command again when it is back" in done.stderr


async def test_a_report_shows_loads(servers, tmp_path):
    await bench(*command(tmp_path))
    made = await asyncio.to_thread(report.make, [tmp_path / "o"])
    assert "Load" in [section.title for section in made.sections]
    assert "replay ratio" in made.markdown()
    assert "answers a second over seconds an answer (p50)" in made.html()
