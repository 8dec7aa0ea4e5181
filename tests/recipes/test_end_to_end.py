"""The recipe as a user starts it: all stages, real index, engine and trainer, on bundled data."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.engine

NUM_ASKED, NUM_TRIED = 24, 8

RECIPE = """
name = "small"
out = "{out}"

[[datasets]]
name = "train"
corpus = "{corpus}/corpus.jsonl"
questions = "{corpus}/questions.jsonl"
limit = {num_asked}

[[dev]]
name = "unseen"
corpus = "{corpus}/corpus.jsonl"
questions = "{corpus}/questions.jsonl"
limit = {num_tried}

[teacher]
model = "{model}"
enforce_eager = true

[student]
model = "{model}"

[train]
epochs = 1
learning_rate = 1e-4
questions_per_batch = 8
save_every = 2

[students.vanilla-kd]
steps = ["final"]
weighting = "uniform"

[students.steper]

[evaluate]
enforce_eager = true
step_ends = ["eos"]
"""


def distill(*arguments: str) -> str:
    command = [sys.executable, "-m", "steper_serve", "distill", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def lines_of(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, student: Path) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    file = folder / "small.toml"
    corpus = student.with_name("corpus")
    told = {"model": student, "corpus": corpus, "num_asked": NUM_ASKED, "num_tried": NUM_TRIED}
    file.write_text(RECIPE.format(out=folder / "out", **told))
    return file


@pytest.mark.timeout(900)
def test_all_stages_make_students_that_vllm_serves_and_a_second_run_repeats_nothing(
    recipe: Path,
) -> None:
    printed = distill("run", str(recipe))
    out = recipe.parent / "out"

    asked = lines_of(out / "rollouts/train.jsonl")
    assert len({record["id"] for record in asked}) == len(asked) == NUM_ASKED
    kept = lines_of(out / "kept/train.jsonl")
    assert NUM_ASKED / 4 < len(kept) <= NUM_ASKED

    for name in ("vanilla-kd-seed0", "steper-seed0"):
        student = out / "students" / name
        assert (student / "model.safetensors").exists()
        assert json.loads((student / "steper.json").read_text())["step_end"] == "eos"
        assert name in (student / "README.md").read_text()
        scored = json.loads((out / f"evaluations/{name}-eos-unseen.json").read_text())
        assert scored["num_questions"] == NUM_TRIED
        assert scored["num_failed"] == 0
        assert name in printed

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    again = distill("run", str(recipe))
    assert again.count("skipped") >= 6
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    changed = {path.name for path in before if before[path] != after[path]}
    assert changed <= {"manifest.json"}

    assert "other examples" not in again
    examples = out / "examples/train.parquet"
    examples.write_bytes(examples.read_bytes() + b" ")
    told = distill("train", str(recipe), "--student", "steper")
    assert "steper-seed0: was trained on other examples than there are now" in told
