"""Rollouts: nothing finished is lost, nothing is repeated, and what goes wrong is said."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from steper_serve import journal
from steper_serve.errors import ConfigurationError, EngineFailed, EngineUnavailable
from steper_serve.generation.scripted import ScriptedModel
from steper_serve.recipes.distill import datasets, records, rollout
from steper_serve.recipes.distill.config import Config
from steper_serve.recipes.distill.failures import BadRecord, DiskFailed, StageMissing
from steper_serve.recipes.distill.rollout import Job, collect
from steper_serve.trajectory import Trajectory
from tests.recipes.worlds import FORMAT, loop, question, reason, write_world

ROOT = Path(__file__).parents[2]
MANY = [question(n) for n in range(12)]


@pytest.fixture
def job(tmp_path) -> Job:
    return Job("world", "now", tmp_path / "rollouts" / "world.jsonl", concurrency=3)


def rows(job: Job) -> list[dict]:
    return [dict(record) for _, record in journal.read(job.file)]


async def test_each_question_becomes_a_record(job):
    tally = await collect(job, MANY, loop())
    assert (tally.questions, tally.done, tally.failed, tally.right) == (12, 12, 0, 12)
    row = next(row for row in rows(job) if row["id"] == "q4")
    assert list(row) == [
        *("id", "config", "dataset", "question", "answers", "type", "hops"),
        *("trajectory", "error", "seconds"),
    ]
    assert (row["config"], row["dataset"], row["hops"], row["error"]) == ("now", "world", 2, None)
    trajectory = Trajectory.from_json(row["trajectory"])
    assert trajectory.answer == "Turin"
    assert [p.id for p in trajectory.passages] == ["w4", "p4"]


async def test_what_is_done_is_not_asked_again(job, capsys):
    await collect(job, MANY[:5], loop())
    model = ScriptedModel(reason)
    tally = await collect(job, MANY, loop(model))
    assert len(model.requests) == 2 * 7
    assert (tally.done, tally.right, tally.tokens) == (12, 12, 12 * 18)
    assert "world: 12 questions, 5 done, 7 left; about " in capsys.readouterr().out
    await collect(job, MANY, loop(ScriptedModel([])))
    assert Counter(row["id"] for row in rows(job)).most_common(1)[0][1] == 1


async def test_another_configuration_is_asked_anew(job, tmp_path):
    await collect(job, MANY[:2], loop())
    other = Job("world", "later", job.file, concurrency=1)
    model = ScriptedModel(reason)
    await collect(other, MANY[:2], loop(model))
    assert len(model.requests) == 4


async def test_a_failure_is_kept_and_asked_again_on_request(job, capsys):
    def respond(request):
        return EngineFailed("it broke") if "Work 3 born" in request.prompt.text else reason(request)

    tally = await collect(job, MANY, loop(ScriptedModel(respond)))
    assert (tally.done, tally.failed) == (11, 1)
    (failed,) = [row for row in rows(job) if row["error"]]
    assert failed["id"] == "q3"
    assert failed["trajectory"] is None
    assert failed["error"] == {"type": "EngineFailed", "message": "it broke"}

    tally = await collect(job, MANY, loop(ScriptedModel([])))
    assert (tally.done, tally.failed) == (11, 1)
    assert "1 failed before (--retry-failed asks them again)" in capsys.readouterr().out

    again = Job("world", "now", job.file, concurrency=3, retry_failed=True)
    tally = await collect(again, MANY, loop())
    assert (tally.done, tally.failed) == (12, 0)
    assert set(records.scan(job.file, "now").failed) == set()


async def test_a_teacher_that_goes_down_ends_the_stage_and_nothing_is_lost(job):
    model = ScriptedModel(reason)

    def respond(request):
        if len(model.requests) > 10:
            model.down = "connection refused"
        return reason(request)

    model = ScriptedModel(respond)
    with pytest.raises(EngineUnavailable) as error:
        await collect(job, MANY, loop(model))
    done = len(rows(job))
    assert 3 <= done < 12
    assert f"{done} questions are answered and kept in {job.file}" in error.value.message
    assert f"{12 - done} are left" in error.value.message
    assert "connection refused" in error.value.message
    assert not any(row["error"] for row in rows(job))
    model.down = None
    tally = await collect(job, MANY, loop())
    assert (tally.done, tally.failed, len(rows(job))) == (12, 0, 12)


async def test_a_full_disk_ends_the_stage_and_names_the_file(job, monkeypatch):
    write, room = os.write, 3

    def full(descriptor: int, data: bytes) -> int:
        nonlocal room
        if data.startswith(b'{"id": "q'):
            room -= 1
            if room < 0:
                write(descriptor, data[:50])
                raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(DiskFailed, match=r"world\.jsonl.*No space left"):
        await collect(job, MANY, loop())
    monkeypatch.undo()
    assert len(rows(job)) == 3
    assert job.file.read_bytes().endswith(b"}\n")
    tally = await collect(job, MANY, loop())
    assert (tally.done, len(rows(job))) == (12, 12)


async def test_a_record_that_is_none_is_named(job):
    job.file.parent.mkdir()
    job.file.write_text('{"id": "q1", "config": "now", "trajectory": {"steps": [{}]}}\n')
    with pytest.raises(BadRecord, match=r"world\.jsonl, line 1: `trajectory` cannot be read"):
        await collect(job, MANY, loop())


KILLED = """
import asyncio, sys
from pathlib import Path
from steper_serve.recipes.distill.rollout import Job, collect
from tests.recipes.worlds import SlowModel, loop, question

