"""The command line as a user runs it: real processes, the real engine, signals."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Semaphore

import httpx
import pytest

from tests.bundled import QUESTIONS, bundled_server
from tests.living import alive, wait_until

QUESTION = QUESTIONS[0].question


def _steper(*args: str, timeout: float = 240) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "steper_serve", *args],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.mark.engine
def test_serve_answers_and_ends_on_sigterm() -> None:
    with bundled_server("--enforce-eager") as (process, url):
        body = {"model": "steper", "messages": [{"role": "user", "content": QUESTION}]}
        done = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()
        assert done["choices"][0]["message"]["content"]
        engine = _children(process.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    assert engine
    _wait_for_the_end_of(engine)


@pytest.mark.engine
def test_a_killed_server_leaves_no_engine_behind() -> None:
    with bundled_server("--enforce-eager") as (process, _):
        engine = _children(process.pid)
        process.kill()
    assert engine
    _wait_for_the_end_of(engine)


@pytest.mark.engine
def test_a_server_that_is_ended_while_it_loads_leaves_no_engine_behind() -> None:
    command = [sys.executable, "-m", "steper_serve", "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: _engine_cores(process.pid))
        engine = _engine_cores(process.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 128 + signal.SIGTERM
    assert engine
    _wait_for_the_end_of(engine)


@pytest.mark.engine
def test_a_server_whose_engine_is_killed_under_load_ends_and_says_why() -> None:
    with (
        bundled_server("--enforce-eager", "--no-page") as (process, url),
        ThreadPoolExecutor(8) as pool,
    ):
        body = {"model": "steper", "messages": [{"role": "user", "content": QUESTION}]}

        def ask() -> httpx.Response | None:
            """Answers until there is none; the first refusal, None where nobody answers."""
            while True:
                try:
                    done = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)
                except httpx.TransportError:
                    return None
                if done.status_code != 200:
                    return done
                assert done.json()["choices"][0]["message"]["content"]
                answered.release()

        answered = Semaphore(0)
        asking = [pool.submit(ask) for _ in range(8)]
        assert all(answered.acquire(timeout=60) for _ in asking)  # all have been at it for a while
        [engine] = _engine_cores(process.pid)
        os.kill(int(engine), signal.SIGKILL)
        assert process.wait(timeout=120) == 1
        said = process.stderr.read()
        refused = [response for each in asking if (response := each.result(60)) is not None]
    assert "is not running" in said.splitlines()[-1]
    assert "Traceback" not in said
    # Those that were under way are told so; whoever comes later, that the server ends, or nobody.
    codes = {(r.status_code, r.json()["error"]["code"]) for r in refused}
    assert (503, "engine_unavailable") in codes
    assert codes <= {(503, "engine_unavailable"), (503, "server_draining")}


def _engine_cores(pid: int) -> list[int]:
    """Children of a process that Python has spawned for work, not to track resources."""
    lines = {child: Path(f"/proc/{child}/cmdline").read_bytes() for child in _children(pid)}
    return [child for child, line in lines.items() if b"spawn_main" in line or b"VLLM" in line]


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def _wait_for_the_end_of(pids: list[int]) -> None:
    """A child notices a moment later that its parent is gone."""
    wait_until(lambda: not any(map(alive, pids)), seconds=30)


@pytest.mark.engine
def test_ask_prints_exactly_one_json_object() -> None:
    done = _steper("ask", QUESTION, "--json", "--max-steps", "4")
    assert done.returncode == 0, done.stderr
    trace = json.loads(done.stdout)
    assert {"answer", "strategy", "stop_reason", "steps", "usage", "seconds"} <= trace.keys()
    assert trace["strategy"] == "ircot"
    assert trace["steps"][0]["query"] == QUESTION
    assert trace["steps"][0]["passages"][0].keys() == {"id", "title", "score"}


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["serve", "--port", "99999"], "port"),
        (["serve", "--index", "/no/such/index"], "/no/such/index"),
        (["serve", "--config", "/no/such.toml"], "/no/such.toml"),
        (["serve", "--prompts", "/no/such/folder"], "/no/such/folder"),
        (["ask", "Who?", "--model", "/no/such/model"], "/no/such/model"),
        (["ask", "Who?", "--endpoint", "http://127.0.0.1:9/v1"], "--model"),
        (
            ["ask", "Who?", "--endpoint", "http://127.0.0.1:9/v1", "--model", "m"],
            "http://127.0.0.1:9/v1",
        ),
        (["ask", "Who?", "--engine-arg", "tensor_parallel=2"], "tensor_parallel_size"),
    ],
)
def test_what_cannot_start_ends_in_one_line(args: list[str], told: str) -> None:
    done = _steper(*args)
    assert done.returncode == 1
    assert told in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_taken_port_is_told_before_the_model_is_loaded() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = _steper("serve", "--port", str(port))
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert "Loading" not in done.stderr


def test_doctor_says_that_all_is_well() -> None:
    done = _steper("doctor")
    assert done.returncode == 0, done.stdout
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"ok"}


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--model", "/no/such/model"], "/no/such/model"),
        (["--index", "/no/such/index"], "/no/such/index"),
        (["--max-steps", "99"], "max_steps"),
    ],
)
def test_doctor_names_what_is_wrong(args: list[str], told: str) -> None:
    done = _steper("doctor", *args)
    assert done.returncode == 1
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert len(failed) == 1
    assert told in failed[0]
