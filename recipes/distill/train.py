"""Stage 4, `train`: a student learns from the step-wise samples (paper, sections 4.2 and 5.1).

In one process, from the command line or from Python:

    steper-serve distill train CONFIG.toml --student NAME --seed K
    launch(config, "NAME", K)

On several ranks or nodes, by DeepSpeed's launcher (`--hostfile` for nodes):

    deepspeed --module steper_serve.recipes.distill.train CONFIG.toml --student NAME --seed K

On a machine without GPUs the launcher needs `--num_accelerators N` and DS_ACCELERATOR=cpu in the
environment. A run that was killed goes on from its last checkpoint when it is started again in
the same way. What comes out is described in students.py, what it tells meanwhile in metrics.py.

Tokens of training (`max_tokens`, and all figures) are those that the model reads, over all ranks,
a prefix that samples share once.
"""

import argparse
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import torch.distributed as dist
from tqdm import tqdm

from steper_serve import journal
from steper_serve.errors import SteperError
from steper_serve.recipes.distill import card, engine, manifest, metrics, students
from steper_serve.recipes.distill.batches import KINDS, Batches, GlobalBatch, Sample
from steper_serve.recipes.distill.checkpoints import Checkpoints
from steper_serve.recipes.distill.config import Config, load
from steper_serve.recipes.distill.jobs import Job, count, read_samples, size_of_examples
from steper_serve.recipes.distill.loss import Objective, mid_steps_per_question, normalised
from steper_serve.recipes.distill.metrics import Log, StepMetrics
from steper_serve.recipes.distill.sections import TrainConfig

# From which the tokens of a run are foretold.
_BATCHES_LOOKED_AT = 32
_SECONDS_BETWEEN_LINES = 60  # of progress, where it is told to no terminal


class TrainingFailed(SteperError):
    """A training that cannot go on with these settings."""

    code = "training_failed"


@dataclass(slots=True)
class Progress:
    """How far a run is; `index` counts the batches of an epoch. Saved in every checkpoint."""

    step: int = 0
    epoch: int = 0
    index: int = 0
    tokens: int = 0
    targets: int = 0
    seconds: float = 0.0

    def share(self, train: TrainConfig, batches: Batches) -> float:
        """How much of the run is done, from 0 to 1."""
        if train.max_tokens is not None:
            return min(1.0, self.tokens / train.max_tokens)
        return min(1.0, self.step / max(1, math.ceil(train.epochs * len(batches))))


def launch(
    config: Config, student: str, seed: int, tell: Callable[[str], None] = print
) -> manifest.Manifest:
    """Train a student, or go on with it; nothing is done if it is trained already.

    Args:
        tell: takes a line about what is going to be done; called on rank 0.

    Raises:
        ConfigurationError: the student, its model or a checkpoint does not fit the settings.
        StageMissing: there are no examples, or none for this student.
        BadRecord: the examples or a checkpoint cannot be read.
        DiskFailed: the disk refused; the last checkpoint still counts.
        TrainingFailed: the loss is no longer a number.
    """
    job = Job.of(config, student, seed)
    if done := manifest.finished(job.folder, job.hash):
        Checkpoints.delete(job.folder / "checkpoints")  # a kill may have left them
        tell(f"{job.folder.name}: trained already, {job.folder / manifest.FILE} says")
        return done
    engine.start_distributed()
    samples, left_out = read_samples(job)
    batches = make_batches(job, samples)
    objective = make_objective(job, samples)
    if dist.get_rank() == 0:
        tell(_announcement(job, samples, left_out, batches))
    torch.manual_seed(seed)
    deepspeed = engine.build(students.load(config, job.train), job.train)
    progress = _train(job, deepspeed, batches, objective)
    counts = count(samples, left_out) | {"examples_bytes": size_of_examples(config, student)}
    return _finish(job, deepspeed, progress, counts)


def make_batches(job: Job, samples: list[Sample]) -> Batches:
    """This rank's part of the data; the order is one of the student's seed."""
    return Batches(
        samples,
        questions_per_batch=job.train.questions_per_batch,
        tokens_per_micro_batch=job.train.tokens_per_micro_batch,
        shared_prefix=job.train.shared_prefix,
        seed=job.seed & 0xFFFFFFFF,
        rank=dist.get_rank(),
        world_size=dist.get_world_size(),
    )


