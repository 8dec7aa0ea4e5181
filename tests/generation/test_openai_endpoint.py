from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from steper_serve.errors import (
    EngineFailed,
    EngineTimeout,
    EngineUnavailable,
    PromptTooLong,
    SteperError,
)
from steper_serve.generation.openai_endpoint import OpenAIEndpoint
from steper_serve.trajectory import Completion, Delta, Prompt, Sampling

from .contract import complete, request, until
from .fault_server import GOOD, USAGE, FaultServer, Reply, event, serve


@asynccontextmanager
async def endpoint(server: FaultServer, **options: Any) -> AsyncIterator[OpenAIEndpoint]:
    model = OpenAIEndpoint(
        server.url,
        "m",
        **{"api_key": "sk-secret", "max_retries": 0, "read_seconds": 20.0} | options,
    )
    try:
        yield model
    finally:
        await model.aclose()


def refusal(status: int, message: str = "no", **fields: Any) -> Reply:
    return Reply(status, {"error": {"message": message, "type": "t", "code": None} | fields})


async def failure(*replies: Reply, **options: Any) -> SteperError:
    async with serve(*replies) as server, endpoint(server, **options) as model:
        with pytest.raises(SteperError) as caught:
            await complete(model, request())
        assert server.url in caught.value.message
        assert "sk-secret" not in caught.value.message
        assert model.num_running() == 0
    return caught.value


async def test_a_stream_becomes_deltas_and_a_completion_with_its_usage() -> None:
    async with serve(GOOD) as server, endpoint(server) as model:
        deltas, completion = await complete(model, request())
    assert deltas == [Delta(" two", 1), Delta(" words", 2)]
    assert completion == Completion(" two words", "stop", 7, 3)
    assert "authorization: bearer sk-secret" in server.headers[0]


async def test_what_vllm_counts_while_streaming_is_used() -> None:
    counted = [
        event(" two words", usage=USAGE | {"completion_tokens": 2}),
        event("", "stop", usage=USAGE | {"prompt_tokens_details": {"cached_tokens": 5}}),
        "[DONE]",
    ]
    async with serve(Reply(events=counted)) as server, endpoint(server) as model:
        deltas, completion = await complete(model, request())
    assert deltas == [Delta(" two words", 2, USAGE["prompt_tokens"])]
    assert (completion.num_cached_tokens, completion.num_completion_tokens) == (5, 3)


async def test_what_is_sent_to_vllm() -> None:
    asked = request(
        prompt=Prompt("<u>q<a>", user="q", templated=True),
        stop=("\n",),
        sampling=Sampling(temperature=0.5, top_p=0.9, seed=3),
    )
    async with serve(GOOD) as server, endpoint(server) as model:
        await complete(model, asked)
    assert server.paths == ["/v1/completions"]
    assert server.bodies[0] == {
        "model": "m",
        "prompt": "<u>q<a>",
        "max_tokens": 60,
        "min_tokens": 1,
        "stop": ["\n"],
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 3,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "add_special_tokens": False,
    }


async def test_other_servers_are_sent_standard_fields_only() -> None:
    asked = request(prompt=Prompt("q", user="q", templated=True))
    async with serve(GOOD) as server, endpoint(server, vllm_extensions=False) as model:
        await complete(model, asked)
    assert server.bodies[0].keys() == {
        *("model", "prompt", "max_tokens", "temperature", "top_p", "stream", "stream_options")
    }
    assert server.bodies[0]["stream_options"] == {"include_usage": True}


async def test_chat_sends_the_open_conversation() -> None:
    said = {"index": 0, "delta": {"content": " r2"}, "finish_reason": "stop"}
    reply = Reply(events=[event(choices=[said], object="chat.completion.chunk"), "[DONE]"])
    asked = request(prompt=Prompt("all of it", user="q", partial="r1"))
    async with serve(reply) as server, endpoint(server, api="chat") as model:
        _, completion = await complete(model, asked)
        await complete(model, replace(asked, prompt=Prompt("q", user="q")))
    assert completion == Completion(" r2", "stop", num_completion_tokens=1)
    assert server.paths[0] == "/v1/chat/completions"
    first, second = server.bodies
    assert first["messages"] == [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "r1"},
    ]
    assert (first["continue_final_message"], first["add_generation_prompt"]) == (True, False)
    assert second["messages"] == [{"role": "user", "content": "q"}]
    assert "continue_final_message" not in second


