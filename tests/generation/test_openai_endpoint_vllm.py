"""The endpoint adapter against vLLM's own OpenAI server, over a socket.

The server runs in this process on the session's engine, so that "aborted" can be read from the
engine's own table of requests.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
import pytest_asyncio
import uvicorn

from steper_serve.errors import EngineFailed, EngineUnavailable
from steper_serve.generation.openai_endpoint import OpenAIEndpoint
from steper_serve.generation.vllm_engine import VllmEngine
from steper_serve.trajectory import Prompt

from .contract import LONG, Contract, Subject, complete, prompt, request, until

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def url(engine: VllmEngine, student: Path) -> AsyncIterator[str]:
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.app import build_app
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    llm = engine._llm
    arguments = ["--model", str(student), "--served-model-name", "student"]
    args = make_arg_parser(FlexibleArgumentParser()).parse_args(arguments)
    tasks = await llm.get_supported_tasks()
    app = build_app(args, tasks, llm.model_config)
    await init_app_state(llm, app.state, args, tasks)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None))
        serving = asyncio.create_task(server._serve([listener]))
        await until(lambda: server.started)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        server.should_exit = True
        await serving


class TestContract(Contract):
    @pytest_asyncio.fixture(loop_scope="session")
    async def subject(self, engine: VllmEngine, url: str) -> AsyncIterator[Subject]:
        model = OpenAIEndpoint(url, "student")
        yield Subject(model, engine.num_running)
        await model.aclose()


@pytest_asyncio.fixture(loop_scope="session")
async def model(url: str) -> AsyncIterator[OpenAIEndpoint]:
    model = OpenAIEndpoint(url, "student", max_retries=0)
    yield model
    await model.aclose()


async def test_it_says_and_counts_what_the_engine_in_process_does(
    engine: VllmEngine, model: OpenAIEndpoint
) -> None:
    _, ours = await complete(engine, request(2))
    deltas, theirs = await complete(model, request(2))
    assert theirs.text == ours.text
    assert theirs.num_prompt_tokens == ours.num_prompt_tokens
    assert theirs.num_completion_tokens == ours.num_completion_tokens
    assert deltas[-1].num_tokens <= theirs.num_completion_tokens


async def test_a_templated_prompt_is_accepted(model: OpenAIEndpoint) -> None:
    text = prompt(1).text
    _, plain = await complete(model, request(1))
    asked = request(1, prompt=Prompt(text, text, templated=True))
    assert (await complete(model, asked))[1].text == plain.text


async def test_a_model_that_is_not_served_is_named(url: str) -> None:
    other = OpenAIEndpoint(url, "teacher", max_retries=0)
    try:
        with pytest.raises(EngineUnavailable, match=r"'teacher'.*student"):
            await other.check()
        with pytest.raises(EngineFailed, match="'teacher'"):
            await complete(other, request())
    finally:
        await other.aclose()


async def test_leaving_early_aborts_in_vllm(
    engine: VllmEngine, model: OpenAIEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    aborted: list[object] = []
    abort = engine._llm.abort

    async def spy(request_id: object, **options: object) -> None:
        aborted.append(request_id)
        await abort(request_id, **options)

    monkeypatch.setattr(engine._llm, "abort", spy)
    async with aclosing(model.generate(request(max_tokens=LONG, min_tokens=LONG))) as stream:
        await anext(stream)
    await until(lambda: len(aborted) > 0)
    assert engine.num_running() == 0
