"""Stage 0, `pretrain`: a small model of one's own, where no model can be had or none will do.

    python -m steper_serve.recipes.distill.pretrain CONFIG.toml NAME
    torchrun --nproc-per-node 2 -m steper_serve.recipes.distill.pretrain CONFIG.toml NAME

From nothing, or from a smaller one (growth.py), it is taught the lessons that its table names
(lessons.py), a few questions of each of many worlds. Matrices are trained by Muon and the rest by
AdamW (both torch's own), in bfloat16 (precision.py) with float32 weights; the learning rate warms
up and falls linearly to nothing. Killed and started again it goes on from its last checkpoint.
Under torchrun each rank takes its share of every batch, which on two cores is half as fast again
as two threads. What is left out: distillation (train.py).
"""

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import chain as chained
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tqdm import tqdm
from transformers import AutoModelForCausalLM, LlamaConfig

from steper_serve import fictional, journal
from steper_serve.errors import ConfigurationError, SteperError
from steper_serve.journal import Appender
from steper_serve.recipes.distill import chain, growth, lessons, manifest, metrics, vocabulary
from steper_serve.recipes.distill.batches import collate, dealt, grouped
from steper_serve.recipes.distill.config import Config, load
from steper_serve.recipes.distill.failures import loading, saving
from steper_serve.recipes.distill.manifest import Manifest
from steper_serve.recipes.distill.model import TargetModel
from steper_serve.recipes.distill.packing import Row
from steper_serve.recipes.distill.precision import has_bfloat16, muon_as_fits
from steper_serve.recipes.distill.sections import PretrainConfig
from steper_serve.recipes.distill.tokenization import StepTokenizer

# Worlds, and the most passages of each, that the vocabulary is learnt from.
_VOCABULARY_WORLDS, _VOCABULARY_PASSAGES = 12, 1500
_CHECKPOINT, _SECONDS_BETWEEN_CHECKPOINTS = "checkpoint.pt", 300
# Tokens a second of a model of a million parameters, on two cores with AVX-512.
_TOKENS_A_SECOND = 24_000
_BETAS, _MAX_GRAD_NORM = (0.9, 0.95), 1.0


def run(config: Config, name: str) -> Manifest:
    """Make model `name` of the configuration, or go on with it.

    Raises:
        ConfigurationError: there is no table [pretrain.NAME], or a checkpoint is of other settings.
        DiskFailed: the disk refused; the last checkpoint still counts.
    """
    if name not in config.pretrain:
        known = ", ".join(config.pretrain) or "none"
        raise ConfigurationError(f"there is no table [pretrain.{name}]; there are: {known}")
    folder = config.out / "pretrain" / name
    if done := manifest.finished(folder, config.pretrain_hash(name)):
        return done
    folder.mkdir(parents=True, exist_ok=True)
    if made := chain.made_before(config, name):
        return _copied(made, folder)
    if "RANK" in os.environ and not dist.is_initialized():  # by torchrun
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    training = _Training(config, name, folder)
    training.resume()
    training.announce()
    training.train()
    return training.finish()


def _copied(made: Path, folder: Path) -> Manifest:
    """What another run of the same table has left; its manifest goes last, as ever."""
    done = manifest.read(made)
    assert done is not None  # noqa: S101 - for the type checker: `made_before` has read it
    if os.environ.get("RANK", "0") != "0":  # of torchrun's ranks one writes
        return done
    for file in sorted(made.iterdir()):
        if file.name != manifest.FILE:
            with journal.replacing(folder / file.name) as beside:
                shutil.copyfile(file, beside)
    manifest.write(folder, done)
    return done