async def test_a_server_that_is_busy_is_asked_again() -> None:
    busy = replace(refusal(429), headers=(("retry-after-ms", "10"),))
    broken = replace(refusal(500), headers=(("retry-after-ms", "10"),))
    async with serve(busy, broken, GOOD) as server, endpoint(server, max_retries=2) as model:
        _, completion = await complete(model, request())
    assert completion.text == " two words"
    assert len(server.paths) == 3


@pytest.mark.parametrize(
    ("reply", "kind", "said"),
    [
        (refusal(429, "too many"), EngineUnavailable, "too many"),
        (refusal(500, "broken"), EngineUnavailable, "broken"),
        (refusal(503, "loading"), EngineUnavailable, "loading"),
        (refusal(401, "bad key sk-secret"), EngineFailed, "key"),
        (refusal(403), EngineFailed, "key"),
        (refusal(404), EngineFailed, "'m'"),
        (refusal(400, "top_k is unknown"), EngineFailed, "top_k is unknown"),
        (refusal(422, "stop is wrong"), EngineFailed, "stop is wrong"),
        (refusal(400, code="context_length_exceeded"), PromptTooLong, "400"),
        (
            refusal(400, "This model's maximum context length is 2048 tokens"),
            PromptTooLong,
            "2048",
        ),
        (Reply(events=[event(" two"), "[DONE]"]), EngineFailed, "finish reason"),
        (Reply(events=["[DONE]"]), EngineFailed, "finish reason"),
        (Reply(events=[event("", "content_filter")]), EngineFailed, "content_filter"),
        (Reply(events=[event(" two"), "{not json"]), EngineFailed, "not JSON"),
        (Reply(events=[event(" two")], end="cut"), EngineUnavailable, "broke off"),
        (Reply(events=[{"error": {"message": "dead", "code": 500}}]), EngineUnavailable, "dead"),
        (Reply(events=[{"error": {"message": "odd", "code": 400}}]), EngineFailed, "odd"),
        (Reply(events=[event(" two"), {"error": {"message": "odd"}}]), EngineFailed, "odd"),
    ],
)
async def test_each_failure_is_an_error_of_its_kind(
    reply: Reply, kind: type[SteperError], said: str
) -> None:
    error = await failure(reply)
    assert type(error) is kind
    assert said in error.message


@pytest.mark.parametrize("reply", [Reply(end="hang"), Reply(events=[event(" a")], end="hang")])
async def test_silence_is_a_timeout(reply: Reply) -> None:
    assert type(await failure(reply, read_seconds=0.2)) is EngineTimeout


async def test_nobody_there_is_unavailable() -> None:
    async with serve(GOOD) as server:
        pass
    async with endpoint(server) as model:
        with pytest.raises(EngineUnavailable, match="cannot be reached"):
            await complete(model, request())


async def test_leaving_early_closes_the_connection() -> None:
    slow = Reply(events=[event(" two")], end="hang")
    async with serve(slow) as server, endpoint(server) as model:
        async with aclosing(model.generate(request())) as stream:
            assert await anext(stream) == Delta(" two", 1)
            assert (model.num_running(), server.num_open) == (1, 1)
        assert model.num_running() == 0
        await until(lambda: server.num_open == 0)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(body={"object": "list", "data": [{"id": "other"}]}), "other"),
        (refusal(401), "key"),
        (refusal(503, "loading"), "loading"),
    ],
)
async def test_a_check_that_fails_says_why(reply: Reply, said: str) -> None:
    async with serve(reply) as server, endpoint(server) as model:
        with pytest.raises(EngineUnavailable, match=said):
            await model.check()


async def test_a_web_page_is_no_endpoint() -> None:
    async with (
        serve(Reply(status=200, body="<html>hello</html>")) as server,
        endpoint(server) as model,
    ):
        with pytest.raises(EngineUnavailable, match="does the URL end in /v1"):
            await model.check()
