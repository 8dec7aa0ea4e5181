"""Clients that leave, and clients that do not read: nothing is kept for either."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress

import pytest

from steper_serve.api.admission import Admission
from steper_serve.api.app import create_app
from steper_serve.api.connections import dropping_after
from steper_serve.generation.scripted import ScriptedModel
from steper_serve.trajectory import Completion, Delta, Generate
from tests.api.serving import (
    ASKED,
    by_step,
    make_loop,
    official,
    served,
    served_app,
    until,
)
from tests.flows import Model

NUM_CLIENTS = 1000
PIECE = " word" * 2000


def _request(**body: object) -> bytes:
    said = json.dumps({"model": "steper", "messages": ASKED, **body}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    return (
        f"{head}Content-Type: application/json\r\nContent-Length: {len(said)}\r\n\r\n".encode()
        + (said)
    )


async def test_a_thousand_clients_of_which_a_third_leave_early() -> None:
    admission = Admission(max_running=64, max_queued=NUM_CLIENTS)
    model = ScriptedModel(by_step)
    async with served(make_loop(model), admission=admission) as url:
        host, port = url.removeprefix("http://").split(":")

        async def ask(number: int) -> bool:
            """Whether there was an answer; every third leaves once it has asked, or soon after."""
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(_request(stream=bool(number % 2)))
            try:
                if number % 3 == 0:
                    await asyncio.wait_for(reader.read(number % 200 + 1), 0.001 * (number % 50))
                    return False
                return b"Verla" in await reader.read()
            except TimeoutError:
                return False
            finally:
                writer.transport.abort()

        async with asyncio.timeout(200):
            answered = await asyncio.gather(*(ask(number) for number in range(NUM_CLIENTS)))
        assert answered == [number % 3 != 0 for number in range(NUM_CLIENTS)]
        async with official(url) as client:
            done = await client.chat.completions.create(model="steper", messages=ASKED, timeout=5)
        assert done.choices[0].message.content == "Verla"
        await until(lambda: model.num_running() == admission.num_present == 0)
        assert admission.num_running == 0


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("model_id", ["steper", "steper-raw"])
async def test_a_client_that_leaves_while_it_waits_is_forgotten(
    streamed: bool, model_id: str
) -> None:
    admission, gate = Admission(max_running=1), asyncio.Event()
    model = ScriptedModel(by_step, gate=gate)
    async with served(make_loop(model), admission=admission) as url, official(url) as client:
        chat = client.chat.completions
        first = asyncio.create_task(chat.create(model="steper", messages=ASKED))
        await until(lambda: admission.num_running == 1)
        second = asyncio.create_task(
            chat.create(model=model_id, messages=ASKED, stream=streamed)  # type: ignore[call-overload]
        )
        await until(lambda: admission.num_present == 2)
        second.cancel()
        await until(lambda: admission.num_present == 1)
        gate.set()
        assert (await first).choices[0].message.content == "Verla"
        assert len({id(request) for request in model.requests}) == 3


def _long(num_pieces: int) -> Model:
    """Writes so many pieces of 10 kB, each when the one before has been taken."""

    async def speak(request: Generate) -> AsyncGenerator[Delta | Completion, None]:
        for number in range(num_pieces):
            yield Delta(PIECE, number + 1)
            await asyncio.sleep(0)
        yield Completion(PIECE * num_pieces, "stop")

    return Model(speak)


async def test_a_client_that_does_not_read_is_dropped() -> None:
    """Of its 20 MB the sockets' own buffers hold a part, and the server 64 KiB."""
    model, admission = _long(2000), Admission()
    app = create_app(make_loop(model), admission=admission)
    async with served_app(app, http=dropping_after(0.5)) as url:
        with _connected(url) as deaf:
            deaf.sendall(_request(model="steper-raw", stream=True))
            await until(lambda: model.num_open == 1)
            async with official(url) as client:  # others are served meanwhile
                assert [found.id async for found in client.models.list()]
            await until(lambda: model.num_closed == 1 and admission.num_present == 0)
            # As much as was on its way; a server that sends on would be read for ever.
            assert await asyncio.to_thread(_rest, deaf) < 2000 * len(PIECE)


@contextmanager
def _connected(url: str) -> Iterator[socket.socket]:
    """A connection with a small buffer of its own."""
    host, port = url.removeprefix("http://").split(":")
    with socket.socket() as connected:
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connected.settimeout(30)
        connected.connect((host, int(port)))
        yield connected


def _rest(connected: socket.socket) -> int:
    """Bytes until the connection ends, in whatever way."""
    num_bytes = 0
    with suppress(ConnectionResetError):
        while found := connected.recv(2**20):
            num_bytes += len(found)
    return num_bytes


async def test_a_client_that_reads_slowly_is_not_dropped() -> None:
    model = _long(100)
    app = create_app(make_loop(model))
    async with served_app(app, http=dropping_after(5)) as url:
        with _connected(url) as slow:
            slow.sendall(_request(model="steper-raw", stream=True))
            said = await asyncio.to_thread(_slowly, slow)
    assert b"data: [DONE]" in said
    assert said.count(PIECE.encode()) == 100


def _slowly(connected: socket.socket) -> bytes:
    said = b""
    while found := connected.recv(20_000):
        said += found
        time.sleep(0.005)
    return said


OK = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize("after_an_answer", [False, True])
@pytest.mark.parametrize("sent", [b"\r\n", b"GET", OK[:-2]])
async def test_a_head_that_does_not_come_is_not_waited_for(
    sent: bytes, after_an_answer: bool
) -> None:
    app = create_app(make_loop(ScriptedModel(by_step)))
    async with served_app(app, http=dropping_after(0.5), timeout_keep_alive=60) as url:
        with _connected(url) as mute:
            if after_an_answer:
                mute.sendall(OK)
                await asyncio.to_thread(_read_until, mute, b"ok")
            mute.sendall(sent)
            assert (await asyncio.to_thread(_slowly, mute)).startswith(b"HTTP/1.1 408 ")


async def test_a_head_without_end_is_not_read() -> None:
    app = create_app(make_loop(ScriptedModel(by_step)))
    async with served_app(app, http=dropping_after(20)) as url:
        with _connected(url) as endless:
            endless.sendall(OK[:-2] + b"X-Long: ")
            await asyncio.sleep(0.2)  # or both may come as one piece, whose size is no matter
            await asyncio.to_thread(endless.sendall, b"x" * (2**16 + 1))
            assert (await asyncio.to_thread(_slowly, endless)).startswith(b"HTTP/1.1 431 ")


async def test_an_answer_is_not_ended_by_the_head_that_comes_after_it() -> None:
    gate = asyncio.Event()
    app = create_app(make_loop(ScriptedModel(by_step, gate=gate)))
    async with served_app(app, http=dropping_after(0.3)) as url:
        with _connected(url) as hasty:
            hasty.sendall(_request().replace(b"Connection: close\r\n", b"") + OK[:-2])
            await asyncio.sleep(1)
            gate.set()
            await asyncio.to_thread(_read_until, hasty, b"Verla")


def _read_until(connected: socket.socket, word: bytes) -> None:
    said = b""
    while word not in said:
        found = connected.recv(2**16)
        assert found, said
        said += found
