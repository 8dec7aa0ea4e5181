"""The contract of the endpoint, by the official client over a real socket."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionChunk

from steper_serve.api.request import MODELS
from steper_serve.generation.scripted import ScriptedModel
from steper_serve.strategies.draft import ANSWER_TOKENS
from steper_serve.trajectory import Generate, Sampling
from tests.api.serving import (
    ASKED,
    PASSAGES,
    QUESTION,
    STUDENT,
    THOUGHTS,
    by_step,
    client_of,
    make_loop,
    served,
    streamed_to,
    until,
)


@pytest.fixture
async def client() -> AsyncIterator[AsyncOpenAI]:
    async with client_of(make_loop(ScriptedModel(by_step))) as client:
        yield client


def _deltas(chunks: list[ChatCompletionChunk], name: str) -> list:
    deltas = [c.choices[0].delta for c in chunks if c.choices]
    return [value for d in deltas if (value := getattr(d, name, None))]


async def test_answer_in_one_piece(client: AsyncOpenAI) -> None:
    done = await client.chat.completions.create(model="steper", messages=ASKED)
    message = done.choices[0].message
    assert (message.role, message.content) == ("assistant", "Verla")
    assert message.reasoning_content == "\n".join(t.strip() for t in THOUGHTS)
    assert done.choices[0].finish_reason == "stop"
    assert done.object == "chat.completion"
    assert done.model == "steper"
    assert message.tool_calls is None
    assert not hasattr(done, "steper")


async def test_a_missing_stream_means_json(client: AsyncOpenAI) -> None:
    response = await client.chat.completions.with_raw_response.create(
        model="steper", messages=ASKED
    )
    assert response.headers["content-type"] == "application/json"
    assert json.loads(response.content)["choices"][0]["message"]["content"] == "Verla"


async def test_stream_has_the_shape_that_clients_expect(client: AsyncOpenAI) -> None:
    chunks = await streamed_to(client)
    assert len({(c.id, c.created, c.model, c.object) for c in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert all(c.choices[0].delta.role is None for c in chunks[1:])
    assert [c.choices[0].finish_reason for c in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert chunks[-1].choices[0].delta.model_dump(exclude_unset=True) == {}
    assert all(c.usage is None for c in chunks)


async def test_stream_and_json_say_the_same(client: AsyncOpenAI) -> None:
    done = await client.chat.completions.create(model="steper", messages=ASKED)
    chunks = await streamed_to(client)
    message = done.choices[0].message
    assert "".join(_deltas(chunks, "reasoning_content")) == message.reasoning_content
    assert "".join(_deltas(chunks, "content")) == message.content
    [annotations] = _deltas(chunks, "annotations")
    assert annotations == [a.model_dump() for a in message.annotations]


async def test_reasoning_comes_token_by_token(client: AsyncOpenAI) -> None:
    pieces = _deltas(await streamed_to(client), "reasoning_content")
    assert pieces == [
        *("The", " Lumen", " was", " made", " by", " Ada", " Frost."),
        *("\nAda", " Frost", " was", " born", " in", " Verla."),
        *("\nSo", " the", " answer", " is:", " Verla."),
    ]


async def test_usage_counts_every_step(client: AsyncOpenAI) -> None:
    done = await client.chat.completions.create(model="steper", messages=ASKED)
    chunks = await streamed_to(client, stream_options={"include_usage": True})
    assert done.usage.completion_tokens == sum(len(t.split()) for t in THOUGHTS)
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens
    assert chunks[-1].choices == []
    assert chunks[-1].usage == done.usage
    assert chunks[-2].choices[0].finish_reason == "stop"


async def test_citations_resolve(client: AsyncOpenAI) -> None:
    done = await client.chat.completions.create(model="steper", messages=ASKED)
    cited = [a.url_citation for a in done.choices[0].message.annotations]
    assert [c.title for c in cited] == ["The Lumen", "Ada Frost"]
    assert all((c.start_index, c.end_index) == (0, len("Verla")) for c in cited)
    assert cited[1].url == PASSAGES[1].url
    async with httpx.AsyncClient() as http:
        passage = (await http.get(cited[0].url)).json()
    assert (passage["id"], passage["text"]) == (PASSAGES[0].id, PASSAGES[0].text)


@pytest.mark.parametrize("end", ["", "/"])
async def test_citations_point_to_the_public_address(end: str) -> None:
    loop, public = make_loop(ScriptedModel(by_step)), "https://box.example/steper"
    async with client_of(loop, public_url=public + end) as client:
        done = await client.chat.completions.create(model="steper", messages=ASKED)
        [streamed] = _deltas(await streamed_to(client), "annotations")
    cited = done.choices[0].message.annotations[0].url_citation.url
    assert cited == streamed[0]["url_citation"]["url"] == f"{public}/v1/passages/lum%2F1"


async def test_trace_in_one_piece(client: AsyncOpenAI) -> None:
    done = await client.chat.completions.create(
        model="steper", messages=ASKED, extra_body={"steper": {"trace": True}}
    )
    trace = done.steper
    assert (trace["answer"], trace["strategy"], trace["stop_reason"]) == (
        "Verla",
        "ircot",
        "answer",
    )
    assert [s["thought"] for s in trace["steps"]] == [t.strip() for t in THOUGHTS]
    assert [s["query"] for s in trace["steps"]] == [QUESTION, *(t.strip() for t in THOUGHTS[:2])]
    assert trace["steps"][0]["passages"][0] == {
        "id": "lum/1",
        "title": "The Lumen",
        "score": 1.0,
    }
    assert trace["seconds"] > 0
    assert trace["steps"][0]["retrieval_seconds"] > 0


async def test_streamed_trace_has_the_schema_of_the_whole(client: AsyncOpenAI) -> None:
    body = {"steper": {"trace": True}}
    whole = (
        await client.chat.completions.create(model="steper", messages=ASKED, extra_body=body)
    ).steper
    events = [c.steper for c in await streamed_to(client, extra_body=body) if hasattr(c, "steper")]
    steps: dict[int, dict] = {}
    for event in events[:-1]:
        steps.setdefault(event["step"], {}).update(event)
    told = ("query", "passages", "thought")
    assert [{k: s[k] for k in told} for s in steps.values()] == [
        {k: s[k] for k in told} for s in whole["steps"]
    ]
    assert events[-1].keys() == whole.keys() - {"steps"}
    assert [set(e) & set(told) for e in events[:3]] == [{"query"}, {"passages"}, {"thought"}]


async def test_earlier_turns_are_not_used(client: AsyncOpenAI) -> None:
    turns = [
        {"role": "system", "content": "Answer in French."},
        {"role": "user", "content": "What is Verla?"},
        {"role": "assistant", "content": "A town."},
        {"role": "user", "content": [{"type": "text", "text": QUESTION}]},
    ]
    done = await client.chat.completions.create(model="steper", messages=turns)
    assert done.choices[0].message.content == "Verla"


async def test_neutral_values_are_accepted(client: AsyncOpenAI) -> None:
    done = await client.chat.completions.create(
        model="steper",
        messages=ASKED,
        n=1,
        tools=[],
        logprobs=False,
        presence_penalty=0,
        response_format={"type": "text"},
        user="somebody",
        store=False,
        temperature=0.0,
    )
    assert done.choices[0].message.content == "Verla"


async def test_unknown_model_is_404(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="steper-ircot") as caught:
        await client.chat.completions.create(model="gpt-4", messages=ASKED)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("gpt-4")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "unknown_url"),
        ("GET", "/docs", 404, "unknown_url"),  # its page would run scripts of another server's
        ("GET", "/v1/chat/completions", 405, "method_not_supported"),
        ("GET", "/v1/passages/no-such", 404, "passage_not_found"),
        ("DELETE", "/v1/models", 405, "method_not_supported"),
    ],
)
async def test_every_error_has_openais_shape(
    method: str, path: str, status: int, code: str
) -> None:
    async with served(make_loop(ScriptedModel([]))) as url, httpx.AsyncClient() as http:
        response = await http.request(method, url + path)
    assert response.status_code == status
    assert response.json().keys() == {"error"}
    assert {"message", "type", "param"} <= response.json()["error"].keys()
    assert response.json()["error"]["code"] == code


TURN = b'"model": "steper", "messages": [{"role": "user", "content": "Who?"}]'


@pytest.mark.parametrize(
    ("body", "code", "told"),
    [
        (b'{"model": "steper",\n "messages" 1}', "invalid_json", "line 2, column 13:"),
        (b"{", "invalid_json", "line 1, column 2:"),
        (b'{"model": "\xff"}', "invalid_json", "no UTF-8"),
        (b"[" * 200_000, "invalid_json", "nested too deep"),
        (b'{%s, "sauce": 1}' % TURN, "unknown_parameter", "'sauce'"),
        (b'{%s, "n": 2}' % TURN, "unsupported_parameter", "leave it out or set it to 1"),
    ],
)
async def test_what_is_wrong_with_a_body_is_told(body: bytes, code: str, told: str) -> None:
    asked = {"content": body, "headers": {"Content-Type": "application/json"}}
    async with served(make_loop(ScriptedModel([]))) as url, httpx.AsyncClient() as http:
        response = await http.post(f"{url}/v1/chat/completions", **asked)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == code
    assert told in response.json()["error"]["message"]


async def test_models_are_listed(client: AsyncOpenAI) -> None:
    listed = [model.id async for model in client.models.list()]
    assert set(listed) == {
        "steper",
        "steper-ircot",
        "steper-self-ask",
        "steper-single",
        "steper-direct",
        "steper-raw",
    }
    assert (await client.models.retrieve("steper-ircot")).id == "steper-ircot"


@pytest.mark.parametrize(
    ("strategies", "trained"),
    [
        (("ircot",), {"steper", "steper-ircot"}),
        (("self-ask", "direct"), {"steper-self-ask", "steper-direct"}),
        ((), {*MODELS} - {"steper-raw"}),
    ],
)
async def test_a_list_of_models_says_what_the_student_was_trained_for(
    strategies: tuple[str, ...], trained: set[str]
) -> None:
    loop = make_loop(ScriptedModel(by_step), format=replace(STUDENT, strategies=strategies))
    async with client_of(loop) as client:
        listed = [model.model_dump() async for model in client.models.list()]
    told = {model["id"]: model["steper"] for model in listed if model["id"] != "steper-raw"}
    assert {id for id, strategy in told.items() if strategy["trained"]} == trained
    assert told["steper"]["strategy"] == "ircot"
    assert told["steper-self-ask"]["strategy"] == "self-ask"


@pytest.mark.parametrize(
    ("model", "texts", "steps"),
    [
        ("steper-single", THOUGHTS, [QUESTION, None, None]),
        ("steper-direct", THOUGHTS, [None, None, None]),
        (
            "steper-self-ask",
            [
                " Yes.\nFollow up: Who made The Lumen?\n",
                " Ada Frost made The Lumen.",
                "So the final answer is: Verla\n",
            ],
            [QUESTION, "Who made The Lumen?"],
        ),
    ],
)
async def test_a_model_is_a_strategy(model: str, texts: tuple, steps: list) -> None:
    async with client_of(make_loop(ScriptedModel(texts))) as client:
        done = await client.chat.completions.create(
            model=model, messages=ASKED, extra_body={"steper": {"trace": True}}
        )
    assert done.choices[0].message.content == "Verla"
    assert done.steper["strategy"] == model.removeprefix("steper-")
    assert [step["query"] for step in done.steper["steps"]] == steps


async def test_the_raw_model_runs_no_loop() -> None:
    model = ScriptedModel([" A title", " A title"])
    async with client_of(make_loop(model)) as client:
        turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
        done = await client.chat.completions.create(model="steper-raw", messages=turns, stop="\n")
        chunks = await streamed_to(client, model="steper-raw", messages=turns)
    assert done.choices[0].message.content == " A title"
    assert "".join(_deltas(chunks, "content")) == " A title"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert model.requests[0].prompt.text == "Be brief.\n\nHi"
    assert model.requests[0].stop == ("\n",)


async def test_no_answer_is_told_by_the_finish_reason() -> None:
    async with client_of(make_loop(ScriptedModel(["", ""]))) as client:
        done = await client.chat.completions.create(
            model="steper", messages=ASKED, extra_body={"steper": {"trace": True}}
        )
    assert done.choices[0].message.content == ""
    assert done.choices[0].finish_reason == "length"
    assert done.steper["stop_reason"] == "no_answer_marker"


async def test_nothing_found_is_said_honestly(client: AsyncOpenAI) -> None:
    asked = [{"role": "user", "content": "xyzzy?"}]
    done = await client.chat.completions.create(model="steper", messages=asked)
    assert done.choices[0].message.content == "The passages do not answer this."
    assert done.choices[0].message.annotations == []


async def test_a_token_budget_ends_an_answer_with_length(client: AsyncOpenAI) -> None:
    done = await client.chat.completions.create(
        model="steper",
        messages=ASKED,
        max_completion_tokens=35,
        extra_body={"steper": {"trace": True}},
    )
    assert done.choices[0].finish_reason == "length"
    assert done.steper["stop_reason"] == "budget"
    assert done.usage.completion_tokens <= 35


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize(("model_id", "kept"), [("steper", ANSWER_TOKENS), ("steper-raw", 0)])
async def test_what_a_request_sets_reaches_the_model(model_id: str, kept: int, name: str) -> None:
    model = ScriptedModel(by_step)
    asked = {"temperature": 0.7, "top_p": 0.9, "seed": 3, name: 40}
    async with client_of(make_loop(model)) as client:
        await client.chat.completions.create(model=model_id, messages=ASKED, **asked)
        await client.chat.completions.create(model=model_id, messages=ASKED)
    assert model.requests[0].sampling == Sampling(0.7, 0.9, 3)
    assert model.requests[0].max_tokens == 40 - kept
    assert model.requests[-1].sampling == Sampling()


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("model_id", ["steper", "steper-raw"])
async def test_a_client_that_leaves_frees_the_engine(streamed: bool, model_id: str) -> None:
    model = ScriptedModel(THOUGHTS, gate=asyncio.Event())
    async with client_of(make_loop(model)) as client:
        request = asyncio.create_task(
            streamed_to(client, model=model_id)
            if streamed
            else client.chat.completions.create(model=model_id, messages=ASKED)
        )
        await until(lambda: model.num_running() == 1)
        request.cancel()
        await until(lambda: model.num_running() == 0)


async def test_concurrent_streams_never_mix() -> None:
    async def ask(client: AsyncOpenAI, name: str) -> str:
        asked = [{"role": "user", "content": f"Where is {name} of The Lumen?"}]
        return "".join(_deltas(await streamed_to(client, messages=asked), "reasoning_content"))

    def echo(request: Generate) -> str:
        name = request.prompt.text.split("Q: Where is ")[1].split(" ")[0]
        return f" {name}" * 20 + f". So the answer is: {name}."

    async with client_of(make_loop(ScriptedModel(echo))) as client:
        names = [f"N{n}" for n in range(24)]
        texts = await asyncio.gather(*(ask(client, name) for name in names))
    assert [set(t.split(". So")[0].split()) for t in texts] == [{name} for name in names]


async def test_only_web_addresses_are_cited_as_they_are() -> None:
    hostile = replace(PASSAGES[0], url="javascript:alert(1)")
    loop = make_loop(ScriptedModel(THOUGHTS))
    loop.retriever.search = lambda query, top_k: [hostile]  # type: ignore[method-assign]
    async with client_of(loop) as client:
        done = await client.chat.completions.create(model="steper", messages=ASKED)
    [cited] = [a.url_citation.url for a in done.choices[0].message.annotations]
    assert cited.startswith("http://127.0.0.1:")


async def test_json_without_its_content_type_is_told_so() -> None:
    async with served(make_loop(ScriptedModel([]))) as url, httpx.AsyncClient() as http:
        response = await http.post(f"{url}/v1/chat/completions", content=b'{"model": "steper"}')
    assert "Content-Type: application/json" in response.json()["error"]["message"]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_lone_surrogate_is_no_text_and_no_failure(streamed: bool) -> None:
    body = {"model": "steper", "stream": streamed, "steper": {"trace": True}}
    asked = b'{"role": "user", "content": "\\ud800 ' + QUESTION.encode() + b'"}'
    content = json.dumps(body).encode()[:-1] + b', "messages": [' + asked + b"]}"
    async with (
        served(make_loop(ScriptedModel(by_step))) as url,
        httpx.AsyncClient() as http,
    ):
        response = await http.post(
            f"{url}/v1/chat/completions",
            content=content,
            headers={"content-type": "application/json"},
        )
    assert response.status_code == 200
    assert "Verla" in response.text
    assert '"error"' not in response.text
