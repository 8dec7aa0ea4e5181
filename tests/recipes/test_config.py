"""A recipe's file: what it may hold, what follows from it, and what it is known by."""

import re
from pathlib import Path

import pytest

from steper_serve.errors import ConfigurationError
from steper_serve.recipes.distill import datasets
from steper_serve.recipes.distill.config import Config, load

SMALL = """
name = "small"
out = "runs/small"

[[datasets]]
name = "world"
fictional = { seed = 1, passages = 100, questions = 10 }

[[dev]]
name = "other"
fictional = { seed = 2, passages = 100, questions = 10 }

[teacher]
endpoint = { base_url = "http://teacher/v1", model = "big" }

[student]
model = "some/base"

[students.steper]

[students.vanilla]
steps = ["final"]
weighting = "uniform"
epochs = 6
seeds = [0, 1]
"""


def read(tmp_path: Path, text: str = SMALL) -> Config:
    file = tmp_path / "recipe.toml"
    file.write_text(text)
    return load(file)


@pytest.mark.parametrize("seed", [1, 257, 769])
def test_a_dev_world_shares_no_name_with_those_learnt_from(tmp_path, seed):
    with pytest.raises(ConfigurationError, match=rf"`other` \(seed {seed}\) has .*by `world`"):
        read(tmp_path, SMALL.replace("seed = 2", f"seed = {seed}"))
    sizes = "".join(f"{name} = 8\n" for name in ("layers", "width", "heads", "feed_forward"))
    own = f"[pretrain.base]\n{sizes}first_seed = 0\nlast_seed = 4\n"
    own += 'lessons = [{ name = "kin", tokens = 9 }]\n'
    with pytest.raises(ConfigurationError, match=r"by \[pretrain\.base\]"):
        read(tmp_path, SMALL.replace("seed = 2", f"seed = {seed + 3}") + own)


def test_defaults_are_the_papers(tmp_path):
    config = read(tmp_path)
    assert (config.strategy, config.max_steps, config.top_k) == ("ircot", 5, 4)
    assert (config.train.epochs, config.train.learning_rate) == (2, 5e-6)
    assert config.students["steper"].steps == ("first", "mid", "final")
    assert config.filter.match == "exact"
    assert config.train.weighting == "difficulty"


def test_a_student_sets_some_things_for_itself(tmp_path):
    config = read(tmp_path)
    vanilla = config.train_for("vanilla")
    assert (vanilla.weighting, vanilla.epochs) == ("uniform", 6)
    assert vanilla.learning_rate == config.train.learning_rate
    assert config.train_for("steper") == config.train
    assert config.target_for("vanilla") == "cumulative"
    assert config.student_name("vanilla", 1) == "vanilla-seed1"
    # Its epochs stand in place of whatever the section ends by.
    by_tokens = changed(tmp_path, "[students.steper]", "[train]\nmax_tokens = 9\n[students.steper]")
    ends = [by_tokens.train_for(name).max_tokens for name in ("steper", "vanilla")]
    assert ends == [9, None]
    with pytest.raises(ConfigurationError, match=r"no student 'x'.*steper, vanilla"):
        config.train_for("x")


