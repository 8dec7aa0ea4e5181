"""Whether a model's directory can be read, before an engine takes a minute to find out.

`serve` refuses what `doctor` reports. What is left out: how its prompts look (model_format), and
whether vLLM knows its architecture.
"""

import json
from pathlib import Path
from typing import Any

from steper_serve.errors import ConfigurationError

# Weights that vLLM loads and that are not looked into here.
_OTHER_WEIGHTS = ("*.bin", "*.pt", "*.gguf")
_MIB = 2**20


def check(folder: Path) -> str:
    """What is there, in a few words.

    Raises:
        ConfigurationError: a file is missing or broken; says which.
    """
    config = _json(folder / "config.json")
    if (folder / "tokenizer.json").exists():
        _json(folder / "tokenizer.json")
    weights = sorted(folder.glob("*.safetensors"))
    others = [file for pattern in _OTHER_WEIGHTS for file in sorted(folder.glob(pattern))]
    if not weights and not others:
        raise ConfigurationError(
            f"the model in {folder} has no weights (*.safetensors): is its download complete?"
        )
    num_tensors = sum(_num_tensors(file) for file in weights)
    kind = (config.get("architectures") or ["?"])[0]
    size = sum(file.stat().st_size for file in weights or others) / _MIB
    return f"{folder}: {kind}, {num_tensors or 'uncounted'} tensors, {size:.1f} MiB"


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"cannot read {file} ({error}): fetch the model again") from error
    if not isinstance(found, dict):
        raise ConfigurationError(f"{file} holds no JSON object: fetch the model again")
    return found


def _num_tensors(file: Path) -> int:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "numpy") as opened:
            return len(list(opened.keys()))
    except (OSError, SafetensorError) as error:
        raise ConfigurationError(f"cannot read {file} ({error}): fetch the model again") from error