def make_objective(job: Job, samples: list[Sample]) -> Objective:
    """The weighted losses, eq. 3 or 4."""
    scale = mid_steps_per_question(samples) if job.train.scale_expansion else 1.0
    return Objective.build(
        job.train.weighting,
        num_mid_steps=scale,
        sigma_learning_rate=job.train.sigma_learning_rate,
    )


def learning_rate(train: TrainConfig, share: float) -> float:
    """Linear warm-up, then half a cosine to zero; `share` of the run from 0 to 1."""
    if share < train.warmup_ratio:
        return train.learning_rate * share / train.warmup_ratio
    rest = (share - train.warmup_ratio) / (1 - train.warmup_ratio)
    return train.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, rest)))


def _train(job: Job, deepspeed: Any, batches: Batches, objective: Objective) -> Progress:
    """The loop, from the latest checkpoint on."""
    checkpoints = Checkpoints(
        job.folder / "checkpoints",
        job.hash,
        zero_stage=job.train.zero_stage,
        examples_bytes=size_of_examples(job.config, job.student),
    )
    progress = _resumed(checkpoints, deepspeed, objective)
    first = dist.get_rank() == 0
    with Log(job.folder / "logs", progress.step) if first else nullcontext() as log:
        shown = tqdm(
            total=1.0,
            initial=progress.share(job.train, batches),
            desc=job.folder.name,
            bar_format="{desc}: {percentage:.1f}%|{bar}| {elapsed}<{remaining}{postfix}",
            mininterval=0.1 if sys.stderr.isatty() else _SECONDS_BETWEEN_LINES,
            disable=not first,
        )
        for batch in _remaining(job.train, batches, progress):
            start, before = time.perf_counter(), progress.share(job.train, batches)
            progress.step += 1
            progress.tokens += batch.num_tokens
            progress.targets += batch.num_targets
            after = progress.share(job.train, batches)
            rate = learning_rate(job.train, (before + after) / 2)
            losses, norm = train_step(deepspeed, objective, batch, rate)
            seconds = time.perf_counter() - start
            progress.seconds += seconds
            told = _metrics(progress, objective, losses, batch, rate, norm, seconds)
            _check(told, job.folder.name)
            objective.update(losses)
            if log:
                log.write(told)
                shown.set_postfix_str(f"loss {told.loss:.3f}", refresh=False)
                shown.update(after - before)
            if progress.step % job.train.save_every == 0:
                state = {"progress": asdict(progress), "objective": objective.state_dict()}
                checkpoints.save(deepspeed, progress.step, state)
        shown.close()
        if log:
            log.plot(job.folder.name)
    return progress


def _check(told: StepMetrics, student: str) -> None:
    for name, value in (("loss", told.loss), ("gradient's norm", told.grad_norm)):
        if not math.isfinite(value):
            raise TrainingFailed(
                f"{student}: the {name} of step {told.step} is {value}; "
                "lower train.learning_rate, or look at the samples"
            )


def _resumed(checkpoints: Checkpoints, deepspeed: Any, objective: Objective) -> Progress:
    state = checkpoints.resume(deepspeed)
    if state is None:
        return Progress()
    objective.load_state_dict(state["objective"])
    return Progress(**state["progress"])


def _remaining(train: TrainConfig, batches: Batches, progress: Progress) -> Iterator[GlobalBatch]:
    """Batches until the run is done; `progress` points behind each when the next is asked for."""
    while progress.share(train, batches) < 1:
        for batch in batches.epoch(progress.epoch, progress.index):
            progress.index += 1
            yield batch
            if progress.share(train, batches) >= 1:
                return
        progress.epoch, progress.index = progress.epoch + 1, 0


