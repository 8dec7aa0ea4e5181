"""Fixtures that start the real engine, once for a whole session of one worker.

A test that uses one is marked `engine` and runs in the session's event loop:
`pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]`.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

if TYPE_CHECKING:
    from steper_serve.generation.vllm_engine import VllmEngine

# Tests run beside others, whose core an engine's threads would keep while they wait.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.fixture(scope="session")
def student() -> Path:
    """The directory of the bundled student."""
    return Path(str(files("steper_serve"))) / "assets" / "student"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engine(student: Path) -> "AsyncIterator[VllmEngine]":
    """The bundled student in vLLM; in float32, so that batching cannot tip a greedy choice."""
    from steper_serve.generation.vllm_engine import VllmEngine

    engine = await asyncio.to_thread(
        VllmEngine.start, str(student), enforce_eager=True, engine_args={"dtype": "float32"}
    )
    try:
        yield engine
    finally:
        await engine.aclose()
