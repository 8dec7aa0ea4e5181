"""What the endpoint refuses: by name, in OpenAI's shape, streamed or not."""

import httpx
import pytest

from steper_serve.generation.scripted import ScriptedModel
from tests.api.serving import ASKED, THOUGHTS, make_loop, served

REFUSED = [
    ("n", {"n": 2}),
    ("logprobs", {"logprobs": True}),
    ("tools", {"tools": [{"type": "function", "function": {"name": "f"}}]}),
    ("response_format", {"response_format": {"type": "json_object"}}),
    ("presence_penalty", {"presence_penalty": 1.0}),
    ("logit_bias", {"logit_bias": {"1": 5}}),
    ("stop", {"stop": ["."]}),
    ("stream_options", {"stream": False, "stream_options": {"include_usage": True}}),
    ("temperature", {"temperature": 3}),
    ("temperature", {"temperature": "0.5"}),
    ("temperature", {"temperature": True}),
    ("top_p", {"top_p": 0}),
    ("max_tokens", {"max_tokens": 0}),
    ("seed", {"seed": "x"}),
    ("modalities", {"modalities": ["text", "audio"]}),
    ("best_of", {"best_of": 2}),
    ("messages", {"messages": []}),
    ("messages", {"messages": [{"role": "assistant", "content": "hello"}]}),
    ("messages", {"messages": [{"role": "user", "content": "why " * 600}]}),
    ("messages", {"messages": [{"role": "user", "content": "why" * 10**5}]}),
    ("messages.0.content", {"messages": [{"role": "user", "content": "  "}]}),
    ("messages.0.role", {"messages": [{"role": "wizard", "content": "hello"}]}),
    ("messages.0.content", {"messages": [{"role": "user", "content": 3}]}),
    (
        "messages.0.content",
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
    ),
    (
        "messages.0.content",
        {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
    ),
    ("model", {"model": None}),
    ("steper.max_steps", {"steper": {"max_steps": 11}}),
    ("steper.top_k", {"steper": {"top_k": 0}}),
    ("steper.max_seconds", {"steper": {"max_seconds": -1}}),
    ("steper.strategy", {"steper": {"strategy": "magic"}}),
    ("steper.index", {"steper": {"index": "/etc"}}),
    ("steper.strategy", {"model": "steper-ircot", "steper": {"strategy": "self-ask"}}),
    ("steper", {"model": "steper-raw", "steper": {"trace": True}}),
]


@pytest.mark.parametrize(("param", "change"), REFUSED)
@pytest.mark.parametrize("streamed", [False, True])
async def test_what_is_not_supported_is_refused_by_name(
    param: str, change: dict, streamed: bool
) -> None:
    body = {"model": "steper", "messages": ASKED, "stream": streamed, **change}
    async with (
        served(make_loop(ScriptedModel(THOUGHTS))) as url,
        httpx.AsyncClient() as http,
    ):
        response = await http.post(f"{url}/v1/chat/completions", json=body)
    assert response.status_code == 400
    assert response.json().keys() == {"error"}
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert error["message"]


@pytest.mark.parametrize("content", [b"{", b"", b"[]", b"3", b'"text"', b"\xff\xfe", b"null"])
async def test_a_body_that_is_no_json_object_is_refused(content: bytes) -> None:
    async with (
        served(make_loop(ScriptedModel(THOUGHTS))) as url,
        httpx.AsyncClient() as http,
    ):
        response = await http.post(
            f"{url}/v1/chat/completions",
            content=content,
            headers={"content-type": "application/json"},
        )
    assert response.status_code == 400
    assert response.json().keys() == {"error"}