def test_targets_are_those_that_somebody_learns_from(tmp_path):
    text = SMALL + 'target = "next"\n'
    assert read(tmp_path, text).targets() == ("cumulative", "next")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("[student]\n", "[student]\nmodle = 1\n", "unknown key `student.modle`"),
        ('name = "small"', 'name = "small"\nnmae = 1', "unknown key `nmae`"),
        ('model = "some/base"', "", "`student.model` is missing"),
        ('steps = ["final"]', 'steps = ["last"]', "`students.vanilla.steps"),
        ('name = "other"', 'name = "world"', "two of the datasets are called `world`"),
        ('name = "other"', 'name = "../up"', "dev.0.name"),
        ("[teacher]", '[teacher]\nmodel = "big"', "either `model` or `endpoint`"),
        ("[[dev]]", '[[dev]]\ncorpus = "c"', "either `fictional`, or"),
        ("some/base", "pretrain:base", r"needs a table \[pretrain.base\]"),
        ("[student]", '[filter]\nsteps = "cut"\nsupport = "judge"\n[student]', "table `judge`"),
        ("[student]\n", "[student\n", "cannot read the recipe"),
        (
            "[student]\n",
            "[train]\nzero_stage = 2\nmuon = {}\n[student]\n",
            "needs `zero_stage",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_file(tmp_path, before, after, message):
    assert before in SMALL
    with pytest.raises(ConfigurationError, match=message) as error:
        read(tmp_path, SMALL.replace(before, after, 1))
    assert "recipe.toml" in error.value.message


def test_another_optimizer_makes_another_student(tmp_path):
    """And none leaves it what it was: the hash is that of a student from before there was one."""
    plain = read(tmp_path).student_hash("steper", 0)
    assert "muon" not in read(tmp_path).train.model_dump_json()
    assert read(tmp_path, SMALL + "[train.muon]\n").student_hash("steper", 0) != plain


def test_a_lesson_takes_no_key_that_it_has_no_use_for(tmp_path):
    lesson = '{ name = "loop", tokens = 1, facts = 2 }'
    with pytest.raises(ConfigurationError, match="`loop` has no use for `facts`"):
        read(
            tmp_path,
            SMALL + f"[pretrain.base]\nfirst_seed = 0\nlast_seed = 1\nlessons = [{lesson}]\n",
        )


def test_what_all_models_of_stage_0_share_is_said_once(tmp_path):
    own = "layers = 2\nfirst_seed = 0\nlast_seed = 1\n"
    shared = "width = 64\nheads = 2\nfeed_forward = 128\n"
    lesson = 'lessons = [{ name = "pairs", tokens = 1 }]\n'
    config = read(
        tmp_path,
        f"{SMALL}[pretrain]\n{shared}{lesson}[pretrain.a]\n{own}[pretrain.b]\n{own}width = 32\n",
    )
    assert {name: table.width for name, table in config.pretrain.items()} == {"a": 64, "b": 32}
    with pytest.raises(ConfigurationError, match=r"unknown key `pretrain\.a\.wdith`"):
        read(tmp_path, f"{SMALL}[pretrain]\nwdith = 1\n{shared}{lesson}[pretrain.a]\n{own}")


def test_a_world_that_is_too_small_is_named(tmp_path, monkeypatch):
    def write(*_, **__):  # the real one finds out after minutes
        raise ValueError("a world of 100 passages has no more bridge questions")

    monkeypatch.setattr("steper_serve.fictional.write", write)
    config = read(tmp_path).model_copy(update={"out": tmp_path})
    with pytest.raises(ConfigurationError, match="the world 'world' cannot be made: a world of"):
        datasets.read_questions(config, config.datasets[0])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"none\.toml"):
        load(tmp_path / "none.toml")


def changed(tmp_path: Path, before: str, after: str) -> Config:
    assert before in SMALL
    return read(tmp_path, SMALL.replace(before, after, 1))


def test_a_stage_is_known_by_what_its_outcome_depends_on(tmp_path):
    config = read(tmp_path)
    stages = ("rollout", "filter", "examples")
    hashes = {stage: config.stage_hash(stage) for stage in stages}

    moved = changed(tmp_path, "http://teacher/v1", "http://elsewhere/v1")
    assert {stage: moved.stage_hash(stage) for stage in stages} == hashes
    faster = changed(tmp_path, "[teacher]", "[teacher]\nconcurrency = 99")
    assert faster.stage_hash("rollout") == hashes["rollout"]

    deeper = changed(tmp_path, 'name = "small"', 'name = "small"\nmax_steps = 3')
    assert all(deeper.stage_hash(stage) != hashes[stage] for stage in stages)
    filtered = changed(tmp_path, "[student]", '[filter]\nmatch = "accuracy"\n[student]')
    assert filtered.stage_hash("rollout") == hashes["rollout"]
    assert filtered.stage_hash("filter") != hashes["filter"]
    assert filtered.stage_hash("examples") != hashes["examples"]


def test_a_teacher_is_known_by_what_its_prompts_say(tmp_path):
    file = tmp_path / "prompts" / "ircot.toml"
    file.parent.mkdir()
    prompts = f'[teacher]\nprompts = "{file.parent}"'
    hashes = []
    for text in (
        "instruction = 'Think.'",
        "instruction = 'Think twice.'",
        "instruction = 'Think.'",
    ):
        file.write_text(text)
        config = changed(tmp_path, "[teacher]", prompts)
        hashes.append(config.rollout_hash(config.datasets[0]))
    assert hashes[0] == hashes[2] != hashes[1]


def test_a_limit_changes_the_stage_and_no_record(tmp_path):
    config = read(tmp_path)
    fewer = changed(tmp_path, 'name = "world"', 'name = "world"\nlimit = 5')
    assert fewer.rollout_hash(fewer.datasets[0]) == config.rollout_hash(config.datasets[0])
    assert fewer.stage_hash("rollout") != config.stage_hash("rollout")


