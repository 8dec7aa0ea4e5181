"""`bench accuracy` over a real socket: scores known beforehand, kills, bad input, bad servers."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from steper_serve.benchmarks import machine
from steper_serve.errors import EngineFailed
from steper_serve.generation.scripted import ScriptedModel
from tests.api.serving import served
from tests.benchmarks.worlds import (
    bench,
    last_line,
    number_of,
    proxy,
    rows,
    write_dataset,
    wrong_about,
)
from tests.generation import fault_server
from tests.recipes.worlds import SlowModel, loop, question, reason

ROOT = Path(__file__).parents[2]
CLOSED = "http://127.0.0.1:9/v1"


@pytest.fixture
def world(tmp_path) -> Path:
    return write_dataset(tmp_path / "world", range(12))


async def test_scores_are_those_of_the_answers(world, tmp_path):
    """Oracle: 9 of 12 right; wrong are 0, 2 (bridge, two hops) and 5 (other, three hops)."""
    async with served(loop(ScriptedModel(wrong_about(0, 2, 5)))) as url:
        done = await bench("accuracy", world, "--endpoint", f"{url}/v1", "--out", tmp_path / "o")
    found = last_line(done)
    assert (found["em"], found["f1"], found["acc"]) == (9 / 12, 9 / 12, 9 / 12)
    assert (found["num_questions"], found["num_failed"]) == (12, 0)
    assert found["by_type"] == {
        "bridge": {"em": 4 / 6, "f1": 4 / 6, "acc": 4 / 6, "num_questions": 6},
        "other": {"em": 5 / 6, "f1": 5 / 6, "acc": 5 / 6, "num_questions": 6},
    }
    assert found["by_hops"]["3"] == found["by_type"]["other"]
    low, high = found["intervals"]["em"]
    assert low < 9 / 12 < high
    assert found["mean_steps"] == 2
    assert found["retrieval_complete"] == 1
    assert found["dataset"] == "world"
    assert "0.750 [" in done.stdout


async def test_a_row_holds_what_any_figure_needs(world, tmp_path):
    async with served(loop(ScriptedModel(reason))) as url:
        await bench(
            *("accuracy", world, "--endpoint", f"here={url}/v1", "--out", tmp_path / "o"),
            *("--strategy", "ircot", "--max-steps", 4, "--top-k", 3, "--limit", 5),
        )
    kept = {row["id"]: row for row in rows(tmp_path / "o")}
    assert len(kept) == 5
    row = next(iter(kept.values()))
    asked = question(int(row["id"][1:]))
    assert (row["question"], row["answers"]) == (asked.question, list(asked.answers))
    assert row["content"] == row["trace"]["answer"] == asked.answers[0]
    assert row["trace"]["steps"][0]["query"] == asked.question
    assert row["cell"]["served"] == "here"
    assert (row["cell"]["strategy"], row["cell"]["max_steps"], row["cell"]["top_k"]) == (
        "ircot",
        4,
        3,
    )
    assert row["scores"]["em"] == row["scores"]["recall"] == 1
    assert row["times"]["wall_seconds"] > 0
    assert row["error"] is None
    manifest = json.loads((tmp_path / "o" / "manifest.json").read_text())
    assert manifest["benchmark"] == "accuracy"
    assert manifest["datasets"]["world"]["num_questions"] == 12
    assert "steper-ircot" in manifest["served"]["here"]["models"]
    (run,) = manifest["runs"]
    assert run["settings"]["max_steps"] == [4]
    assert run["machine"]["memory_bytes"] > 0
    assert run["machine"]["versions"]["openai"]


async def test_a_matrix_is_a_list_and_each_setting_reaches_the_loop(world, tmp_path):
    async with served(loop(ScriptedModel(reason))) as url:
        done = await bench(
            *("accuracy", world, "--endpoint", f"{url}/v1", "--out", tmp_path / "o"),
            *("--max-steps", 1, "--max-steps", 3, "--strategy", "ircot", "--strategy", "direct"),
            *("--limit", 3),
        )
    found = last_line(done)
    settings = [(each["strategy"], each["max_steps"]) for each in found]
    assert settings == [("ircot", 1), ("ircot", 3), ("direct", 1), ("direct", 3)]
    steps = {
        (r["cell"]["strategy"], r["cell"]["max_steps"]): r["trace"] for r in rows(tmp_path / "o")
    }
    assert len(steps["ircot", 1]["steps"]) == 1
    assert len(steps["ircot", 3]["steps"]) == 2
    assert all(not step["passages"] for step in steps["direct", 3]["steps"])
    assert steps["direct", 3]["strategy"] == "direct"
    assert "ircot, 3 steps" in done.stdout


async def test_what_is_there_is_not_asked_again(world, tmp_path):
    model = ScriptedModel(reason)
    async with served(loop(model)) as url:
        command = ("accuracy", world, "--endpoint", f"here={url}/v1", "--out", tmp_path / "o")
        first = last_line(await bench(*command, "--limit", 5))
        assert len(model.requests) == 2 * 5
        again = last_line(await bench(*command, "--limit", 5))
        assert len(model.requests) == 2 * 5
        more = last_line(await bench(*command))
        assert len(model.requests) == 2 * 12
    assert first == again
    assert (first["num_questions"], more["num_questions"]) == (5, 12)
    assert Counter(row["id"] for row in rows(tmp_path / "o")) == Counter(f"q{n}" for n in range(12))
    runs = json.loads((tmp_path / "o" / "manifest.json").read_text())["runs"]
    assert len(runs) == 3


async def test_another_question_under_an_old_id_is_asked(world, tmp_path):
    model = ScriptedModel(reason)
    async with served(loop(model)) as url:
        command = ("accuracy", world / "questions.jsonl", "--endpoint", f"here={url}/v1")
        await bench(*command, "--out", tmp_path / "o")
        text = (world / "questions.jsonl").read_text()
        (world / "questions.jsonl").write_text(text.replace("Work 3 born", "Work 30 born"))
        done = last_line(await bench(*command, "--out", tmp_path / "o"))
    assert len(model.requests) == 2 * 13
    assert done["num_questions"] == 12


async def test_a_failure_is_kept_counts_as_wrong_and_is_asked_again_on_request(world, tmp_path):
    broken = {3}

    def respond(request):
        return EngineFailed("it broke") if number_of(request) in broken else reason(request)

    model = ScriptedModel(respond)
    async with served(loop(model)) as url:
        command = ("accuracy", world, "--endpoint", f"here={url}/v1", "--out", tmp_path / "o")
        done = await bench(*command)
        found = last_line(done)
        assert (found["em"], found["num_questions"], found["num_failed"]) == (11 / 12, 12, 1)
        assert "it broke" in done.stdout
        (failed,) = [row for row in rows(tmp_path / "o") if row["error"]]
        assert (failed["id"], failed["trace"], failed["scores"]) == ("q3", None, None)
        assert failed["error"]["type"] == "AnswerFailed"
        asked = len(model.requests)
        assert last_line(await bench(*command)) == found
        assert len(model.requests) == asked
        broken.clear()
        found = last_line(await bench(*command, "--retry-failed"))
    assert (found["em"], found["num_failed"]) == (1, 0)


async def test_an_endpoint_that_is_not_there_is_named(world, tmp_path):
    done = await bench("accuracy", world, "--endpoint", CLOSED, "--out", tmp_path / "o")
    assert done.exit_code == 1
    assert CLOSED in done.stderr.splitlines()[-1]
    assert "is it running" in done.stderr
    assert "Traceback" not in done.output
    assert done.stdout == ""


async def test_an_endpoint_that_goes_away_keeps_what_is_finished_and_a_rerun_goes_on(tmp_path):
    world = write_dataset(tmp_path / "world", range(40))
    command = ("accuracy", world, "--out", tmp_path / "o", "--concurrency", 2)
    blocks = []

    def respond(request):
        if number_of(request) == 20:
            blocks[0]()
        return reason(request)

    async with served(loop(ScriptedModel(respond))) as url, proxy(url) as (way, block):
        blocks.append(block)
        done = await bench(*command, "--endpoint", f"here={way}/v1")
    assert done.exit_code == 1
    assert way in done.stderr.splitlines()[-1]
    kept = (tmp_path / "o" / "rows.jsonl").read_text()
    ids = [row["id"] for row in rows(tmp_path / "o")]
    assert 15 < len(ids) <= 20
    assert f"{len(ids)} rows are kept in {tmp_path / 'o'}" in done.stderr
    assert not any(row["error"] for row in rows(tmp_path / "o"))
    model = ScriptedModel(reason)
    async with served(loop(model)) as elsewhere:
        found = last_line(await bench(*command, "--endpoint", f"here={elsewhere}/v1"))
    assert (found["num_questions"], found["num_failed"], found["em"]) == (40, 0, 1)
    assert not {f"q{number_of(request)}" for request in model.requests} & set(ids)
    assert (tmp_path / "o" / "rows.jsonl").read_text().startswith(kept)


async def test_killed_twice_it_loses_nothing_finished_and_repeats_nothing(tmp_path):
    world, out = write_dataset(tmp_path / "world", range(60)), tmp_path / "o"
    told = tmp_path / "told"

    def finished() -> list[str]:
        text = (out / "rows.jsonl").read_text() if (out / "rows.jsonl").exists() else ""
        return text.splitlines(keepends=True)[: text.count("\n")]

    def asked() -> list[str]:
        return [f"q{line}" for line in told.read_text().splitlines()]

    async with served(loop(SlowModel(told, 0.05))) as url:
        command = [sys.executable, "-m", "steper_serve", "bench", "accuracy", str(world)]
        command += ["--endpoint", f"here={url}/v1", "--out", str(out), "--concurrency", "4"]
        kills = []
        for enough in (10, 30):
            process = await asyncio.to_thread(
                subprocess.Popen, command, cwd=ROOT, stderr=subprocess.DEVNULL
            )
            deadline = time.monotonic() + 120
            while len(finished()) < enough and time.monotonic() < deadline:
                await asyncio.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL, "it ended before it was killed"
            kills.append((finished(), len(asked())))
            assert enough <= len(finished()) < 60
            with (out / "rows.jsonl").open("a") as file:  # as if killed in the middle of a line
                file.write('{"id": "q59", "config": "')
        done = await asyncio.to_thread(
            subprocess.run, command, cwd=ROOT, capture_output=True, text=True, check=True
        )
    assert json.loads(done.stdout.splitlines()[-1])["num_questions"] == 60
    assert Counter(row["id"] for row in rows(out)) == Counter(f"q{n}" for n in range(60))
    for whole, num_asked in kills:
        assert finished()[: len(whole)] == whole
        assert not set(asked()[num_asked:]) & {json.loads(line)["id"] for line in whole}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "b", "answers": ["x"]}', "questions.jsonl, line 2: `question` is missing"),
        ('{"id": "b", "question": "Q?"}', "questions.jsonl, line 2: `answers` must be"),
        ('{"id": "a", "question": "Q?", "answers": ["x"]}', "line 2: the id 'a' occurs twice"),
        ("{", "questions.jsonl, line 2: not valid JSON"),
    ],
)
async def test_a_bad_dataset_is_named_with_its_line(tmp_path, line, message):
    (tmp_path / "d").mkdir()
    good = '{"id": "a", "question": "Q?", "answers": ["x"]}\n'
    (tmp_path / "d" / "questions.jsonl").write_text(good + line + "\n")
    done = await bench("accuracy", tmp_path / "d", "--endpoint", CLOSED, "--out", tmp_path / "o")
    assert done.exit_code == 1
    assert message in done.stderr
    assert not (tmp_path / "o").exists()


async def test_what_is_no_steper_server_is_named(world, tmp_path):
    models = {"object": "list", "data": [{"id": "m", "object": "model", "created": 1}]}
    message = {"role": "assistant", "content": "Oslo"}
    reply = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
    reply["choices"] = [{"index": 0, "finish_reason": "stop", "message": message}]
    page = fault_server.Reply(200, models), fault_server.Reply(200, reply)
    async with fault_server.serve(*page) as server:
        done = await bench("accuracy", world, "--endpoint", server.url, "--out", tmp_path / "o")
    assert done.exit_code == 1
    assert f"{server.url} sends no trace" in done.stderr
    assert (tmp_path / "o" / "rows.jsonl").read_text() == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "gpt-4"], "there is no model 'gpt-4'"),
        (["--model", "steper-ircot", "--strategy", "direct"], "is a strategy of its own"),
        (["--key-env", "NO_SUCH_KEY"], "NO_SUCH_KEY, which is not set"),
        (["--endpoint", "localhost"], "--endpoint localhost is no URL"),
        (["--parameters", "x=7B"], "names 'x', which is not served"),
        (["--parameters", "here=many"], "is not NAME=NUMBER"),
        (["--serve", "./no/such"], "there is no model directory ./no/such"),
    ],
)
async def test_what_cannot_be_asked_ends_in_one_line(world, tmp_path, arguments, message):
    async with served(loop(ScriptedModel(reason))) as url:
        done = await bench(
            *("accuracy", world, "--endpoint", f"here={url}/v1", "--out", tmp_path / "o"),
            *arguments,
        )
    assert done.exit_code == 1
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.output


async def test_a_folder_belongs_to_one_benchmark(world, tmp_path):
    async with served(loop(ScriptedModel(reason))) as url:
        command = (world, "--endpoint", f"here={url}/v1", "--out", tmp_path / "o", "--limit", 2)
        await bench("accuracy", *command)
        done = await bench("latency", *command)
    assert done.exit_code == 1
    assert "holds results of `bench accuracy`: give another --out" in done.stderr


def test_a_machine_is_told_with_what_its_speed_hangs_on(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    told = machine.describe()
    assert "OMP_WAIT_POLICY=passive" in told["threads"]
    assert ("avx2" in told["cpu_features"]) == torch.cpu._is_avx2_supported()
    assert ("avx512f" in told["cpu_features"]) == torch.cpu._is_avx512_supported()
    assert ("avx512_bf16" in told["cpu_features"]) == torch.cpu._is_avx512_bf16_supported()


def test_the_command_line_loads_no_benchmark():
    check = "import sys, steper_serve.cli\nprint('steper_serve.benchmarks' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.strip() == "False"