class _Training:
    """One model in the making: its state, and the steps that change it."""

    def __init__(self, config: Config, name: str, folder: Path) -> None:
        settings = config.pretrain[name]
        self._config, self._settings, self._folder, self._name = config, settings, folder, name
        torch.manual_seed(settings.seed)
        self._tokenizer = _tokenizer(settings)
        self._device = _device()
        model = TargetModel(_new_model(config, settings, self._tokenizer))
        self._model = model.to(self._device)
        self._optimizers = _optimizers(self._model, settings)
        self._num_steps = self._num_tokens = 0
        self._seconds = 0.0
        self._hash = config.pretrain_hash(name)
        here = dist.is_initialized()
        self._rank, self._num_ranks = (dist.get_rank(), dist.get_world_size()) if here else (0, 1)

    @property
    def _leads(self) -> bool:
        """Whether this rank is the one that speaks and writes."""
        return self._rank == 0

    @property
    def _budget(self) -> int:
        return sum(lesson.tokens for lesson in self._settings.lessons)

    def announce(self) -> None:
        """Say what it is going to take, before it takes it."""
        if not self._leads:
            return
        size = sum(p.numel() for p in self._model.parameters()) / 1e6
        left = self._budget - self._num_tokens
        print(
            f"pretrain {self._name}: {size:.1f}M parameters, {self._budget:,} tokens, {left:,} of "
            f"them left (two cores do some {_TOKENS_A_SECOND / size:,.0f} a second: "
            f"{left * size / _TOKENS_A_SECOND / 60:,.0f} minutes)"
        )

    def train(self) -> None:
        """Spend the token budget."""
        batches = lessons.batches(self._config, self._settings, self._tokenizer)
        started, saved = time.perf_counter() - self._seconds, time.perf_counter()
        shown = tqdm(
            total=self._budget,
            initial=self._num_tokens,
            desc=self._name,
            unit="token",
            disable=not self._leads,
        )
        with shown, self._log() as log:
            for rows in islice(batches, self._num_steps, None):
                if self._num_tokens >= self._budget:
                    break
                losses, num_tokens = self._step(rows), sum(map(len, rows))
                self._num_steps += 1
                self._num_tokens += num_tokens
                self._seconds = time.perf_counter() - started
                shown.update(num_tokens)
                if log is None:
                    continue
                self._tell(log, losses)
                if time.perf_counter() - saved > _SECONDS_BETWEEN_CHECKPOINTS:
                    self._save()
                    saved = time.perf_counter()

    def _log(self) -> AbstractContextManager[Appender | None]:
        """What the leader tells its steps to, without those beyond the last checkpoint."""
        if not self._leads:
            return nullcontext()
        return metrics.appended(self._folder, self._num_steps)

    def _step(self, rows: list[Row]) -> dict[str, float]:
        num_samples = max(1, sum(sum(row.counts) for row in rows))
        num_lm = max(1, sum(len(row.lm_labels) for row in rows))
        total = {"answer": 0.0, "text": 0.0}
        mine = dealt(rows, self._num_ranks)[self._rank]
        for group in grouped(mine, self._settings.tokens_per_micro_batch):
            batch = collate(group, self._tokenizer.tokenizer.pad_token_id).to(self._device)
            with torch.autocast(self._device.type, torch.bfloat16, enabled=has_bfloat16()):
                sums = self._model(batch)
                answer, text = sums.kinds.sum() / num_samples, sums.lm / num_lm
            (answer + text).backward()
            total["answer"] += answer.item()
            total["text"] += text.item()
        total = self._summed(total)
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), _MAX_GRAD_NORM)
        share = pace(self._num_tokens / self._budget, self._settings.decay_from)
        for optimizer in self._optimizers:
            for parameters in optimizer.param_groups:
                parameters["lr"] = parameters["peak"] * share
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return total

    def _summed(self, losses: dict[str, float]) -> dict[str, float]:
        """Add up gradients and losses over the ranks."""
        if self._num_ranks == 1:
            return losses
        for parameter in self._model.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
        values = torch.tensor(list(losses.values()), dtype=torch.float64, device=self._device)
        dist.all_reduce(values)
        return dict(zip(losses, values.tolist(), strict=True))

    def _tell(self, log: Appender, losses: dict[str, float]) -> None:
        line = {
            "step": self._num_steps,
            "tokens": self._num_tokens,
            "seconds": round(self._seconds, 1),
            **{f"{name}_loss": round(loss, 4) for name, loss in losses.items()},
        }
        log.append(line)

    def _save(self) -> None:
        state = {
            "hash": self._hash,
            "model": self._model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "place": (self._num_steps, self._num_tokens, self._seconds),
        }
        file = self._folder / _CHECKPOINT
        with saving(f"the checkpoint {file}"), journal.replacing(file) as beside:
            torch.save(state, beside)

    def resume(self) -> None:
        """Go on from the last checkpoint, if there is one of these settings."""
        file = self._folder / _CHECKPOINT
        if not file.exists():
            return
        with loading(f"the checkpoint {file}", "delete it to start over"):
            state = torch.load(file, weights_only=True, map_location=self._device)
            if state["hash"] != self._hash:
                raise ConfigurationError(f"{file} belongs to other settings: move it away")
        self._model.load_state_dict(state["model"])
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self._num_steps, self._num_tokens, self._seconds = state["place"]

    def finish(self) -> Manifest:
        """Write the model as vLLM and transformers read it; the manifest goes last."""
        settings, folder = self._settings, self._folder
        counts = {"steps": self._num_steps}
        done = Manifest("pretrain", self._hash, True, self._seconds, self._num_tokens, counts)
        if not self._leads:
            return done
        with saving(f"the model to {folder}"):
            vocabulary.save(self._tokenizer.tokenizer, folder)
            self._model.causal.to(torch.bfloat16).save_pretrained(folder)
        if settings.strategies:
            served = {
                "strategies": list(dict.fromkeys(settings.strategies)),
                "instruction": "",
                "few_shot": False,
                "step_end": "eos",
            }
            journal.write_json(folder / "steper.json", served)
        journal.write_text(folder / "README.md", self._card())
        manifest.write(folder, done)
        (folder / _CHECKPOINT).unlink(missing_ok=True)
        return done

    def _card(self) -> str:
        settings, name = self._settings, self._name
        size = sum(p.numel() for p in self._model.parameters())
        learnt = (
            " and ".join(dict.fromkeys(settings.strategies))
            or "no loop: it reads, and says what one question asks for"
        )
        return (
            f"# {name}\n\nA Llama of {size / 1e6:.1f}M parameters, made {_origin(settings)} by "
            f"stage 0 of the recipe on invented worlds (of {settings.passages_per_world:,} "
            f"passages; seeds that are {settings.first_seed} to {settings.last_seed} modulo 256, "
            f"{settings.questions_per_world} questions of each); it knows no fact by heart.\n\n"
            f"- Learnt: {learnt}.\n"
            f"- Tokens: {self._num_tokens:,} in {self._num_steps:,} steps, "
            f"{self._seconds / 60:.0f} minutes on 2 cores.\n"
            f"- Command: `steper-serve distill pretrain` with the table [pretrain.{name}] of the "
            f"recipe `{self._config.name}` (hash {self._hash}), seed {settings.seed}.\n"
            f"- Settings: `{settings.model_dump_json(exclude={'made'})}`\n"
        )


