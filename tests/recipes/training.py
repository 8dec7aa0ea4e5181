"""Tiny trainings in processes of their own, and what they are given and leave.

What is left out: what is held against what (test_train).
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from steper_serve.recipes.distill import metrics, tables
from steper_serve.recipes.distill.config import Config
from steper_serve.recipes.distill.jobs import Job

ROOT = Path(__file__).parents[2]
WORDS = "grey harbour was painted by alma berg who born in oslo the capital of norway".split()
HARNESS = """
import json, sys
from pathlib import Path
from steper_serve.recipes.distill.config import Config
from steper_serve.recipes.distill.train import launch
for file in sys.argv[1:]:
    launch(Config.model_validate(json.loads(Path(file).read_text())), "s", 0)
"""


def rows(num_questions: int = 12):
    """Step samples of questions with one to four steps."""
    draw = random.Random(0)
    for question in range(num_questions):
        num_steps, passages, prefix = 1 + question % 4, "", ""
        for step in range(1, num_steps + 1):
            passages += f"Wikipedia Title: berg\n{' '.join(draw.choices(WORDS, k=12))}.\n\n"
            target = f" {' '.join(draw.choices(WORDS, k=5))}."
            yield {
                "dataset": "d",
                "question_id": str(question),
                "step": step,
                "kind": "agg" if step == num_steps else "init" if step == 1 else "exp",
                "prompt": f"{passages}Q: who {question}\nA:",
                "prefix": prefix,
                "target": target,
            }
            prefix += target


def settings(out: Path, model: Path, **train) -> dict:
    defaults = {"learning_rate": 1e-2, "questions_per_batch": 4, "tokens_per_micro_batch": 512}
    return {
        "name": "test",
        "out": str(out),
        "datasets": [{"name": "d", "corpus": "c", "questions": "q"}],
        "teacher": {"endpoint": {"base_url": "http://teacher", "model": "big"}},
        "student": {"model": str(model)},
        "examples": {"format": "jsonl"},
        "students": {"s": {}, "late": {"steps": [4]}, "never": {"steps": [9]}},
        "train": defaults | train,
    }


def prepare(folder: Path, model: Path, name: str, **train) -> Path:
    """A run's folder with its examples; the file of its configuration."""
    out = folder / name
    tables.write(out / "examples" / "train.jsonl", rows())
    file = out / "config.json"
    file.write_text(json.dumps(settings(out, model, **train)))
    return file


def start(files: list[Path], **variables: str) -> subprocess.Popen:
    known = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    known |= {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", HARNESS, *map(str, files)],
        env=known | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )


def finish(*processes: subprocess.Popen) -> None:
    for process in processes:
        output, _ = process.communicate(timeout=240)
        assert process.returncode == 0, output[-4000:]


def curve(folder: Path, name: str) -> list:
    return list(metrics.read(folder / name / "students" / "s-seed0" / "logs"))


def column(folder: Path, run: str, field: str) -> list[float]:
    return [line[field] for line in curve(folder, run)]


def job(tmp_path: Path, model: Path, student: str = "s", **train) -> Job:
    return Job.of(Config.model_validate(settings(tmp_path, model, **train)), student, 0)


def kill_at(num_lines: int, processes: dict[Path, subprocess.Popen]) -> None:
    """Kill each process once its log has so many lines, which none must outrun."""
    deadline = time.monotonic() + 120
    while any(process.poll() is None for process in processes.values()):
        assert time.monotonic() < deadline
        for log, process in processes.items():
            if log.exists() and log.read_bytes().count(b"\n") >= num_lines:
                process.send_signal(signal.SIGKILL)
        time.sleep(0.002)
    for process in processes.values():
        output, _ = process.communicate()
        assert process.returncode == -signal.SIGKILL, output[-4000:]
