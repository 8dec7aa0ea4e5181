"""What may reach the page from the network, and what it still tells when its server ends."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from steper_serve.api.app import Policy
from steper_serve.api.keys import Keyring, make_key
from steper_serve.ui import visitors
from steper_serve.ui.client import Endpoint
from steper_serve.ui.shell import Shell
from tests.ui.stage import on_port, site

SECRET, KEY = make_key("ada")
JOIN = "/gradio_api/queue/join"
EVIL = {"Origin": "https://evil.example"}


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """Of a page that others than this machine would reach: Gradio trusts any origin there."""
    # Not a name that Gradio takes for this machine.
    headers = {"Host": "box.example"}
    async with site() as url, httpx.AsyncClient(base_url=url, headers=headers) as client:
        yield client


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://[", "http://box.evil"])
async def test_pages_of_other_origins_may_not_ask(http: httpx.AsyncClient, origin: str) -> None:
    preflight = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    for refused in (
        await http.options(JOIN, headers=preflight),
        await http.post(JOIN, json={}, headers={"Origin": origin}),
        await http.get("/gradio_api/queue/data?session_hash=x", headers={"Origin": origin}),
        await http.get("/config", headers={"Origin": origin}),
    ):
        assert refused.status_code in (403, 405)
        assert not {name for name in refused.headers if name.startswith("access-control")}


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://box.example"},
        {"Origin": "HTTPS://BOX.example"},
        # Behind a proxy that has a name of its own for the server.
        {"Origin": "https://answers.example", "X-Forwarded-Host": "answers.example, inner"},
        {"Origin": "https://answers.example", "Sec-Fetch-Site": "same-origin"},
        {},
    ],
)
async def test_its_own_pages_may(http: httpx.AsyncClient, headers: dict[str, str]) -> None:
    assert (await http.get("/config", headers=headers)).status_code == 200
    # Gradio's own word on a request that is none.
    assert (await http.post(JOIN, json={}, headers=headers)).status_code == 422


async def test_nothing_is_sent_to_what_the_page_does_not_use(http: httpx.AsyncClient) -> None:
    for path in ("/", "/login", "/steper/status"):
        assert (await http.post(path, files={"file": b"x"})).status_code == 405, path
    assert (await http.put(JOIN, json={})).status_code == 405


async def test_a_body_has_bounds(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async with asyncio.timeout(30):
        assert (await http.post(JOIN, content=b"x" * 2**21)).status_code == 413
        monkeypatch.setattr(visitors, "_BODY_SECONDS", 0.1)
        reader, writer = await asyncio.open_connection(http.base_url.host, http.base_url.port)
        writer.write(f"POST {JOIN} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{{".encode())
        assert b" 408 " in await reader.readline()
        writer.close()


async def test_the_report_is_for_whoever_may_ask() -> None:
    policy = Policy(keys=Keyring((KEY,)))
    async with (
        site(policy=policy, report=lambda: "<h1>All of it</h1>") as url,
        httpx.AsyncClient(base_url=url) as http,
    ):
        for key, is_told in (("", False), ("sk-steper-wrong", False), (SECRET, True)):
            told = await _selected(http, key)
            assert ("All of it" in told) is is_told
            assert ("key" in told.lower()) is not is_told


async def _selected(http: httpx.AsyncClient, key: str) -> str:
    """What the tab of benchmarks shows to whoever opens it with `key`."""
    events = (await http.get("/config")).json()["dependencies"]
    [number] = [e["id"] for e in events for _, what in e["targets"] if what == "select"]
    asked = {"data": [key], "fn_index": number, "session_hash": f"s{key}"}
    (await http.post(JOIN, json=asked)).raise_for_status()
    async with http.stream("GET", f"/gradio_api/queue/data?session_hash=s{key}") as stream:
        async for line in stream.aiter_lines():
            told: Any = json.loads(line.removeprefix("data:")) if line else {}
            if told.get("msg") == "process_completed":
                [shown] = told["output"]["data"]
                return str(shown)
    raise AssertionError("the stream ended before")


async def test_what_a_page_has_asked_for_is_told_before_its_server_ends() -> None:
    gate = asyncio.Event()

    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # of uvicorn's lifespan there is nothing to say
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun, ", "more_body": True})
        await receive()
        ended = {asyncio.ensure_future(receive()), asyncio.ensure_future(gate.wait())}
        await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
        if gate.is_set():
            await send({"type": "http.response.body", "body": b"done"})

    shell = Shell(page, Endpoint("http://127.0.0.1:9/v1"))
    async with httpx.AsyncClient() as http, asyncio.timeout(30):
        async with on_port(shell, page=shell) as url:
            asked = asyncio.create_task(http.get(f"{url}/gradio_api/queue/data"))
            while not shell.num_asking:
                await asyncio.sleep(0.01)
            asyncio.get_running_loop().call_later(0.5, gate.set)
        assert (await asked).text == "begun, done"