def _origin(settings: PretrainConfig) -> str:
    return f"from `{settings.start}`" if settings.start else "from scratch"


def _new_model(config: Config, settings: PretrainConfig, tokenizer: StepTokenizer) -> Any:
    sizes = LlamaConfig(
        vocab_size=settings.vocabulary,
        hidden_size=settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        intermediate_size=settings.feed_forward,
        max_position_embeddings=settings.context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=1,
    )
    made_from: Any = AutoModelForCausalLM.from_config
    model = made_from(sizes, attn_implementation="sdpa")
    if settings.start:
        growth.grow(model, tokenizer.tokenizer, Path(config.model_path(settings.start)))
    return model


def pace(spent: float, decay_from: float) -> float:
    """The learning rate's share of its peak, by the share of the tokens that is spent: up over the
    first 2%, and down to nothing from `decay_from` on."""
    return min(1.0, (spent + 1e-3) / 0.02, max(0.0, (1 - spent) / (1 - decay_from)))


def _device() -> torch.device:
    """The GPU of this rank, where there is one."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def _optimizers(model: TargetModel, settings: PretrainConfig) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings and norms."""
    named = list(model.named_parameters())
    matrices = [p for n, p in named if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in named if p.ndim != 2 or "embed" in n]
    muon_as_fits()
    muon = torch.optim.Muon(
        matrices, lr=settings.learning_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
    )
    adam = torch.optim.AdamW(others, lr=settings.learning_rate, betas=_BETAS, weight_decay=0.0)
    for optimizer in (muon, adam):
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return [muon, adam]


def _tokenizer(settings: PretrainConfig) -> StepTokenizer:
    passages = min(settings.passages_per_world, _VOCABULARY_PASSAGES)
    texts = chained.from_iterable(_texts(seed, passages) for seed in range(_VOCABULARY_WORLDS))
    learnt = vocabulary.learn(texts, settings.vocabulary, settings.context)
    return StepTokenizer(learnt, False, learnt.eos_token_id)


def _texts(seed: int, passages: int) -> Iterator[str]:
    world = fictional.World(seed, passages)
    for passage in (fictional.passage(world, e) for e in world.entities()):
        yield f"Wikipedia Title: {passage.title}\n{passage.text}\n\n"
    for question in fictional.questions(world, passages // 5):
        yield f"Q: {question.question}\nA:"
        yield from (f" {step.statement} {' '.join(step.missing)}" for step in question.steps)
        yield from (f"Follow up: {step.question}\n" for step in question.steps)


if __name__ == "__main__":
    try:
        run(load(Path(sys.argv[1])), sys.argv[2])
    except SteperError as error:
        sys.exit(f"Error: {error}")
