"""The lean client tells what the official one tells, and fails as it does."""

import asyncio
import json
from contextlib import suppress
from dataclasses import replace

import pytest

from steper_serve.benchmarks import lean
from steper_serve.benchmarks.client import Client
from steper_serve.benchmarks.failures import AnswerFailed, EndpointUnreachable, RequestRefused
from steper_serve.benchmarks.lean import LeanClient, Sent
from steper_serve.generation.scripted import ScriptedModel
from tests.api.serving import QUESTION, THOUGHTS, make_loop, served
from tests.benchmarks.test_client import CONTENT, EVENT, STREAM, WHOLE, untimed
from tests.generation import fault_server


async def reply(client, cell):
    return lean.read(await client.ask(cell, QUESTION), client.url)


@pytest.mark.parametrize("cell", [WHOLE, STREAM])
@pytest.mark.parametrize("script", [THOUGHTS, (" It is not known.", "", " Verla."), ("", "")])
async def test_it_reads_what_the_official_client_reads(cell, script):
    cell = replace(cell, max_steps=3)
    async with (
        served(make_loop(ScriptedModel([*script, *script]))) as url,
        Client(f"{url}/v1") as official,
        LeanClient(f"{url}/v1") as client,
    ):
        told, read = await official.ask(cell, QUESTION), await reply(client, cell)
    assert untimed(read.trace) == untimed(told.trace)
    assert read.content == told.content
    assert 0 < read.times.first_byte_seconds <= read.times.wall_seconds


def test_when_what_came_is_read_off_the_pieces():
    """By hand: three frames in four pieces; a frame is there with the last of its bytes."""

    def frame(delta: dict, **more: object) -> bytes:
        chunk = {"choices": [{"index": 0, "delta": delta}], **more}
        return b"data: " + json.dumps(chunk).encode() + b"\n\n"

    usage = {"num_prompt_tokens": 1}
    end = {"answer": "x", "stop_reason": "answer", "usage": usage, "seconds": 1.0}
    first, thought = frame({"role": "assistant"}), frame({"reasoning_content": "Hm."})
    last = frame({"content": "x"}) + frame({}, steper={"step": 1, "query": "?"})
    last += frame({}, steper=end)
    pieces = (
        (0.1, first + thought[:9]),
        (0.2, thought[9:-1]),
        (0.3, thought[-1:] + last[:4]),
        (0.4, last[4:] + b"data: [DONE]\n\n"),
    )
    times = lean.read(Sent(True, 200, pieces, 0.5), "u").times
    assert times.first_byte_seconds == 0.1
    assert times.first_thought_seconds == 0.3
    assert times.first_answer_seconds == 0.4
    assert times.wall_seconds == 0.5


@pytest.mark.parametrize(
    ("cell", "reply_", "kind", "message"),
    [
        (STREAM, fault_server.Reply(events=[EVENT], end="cut"), EndpointUnreachable, "reached"),
        (STREAM, fault_server.Reply(events=[EVENT, "[DONE]"]), AnswerFailed, "before its 'answer'"),
        (STREAM, fault_server.Reply(events=[CONTENT, "[DONE]"]), RequestRefused, "sends no trace"),
        (STREAM, fault_server.Reply(events=["{not json"]), AnswerFailed, "not JSON"),
        (STREAM, fault_server.Reply(events=[{"error": {"message": "oh"}}]), AnswerFailed, "oh"),
        (WHOLE, fault_server.Reply(end="hang"), AnswerFailed, "silent for 0 s"),
        (WHOLE, fault_server.Reply(401, {"error": {"message": "key"}}), RequestRefused, "401: key"),
        (WHOLE, fault_server.Reply(429, {"error": {"message": "f"}}), EndpointUnreachable, "429"),
        (WHOLE, fault_server.Reply(500, {"error": {"message": "oh"}}), AnswerFailed, "500: oh"),
        (WHOLE, fault_server.Reply(200, "hello"), AnswerFailed, "not JSON of an answer"),
        (WHOLE, fault_server.Reply(200, {"choices": [{"message": {"content": "x"}}]}), *2 * [None]),
    ],
)
async def test_a_bad_server_is_named(cell, reply_, kind, message):
    if kind is None:
        kind, message = RequestRefused, "no trace"
    async with (
        fault_server.serve(reply_) as server,
        LeanClient(server.url, timeout=0.3) as client,
    ):
        with pytest.raises(kind, match=message) as caught:
            await reply(client, cell)
    assert server.url in caught.value.message
    assert type(caught.value) is kind


async def test_where_nobody_listens_the_url_is_named():
    async with LeanClient("http://127.0.0.1:9/v1") as client:
        with pytest.raises(EndpointUnreachable, match=r"127\.0\.0\.1:9/v1 cannot be reached"):
            await client.ask(WHOLE, QUESTION)


async def test_a_connection_is_kept_and_one_that_was_closed_is_made_again():
    """A server that closes every connection after its second answer, without a word."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    tasks: list[asyncio.Task] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            for _ in range(2):
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split()[0])
                await reader.readexactly(length)
                writer.write(answer)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        async with LeanClient(f"http://127.0.0.1:{port}/v1") as client:
            for _ in range(5):
                assert (await client.ask(WHOLE, QUESTION)).pieces[0][1] == b"{}"
        await asyncio.gather(*tasks)
    assert len(tasks) == 3


async def test_what_is_asked_for_and_the_key_are_sent():
    async with (
        fault_server.serve(fault_server.Reply(200, {})) as server,
        LeanClient(server.url, key="secret") as client,
    ):
        await client.ask(replace(STREAM, max_steps=3, strategy="ircot"), QUESTION)
    assert server.paths == ["/v1/chat/completions"]
    assert "authorization: bearer secret" in server.headers[0]
    assert server.bodies == [
        {
            "model": "steper",
            "messages": [{"role": "user", "content": QUESTION}],
            "steper": {"trace": True, "strategy": "ircot", "max_steps": 3},
            "stream": True,
        }
    ]