def train_step(
    deepspeed: Any, objective: Objective, batch: GlobalBatch, rate: float
) -> tuple[list[float | None], float]:
    """One optimizer step; each kind's L over the global batch, and the gradient's norm.

    The gradient is that of the weighted sum of the kinds' means over the global batch, however it
    is split: DeepSpeed averages over ranks, so that each rank's loss is taken times their number.
    """
    device, num_ranks = deepspeed.device, dist.get_world_size()
    weights = torch.tensor(objective.coefficients(batch.counts), device=device) * num_ranks
    sums = torch.zeros(len(KINDS), device=device)
    engine.set_learning_rate(deepspeed, rate)
    for number, micro_batch in enumerate(batch.micro_batches, 1):
        deepspeed.set_gradient_accumulation_boundary(number == len(batch.micro_batches))
        kinds = deepspeed(micro_batch.to(device))
        deepspeed.backward((kinds * weights).sum())
        sums += kinds.detach()
    norm = engine.step(deepspeed)
    return objective.losses(engine.summed(sums).tolist(), batch.counts), norm


def _metrics(
    progress: Progress,
    objective: Objective,
    losses: list[float | None],
    batch: GlobalBatch,
    rate: float,
    norm: float,
    seconds: float,
) -> StepMetrics:
    sigmas = objective.difficulty.sigmas if objective.difficulty else None
    return StepMetrics(
        step=progress.step,
        epoch=progress.epoch,
        loss=objective.total(losses),
        losses=dict(zip(KINDS, losses, strict=True)),
        sigma=dict(zip(KINDS, sigmas, strict=True)) if sigmas else None,
        normalised_sigma=dict(zip(KINDS, normalised(sigmas), strict=True)) if sigmas else None,
        learning_rate=rate,
        grad_norm=norm,
        tokens=batch.num_tokens,
        targets=batch.num_targets,
        total_tokens=progress.tokens,
        tokens_per_second=batch.num_tokens / seconds,
    )


def _finish(
    job: Job, deepspeed: Any, progress: Progress, counts: dict[str, Any]
) -> manifest.Manifest:
    """Save the student, its card and, last, its manifest.

    Checkpoints are of no more use, and neither is what was told of another student of its name.
    """
    weights = engine.whole_weights(deepspeed)
    counts |= {"steps": progress.step, "targets": progress.targets}
    done = manifest.Manifest("train", job.hash, True, progress.seconds, progress.tokens, counts)
    if weights is not None:
        students.save(job.folder, job.config, job.train, weights)
        last = [line["losses"] for line in metrics.read(job.folder / "logs")][-20:]
        means = {kind: _mean([losses[kind] for losses in last]) for kind in KINDS}
        facts = asdict(done) | {
            "losses_of_last_steps": means,
            "settings": job.train.model_dump(mode="json"),
        }
        text = card.model_card(job.config, job.student, job.seed, facts)
        journal.write_text(job.folder / "README.md", text)
        for told in (job.config.out / "evaluations").glob(f"{job.folder.name}-*.json*"):
            told.unlink()
        manifest.write(job.folder, done)
    dist.barrier()
    if dist.get_rank() == 0:
        Checkpoints.delete(job.folder / "checkpoints")
    return done


def _mean(values: list[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def _announcement(job: Job, samples: list[Sample], left_out: Counter[str], batches: Batches) -> str:
    """What a run is going to take; tokens by those of the first batches."""
    first = islice(batches.epoch(0), _BATCHES_LOOKED_AT)
    per_batch = round(fmean(batch.num_tokens for batch in first))
    steps = math.ceil(job.train.epochs * len(batches))
    if job.train.max_tokens is not None:
        steps = math.ceil(job.train.max_tokens / per_batch)
    return (
        f"{job.folder.name}: about {steps:,} steps and {steps * per_batch:,} tokens, on "
        f"{len(samples):,} samples of {count(samples, left_out)['questions']:,} questions, "
        f"{dist.get_world_size()} rank(s), ZeRO stage {job.train.zero_stage}"
        + (f"; left out: {dict(left_out)}" if left_out else "")
    )


def main() -> None:
    """What DeepSpeed's launcher runs on every rank."""
    parser = argparse.ArgumentParser(description="Train a student of a recipe.")
    parser.add_argument("config", type=Path)
    parser.add_argument("--student", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--local_rank", type=int, help="given by the launcher; not used")
    given = parser.parse_args()
    try:
        launch(load(given.config), given.student, given.seed)
    except SteperError as error:
        sys.exit(f"Error: {error}")
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


if __name__ == "__main__":
    main()
