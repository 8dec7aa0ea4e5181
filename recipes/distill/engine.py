"""DeepSpeed: ranks, the engine, and what is got out of it whatever its ZeRO stage.

Stage 0 keeps float32 weights and computes in bfloat16 by autocast, where the machine has kernels
for it; stages 1 to 3 hold bfloat16 weights and partition their float32 masters. Either way
gradients are summed in float32. What is left out: the loop (train.py) and checkpoints
(checkpoints.py).
"""

import logging
import os
import warnings
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from steper_serve.recipes.distill.batches import MicroBatch
from steper_serve.recipes.distill.model import TargetModel
from steper_serve.recipes.distill.precision import has_bfloat16
from steper_serve.recipes.distill.sections import TrainConfig

# DeepSpeed calls what torch 2.13 would like to be called by another name, several times a step.
_OUTDATED_NAMES = r"`torch\.distributed\.\w+` is deprecated"


class StepModel(TargetModel):
    """A `TargetModel` whose forward gives one tensor, which is what DeepSpeed's hooks know."""

    def forward(self, batch: MicroBatch) -> Tensor:  # type: ignore[override]
        """[3] `loss.kind_sums` of the micro-batch."""
        return super().forward(batch).kinds


def start_distributed() -> None:
    """Join the ranks that a launcher has announced, or be the only one. Once a process.

    On CUDA each rank takes the GPU of its LOCAL_RANK and ranks talk by nccl, on a CPU by gloo.
    """
    cuda = torch.cuda.is_available()
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if cuda else "cpu")
    if "RANK" not in os.environ:
        os.environ["LOCAL_RANK"] = "0"  # DeepSpeed asks for it
    import deepspeed

    deepspeed.utils.logger.setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", _OUTDATED_NAMES, FutureWarning)
    # Its shared-memory operator takes a compiler and a minute, and gloo does as well.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    backend = "nccl" if cuda else "gloo"
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if not dist.is_initialized() and "RANK" not in os.environ:
        store = dist.HashStore()  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=0, world_size=1)
    deepspeed.init_distributed(dist_backend=backend, auto_mpi_discovery=False, verbose=False)


def build(model: nn.Module, train: TrainConfig) -> Any:
    """The DeepSpeed engine for a `StepModel`.

    The caller sums over micro-batches and ranks by `set_gradient_accumulation_boundary`, so that
    a batch may have any number of them.
    """
    import deepspeed

    trained = [p for p in model.parameters() if p.requires_grad]
    adamw = None
    if train.muon is None:
        adamw = torch.optim.AdamW(
            trained,
            lr=train.learning_rate,
            weight_decay=train.weight_decay,
            fused=torch.cuda.is_available(),
        )
    elif not torch.cuda.is_available():
        # It compiles its few products of matrices, which on a CPU takes minutes and gains nothing.
        torch.compiler.set_stance("force_eager")
    engine, *_ = deepspeed.initialize(
        model=model, optimizer=adamw, model_parameters=trained, config=settings(train)
    )
    for group in engine.optimizer.param_groups:
        group["share"] = group["lr"] / train.learning_rate
    return engine


def settings(train: TrainConfig) -> dict[str, Any]:
    """DeepSpeed's own configuration."""
    made: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": train.max_grad_norm,
        "zero_optimization": {"stage": train.zero_stage},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 2**62,
    }
    if train.bf16 and train.zero_stage == 0:
        made["torch_autocast"] = {"enabled": has_bfloat16(), "dtype": "bfloat16"}
    elif train.bf16:
        made["bf16"] = {"enabled": True}
        made["data_types"] = {"grad_accum_dtype": "fp32"}
    if train.muon is not None:
        made["optimizer"] = {
            "type": "Muon",
            "params": {
                "muon_lr": train.muon.learning_rate,
                "adam_lr": train.learning_rate,
                "momentum": train.muon.momentum,
                "weight_decay": train.weight_decay,
                "torch_adam": True,
            },
        }
    return made


def set_learning_rate(engine: Any, value: float) -> None:
    """Let the engine's next step use this learning rate, and Muon's as large a share of its own."""
    for group in engine.optimizer.param_groups:
        group["lr"] = value * group["share"]


def step(engine: Any) -> float:
    """Clip, update the weights and forget the gradients; the norm before clipping."""
    gradients = [p.grad for p in engine.module.parameters() if p.grad is not None]
    unpartitioned = engine.zero_optimization_stage() == 0
    norm = nn.utils.get_total_norm(gradients) if unpartitioned else None
    engine.step()
    return float(engine.get_global_grad_norm() if norm is None else norm)


def whole_weights(engine: Any) -> dict[str, Tensor] | None:
    """All weights on the CPU of rank 0, and None elsewhere; every rank must call it."""
    if engine.zero_optimization_stage() == 3:
        weights: dict[str, Tensor] | None = engine._zero3_consolidated_16bit_state_dict()
        return weights
    if dist.get_rank() != 0:
        return None
    return {name: value.detach().cpu() for name, value in engine.module.state_dict().items()}


def summed(values: Tensor) -> Tensor:
    """The sum over ranks."""
    dist.all_reduce(values)
    return values
