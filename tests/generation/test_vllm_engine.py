import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from steper_serve.errors import ConfigurationError, EngineFailed, EngineUnavailable, PromptTooLong
from steper_serve.generation.vllm_engine import VllmEngine
from steper_serve.trajectory import Prompt, Sampling

from .contract import LONG, PEOPLE, Contract, Subject, complete, prompt, request

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]


class TestContract(Contract):
    @pytest.fixture
    def subject(self, engine: VllmEngine) -> Subject:
        return Subject(engine, engine.num_running)


@pytest.fixture(scope="session")
def reference(student: Path) -> Callable[[str, int], str]:
    """Greedy continuation by transformers itself: no code of ours, none of vLLM's."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(student)
    model: Any = AutoModelForCausalLM.from_pretrained(student, dtype=torch.float32)

    def continuation(text: str, max_tokens: int) -> str:
        ids = tokenizer(text, return_tensors="pt").input_ids
        out = model.generate(ids, max_new_tokens=max_tokens, min_new_tokens=1, do_sample=False)
        said: str = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
        return said

    return continuation


@pytest.mark.parametrize(
    ("i", "reasoning"),
    [(i, "") for i in range(4)]
    + [
        (i, f" The film A Kelan the {PEOPLE[i]} was directed by {PEOPLE[i]} Sarov.") for i in (4, 5)
    ],
)
async def test_greedy_text_is_what_transformers_says(
    engine: VllmEngine, reference: Callable[[str, int], str], i: int, reasoning: str
) -> None:
    asked = prompt(i, reasoning)
    _, completion = await complete(engine, request(prompt=asked))
    assert completion.text == reference(asked.text, 60)


async def test_times_and_cached_tokens_are_told(engine: VllmEngine) -> None:
    await engine.reset_prefix_cache()
    _, cold = await complete(engine, request(6))
    _, warm = await complete(engine, request(6))
    assert cold.num_cached_tokens == 0
    assert 0 < warm.num_cached_tokens < warm.num_prompt_tokens
    for seconds in (warm.queue_seconds, warm.prefill_seconds, warm.decode_seconds):
        assert seconds is not None
        assert 0 <= seconds < 60


async def test_room_that_is_short_lowers_max_tokens(engine: VllmEngine) -> None:
    def count(text: str) -> int:
        return len(engine._tokenizer.encode(text))

    text = prompt().text
    text = (
        "a " * ((engine.max_model_len - count(text) - 10) // (count("a a ") - count("a "))) + text
    )
    left = engine.max_model_len - count(text)
    assert 0 < left < 60
    asked = request(prompt=Prompt(text, text), max_tokens=60, min_tokens=60)
    _, completion = await complete(engine, asked)
    assert (completion.finish_reason, completion.num_completion_tokens) == ("length", left)


async def test_a_prompt_without_room_is_refused_with_its_numbers(engine: VllmEngine) -> None:
    text = "a " * engine.max_model_len * 2
    with pytest.raises(PromptTooLong, match=f"{engine.max_model_len} in all"):
        await complete(engine, request(prompt=Prompt(text, text)))


async def test_closing_aborts_at_once(engine: VllmEngine) -> None:
    async with aclosing(engine.generate(request(max_tokens=LONG, min_tokens=LONG))) as stream:
        await anext(stream)
    assert engine.num_running() == 0


async def test_cancelling_aborts_at_once_whenever_it_comes(engine: VllmEngine) -> None:
    asked = request(max_tokens=LONG, min_tokens=LONG)
    for turns in range(12):  # of the event loop: while the request is handed over, and after
        task = asyncio.create_task(complete(engine, asked))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert engine.num_running() == 0


async def test_what_vllm_refuses_fails_with_its_reason(engine: VllmEngine) -> None:
    with pytest.raises(EngineFailed, match="top_p"):
        await complete(engine, request(sampling=Sampling(temperature=1, top_p=7.0)))


async def test_starting_leaves_the_environment_alone(engine: VllmEngine) -> None:
    assert not {"HF_HUB_OFFLINE", "VLLM_NO_USAGE_STATS", "LD_PRELOAD"} & os.environ.keys()


async def test_an_unknown_engine_argument_is_refused_by_name(student: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"'max_num_seq'.*max_num_seqs"):
        VllmEngine.start(str(student), engine_args={"max_num_seq": 4})
    with pytest.raises(ConfigurationError, match=r"speculative_config.*JSON"):
        VllmEngine.start(str(student), engine_args={"speculative_config": "{method"})


async def test_a_value_that_vllm_refuses_is_a_configuration_error(student: Path) -> None:
    with pytest.raises(ConfigurationError, match="dtype"):
        VllmEngine.start(str(student), engine_args={"dtype": "float7"})


async def test_a_model_that_is_not_there_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=str(tmp_path)):
        VllmEngine.start(str(tmp_path))


async def test_an_engine_that_died_says_so(student: Path) -> None:
    """Its own engine: nothing else would survive it."""
    doomed = await asyncio.to_thread(VllmEngine.start, str(student), enforce_eager=True)
    try:
        stream = doomed.generate(request(max_tokens=LONG, min_tokens=LONG))
        await anext(stream)
        manager = doomed._llm.engine_core.resources.engine_manager
        os.kill(manager.processes[0].pid, signal.SIGKILL)
        with pytest.raises(EngineUnavailable, match="not running"):
            async for _ in stream:
                pass
        with pytest.raises(EngineUnavailable, match="not running"):
            await doomed.check()
        with pytest.raises(EngineUnavailable, match="not running"):
            await complete(doomed, request())
    finally:
        await doomed.aclose()


async def test_exactly_so_many_tokens_and_the_same_while_the_model_goes_on(
    engine: VllmEngine,
) -> None:
    """A replay: as many tokens as were generated, end-of-sequence included, from a cold cache."""
    await engine.reset_prefix_cache()
    _, said = await complete(engine, request(6))
    await engine.reset_prefix_cache()
    again = await engine.generate_exactly(request(6, max_tokens=said.num_completion_tokens))
    assert again.text == said.text
    assert again.num_completion_tokens == said.num_completion_tokens
    assert (again.num_prompt_tokens, again.num_cached_tokens) == (said.num_prompt_tokens, 0)
    more = await engine.generate_exactly(request(6, max_tokens=said.num_completion_tokens + 9))
    assert more.num_completion_tokens == said.num_completion_tokens + 9
    assert engine.num_running() == 0


async def test_what_is_given_whole_is_what_is_streamed(engine: VllmEngine) -> None:
    """Its end is the model's or the stop's own, as in a stream."""
    for asked in (request(6), request(6, stop=("was",))):
        _, streamed = await complete(engine, asked)
        whole = await engine.generate_whole(asked)
        assert (whole.text, whole.finish_reason) == (streamed.text, streamed.finish_reason)
        assert whole.num_completion_tokens == streamed.num_completion_tokens
    assert engine.num_running() == 0


async def test_the_prefix_cache_of_a_busy_engine_is_not_forgotten(engine: VllmEngine) -> None:
    async with aclosing(engine.generate(request(max_tokens=LONG, min_tokens=LONG))) as stream:
        await anext(stream)
        with pytest.raises(EngineFailed, match="still running"):
            await engine.reset_prefix_cache()
    await engine.reset_prefix_cache()
