"""`bench accuracy` as a user runs it: it starts the bundled server itself, is killed, goes on."""

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.benchmarks.worlds import rows
from tests.bundled import QUESTIONS

NUM = 16


@pytest.mark.engine
def test_a_benchmark_that_is_killed_goes_on_with_a_server_of_its_own(tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "steper_serve", "bench", "accuracy", "bundled"),
        *("--limit", str(NUM), "--concurrency", "2", "--out", str(tmp_path)),
        *("--serve-flag=--enforce-eager", "--serve-flag=--no-page"),
    ]
    with subprocess.Popen(command) as killed:
        while len(_whole_lines(tmp_path)) < 2:
            assert killed.poll() is None
            time.sleep(0.05)
        servers = psutil.Process(killed.pid).children(recursive=True)
        killed.kill()
    assert len(servers) >= 2  # the server, and its engine
    _, left = psutil.wait_procs(servers, timeout=60)
    assert all(process.status() == psutil.STATUS_ZOMBIE for process in left)
    before = _whole_lines(tmp_path)
    assert len(before) < NUM

    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    assert _whole_lines(tmp_path)[: len(before)] == before
    after = rows(tmp_path)
    ids = [row["id"] for row in after]
    assert len(ids) == len(set(ids)) == NUM
    assert set(ids) <= {question.id for question in QUESTIONS}
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["num_questions"] == NUM
    assert told["em"] == pytest.approx(sum(row["scores"]["em"] for row in after) / NUM)
    assert told["em"] > 0.5  # 0.73 of all


def _whole_lines(folder: Path) -> list[str]:
    file = folder / "rows.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [line for line in lines if line.endswith("\n")]
