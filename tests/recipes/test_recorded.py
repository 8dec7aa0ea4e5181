"""What a model said is answered from a file: the same trajectories, nothing asked twice."""

import shutil
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from steper_serve import journal
from steper_serve.cli.wiring import RESERVE
from steper_serve.errors import ConfigurationError, EngineFailed
from steper_serve.generation.model_format import load_format
from steper_serve.generation.scripted import ScriptedModel
from steper_serve.recipes.distill import rollout
from steper_serve.recipes.distill.config import load
from steper_serve.recipes.distill.failures import BadRecord
from steper_serve.recipes.distill.recorded import key_of
from steper_serve.recipes.distill.recorded import recorded as opened
from steper_serve.recipes.distill.rollout import Job, collect
from steper_serve.trajectory import Sampling
from tests.generation.contract import Contract, Subject, complete, request
from tests.generation.test_scripted import recite
from tests.recipes.worlds import FORMAT, loop, question, reason

ROOT = Path(__file__).parents[2]
MANY = [question(n) for n in range(12)]


class TestContract(Contract):
    @pytest.fixture
    def subject(self, tmp_path):
        model = ScriptedModel(recite, max_prompt_tokens=1000)
        with opened(model, tmp_path / "said.jsonl", "m") as recorded:
            yield Subject(recorded, model.num_running)


async def trajectories(folder, model, format=FORMAT) -> dict[str, object]:
    """Of every question, without what the clock gave."""
    job = Job("world", "now", folder / "world.jsonl", concurrency=4)
    tally = await collect(job, MANY, replace(loop(model), format=format))
    assert (tally.done, tally.right) == (12, 12)
    return {row["id"]: row["trajectory"] for _, row in journal.read(job.file)}


@pytest.mark.parametrize("step_end", ["eos", "sentence"])
async def test_a_second_rollout_asks_nothing_and_finds_the_same(tmp_path, step_end):
    file, format = tmp_path / "said.jsonl", replace(FORMAT, step_end=step_end)
    model = ScriptedModel(lambda r: reason(r) + (" And so on." if step_end == "sentence" else ""))
    with opened(model, file, "m") as recorded:
        first = await trajectories(tmp_path / "first", recorded, format)
    assert recorded.num_asked == len(model.requests) > 12
    with opened(ScriptedModel([]), file, "m") as recorded:
        second = await trajectories(tmp_path / "second", recorded, format)
    assert second == first
    assert recorded.num_asked == 0


async def test_another_prompt_or_another_draw_is_asked(tmp_path):
    model = ScriptedModel([" a", " b", " c", " d"])
    asked = [request(0), request(1), request(0, sampling=Sampling(0.7, seed=1))]
    asked.append(request(0, max_tokens=61))
    with opened(model, tmp_path / "said.jsonl", "m") as recorded:
        said = [(await complete(recorded, r))[1].text for r in asked * 2]
    assert said == [" a", " b", " c", " d"] * 2
    assert model.requests == asked
    assert len({key_of(r) for r in asked}) == 4


async def test_what_failed_is_not_kept(tmp_path):
    file = tmp_path / "said.jsonl"
    with opened(ScriptedModel([EngineFailed("no"), " yes"]), file, "m") as recorded:
        with pytest.raises(EngineFailed, match="no"):
            await complete(recorded, request())
        assert (await complete(recorded, request()))[1].text == " yes"
    assert len(list(journal.read(file))) == 2


async def test_a_generation_that_the_loop_ended_and_does_not_end_now_is_named(tmp_path):
    file = tmp_path / "said.jsonl"
    asked = replace(request(), cut=lambda text: 4 if len(text) > 4 else None)
    with opened(ScriptedModel([" one two three"]), file, "m") as recorded:
        async with aclosing(recorded.generate(asked)) as generation:
            assert [(await anext(generation)).text for _ in range(2)] == [" one", " two"]
        with pytest.raises(EngineFailed, match=r"said\.jsonl holds ' one two' up to where"):
            await complete(recorded, asked)


def test_a_line_of_something_else_is_named(tmp_path):
    file = tmp_path / "said.jsonl"
    file.write_text('{"said_by": "m"}\n{"key": "0", "text": ""}\n')
    with pytest.raises(BadRecord, match=r"said\.jsonl, line 2: the record has no 'finish_reason'"):
        opened(ScriptedModel([]), file, "m").__enter__()


def test_what_another_model_said_is_not_taken(tmp_path):
    file = tmp_path / "said.jsonl"
    with opened(ScriptedModel([]), file, "m"):
        pass
    with pytest.raises(ConfigurationError, match=r"said\.jsonl holds what another model said \(m;"):
        opened(ScriptedModel([]), file, "n").__enter__()


async def test_what_the_bundled_teacher_said_fits_its_worlds(tmp_path, monkeypatch, capsys):
    """Worlds, index, prompts and tokenizer are as they were, or something would be asked."""
    monkeypatch.chdir(ROOT)
    config = load(Path("recipes/distill/configs/fictional.toml"))
    kept = shutil.copy(config.teacher.recorded, tmp_path / "said.jsonl")
    teacher = config.teacher.model_copy(update={"recorded": Path(kept)})
    known = {"out": tmp_path, "teacher": teacher, "datasets": config.datasets[:1]}
    shutil.copytree("recipes/distill/assets/teacher", tmp_path / "pretrain" / "teacher")

    @asynccontextmanager
    async def silent(model):
        yield ScriptedModel([]), load_format(model.model, max_model_len=2048, reserve=RESERVE)

    made = await rollout.run(config.model_copy(update=known), silent)
    assert f"0 generations of the teacher added to {kept}" in capsys.readouterr().out
    tally = made.counts["datasets"]["train-100"]
    assert (tally["done"], tally["failed"]) == (60, 0)
    assert (tally["right"], tally["tokens"]) == (46, 4962)  # as the teacher's own run counted
