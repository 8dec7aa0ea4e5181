"""Checkpoints that a kill cannot spoil: written beside, then pointed at by a small file.

    checkpoints/run.json      the settings and examples that they belong to
    checkpoints/step-120/     DeepSpeed's files, and the state of each rank's random numbers
    checkpoints/latest        "step-120"; whatever it does not name, or lacks, does not count

The last two are kept. What is left out: the weights that come out in the end (students.py).
"""

import json
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from steper_serve import journal
from steper_serve.errors import ConfigurationError
from steper_serve.recipes.distill.failures import BadRecord, loading, saving

_LATEST = "latest"
_RUN = "run.json"
_NUM_KEPT = 2


class Checkpoints:
    """The checkpoints of one run; every rank has one of these and calls it alike.

    Args:
        folder: where they are.
        settings_hash: of the run.
        examples_bytes: of the file that is learnt from, None where it is not known.
        zero_stage: a checkpoint can be resumed at the same stage only, on as many ranks.

    Raises:
        ConfigurationError: there are some of another run, which are left as they are.
    """

    def __init__(
        self,
        folder: Path,
        settings_hash: str,
        *,
        zero_stage: int,
        examples_bytes: int | None = None,
    ) -> None:
        self._folder = folder
        self._run = {
            "hash": settings_hash,
            "examples_bytes": examples_bytes,
            "num_ranks": dist.get_world_size(),
            "zero_stage": zero_stage,
        }
        if dist.get_rank() == 0:
            self._prepare()
        dist.barrier()

    def save(self, engine: Any, step: int, state: Mapping[str, Any]) -> None:
        """Save all of a run at the end of a step.

        Raises:
            DiskFailed: the disk refused; the checkpoint before it still counts.
        """
        tag = f"step-{step}"
        advice = "make room and start again: training goes on from the checkpoint before"
        with saving(f"the checkpoint {self._folder / tag}", advice):
            engine.save_checkpoint(
                str(self._folder), tag=tag, client_state={"run": dict(state)}, save_latest=False
            )
            torch.save(_random_state(), self._random_file(tag))
        dist.barrier()
        if dist.get_rank() == 0:
            journal.write_text(self._folder / _LATEST, tag)
            self._delete_old()
        dist.barrier()

    def resume(self, engine: Any) -> dict[str, Any] | None:
        """Load the latest checkpoint into the engine; the `state` it was saved with, or None.

        Raises:
            BadRecord: it cannot be loaded.
        """
        pointer = self._folder / _LATEST
        if not pointer.exists():
            return None
        tag = pointer.read_text(encoding="utf-8").strip()
        with loading(
            f"the checkpoint {self._folder / tag}", f"delete {self._folder} to start over"
        ):
            loaded, state = engine.load_checkpoint(str(self._folder), tag=tag)
            if loaded is None:
                raise OSError("it holds no weights")
            _restore_random_state(torch.load(self._random_file(tag), weights_only=False))
        run: dict[str, Any] = state["run"]
        return run

    @staticmethod
    def delete(folder: Path) -> None:
        """Remove them all: the run is finished."""
        shutil.rmtree(folder, ignore_errors=True)

    def _prepare(self) -> None:
        run = _read(self._folder / _RUN)
        if run is None or not (self._folder / _LATEST).exists():
            journal.write_json(self._folder / _RUN, self._run)
            return
        for key, what in (("hash", "settings"), ("examples_bytes", "examples")):
            if run.get(key) != self._run[key]:
                raise ConfigurationError(
                    f"{self._folder} is of a training with other {what} than these: put them back "
                    "to go on with it, or delete the folder to begin anew"
                )
        if run != self._run:
            raise ConfigurationError(
                f"{self._folder} was written by {run.get('num_ranks')} ranks at ZeRO stage "
                f"{run.get('zero_stage')}, not {self._run['num_ranks']} at "
                f"{self._run['zero_stage']}: start it as before, or delete the folder"
            )

    def _random_file(self, tag: str) -> Path:
        return self._folder / tag / f"random-{dist.get_rank()}.pt"

    def _delete_old(self) -> None:
        found = sorted(self._folder.glob("step-*"), key=lambda p: int(p.name.partition("-")[2]))
        for folder in found[:-_NUM_KEPT]:
            shutil.rmtree(folder, ignore_errors=True)


def _read(file: Path) -> dict[str, Any] | None:
    try:
        run: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise BadRecord(f"{file} is not JSON ({error}): delete {file.parent}") from error
    return run


def _random_state() -> dict[str, Any]:
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def _restore_random_state(state: Mapping[str, Any]) -> None:
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"])
