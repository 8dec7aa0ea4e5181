"""A question over HTTP: whole and streamed alike, and every way in which it can go wrong."""

from dataclasses import replace

import pytest

from steper_serve.benchmarks.cells import Cell
from steper_serve.benchmarks.client import Client, joined
from steper_serve.benchmarks.failures import AnswerFailed, EndpointUnreachable, RequestRefused
from steper_serve.errors import EngineFailed, EngineUnavailable
from steper_serve.generation.scripted import ScriptedModel
from tests.api.serving import QUESTION, THOUGHTS, make_loop, served
from tests.generation import fault_server

WHOLE = Cell("d", "", "here", "", (), "steper", None, None, None)
STREAM = replace(WHOLE, streamed=True)


def untimed(trace: dict) -> dict:
    """A trace without what two runs cannot have in common."""
    steps = [{k: v for k, v in s.items() if not k.endswith("_seconds")} for s in trace["steps"]]
    return {**trace, "steps": steps, "seconds": None}


@pytest.mark.parametrize(
    "script",
    [
        THOUGHTS,
        (" It is not known.", "", " Verla."),  # the answer is forced: two generations in a step
        ("", ""),  # no answer
    ],
)
async def test_a_stream_tells_what_a_whole_answer_tells(script):
    replies = []
    for cell in (WHOLE, STREAM):
        model = ScriptedModel(script)
        async with (
            served(make_loop(model)) as url,
            Client(f"{url}/v1") as client,
        ):
            replies.append(await client.ask(replace(cell, max_steps=3), QUESTION))
    whole, stream = replies
    assert untimed(stream.trace) == untimed(whole.trace)
    assert stream.content == whole.content
    assert [set(step) for step in stream.trace["steps"]] == [set(s) for s in whole.trace["steps"]]
    assert all(step["generation_seconds"] > 0 for step in stream.trace["steps"])


async def test_a_stream_tells_what_came_when():
    async with (
        served(make_loop(ScriptedModel(THOUGHTS))) as url,
        Client(f"{url}/v1") as client,
    ):
        times = (await client.ask(STREAM, QUESTION)).times
        whole = (await client.ask(WHOLE, "Nothing is found")).times
    firsts = (times.first_byte_seconds, times.first_thought_seconds, times.first_answer_seconds)
    assert 0 < firsts[0] <= firsts[1] <= firsts[2] <= times.wall_seconds
    assert whole.first_answer_seconds is None


async def test_settings_reach_the_loop_and_none_leaves_them_to_it():
    model = ScriptedModel(lambda request: " Ada Frost was born in Verla.")
    async with (
        served(make_loop(model, max_steps=2)) as url,
        Client(f"{url}/v1") as client,
    ):
        given = await client.ask(replace(WHOLE, max_steps=3, top_k=1, strategy="ircot"), QUESTION)
        left = await client.ask(WHOLE, QUESTION)
    assert (len(given.trace["steps"]), len(left.trace["steps"])) == (3, 2)
    assert [len(step["passages"]) for step in given.trace["steps"]] == [1, 1, 1]


def test_events_of_one_step_are_put_together():
    """By hand: one search, two generations; a time that is not told counts nothing."""
    events = [
        {"step": 1, "query": "Q?"},
        {"step": 1, "passages": [{"id": "a"}], "retrieval_seconds": 0.5},
        {"step": 1, "thought": "One.", "queue_seconds": None, "generation_seconds": 1.0},
        {"step": 1, "thought": "Two.", "queue_seconds": 0.25, "generation_seconds": 2.0},
        {"step": 2, "thought": "Three.", "generation_seconds": 3.0},
        {"answer": "x"},
    ]
    first, second = joined(events)["steps"]
    assert (first["query"], first["passages"], first["thought"]) == (
        "Q?",
        [{"id": "a"}],
        "One. Two.",
    )
    assert (first["retrieval_seconds"], first["queue_seconds"]) == (0.5, 0.25)
    assert (first["generation_seconds"], second["generation_seconds"]) == (3.0, 3.0)
    assert (second["query"], second["passages"], second["decode_seconds"]) == (None, [], 0.0)


