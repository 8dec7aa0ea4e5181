"""Checkpoints that cannot be gone on with are named, with what to do; DeepSpeed's part is a stub.

That whole ones are gone on with is told in test_train.py, by trainings that are killed.
"""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch.distributed as dist

from steper_serve.errors import ConfigurationError
from steper_serve.recipes.distill.checkpoints import Checkpoints
from steper_serve.recipes.distill.failures import BadRecord


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """One rank."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def engine() -> SimpleNamespace:
    def save_checkpoint(folder: str, *, tag: str, client_state: dict, save_latest: bool) -> None:
        saved[tag] = client_state
        (Path(folder) / tag).mkdir()

    saved: dict[str, dict] = {}
    load = lambda folder, tag: (f"{folder}/{tag}", saved[tag])  # noqa: E731
    return SimpleNamespace(save_checkpoint=save_checkpoint, load_checkpoint=load)


def test_the_latest_of_two_that_are_kept_is_gone_on_with(tmp_path: Path) -> None:
    run, deepspeed = Checkpoints(tmp_path, "hash", zero_stage=2), engine()
    for step in (9, 10, 11):
        run.save(deepspeed, step, {"step": step})
    assert Checkpoints(tmp_path, "hash", zero_stage=2).resume(deepspeed) == {"step": 11}
    assert sorted(folder.name for folder in tmp_path.glob("step-*")) == ["step-10", "step-11"]


@pytest.mark.parametrize(("hash", "size", "what"), [("x", 7, "settings"), ("hash", 8, "examples")])
def test_those_of_another_run_are_kept_and_told(
    tmp_path: Path, hash: str, size: int, what: str
) -> None:
    deepspeed = engine()
    run = Checkpoints(tmp_path, "hash", zero_stage=2, examples_bytes=7)
    # As long as there is none, nothing is lost.
    Checkpoints(tmp_path, hash, zero_stage=2, examples_bytes=size)
    Checkpoints(tmp_path, "hash", zero_stage=2, examples_bytes=7)
    run.save(deepspeed, 9, {"step": 9})
    with pytest.raises(ConfigurationError, match=f"with other {what} than these: put them back"):
        Checkpoints(tmp_path, hash, zero_stage=2, examples_bytes=size)
    back = Checkpoints(tmp_path, "hash", zero_stage=2, examples_bytes=7)
    assert back.resume(deepspeed) == {"step": 9}


def test_another_stage_cannot_go_on(tmp_path: Path) -> None:
    Checkpoints(tmp_path, "hash", zero_stage=2).save(engine(), 9, {})
    with pytest.raises(ConfigurationError, match="1 ranks at ZeRO stage 2, not 1 at 3: start it"):
        Checkpoints(tmp_path, "hash", zero_stage=3)


@pytest.mark.parametrize("file", ["run.json", "step-9/random-0.pt"])
@pytest.mark.parametrize("content", [b"", b"no checkpoint"])
def test_a_damaged_file_is_named(tmp_path: Path, file: str, content: bytes) -> None:
    run, deepspeed = Checkpoints(tmp_path, "hash", zero_stage=2), engine()
    run.save(deepspeed, 9, {})
    (tmp_path / file).write_bytes(content)
    with pytest.raises(BadRecord, match=f"elete {tmp_path}"):
        Checkpoints(tmp_path, "hash", zero_stage=2).resume(deepspeed)


def test_one_that_lacks_a_part_is_named(tmp_path: Path) -> None:
    run, deepspeed = Checkpoints(tmp_path, "hash", zero_stage=2), engine()
    run.save(deepspeed, 9, {})
    (tmp_path / "step-9" / "random-0.pt").unlink()
    with pytest.raises(BadRecord, match=r"step-9: .*random-0\.pt"):
        run.resume(deepspeed)
    deepspeed.load_checkpoint = lambda *_, **__: (None, {})
    with pytest.raises(BadRecord, match="step-9: it holds no weights; delete"):
        run.resume(deepspeed)
