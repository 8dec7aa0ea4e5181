"""Models of stage 0: those in use are made, with what they start from, unless they are there."""

from pathlib import Path

import pytest

from steper_serve.recipes.distill import chain, manifest, stages
from steper_serve.recipes.distill.config import Config, digest
from steper_serve.recipes.distill.manifest import Manifest

TABLE = {
    "layers": 1,
    "width": 8,
    "heads": 1,
    "feed_forward": 8,
    "first_seed": 0,
    "last_seed": 1,
    "lessons": [{"name": "pairs", "tokens": 100}],
}
LOOP = {"strategies": ["ircot"], "lessons": [{"name": "loop", "tokens": 100}]}


def recipe(out: Path, **tables: dict) -> Config:
    """reader → base → teacher, and another model that nobody asks for."""
    starts = {"reader": {}, "base": {"start": "pretrain:reader"}, "idle": {}}
    starts["teacher"] = {"start": "pretrain:base"} | LOOP
    data = {
        "name": "chain",
        "out": out,
        "pretrain": {name: TABLE | start | tables.get(name, {}) for name, start in starts.items()},
        "datasets": [{"name": "w", "fictional": {"seed": 1, "passages": 100, "questions": 10}}],
        "teacher": {"model": "pretrain:teacher"},
        "student": {"model": "pretrain:base"},
    }
    return Config.model_validate(data)


def leave(config: Config, name: str, folder: Path) -> None:
    """A model as stage 0 leaves it."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    manifest.write(folder, Manifest("pretrain", config.pretrain_hash(name), True, 7.0, 100))


def test_what_is_needed_is_made_in_order_and_nothing_else(tmp_path):
    assert chain.needed(recipe(tmp_path)) == ["reader", "base", "teacher"]


def test_what_is_there_needs_nothing_before_it(tmp_path):
    config = recipe(tmp_path / "out")
    leave(config, "base", tmp_path / "out" / "pretrain" / "base")
    assert chain.needed(config) == ["base", "teacher"]


def test_what_was_made_before_is_copied(tmp_path, capsys):
    made = {name: {"made": tmp_path / "kept" / name} for name in ("base", "teacher")}
    config = recipe(tmp_path / "out", **made)
    for name in made:
        leave(config, name, tmp_path / "kept" / name)
    stages.run_pretrain(config)
    assert capsys.readouterr().out.splitlines() == [
        f"pretrain {name}: copied from {tmp_path / 'kept' / name}, where it took 7 s, 100 tokens"
        for name in made
    ]
    for name in made:
        copied, kept = config.out / "pretrain" / name, tmp_path / "kept" / name
        assert sorted(f.name for f in copied.iterdir()) == ["config.json", "manifest.json"]
        assert all((copied / f.name).read_bytes() == f.read_bytes() for f in kept.iterdir())
    stages.run_pretrain(config)
    assert "pretrain base: finished before" in capsys.readouterr().out


@pytest.mark.parametrize("change", [{"layers": 2}, {"start": None}])
def test_what_another_table_made_does_not_count(tmp_path, change):
    before = recipe(tmp_path)
    leave(before, "base", tmp_path / "kept")
    config = recipe(tmp_path, base={"made": tmp_path / "kept"} | change)
    assert "base" in chain.needed(config)
    assert chain.made_before(config, "base") is None


def test_a_model_is_made_anew_where_what_it_starts_from_has_changed(tmp_path):
    before, config = recipe(tmp_path), recipe(tmp_path, reader={"layers": 2})
    leave(before, "base", tmp_path / "pretrain" / "base")
    assert chain.needed(before) == ["base", "teacher"]
    assert chain.needed(config) == ["reader", "base", "teacher"]
    assert before.stage_hash("rollout") != config.stage_hash("rollout")
    assert before.student_hash("steper", 0) != config.student_hash("steper", 0)


def test_a_model_that_is_kept_is_known_by_its_own_table(tmp_path):
    """Where what it started from is told no more, or otherwise: it is there, and was made."""
    folder = tmp_path / "kept"
    alone = recipe(tmp_path / "out", teacher={"start": str(tmp_path / "some" / "model")})
    table = alone.pretrain["teacher"].model_dump(mode="json", exclude={"made"})
    own = digest([table | {"start": "pretrain:base"}, alone.max_steps, alone.top_k])
    folder.mkdir()
    manifest.write(folder, Manifest("pretrain", own, True))
    made = {"teacher": {"made": folder}}
    config, other = recipe(tmp_path, **made), recipe(tmp_path, reader={"layers": 2}, **made)
    assert chain.made_before(config, "teacher") == chain.made_before(other, "teacher") == folder
    assert config.stage_hash("rollout") == other.stage_hash("rollout")


@pytest.mark.parametrize("start", ["pretrain:nobody", "pretrain:teacher", "pretrain:base"])
def test_a_model_starts_from_one_before_it(tmp_path, start):
    with pytest.raises(
        ValueError, match=rf"\[pretrain.base\] needs .* \[{start[:8]}.{start[9:]}\]"
    ):
        recipe(tmp_path, base={"start": start})


def test_where_a_model_was_made_before_changes_no_hash(tmp_path):
    config, other = recipe(tmp_path), recipe(tmp_path, teacher={"made": tmp_path})
    assert config.stage_hash("examples") == other.stage_hash("examples")
    assert config.pretrain_hash("teacher") == other.pretrain_hash("teacher")
