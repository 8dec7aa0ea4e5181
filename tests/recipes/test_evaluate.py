"""Evaluations: every model under every way of ending a step, gone on with after a kill."""

import json
import shutil
from contextlib import asynccontextmanager

import pytest

from steper_serve import journal
from steper_serve.errors import ConfigurationError, EngineFailed, EngineUnavailable
from steper_serve.generation.scripted import ScriptedModel
from steper_serve.recipes.distill import evaluate, manifest
from steper_serve.recipes.distill.config import Config
from steper_serve.recipes.distill.failures import BadRecord, StageMissing
from steper_serve.recipes.distill.manifest import Manifest
from tests.recipes.worlds import FORMAT, city, reason, write_world


def recipe(tmp_path, **changes) -> Config:
    corpus, questions = write_world(tmp_path / "world", range(6))
    data = {
        "name": "small",
        "out": tmp_path / "out",
        "datasets": [{"name": "train", "corpus": corpus, "questions": questions}],
        "dev": [{"name": "dev", "corpus": corpus, "questions": questions}],
        "teacher": {"endpoint": {"base_url": "http://teacher/v1", "model": "big"}},
        "student": {"model": "base"},
        "students": {"steper": {}},
    }
    config = Config.model_validate(data | changes)
    for student in config.students:
        made = Manifest("train", config.student_hash(student, 0), True)
        manifest.write(config.out / "students" / f"{student}-seed0", made)
    return config


class Opener:
    """Opens a scripted model, and remembers for what."""

    def __init__(self, respond=reason) -> None:
        self.model = ScriptedModel(respond)
        self.opened: list[str] = []

    @asynccontextmanager
    async def __call__(self, source):
        self.opened.append(source.model or source.endpoint.model)
        yield self.model, FORMAT


def all_at_once(request) -> str:
    """As a Vanilla-KD student: the whole path, or what is left of it, if nothing stops it."""
    number = int(request.prompt.text.rpartition("painter of Work ")[2].split()[0])
    if request.step == 2:
        return reason(request)
    if request.step == 3:
        return f" So the answer is: {city(number)}."
    return (
        f" Work {number} was painted by Painter {number}. "
        f"Painter {number} was born in Rome. So the answer is: {city(number)}."
    )


def summary(config: Config, name: str) -> dict:
    return json.loads((config.out / "evaluations" / f"{name}.json").read_text())


async def test_a_student_is_evaluated_under_both_ways_of_ending_a_step(tmp_path, capsys):
    config, opener = recipe(tmp_path), Opener(all_at_once)
    made = await evaluate.run(config, opener)
    eos, sentence = (summary(config, f"steper-seed0-{end}-dev") for end in ("eos", "sentence"))
    assert (eos["mean_steps"], eos["em"]["mean"]) == (1, 1)
    assert (sentence["mean_steps"], sentence["em"]["mean"]) == (3, 1)
    assert eos["retrieval_recall"] == 1
    assert sentence["steps"] == {"3": 6}
    assert (eos["model"], eos["step_end"], eos["dataset"]) == ("steper-seed0", "eos", "dev")
    assert eos["by_hops"]["2"]["num_questions"] == 6
    assert len(opener.opened) == 1
    assert made.finished
    out = capsys.readouterr().out
    assert "steper-seed0-sentence-dev" in out


@pytest.mark.parametrize(("end", "most"), [("eos", 400), ("sentence", 128)])
async def test_a_student_of_whole_paths_may_write_one(tmp_path, end, most):
    students = {"steper": {}, "vanilla": {"steps": ["final"], "max_step_tokens": 400}}
    config = recipe(tmp_path, students=students, evaluate={"step_ends": [end]})
    for name, allowed in (("steper", 128), ("vanilla", most)):
        opener = Opener(all_at_once)
        await evaluate.run(config, opener, only=[f"{name}-seed0"])
        assert {request.max_tokens for request in opener.model.requests} == {allowed}


async def test_a_student_of_other_settings_is_not_taken_for_one_of_these(tmp_path):
    config = recipe(tmp_path)
    changed = config.model_copy(update={"train": config.train.model_copy(update={"epochs": 9.0})})
    with pytest.raises(StageMissing, match=r"steper-seed0 was trained under other settings"):
        await evaluate.run(changed, Opener())
    await evaluate.run(config, Opener())


async def test_what_is_evaluated_is_not_evaluated_again(tmp_path, capsys):
    config, opener = recipe(tmp_path), Opener()
    await evaluate.run(config, opener)
    num = len(opener.model.requests)
    await evaluate.run(config, opener)
    assert (len(opener.opened), len(opener.model.requests)) == (1, num)
    assert "steper-seed0: evaluated before under this configuration; skipped" in (
        capsys.readouterr().out
    )
    deeper = recipe(tmp_path, max_steps=3)
    await evaluate.run(deeper, opener)
    assert len(opener.opened) == 2


async def test_what_is_evaluated_needs_no_student_any_more(tmp_path, capsys):
    config = recipe(tmp_path)
    await evaluate.run(config, Opener())
    shutil.rmtree(config.out / "students")
    opener = Opener()
    await evaluate.run(config, opener)
    assert opener.opened == []
    assert "steper-seed0-eos-dev" in capsys.readouterr().out