async def main(folder: Path) -> None:
    job = Job("world", "now", folder / "world.jsonl", concurrency=4)
    model = SlowModel(folder / "told", 0.03)
    await collect(job, [question(n) for n in range(60)], loop(model))

asyncio.run(main(Path(sys.argv[1])))
"""


def finished(folder: Path) -> list[str]:
    return [record["id"] for _, record in journal.read(folder / "world.jsonl")]


def told(folder: Path) -> list[str]:
    """The questions of all generations so far, one entry each."""
    return [f"q{line}" for line in (folder / "told").read_text().splitlines()]


def test_killed_twice_it_loses_nothing_finished_and_repeats_nothing(tmp_path):
    kills: list[tuple[list[str], int]] = []  # what was finished, and how much had been asked
    for enough in (10, 30):
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT)
        deadline = time.monotonic() + 120
        while len(finished(tmp_path)) < enough and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it ended before it was killed"
        kills.append((finished(tmp_path), len(told(tmp_path))))
        assert enough <= len(kills[-1][0]) < 60
        with (tmp_path / "world.jsonl").open("ab") as out:  # as if killed in the middle of a write
            out.write(b'{"id": "q59", "config": "now", "traj')
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, check=True)

    assert Counter(finished(tmp_path)) == Counter(f"q{n}" for n in range(60))
    generations = told(tmp_path)
    for whole, num_asked in kills:
        assert finished(tmp_path)[: len(whole)] == whole
        assert not set(generations[num_asked:]) & set(whole)
    # Two generations a question, and again those of at most four that were under way at a kill.
    assert 2 * 60 <= len(generations) <= 2 * 60 + 2 * 4 * 2


def recipe(tmp_path: Path, **changes) -> Config:
    corpus, questions = write_world(tmp_path / "world", range(6))
    data = {
        "name": "small",
        "out": tmp_path / "out",
        "datasets": [{"name": "world", "corpus": corpus, "questions": questions}],
        "teacher": {"endpoint": {"base_url": "http://teacher/v1", "model": "big"}},
        "student": {"model": "base"},
    }
    return Config.model_validate(data | changes)


def opening(model, opened: list):
    @asynccontextmanager
    async def open_model(source):
        opened.append(source)
        yield model, FORMAT

    return open_model


async def test_the_stage_is_done_once(tmp_path):
    config, opened = recipe(tmp_path), []
    made = await rollout.run(config, opening(ScriptedModel(reason), opened))
    assert made.finished
    assert made.counts["datasets"]["world"] == {
        "questions": 6,
        "done": 6,
        "failed": 0,
        "right": 6,
        "tokens": made.tokens,
    }
    assert made.tokens == 6 * 18
    assert await rollout.run(config, opening(ScriptedModel([]), opened)) == made
    assert len(opened) == 1
    wider = recipe(tmp_path, top_k=7)
    assert (await rollout.run(wider, opening(ScriptedModel(reason), opened))).finished
    assert len(opened) == 2


async def test_a_finished_stage_asks_failed_questions_again_on_request(tmp_path):
    config, opened = recipe(tmp_path), []
    broken = ScriptedModel(lambda request: EngineFailed("no"))
    made = await rollout.run(config, opening(broken, opened))
    assert made.counts["datasets"]["world"]["failed"] == 6
    assert await rollout.run(config, opening(broken, opened)) == made
    good = opening(ScriptedModel(reason), opened)
    made = await rollout.run(config, good, retry_failed=True)
    assert made.counts["datasets"]["world"]["done"] == 6
    await rollout.run(config, good, retry_failed=True)
    assert len(opened) == 2


async def test_no_teacher_is_started_for_files_that_are_missing(tmp_path):
    config, opened = recipe(tmp_path), []
    (tmp_path / "world" / "corpus.jsonl").unlink()
    with pytest.raises(ConfigurationError, match=r"corpus\.jsonl does not exist"):
        await rollout.run(config, opening(ScriptedModel([]), opened))
    assert opened == []


async def test_a_teacher_that_is_not_made_yet_is_named(tmp_path):
    made = {"layers": 1, "width": 8, "heads": 1, "feed_forward": 8}
    made |= {"first_seed": 0, "last_seed": 0, "lessons": [{"name": "kin", "tokens": 1}]}
    teacher = {"model": "pretrain:big"}
    config, opened = recipe(tmp_path, teacher=teacher, pretrain={"big": made}), []
    with pytest.raises(StageMissing, match=r"no model in .*out/pretrain/big: run .*pretrain"):
        await rollout.run(config, opening(ScriptedModel(reason), opened))
    (config.out / "pretrain" / "big").mkdir(parents=True)
    (config.out / "pretrain" / "big" / "config.json").write_text("{}")
    await rollout.run(config, opening(ScriptedModel(reason), opened))
    assert opened[0].model == str(config.out / "pretrain" / "big")


def test_an_index_is_built_once_and_again_for_another_corpus(tmp_path, capsys):
    config = recipe(tmp_path)
    for _ in range(2):
        index = datasets.open_index(config, config.datasets[0])
    assert capsys.readouterr().out.count("indexing") == 1
    assert index.num_documents == 12
    write_world(tmp_path / "world", range(7))
    assert datasets.open_index(config, config.datasets[0]).num_documents == 14
    assert "anew: it has changed" in capsys.readouterr().out
    built = json.loads((config.out / "index" / "world.built" / "manifest.json").read_text())
    assert built["counts"] == {"passages": 14}


def test_an_invented_world_is_written_once(tmp_path, capsys):
    world = {"name": "world", "fictional": {"seed": 7, "passages": 300, "questions": 20}}
    config = recipe(tmp_path, datasets=[world])
    for _ in range(2):
        found = datasets.read_questions(config, config.datasets[0])
        index = datasets.open_index(config, config.datasets[0])
    assert capsys.readouterr().out.count("writing the world") == 1
    assert len(found) == 20
    assert index.num_documents == 300
    assert all(q.hops and q.type and q.supporting_titles and q.steps for q in found)
    other = recipe(tmp_path, datasets=[world | {"fictional": world["fictional"] | {"seed": 8}}])
    assert datasets.read_questions(other, other.datasets[0]) != found