@pytest.mark.parametrize("cell", [WHOLE, STREAM])
@pytest.mark.parametrize(
    ("raised", "kind"),
    [(EngineFailed("it broke"), AnswerFailed), (EngineUnavailable("asleep"), EndpointUnreachable)],
)
async def test_a_failure_has_a_type_by_what_can_be_done(cell, raised, kind):
    async with (
        served(make_loop(ScriptedModel([THOUGHTS[0], raised]))) as url,
        Client(f"{url}/v1") as client,
    ):
        with pytest.raises(kind, match=raised.message) as caught:
            await client.ask(cell, QUESTION)
        assert url in caught.value.message
    if kind is AnswerFailed:
        assert caught.value.body["steper"]["steps"][0]["thought"] == THOUGHTS[0].strip()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"model": "gpt-4"}, "gpt-4"), ({"strategy": "magic"}, "magic"), ({"max_steps": 99}, "99|10")],
)
async def test_what_no_question_can_have_is_refused(change, message):
    async with (
        served(make_loop(ScriptedModel(THOUGHTS))) as url,
        Client(f"{url}/v1") as client,
    ):
        with pytest.raises(RequestRefused, match=message):
            await client.ask(replace(WHOLE, **change), QUESTION)


EVENT = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": []}
CONTENT = {**EVENT, "choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": None}]}


@pytest.mark.parametrize(
    ("cell", "reply", "kind", "message"),
    [
        (STREAM, fault_server.Reply(events=[EVENT], end="cut"), EndpointUnreachable, "reached"),
        (STREAM, fault_server.Reply(events=[EVENT, "[DONE]"]), AnswerFailed, "before its 'answer'"),
        (STREAM, fault_server.Reply(events=[CONTENT, "[DONE]"]), RequestRefused, "sends no trace"),
        (STREAM, fault_server.Reply(events=["{not json"]), AnswerFailed, "not JSON"),
        (WHOLE, fault_server.Reply(end="hang"), AnswerFailed, "silent for 0 s"),
        (
            WHOLE,
            fault_server.Reply(401, {"error": {"message": "no key"}}),
            RequestRefused,
            "no key",
        ),
        (
            WHOLE,
            fault_server.Reply(429, {"error": {"message": "full"}}),
            EndpointUnreachable,
            "full",
        ),
        (WHOLE, fault_server.Reply(500, {"error": {"message": "oh"}}), AnswerFailed, "500"),
        (WHOLE, fault_server.Reply(200, "hello"), RequestRefused, "no trace"),
    ],
)
async def test_a_bad_server_is_named(cell, reply, kind, message):
    timeout = 0.3 if reply.end == "hang" else 60.0
    async with (
        fault_server.serve(reply) as server,
        Client(server.url, timeout=timeout) as client,
    ):
        with pytest.raises(kind, match=message) as caught:
            await client.ask(cell, QUESTION)
    assert server.url in caught.value.message
    assert type(caught.value) is kind


async def test_models_are_listed_or_the_url_is_named():
    async with (
        served(make_loop(ScriptedModel([]))) as url,
        Client(f"{url}/v1") as client,
        Client(f"{url}/v2") as wrong,
    ):
        assert "steper-ircot" in await client.models()
        with pytest.raises(EndpointUnreachable, match=r"/v2 does not answer as a StepER server"):
            await wrong.models()
    async with (
        fault_server.serve(fault_server.Reply(200, "hi")) as server,
        Client(server.url) as client,
    ):
        with pytest.raises(EndpointUnreachable, match="does the URL end in /v1"):
            await client.models()


async def test_a_key_is_sent():
    async with (
        fault_server.serve(fault_server.Reply(200, {"data": []})) as server,
        Client(server.url, key="secret") as client,
    ):
        await client.models()
    assert "authorization: bearer secret" in server.headers[0]
