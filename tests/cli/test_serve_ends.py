"""How a server ends: real processes and signals; its model is behind an endpoint of the test's."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import openai
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from tests.api.serving import official, served_app, until
from tests.generation.fault_server import event

ASKED = [{"role": "user", "content": "Where is Verla?"}]
STEPER = [sys.executable, "-m", "steper_serve"]


@dataclass
class Writer:
    """A model behind an endpoint, which writes once its gate is open."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    num_open: int = 0

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/v1/models")
        async def models() -> dict:
            return {"object": "list", "data": [{"id": "m", "object": "model"}]}

        @app.post("/v1/completions")
        async def completions() -> StreamingResponse:
            return StreamingResponse(self._write(), media_type="text/event-stream")

        return app

    async def _write(self) -> AsyncIterator[str]:
        self.num_open += 1
        try:
            yield _frame(event(" So"))
            await self.gate.wait()
            yield _frame(event(" the answer is: Verla.", "stop"))
            yield "data: [DONE]\n\n"
        finally:
            self.num_open -= 1


def _frame(chunk: dict) -> str:
    return f"data: {json.dumps(chunk)}\n\n"


@asynccontextmanager
async def serving(
    *flags: str, **variables: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str, Writer]]:
    """A process that serves, its URL, and its model."""
    writer = Writer()
    async with served_app(writer.app()) as endpoint:
        command = [*STEPER, "serve", "--port", "0", "--no-page", "--endpoint", f"{endpoint}/v1"]
        process = await asyncio.create_subprocess_exec(
            *command, "--model", "m", *flags,
            env=os.environ | variables, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(250):
                while line := (await process.stderr.readline()).decode():
                    if found := re.search(r"Ready after .*?: (http://\S+)/v1", line):
                        yield process, found[1], writer
                        return
            pytest.fail(f"the server did not start, exit code {await process.wait()}")
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()
            writer.gate.set()


async def _ended(process: asyncio.subprocess.Process) -> tuple[int, str]:
    """The exit code, and what was said last; well before the clients' own patience ends."""
    async with asyncio.timeout(60):
        said = await process.stderr.read()
        return await process.wait(), said.decode()


def _ask(client: openai.AsyncOpenAI, streamed: bool = False) -> "asyncio.Task[str]":
    async def asked() -> str:
        done = await client.chat.completions.create(
            model="steper-direct", messages=ASKED, stream=streamed
        )
        if not streamed:
            return done.choices[0].message.content
        return "".join([c.choices[0].delta.content or "" async for c in done if c.choices])

    return asyncio.create_task(asked())


async def test_a_signal_lets_running_answers_finish() -> None:
    async with serving() as (process, url, writer), official(url) as client:
        asked = [_ask(client, bool(n % 2)) for n in range(32)]
        await until(lambda: writer.num_open == 32)
        process.send_signal(signal.SIGTERM)
        async with httpx.AsyncClient() as http, asyncio.timeout(30):
            while (ready := await http.get(f"{url}/ready")).status_code == 200:
                await asyncio.sleep(0.01)
            assert ready.status_code == 503
            assert (await http.get(f"{url}/health")).status_code == 200
        with pytest.raises(openai.InternalServerError) as refused:
            await _ask(client)
        assert refused.value.code == "server_draining"
        async with asyncio.timeout(60):
            while b"Ending: 32 answers may take" not in await process.stderr.readline():
                pass
        writer.gate.set()
        assert await asyncio.gather(*asked) == ["Verla"] * 32
        assert (await _ended(process))[0] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_at_once(number: int) -> None:
    async with serving("--drain-seconds", "3600") as (process, url, writer), official(url) as c:
        asked = _ask(c)
        await until(lambda: writer.num_open == 1)
        process.send_signal(number)
        assert b"a second signal" in await process.stderr.readline()
        process.send_signal(number)
        code, said = await _ended(process)
        assert (code, "Traceback" in said) == (0, False)
        with pytest.raises(openai.APIError):
            await asked


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_takes_too_long_is_told_so(streamed: bool) -> None:
    async with serving("--drain-seconds", "0.5") as (process, url, writer), official(url) as c:
        asked = _ask(c, streamed)
        await until(lambda: writer.num_open == 1)
        process.send_signal(signal.SIGTERM)
        with pytest.raises(openai.APIError, match="ended before"):
            await asked
        code, said = await _ended(process)
        assert (code, "Traceback" in said) == (0, False)


async def test_a_key_that_was_made_opens_the_server_that_was_told(tmp_path: Path) -> None:
    making = await asyncio.create_subprocess_exec(
        *STEPER, "key", "ada", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    line, said = await making.communicate()
    secret = re.search(r"sk-steper-\S+", said.decode())[0]
    file = tmp_path / "keys.txt"
    file.write_bytes(line)
    assert secret not in file.read_text()
    other = "another-key-of-mine"
    flags = ("--host", "0.0.0.0", "--api-keys-file", str(file))  # noqa: S104 - the very thing
    async with serving(*flags, STEPER_API_KEYS=other) as (_, url, writer):
        writer.gate.set()
        url = url.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        for key in (secret, other):
            async with official(url, key) as client:
                assert await _ask(client) == "Verla"
        async with official(url, secret[:-1] + "?") as client:
            with pytest.raises(openai.AuthenticationError):
                await _ask(client)
