"""The recipe as a story: which stage comes after which, what is skipped, what each left.

    pretrain → rollout → filter → examples → train → evaluate

A stage that is finished under the same configuration is skipped, with a line that says so. What
is left out: what a stage does (its own module).
"""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from steper_serve.errors import ConfigurationError
from steper_serve.recipes.distill import evaluate, manifest, rollout
from steper_serve.recipes.distill import filter as filtering
from steper_serve.recipes.distill.config import Config
from steper_serve.recipes.distill.failures import TrainingEnded
from steper_serve.recipes.distill.manifest import Manifest
from steper_serve.recipes.distill.models import OpenModel

_TRAINER = "steper_serve.recipes.distill.train"


def run_all(
    config: Config, file: Path, open_model: OpenModel, *, retry_failed: bool = False
) -> None:
    """Every stage in order; `file` is where `config` was read from.

    Raises:
        SteperError: a stage cannot go on; those before it are finished and kept.
    """
    run_pretrain(config)
    run_rollout(config, open_model, retry_failed=retry_failed)
    run_filter(config)
    run_examples(config)
    run_train(config, file)
    if config.dev:
        run_evaluate(config, open_model)


def run_pretrain(config: Config, model: str | None = None) -> None:
    """Stage 0: every model that is to be made from scratch, or the one named."""
    if model is None and not config.pretrain:
        return
    from steper_serve.recipes.distill import pretrain

    for name in config.pretrain if model is None else [model]:
        pretrain.run(config, name)


def run_rollout(config: Config, open_model: OpenModel, *, retry_failed: bool = False) -> None:
    """Stage 1; with `retry_failed`, questions that failed before are asked again."""
    before = _told_before("rollout", config.out / "rollouts", config.stage_hash("rollout"))
    made = asyncio.run(rollout.run(config, open_model, retry_failed=retry_failed))
    _tell("rollout", made, before)


def run_filter(config: Config) -> None:
    """Stage 2."""
    before = _told_before("filter", config.out / "kept", config.stage_hash("filter"))
    _tell("filter", asyncio.run(filtering.run(config)), before)


def run_examples(config: Config) -> None:
    """Stage 3."""
    from steper_serve.recipes.distill import examples

    before = _told_before("examples", config.out / "examples", config.stage_hash("examples"))
    _tell("examples", examples.run(config), before)


def run_train(
    config: Config, file: Path, student: str | None = None, seed: int | None = None
) -> None:
    """Stage 4: every student with each of its seeds, or the one named.

    Each is trained by a process of its own, which leaves nothing behind in this one (memory of a
    GPU, process groups); where there are several GPUs, by one for each.

    Raises:
        ConfigurationError: there is no such student, or it has no such seed.
        TrainingEnded: the process ended early; it has said why.
    """
    for name, number in _chosen(config, student, seed):
        folder = config.out / "students" / config.student_name(name, number)
        if _told_before(folder.name, folder, config.student_hash(name, number)):
            continue
        command = [*_trainer(), str(file), "--student", name, "--seed", str(number)]
        code = subprocess.run(command, check=False).returncode  # noqa: S603
        if code:
            raise TrainingEnded(
                f"the training of {folder.name} ended with {_how(code)}: see above. Start the "
                "same command again, and it goes on from its last checkpoint"
            )


def run_evaluate(config: Config, open_model: OpenModel, only: Sequence[str] = ()) -> None:
    """Stage 5: every model, or those named."""
    asyncio.run(evaluate.run(config, open_model, only=only))


def _chosen(config: Config, student: str | None, seed: int | None) -> Iterator[tuple[str, int]]:
    names = list(config.students) if student is None else [student]
    for name in names:
        config.train_for(name)  # or there is none of that name
        seeds = config.students[name].seeds
        if student is not None and seed is not None and seed not in seeds:
            raise ConfigurationError(
                f"the student {name!r} has no seed {seed}: add it to `students.{name}.seeds`"
            )
        yield from ((name, number) for number in seeds if seed is None or number == seed)


def _trainer() -> list[str]:
    """The command that trains: DeepSpeed's launcher where there is more than one GPU."""
    import torch

    if torch.cuda.device_count() > 1:
        launcher = Path(sys.executable).with_name("deepspeed")
        return [str(launcher), "--module", _TRAINER]
    return [sys.executable, "-m", _TRAINER]


def _how(code: int) -> str:
    if code == -signal.SIGKILL:
        return "SIGKILL (out of memory, most often)"
    return f"exit code {code}"


def _told_before(stage: str, folder: Path, config_hash: str) -> Manifest | None:
    """The manifest of a stage that is done, having said so."""
    before = manifest.finished(folder, config_hash)
    if before:
        print(f"{stage}: finished before under this configuration ({folder}); skipped")
    return before


def _tell(stage: str, made: Manifest, before: Manifest | None) -> None:
    if made != before:
        tokens = f", {made.tokens:,} tokens" if made.tokens else ""
        print(f"{stage}: finished in {made.seconds:,.0f} s{tokens}")
