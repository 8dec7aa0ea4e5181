"""FlashRAG itself over the real engine, where it is installed (benchmarks/README.md)."""

from pathlib import Path

import pytest

from steper_serve.benchmarks.peers.answering import measure
from steper_serve.benchmarks.peers.flashrag import version_in
from steper_serve.generation.vllm_engine import VllmEngine
from steper_serve.loop import Ask
from steper_serve.settings import load_settings
from tests.benchmarks.test_peers import forgotten
from tests.bundled import QUESTIONS, bundled_loop

FLASHRAG = load_settings(None, {}).cache_dir / "flashrag"

pytestmark = [
    pytest.mark.engine,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.skipif(version_in(FLASHRAG) is None, reason=f"FlashRAG is not in {FLASHRAG}"),
    pytest.mark.filterwarnings("ignore"),  # what it imports is not ours to mend
]


async def test_it_thinks_what_our_loop_thinks_as_long_as_the_prompts_are_the_same(
    engine: VllmEngine, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = bundled_loop(engine, student, tmp_path)
    asked = [each.question for each in QUESTIONS[:6]]
    with forgotten(monkeypatch):
        takes_many, runs = await measure(loop, engine, FLASHRAG, asked[:2], asked, (1, 4))
    assert [run.at_a_time for run in runs] == ([1, 4] if takes_many else [1])
    for question, *given in zip(asked, *(run.answers for run in runs), strict=True):
        ours = (await loop.run(Ask(question))).steps[0]
        for trace in (answer.trace for answer in given):
            assert trace is not None
            first, *others = trace["steps"]
            # Up to here its prompt is ours to the byte, so that a greedy thought is the same.
            assert first["thought"] == ours.thought
            tokens = ours.completions[0].num_prompt_tokens
            assert first["completions"][0]["num_prompt_tokens"] == tokens
            assert [p["id"] for p in first["passages"]] == [p.id for p in ours.passages]
            assert all(step["passages"] and step["thought"] for step in others)
            # Where no answer is flagged FlashRAG takes all that was written for one.
            answered = trace["stop_reason"] == "answer"
            assert trace["read_by_us"] == (trace["answer"].rstrip(".") if answered else "")
    assert engine.num_running() == 0
