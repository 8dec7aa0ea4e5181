"""Answers of the real student, over HTTP, and their prompts in the real engine alone."""

from pathlib import Path

import pytest

from steper_serve.benchmarks import lean
from steper_serve.benchmarks.cells import Cell
from steper_serve.benchmarks.lean import LeanClient
from steper_serve.benchmarks.replay import measure, requests_of
from steper_serve.benchmarks.rows import Row
from steper_serve.generation.vllm_engine import VllmEngine
from tests.api.serving import served
from tests.bundled import QUESTIONS, bundled_loop

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]


@pytest.mark.parametrize("streamed", [True, False])
async def test_what_was_served_is_replayed(
    engine: VllmEngine, student: Path, tmp_path: Path, streamed: bool
) -> None:
    loop = bundled_loop(engine, student, tmp_path)
    cell = Cell("bundled", "", "here", "", (), "steper", None, 6, None, streamed, 2)
    asked, rows = QUESTIONS[:6], []
    async with served(loop) as url, LeanClient(f"{url}/v1") as client:
        for number, question in enumerate(asked):
            reply = lean.read(await client.ask(cell, question.question), client.url)
            rows.append(Row(cell, question, float(number), reply, None))
    # Whatever differs, prompt tokens or generated ones, ends the replay.
    told = await measure(loop, engine, rows[:2], rows[2:], 2)
    usage = [row.usage for row in rows[2:]]
    assert told["num_requests"] == len(requests_of(loop, rows[2:]))
    assert told["num_prompt_tokens"] == sum(each.num_prompt_tokens for each in usage)
    assert told["num_completion_tokens"] == sum(each.num_completion_tokens for each in usage)
    assert told["seconds"] > 0 < told["unbounded_seconds"]
    # Later prompts begin as the earlier ones did, and the engine has those in its cache.
    assert 0.3 < told["repeated_share"] < 1
    assert told["cached_share"] > 0
    assert engine.num_running() == 0
