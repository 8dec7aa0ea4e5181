"""Whether the endpoint lives and is ready, as a supervisor and a load balancer see it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import openai
import pytest

from steper_serve.api import health
from steper_serve.api.admission import Admission
from steper_serve.api.health import Vitals
from steper_serve.errors import EngineDied, IndexUnavailable
from steper_serve.generation.scripted import ScriptedModel
from steper_serve.trajectory import CorpusInfo
from tests.api.serving import ASKED, Shelf, by_step, make_loop, official, served, until


@asynccontextmanager
async def _http(model: ScriptedModel, **given: object) -> AsyncIterator[httpx.AsyncClient]:
    loop = make_loop(model, **{k: given.pop(k) for k in ("retriever",) if k in given})
    async with served(loop, **given) as url, httpx.AsyncClient(base_url=url) as http:
        yield http


async def _told(http: httpx.AsyncClient, path: str) -> tuple[int, str]:
    response = await http.get(path)
    return response.status_code, response.json().get("error", {}).get("message", "")


async def test_an_engine_that_may_come_back_is_not_ready_and_lives() -> None:
    model, vitals = ScriptedModel([]), Vitals()
    watching = asyncio.create_task(vitals.watch(model))
    async with _http(model, vitals=vitals) as http:
        model.down = "the endpoint is away"
        assert await _told(http, "/ready") == (503, "the endpoint is away")
        assert await _told(http, "/health") == (200, "")
        assert not watching.done()
        model.down = None
        assert await _told(http, "/ready") == (200, "")
    watching.cancel()


async def test_an_engine_that_died_is_neither() -> None:
    model, vitals = ScriptedModel([]), Vitals()
    async with _http(model, vitals=vitals) as http, asyncio.TaskGroup() as group:
        group.create_task(vitals.watch(model))
        model.dead = "vLLM of /srv/models was killed"
        await until(lambda: vitals.died is not None)
        for path in ("/ready", "/health"):
            assert await _told(http, path) == (503, EngineDied.public)


async def test_readiness_does_not_wait_for_the_watch() -> None:
    model = ScriptedModel([])
    model.dead = "vLLM of /srv/models was killed"
    async with _http(model) as http:
        assert await _told(http, "/ready") == (503, EngineDied.public)


async def test_readiness_does_not_wait_for_a_model_that_is_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Silent(ScriptedModel):
        async def check(self) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(health, "_PROBE_SECONDS", 0.1)
    async with _http(Silent([])) as http:
        assert await _told(http, "/ready") == (503, "the model did not answer within 0.1 s")


async def test_without_an_index_it_is_not_ready() -> None:
    class Gone(Shelf):
        def describe(self) -> CorpusInfo:
            raise IndexUnavailable("the index is gone")

    async with _http(ScriptedModel([]), retriever=Gone()) as http:
        assert await _told(http, "/ready") == (503, "the index is gone")
        assert await _told(http, "/health") == (200, "")


async def test_while_it_drains_it_takes_nothing_new_and_ends_what_it_has() -> None:
    gate, admission = asyncio.Event(), Admission(max_running=16)
    model = ScriptedModel(by_step, gate=gate)
    async with served(make_loop(model), admission=admission) as url, official(url) as client:

        async def ask(streamed: bool) -> str:
            chat = client.chat.completions
            done = await chat.create(model="steper", messages=ASKED, stream=streamed)
            if not streamed:
                return done.choices[0].message.content
            return "".join([c.choices[0].delta.content or "" async for c in done])

        asked = [asyncio.create_task(ask(bool(n % 2))) for n in range(32)]
        await until(lambda: admission.num_present == 32)
        admission.drain()
        async with httpx.AsyncClient(base_url=url) as http:
            assert (await _told(http, "/ready"))[0] == 503
            assert (await _told(http, "/health"))[0] == 200
        with pytest.raises(openai.InternalServerError) as refused:
            await ask(False)
        assert (refused.value.status_code, refused.value.code) == (503, "server_draining")
        assert int(refused.value.response.headers["retry-after"]) >= 1
        gate.set()
        assert await asyncio.gather(*asked) == ["Verla"] * 32
        assert admission.num_present == 0


@pytest.mark.parametrize("name", ["steper", "steper-raw"])
@pytest.mark.parametrize("streamed", [False, True])
async def test_what_takes_too_long_to_drain_is_told_so(streamed: bool, name: str) -> None:
    admission = Admission()
    model = ScriptedModel(by_step, gate=asyncio.Event())
    async with served(make_loop(model), admission=admission) as url, official(url) as client:

        async def ask() -> None:
            chat = client.chat.completions
            done = await chat.create(model=name, messages=ASKED, stream=streamed)
            if streamed:
                async for _ in done:
                    pass

        asked = asyncio.create_task(ask())
        await until(lambda: model.num_running() == 1)
        admission.stop()
        with pytest.raises(openai.APIError, match="ended before") as ended:
            await asked
        assert ended.value.code == "server_draining"
        await until(lambda: model.num_running() == 0)
