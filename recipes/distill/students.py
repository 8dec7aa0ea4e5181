"""A student's model before and after its training: loaded, adapted by LoRA, and saved.

What is saved is a Hugging Face directory that vLLM serves: bfloat16 safetensors, the tokenizer,
and `steper.json`, which says how the student wants its prompts (generation/model_format.py).
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from steper_serve.errors import ConfigurationError
from steper_serve.recipes.distill.config import Config
from steper_serve.recipes.distill.engine import StepModel
from steper_serve.recipes.distill.failures import saving
from steper_serve.recipes.distill.sections import LoraConfig, TrainConfig


def load(config: Config, train: TrainConfig) -> StepModel:
    """The model that a student starts from, with fresh adapters if LoRA is set.

    Random numbers (of the adapters) are torch's: seed them before.

    Raises:
        ConfigurationError: it cannot be loaded, or is not supported.
    """
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    name = config.model_path(config.student.model)
    dtype = torch.bfloat16 if train.bf16 and train.zero_stage else torch.float32
    try:
        causal = AutoModelForCausalLM.from_pretrained(
            name, dtype=dtype, local_files_only=Path(name).is_dir()
        )
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(f"the student {name!r} cannot be loaded: {error}") from error
    if train.gradient_checkpointing:
        causal.gradient_checkpointing_enable({"use_reentrant": False})
    return StepModel(causal if train.lora is None else _adapted(causal, train.lora)).train()


def _adapted(causal: Any, lora: LoraConfig) -> Any:
    import peft

    modules = lora.target_modules
    try:
        return peft.get_peft_model(
            causal,
            peft.LoraConfig(
                task_type="CAUSAL_LM",
                r=lora.r,
                lora_alpha=lora.alpha,
                lora_dropout=lora.dropout,
                target_modules=modules if isinstance(modules, str) else list(modules),
            ),
        )
    except ValueError as error:
        raise ConfigurationError(
            f"LoRA cannot be put on this student: {error}. Mend train.lora.target_modules"
        ) from error


def save(folder: Path, config: Config, train: TrainConfig, weights: dict[str, Tensor]) -> None:
    """Write a trained student to its folder; adapters are merged.

    Args:
        weights: all of a `StepModel`'s.

    Raises:
        DiskFailed: the disk refused.
    """
    model = load(config, train.model_copy(update={"gradient_checkpointing": False}))
    model.load_state_dict(weights)
    causal = model.causal if train.lora is None else model.causal.float().merge_and_unload()
    base = config.model_path(config.student.model)
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=Path(base).is_dir())
    beside = folder / "final.new"
    with saving(f"the student to {folder}"):
        causal.to(torch.bfloat16).save_pretrained(beside)
        tokenizer.save_pretrained(beside)
        (beside / "steper.json").write_text(json.dumps(served_as(config), indent=2) + "\n")
        for file in sorted(beside.iterdir()):
            file.replace(folder / file.name)
        beside.rmdir()


def served_as(config: Config) -> dict[str, Any]:
    """What stands in `steper.json`."""
    return {
        "strategies": [config.strategy],
        "instruction": config.student.instruction,
        "few_shot": False,
        "step_end": "eos",
        "chat": config.student.chat,
    }
