import asyncio
from contextlib import aclosing

import pytest

from steper_serve.errors import EngineFailed, EngineUnavailable
from steper_serve.generation.scripted import ScriptedModel
from steper_serve.trajectory import Completion, Delta, Generate

from .contract import LONG, Contract, Subject, complete, prompt, request


def recite(request: Generate) -> str:
    """The prompt's question backwards, and without end where the contract asks for that."""
    words = request.prompt.text.split()[::-1]
    if request.min_tokens == LONG:
        words *= LONG
    return " ".join(words)


class TestContract(Contract):
    @pytest.fixture
    def subject(self) -> Subject:
        model = ScriptedModel(recite, max_prompt_tokens=1000)
        return Subject(model, model.num_running)


async def test_responses_come_in_order_and_requests_are_kept() -> None:
    model = ScriptedModel([" one two", " three"])
    texts = [(await complete(model, request(i)))[1].text for i in range(2)]
    assert texts == [" one two", " three"]
    assert [r.prompt for r in model.requests] == [prompt(0), prompt(1)]


async def test_words_are_tokens_and_no_space_is_lost() -> None:
    deltas, completion = await complete(ScriptedModel([" one  two\n"]), request())
    assert deltas == [Delta(" one", 1), Delta("  two", 2), Delta("\n", 3)]
    assert completion == Completion(" one  two\n", "stop", len(prompt().text.split()), 3)


async def test_a_script_that_ends_too_early_says_so() -> None:
    with pytest.raises(EngineFailed, match="step 1"):
        await complete(ScriptedModel([]), request())


async def test_an_error_in_the_script_is_raised_in_its_turn() -> None:
    model = ScriptedModel([EngineUnavailable("gone"), " back"])
    with pytest.raises(EngineUnavailable, match="gone"):
        await complete(model, request())
    assert (await complete(model, request()))[1].text == " back"


async def test_a_model_that_is_down_says_why() -> None:
    model = ScriptedModel([])
    model.down = "loading weights"
    with pytest.raises(EngineUnavailable, match="loading weights"):
        await model.check()
    with pytest.raises(EngineUnavailable, match="loading weights"):
        await complete(model, request())


async def test_a_gate_holds_a_generation_after_its_first_word() -> None:
    gate = asyncio.Event()
    model = ScriptedModel([" one two"], gate=gate)
    async with aclosing(model.generate(request())) as stream:
        assert await anext(stream) == Delta(" one", 1)
        second = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        assert not second.done()
        gate.set()
        assert await second == Delta(" two", 2)
