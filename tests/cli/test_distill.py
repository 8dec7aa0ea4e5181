"""`steper-serve distill`: what it says, what it skips, and how it ends when something is wrong."""

import builtins
import subprocess
import sys

import pytest
from click.testing import CliRunner

from steper_serve.cli import distill as cli
from steper_serve.cli import main
from steper_serve.errors import ConfigurationError
from steper_serve.processes import ends_with_us
from steper_serve.recipes.distill import manifest, stages
from steper_serve.recipes.distill.config import load
from steper_serve.recipes.distill.manifest import Manifest
from steper_serve.recipes.distill.sections import EndpointConfig, ModelConfig
from tests.living import alive, wait_until
from tests.recipes.worlds import write_world

RECIPE = """
name = "small"
out = "{folder}/out"

[[datasets]]
name = "world"
corpus = "{folder}/world/corpus.jsonl"
questions = "{folder}/world/questions.jsonl"

[teacher]
endpoint = {{ base_url = "http://127.0.0.1:9/v1", model = "big" }}

[student]
model = "some/base"

[students.steper]
seeds = [0, 1]
"""


@pytest.fixture
def recipe(tmp_path):
    write_world(tmp_path / "world", range(3))
    file = tmp_path / "recipe.toml"
    file.write_text(RECIPE.format(folder=tmp_path))
    return file


def invoke(*arguments):
    return CliRunner().invoke(main, ["distill", *map(str, arguments)])


def test_an_unknown_key_is_named_with_the_file(recipe):
    recipe.write_text(recipe.read_text() + "\n[train]\nepohcs = 3\n")
    done = invoke("filter", recipe)
    assert done.exit_code == 1
    assert done.output == f"steper-serve: {recipe}: unknown key `train.epohcs`\n"


def test_no_rollouts_end_the_filter_with_their_name(recipe):
    done = invoke("filter", recipe)
    assert done.exit_code == 1
    assert "rollouts/world.jsonl is missing, empty" in done.output


def test_a_teacher_that_is_down_is_named(recipe, monkeypatch):
    async def at_once(seconds: float) -> None:
        return None

    monkeypatch.setattr("anyio.sleep", at_once)  # between the client's attempts
    done = invoke("rollout", recipe)
    assert done.exit_code == 1
    assert "steper-serve: " in done.output
    assert "127.0.0.1:9" in done.output


def finish(recipe, *names: str) -> None:
    config = load(recipe)
    for name, folder in (("rollout", "rollouts"), ("filter", "kept"), ("examples", "examples")):
        if name in names:
            done = Manifest(name, config.stage_hash(name), True, counts={"bytes": {}})
            manifest.write(config.out / folder, done)
    for seed in (0, 1):
        if f"seed{seed}" in names:
            folder = config.out / "students" / f"steper-seed{seed}"
            manifest.write(folder, Manifest("train", config.student_hash("steper", seed), True))


def test_what_is_done_is_skipped_with_a_line_that_says_so(recipe):
    finish(recipe, "rollout", "filter", "seed0", "seed1")
    for command, stage in (("rollout", "rollout"), ("filter", "filter"), ("train", "steper-seed1")):
        done = invoke(command, recipe)
        assert done.exit_code == 0, done.output
        assert f"{stage}: finished before under this configuration" in done.output
        assert done.output.rstrip().endswith("skipped")


class Trained:
    """In place of the trainer: remembers what it is asked for, and how it ended."""

    def __init__(self, code: int = 0) -> None:
        self.code = code
        self.commands: list[list[str]] = []

    def __call__(self, command, check):
        self.commands.append(command)
        return subprocess.CompletedProcess(command, self.code)


def test_each_student_is_trained_by_a_process_of_its_own(recipe, monkeypatch):
    finish(recipe, "seed0")
    trained = Trained()
    monkeypatch.setattr(stages.subprocess, "run", trained)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert invoke("train", recipe).exit_code == 0
    module = "steper_serve.recipes.distill.train"
    expected = [sys.executable, "-m", module, str(recipe), "--student", "steper", "--seed", "1"]
    assert trained.commands == [ends_with_us(expected)]
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert invoke("train", recipe, "--student", "steper").exit_code == 0
    _, _, _, launcher, *rest = trained.commands[1]
    assert launcher.endswith("/deepspeed")
    assert rest[:2] == ["--module", module]


TRAINS = """
import sys
from pathlib import Path
from steper_serve.recipes.distill import config, stages

says = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
stages._trainer = lambda: [sys.executable, "-c", says]
file = Path(sys.argv[1])
stages.run_train(config.load(file), file)
"""


def test_a_trainer_ends_with_the_command_that_is_killed(recipe):
    command = [sys.executable, "-c", TRAINS, str(recipe)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed:
        trainer = int(killed.stdout.readline())
        assert alive(trainer)
        killed.kill()
        killed.stdout.close()
    wait_until(lambda: not alive(trainer))


def test_a_training_that_ends_early_says_what_to_do(recipe, monkeypatch):
    monkeypatch.setattr(stages.subprocess, "run", Trained(-9))
    done = invoke("train", recipe, "--seed", "1")
    assert done.exit_code == 1
    assert "the training of steper-seed1 ended with SIGKILL" in done.output
    assert "goes on from its last checkpoint" in done.output


def test_a_student_or_seed_that_is_none_is_named(recipe):
    assert "no student 'x'" in invoke("train", recipe, "--student", "x").output
    assert "has the seed 7" in invoke("train", recipe, "--seed", "7").output


def test_a_library_that_is_missing_is_named_with_its_extra(recipe, monkeypatch):
    imported = builtins.__import__

    def without_pyarrow(name, *arguments, **more):
        if name.partition(".")[0] == "pyarrow":
            raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")
        return imported(name, *arguments, **more)

    def needs_pyarrow(config):
        import pyarrow  # noqa: F401

    monkeypatch.setattr(stages, "run_examples", needs_pyarrow)
    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    done = invoke("examples", recipe)
    assert done.exit_code == 1
    assert "needs pyarrow, which is not installed" in done.output
    assert "steper-serve[train]" in done.output


def test_the_environment_has_no_part_in_a_recipes_model(monkeypatch):
    monkeypatch.setenv("STEPER_ENDPOINT", "http://elsewhere/v1")
    monkeypatch.setenv("STEPER_STYLE", "student")
    settings = cli.settings_of(ModelConfig(model="some/model", engine_args={"dtype": "float32"}))
    assert (settings.endpoint, settings.model, settings.style) == (None, "some/model", "auto")
    assert settings.engine_args == {"dtype": "float32"}


def test_an_endpoint_takes_its_key_from_the_variable_that_is_named(monkeypatch):
    endpoint = EndpointConfig(base_url="http://t/v1", model="big", api_key_env="TEACHER_KEY")
    with pytest.raises(ConfigurationError, match="TEACHER_KEY, which is not set"):
        cli.settings_of(ModelConfig(endpoint=endpoint))
    monkeypatch.setenv("TEACHER_KEY", "secret")
    settings = cli.settings_of(ModelConfig(endpoint=endpoint))
    assert settings.endpoint_key.get_secret_value() == "secret"
    assert (settings.endpoint, settings.model) == ("http://t/v1", "big")


def test_the_command_line_loads_no_recipe():
    heavy = ["torch", "deepspeed", "pyarrow", "peft", "steper_serve.recipes"]
    check = f"import sys, steper_serve.cli\nprint([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
