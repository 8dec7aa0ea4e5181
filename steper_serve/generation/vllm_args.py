"""What vLLM is started with: our defaults, those of a CPU, and what the user gives.

vLLM is imported when it is asked for, as in vllm_engine.py.
"""

import difflib
import json
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from steper_serve.errors import ConfigurationError

if TYPE_CHECKING:
    from vllm.engine.arg_utils import AsyncEngineArgs

EngineArg = bool | int | float | str

CPU_KV_CACHE_GIB = 2.0
CPU_BLOCK_SIZE = 32
GIB = 2**30


def own(
    model: str, max_model_len: int | None, kv_cache_gib: float | None, enforce_eager: bool
) -> dict[str, Any]:
    """`AsyncEngineArgs` by name, as `VllmEngine.start` describes them."""
    from vllm.platforms import current_platform

    args: dict[str, Any] = {
        "model": model,
        "max_model_len": max_model_len,
        "enforce_eager": enforce_eager,
        "enable_prefix_caching": True,
        "disable_log_stats": False,  # or requests carry no times
    }
    if current_platform.is_cpu():
        kv_cache_gib = kv_cache_gib or CPU_KV_CACHE_GIB
        args["block_size"] = CPU_BLOCK_SIZE
        if not _cpu_has_bfloat16():
            args["dtype"] = "float32"
    if kv_cache_gib is not None:
        args["kv_cache_memory_bytes"] = int(kv_cache_gib * GIB)
    return args


def merged(own: Mapping[str, Any], given: Mapping[str, EngineArg]) -> "AsyncEngineArgs":
    """Our arguments and the user's, which win.

    Raises:
        ConfigurationError: vLLM has no argument of a name, or its value is a broken object.
    """
    from vllm.engine.arg_utils import AsyncEngineArgs

    known = {f.name for f in fields(AsyncEngineArgs)} - {"model"}
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known)
            hint = f"Did you mean {' or '.join(close)}?" if close else "See `vllm serve --help`."
            raise ConfigurationError(f"vLLM has no engine argument {name!r}. {hint}", param=name)
    return AsyncEngineArgs(**{**own, **{name: _value(name, v) for name, v in given.items()}})


def _cpu_has_bfloat16() -> bool:
    """Whether oneDNN has kernels for it; a CPU without (no AVX-512) is many times slower in it."""
    import torch

    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _value(name: str, value: EngineArg) -> Any:
    """Arguments that are objects, `speculative_config` for one, are given as JSON."""
    if not (isinstance(value, str) and value.startswith("{")):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ConfigurationError(
            f"The engine argument {name!r} is not the JSON object it looks like: {error}",
            param=name,
        ) from error