async def test_bundled_summaries_of_the_same_settings_stand_for_evaluations(tmp_path, capsys):
    config = recipe(tmp_path)
    await evaluate.run(config, Opener())
    made = tmp_path / "bundled"
    shutil.move(config.out / "evaluations", made)
    opener, bundled = Opener(), {"made": made}
    other, config = (recipe(tmp_path, evaluate=bundled, max_steps=n) for n in (3, 5))
    students = config.out / "students"
    shutil.move(students, tmp_path / "elsewhere")
    await evaluate.run(config, opener)
    assert opener.opened == []
    assert "steper-seed0-eos-dev" in capsys.readouterr().out
    with pytest.raises(StageMissing):
        await evaluate.run(other, opener)
    # A student that was trained here is another than the bundled one.
    shutil.move(tmp_path / "elsewhere", students)
    await evaluate.run(config, opener)
    assert len(opener.opened) == 1


async def test_a_model_that_goes_down_loses_nothing(tmp_path):
    config = recipe(tmp_path, evaluate={"step_ends": ["eos"], "concurrency": 1})
    opener = Opener()

    def respond(request):
        if len(opener.model.requests) == 5:
            opener.model.down = "gone"
        return reason(request)

    opener.model = ScriptedModel(respond)
    with pytest.raises(EngineUnavailable, match="2 questions are answered and kept in"):
        await evaluate.run(config, opener)
    assert not (config.out / "evaluations" / "steper-seed0-eos-dev.json").exists()
    again = Opener()
    await evaluate.run(config, again)
    assert len(again.model.requests) == 2 * 4
    assert summary(config, "steper-seed0-eos-dev")["num_questions"] == 6
    file = config.out / "evaluations" / "steper-seed0-eos-dev.jsonl"
    assert len(list(journal.read(file))) == 6


async def test_what_is_evaluated_needs_no_other_model_of_the_recipe(tmp_path):
    """Not even one that stage 0 has yet to make; asked for by name, it is missed."""
    sizes = dict.fromkeys(("layers", "width", "heads", "feed_forward"), 8) | {"vocabulary": 512}
    lessons = [{"name": "search", "tokens": 1}]
    table = {**sizes, "lessons": lessons, "first_seed": 0, "last_seed": 1}
    extra = {"models": [{"name": "teacher", "model": "pretrain:big"}]}
    config = recipe(tmp_path, pretrain={"big": table}, evaluate=extra)
    await evaluate.run(config, Opener(), only=["steper-seed0"])
    opener = Opener()
    await evaluate.run(config, opener, only=["steper-seed0"])
    assert opener.opened == []
    with pytest.raises(StageMissing, match=r"no model in .*pretrain/big"):
        await evaluate.run(config, opener)


async def test_questions_that_failed_are_asked_again_on_request(tmp_path):
    config = recipe(tmp_path, evaluate={"step_ends": ["eos"]})

    def respond(request):
        return EngineFailed("no") if "Work 3" in request.prompt.text else reason(request)

    await evaluate.run(config, Opener(respond))
    assert summary(config, "steper-seed0-eos-dev")["num_failed"] > 0
    opener = Opener()
    await evaluate.run(config, opener)
    assert opener.opened == []
    await evaluate.run(config, opener, retry_failed=True)
    told = summary(config, "steper-seed0-eos-dev")
    assert (told["num_failed"], told["em"]["mean"]) == (0, 1)


async def test_other_models_are_evaluated_beside_the_students(tmp_path):
    extra = [
        {"name": "teacher", "endpoint": {"base_url": "http://t/v1", "model": "big"}},
        {"name": "base", "model": "some/base", "style": "few-shot", "step_ends": ["sentence"]},
    ]
    config = recipe(tmp_path, evaluate={"models": extra, "step_ends": ["eos"], "limit": 2})
    opener = Opener()
    await evaluate.run(config, opener)
    assert opener.opened == [str(config.out / "students" / "steper-seed0"), "big", "some/base"]
    assert summary(config, "base-sentence-dev")["num_questions"] == 2
    assert not (config.out / "evaluations" / "base-eos-dev.json").exists()


async def test_some_models_may_be_chosen(tmp_path):
    students = {"steper": {}, "vanilla": {"steps": ["final"]}}
    config, opener = recipe(tmp_path, students=students), Opener()
    made = await evaluate.run(config, opener, only=["vanilla-seed0"])
    assert opener.opened == [str(config.out / "students" / "vanilla-seed0")]
    assert not made.finished
    with pytest.raises(ConfigurationError, match="no model 'x'; there are: steper-seed0, vanilla"):
        await evaluate.run(config, opener, only=["x"])


async def test_what_is_missing_is_named_before_anything_starts(tmp_path):
    opener = Opener()
    with pytest.raises(ConfigurationError, match=r"no \[\[dev\]\] set"):
        await evaluate.run(recipe(tmp_path, dev=[]), opener)
    config = recipe(tmp_path)
    shutil.rmtree(config.out / "students" / "steper-seed0")
    with pytest.raises(StageMissing, match=r"no student .*students/steper-seed0: run"):
        await evaluate.run(config, opener)
    assert opener.opened == []


async def test_a_summary_that_is_none_is_named(tmp_path):
    config = recipe(tmp_path)
    (config.out / "evaluations").mkdir()
    (config.out / "evaluations" / "steper-seed0-eos-dev.json").write_text("[]")
    with pytest.raises(BadRecord, match=r"steper-seed0-eos-dev\.json is not an evaluation's"):
        await evaluate.run(config, Opener())
