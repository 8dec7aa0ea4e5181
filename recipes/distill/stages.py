"""The recipe as a story: which stage comes after which, what is skipped, what each left.

    pretrain → rollout → filter → examples → train → evaluate

A stage that is finished under the same configuration is skipped, with a line that says so. What
is left out: what a stage does (its own module).
"""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from steper_serve.errors import ConfigurationError
from steper_serve.processes import ends_with_us
from steper_serve.recipes.distill import chain, compare, evaluate, manifest, rollout
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
    """Stage 0: every model that the other stages need and that is not there, or the one named."""
    names = chain.needed(config) if model is None else [model]
    if not names:
        return
    from steper_serve.recipes.distill import pretrain

    for name in names:
        before = manifest.read(config.out / "pretrain" / name)
        copied = None if chain.is_there(config, name) else chain.made_before(config, name)
        made = pretrain.run(config, name)
        if copied is None:
            _tell(f"pretrain {name}", made, before)
        else:
            print(f"pretrain {name}: copied from {copied}, where it took {_took(made)}")


def run_rollout(config: Config, open_model: OpenModel, *, retry_failed: bool = False) -> None:
    """Stage 1; with `retry_failed`, questions that failed before are asked again."""
    before = manifest.finished(config.out / "rollouts", config.stage_hash("rollout"))
    made = asyncio.run(rollout.run(config, open_model, retry_failed=retry_failed))
    _tell("rollout", made, before)


def run_filter(config: Config) -> None:
    """Stage 2."""
    before = manifest.finished(config.out / "kept", config.stage_hash("filter"))
    _tell("filter", asyncio.run(filtering.run(config)), before)


def run_examples(config: Config) -> None:
    """Stage 3."""
    from steper_serve.recipes.distill import examples

    before = manifest.finished(config.out / "examples", config.stage_hash("examples"))
    _tell("examples", examples.run(config), before)


def run_train(
    config: Config, file: Path, student: str | None = None, seed: int | None = None
) -> None:
    """Stage 4: every student with each of its seeds, or the one named.

    Each is trained by a process of its own, which leaves nothing behind in this one (memory of a
    GPU, process groups) and ends with it; where there are several GPUs, by one for each.

    Raises:
        ConfigurationError: there is no such student, or it has no such seed.
        TrainingEnded: the process ended early; it has said why.
    """
    for name, number in _chosen(config, student, seed):
        folder = config.out / "students" / config.student_name(name, number)
        if done := manifest.finished(folder, config.student_hash(name, number)):
            _tell(folder.name, done, done)
            _tell_if_stale(config, name, folder, done)
            continue
        command = [*_trainer(), str(file), "--student", name, "--seed", str(number)]
        code = subprocess.run(ends_with_us(command), check=False).returncode  # noqa: S603
        if code:
            raise TrainingEnded(
                f"the training of {folder.name} ended with {_how(code)}: see above. Start the "
                "same command again, and it goes on from its last checkpoint"
            )


def run_evaluate(
    config: Config, open_model: OpenModel, only: Sequence[str] = (), *, retry_failed: bool = False
) -> None:
    """Stage 5: every model, or those named."""
    asyncio.run(evaluate.run(config, open_model, only=only, retry_failed=retry_failed))


def run_compare(config: Config, first: str, second: str) -> None:
    """What of stage 5 one model has more than another."""
    print(compare.table(config, first, second))


def _chosen(config: Config, student: str | None, seed: int | None) -> list[tuple[str, int]]:
    """The students to be trained, each with a seed."""
    if student is not None:
        config.train_for(student)  # or there is none of that name
    names = list(config.students) if student is None else [student]
    chosen = [(name, number) for name in names for number in config.students[name].seeds]
    wanted = [(name, number) for name, number in chosen if seed is None or number == seed]
    if not wanted:
        raise ConfigurationError(
            f"no student of {', '.join(names)} has the seed {seed}: add it to its `seeds`"
        )
    return wanted


def _tell_if_stale(config: Config, student: str, folder: Path, done: Manifest) -> None:
    """Rollouts may have grown (`--retry-failed`): hours of training are not redone unasked."""
    from steper_serve.recipes.distill import jobs

    learnt, there = done.counts.get("examples_bytes"), jobs.size_of_examples(config, student)
    if None not in (learnt, there) and learnt != there:
        print(
            f"{folder.name}: was trained on other examples than there are now; remove {folder} to "
            "train and evaluate it anew"
        )


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


def _tell(stage: str, made: Manifest, before: Manifest | None) -> None:
    if made == before:
        print(f"{stage}: finished before under this configuration; skipped")
        return
    print(f"{stage}: finished in {_took(made)}")


def _took(made: Manifest) -> str:
    tokens = f", {made.tokens:,} tokens" if made.tokens else ""
    return f"{made.seconds:,.0f} s{tokens}"