def test_a_student_is_known_by_its_own_settings(tmp_path):
    config = read(tmp_path)
    longer = changed(tmp_path, "epochs = 6", "epochs = 7")
    assert longer.student_hash("steper", 0) == config.student_hash("steper", 0)
    assert longer.student_hash("vanilla", 0) != config.student_hash("vanilla", 0)
    assert config.student_hash("vanilla", 0) != config.student_hash("vanilla", 1)
    another = changed(
        tmp_path, "[students.steper]", '[students.next]\ntarget = "next"\n[students.steper]'
    )
    assert another.stage_hash("examples") != config.stage_hash("examples")
    assert another.student_hash("steper", 0) == config.student_hash("steper", 0)
    assert another.student_hash("next", 0) != config.student_hash("steper", 0)

    # The pace of a training is none of its outcome's business.
    slower = changed(
        tmp_path,
        "[students.steper]",
        "[train]\ntokens_per_micro_batch = 9\nsave_every = 9\ngradient_checkpointing = true\n"
        "[students.steper]",
    )
    assert slower.student_hash("steper", 0) == config.student_hash("steper", 0)

    dev = config.dev[0]
    name = "vanilla-seed0"
    eos = config.evaluation_hash(name, dev, "eos")
    assert eos != config.evaluation_hash(name, dev, "sentence")
    assert eos != longer.evaluation_hash(name, dev, "eos")
    # What a student may write at a time matters where nothing else ends its steps.
    wordier = changed(tmp_path, "epochs = 6", "epochs = 6\nmax_step_tokens = 512")
    assert eos != wordier.evaluation_hash(name, dev, "eos")
    for model, end in ((name, "sentence"), ("steper-seed0", "eos")):
        assert wordier.evaluation_hash(model, dev, end) == config.evaluation_hash(model, dev, end)


def test_a_model_from_scratch_is_found_where_stage_0_puts_it(tmp_path):
    config = read(tmp_path)
    assert config.model_path("pretrain:base") == "runs/small/pretrain/base"
    assert config.model_path("some/base") == "some/base"


CONFIGS = Path(__file__).parents[2] / "recipes" / "distill" / "configs"
SIZES = {
    "llama31-70b-to-8b": ("Llama-3.1-70B-Instruct", "Llama-3.1-8B-Instruct"),
    **{
        f"qwen25-72b-to-{size.lower()}": ("Qwen2.5-72B-Instruct", f"Qwen2.5-{size}-Instruct")
        for size in ("0.5B", "1.5B", "3B", "7B")
    },
}


@pytest.mark.parametrize("name", list(SIZES))
def test_the_papers_settings(name):
    """Oracle: section 5.1 and appendix A.1 of the paper."""
    config = load(CONFIGS / f"{name}.toml")
    teacher, student = SIZES[name]
    assert config.name == name
    assert config.out == Path("runs") / name
    assert (config.strategy, config.max_steps, config.top_k) == ("ircot", 5, 4)
    assert config.teacher.endpoint is not None
    assert config.teacher.endpoint.model.endswith(teacher)
    assert config.student.model.endswith(student)
    assert config.datasets[0].limit == 50_000
    assert config.dev[0].limit == 500
    assert config.filter.match == "exact"
    train = config.train_for("steper")
    assert (train.learning_rate, train.epochs, train.weighting) == (5e-6, 2, "difficulty")
    assert (train.zero_stage, train.gradient_checkpointing) == (3, True)
    assert train.warmup_ratio > 0
    vanilla = config.train_for("vanilla-kd")
    assert config.students["vanilla-kd"].steps == ("final",)
    assert (vanilla.weighting, vanilla.epochs) == ("uniform", 2)


@pytest.mark.parametrize("name", SIZES)
def test_the_papers_other_students_are_there_to_be_uncommented(tmp_path, name):
    """Table 2 and section 6.1."""
    text = (CONFIGS / f"{name}.toml").read_text()
    config = read(tmp_path, re.sub(r"(?m)^# (?=\[students|steps|weighting)", "", text))
    told = {n: (s.steps, config.train_for(n).weighting) for n, s in config.students.items()}
    every = ("first", "mid", "final")
    assert told == {
        "steper": (every, "difficulty"),
        "steper-uniform": (every, "uniform"),
        "steper-first": (every, "first"),
        "steper-last": (every, "last"),
        "vanilla-kd": (("final",), "uniform"),
        "s-1-5": (("first", "final"), "uniform"),
        "s-1-2-5": (("first", 2, "final"), "uniform"),
    }


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.toml")), ids=lambda file: file.stem)
def test_every_recipe_that_comes_along_can_be_read(file):
    config = load(file)
    assert config.name == file.stem
    for stage in ("rollout", "filter", "examples"):
        assert config.stage_hash(stage)


def test_many_worlds_are_as_many_datasets(tmp_path):
    config = changed(tmp_path, "seed = 1, passages", "seed = 7, worlds = 3, passages")
    assert [d.name for d in config.datasets] == ["world-7", "world-8", "world-9"]
    assert [d.fictional.seed for d in config.datasets] == [7, 8, 9]
    assert len({config.rollout_hash(d) for d in config.datasets}) == 3
