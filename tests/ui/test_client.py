"""The page's client against a real server, and what it makes of everything that goes wrong."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse, StreamingResponse

from steper_serve.api.admission import Admission
from steper_serve.api.app import Policy
from steper_serve.api.keys import Keyring, make_key
from steper_serve.errors import EngineUnavailable
from steper_serve.trajectory import Generate
from steper_serve.ui.asking import Stop, Stops, follow
from steper_serve.ui.client import Endpoint, Failed
from steper_serve.ui.components import choices
from steper_serve.ui.events import Passage
from steper_serve.ui.request import Ask
from steper_serve.ui.timeline import Turn
from tests.api.serving import (
    PASSAGES,
    QUESTION,
    STUDENT,
    THOUGHTS,
    by_step,
    make_loop,
    served,
    served_app,
    until,
)
from tests.ui.stage import Actor


@asynccontextmanager
async def _endpoint(url: str) -> AsyncIterator[Endpoint]:
    endpoint = Endpoint(f"{url}/v1")
    try:
        yield endpoint
    finally:
        await endpoint.close()


async def _ends(url: str, *asks: Ask, key: str = "") -> tuple[Turn, ...]:
    async with _endpoint(url) as endpoint:
        return [turns async for turns in follow(endpoint, asks, Stop(), key)][-1]


async def _end(url: str, ask: Ask, key: str = "") -> Turn:
    return (await _ends(url, ask, key=key))[0]


async def test_an_answer_is_followed_to_its_end() -> None:
    async with served(make_loop(Actor())) as url:
        turn = await _end(url, Ask(QUESTION))
    assert (turn.status, turn.answer) == ("done", "Verla")
    assert [s.thought for s in turn.steps] == [t.strip() for t in THOUGHTS]
    assert [s.query for s in turn.steps] == [QUESTION, *(t.strip() for t in THOUGHTS[:2])]
    assert [p.title for p in turn.citations] == ["The Lumen", "Ada Frost"]
    assert [p.text for p in turn.citations] == [p.text for p in PASSAGES[:2]]
    assert turn.result is not None
    assert (turn.result.num_steps, turn.result.stop_reason) == (3, "answer")


async def test_several_are_followed_side_by_side() -> None:
    asks = [Ask(QUESTION, "steper-ircot"), Ask(QUESTION, "steper-single"), Ask("", "steper")]
    async with served(make_loop(Actor())) as url:
        turns = await _ends(url, *asks)
    assert [t.status for t in turns] == ["done", "done", "failed"]
    assert [t.answer for t in turns] == ["Verla", "Verla", ""]
    assert turns[2].problem is not None
    assert "The question is empty" in turns[2].problem.message


async def test_stop_ends_the_work_of_the_server() -> None:
    actor = Actor()
    actor.says(gate=asyncio.Event())
    stops = Stops()
    async with served(make_loop(actor)) as url, _endpoint(url) as endpoint:
        with stops.begin("page") as stop:
            async for [turn] in follow(endpoint, [Ask(QUESTION)], stop):
                if turn.status == "asking" and turn.steps and turn.steps[0].thought:
                    assert actor.num_running() == 1
                    stops.end("page")
        assert turn.status == "stopped"
        assert turn.steps[0].thought == "The"
        await until(lambda: actor.num_running() == 0)


async def test_whoever_stops_looking_ends_the_work_too() -> None:
    actor = Actor()
    actor.says(gate=asyncio.Event())
    async with served(make_loop(actor)) as url, _endpoint(url) as endpoint:
        turns = follow(endpoint, [Ask(QUESTION)] * 3, Stop())
        async for _ in turns:
            if actor.num_running() == 3:
                break
        await turns.aclose()
        await until(lambda: actor.num_running() == 0)


async def test_the_texts_of_a_search_are_read_with_it_or_one_by_one() -> None:
    loop = make_loop(Actor(), format=replace(STUDENT, strategies=("ircot",)))
    async with served(loop) as url, _endpoint(url) as endpoint:
        wanted = [Passage(p.id, p.title) for p in (PASSAGES[1], PASSAGES[0])]
        read = await endpoint.texts("The Lumen", wanted)
        assert [p.text for p in read.values()] == [PASSAGES[1].text, PASSAGES[0].text]
        assert read["p 2"].url == PASSAGES[1].url
        offered = choices(await endpoint.models())
        assert [id for label, id in offered if "not trained" not in label] == [
            "steper",
            "steper-ircot",
        ]
        assert [id for label, id in offered if "not trained" in label] == [
            "steper-self-ask",
            "steper-single",
            "steper-direct",
        ]
        assert (await endpoint.corpus()).num_passages == 3
        await endpoint.ready()


def _then_down(request: Generate) -> object:
    return EngineUnavailable("the engine died") if request.step == 2 else by_step(request)


async def test_what_the_server_refuses_is_told_in_its_own_words() -> None:
    actor = Actor()
    async with served(make_loop(actor)) as url:
        too_long = (await _end(url, Ask("why " * 600))).problem
        assert too_long is not None
        assert too_long.title == "The question is too long"
        assert "messages" not in too_long.message
        no_model = (await _end(url, Ask("Who?", "gpt"))).problem
        assert no_model is not None
        assert "'gpt'" in no_model.message
        out_of_bounds = (await _end(url, Ask("Who?", max_steps=99))).problem
        assert out_of_bounds is not None
        assert "steper.max_steps" in out_of_bounds.message
        actor.says(down="the engine is loading")
        not_ready = (await _end(url, Ask(QUESTION))).problem
        assert not_ready is not None
        assert (not_ready.title, not_ready.message) == (
            "The server is not ready",
            "The engine is loading",
        )
        actor.says(_then_down)
        broken = await _end(url, Ask(QUESTION))
        assert broken.problem is not None
        assert broken.problem.message == "The engine died"
        assert broken.steps[0].thought == THOUGHTS[0].strip()


async def test_no_key_and_a_wrong_one_are_told_apart() -> None:
    secret, key = make_key("reader")
    async with served(make_loop(Actor()), policy=Policy(keys=Keyring((key,)))) as url:
        told = [(await _end(url, Ask(QUESTION), key=given)).problem for given in ("", "wrong")]
        assert [problem and problem.title for problem in told] == [
            "A key is needed",
            "The key is not accepted",
        ]
        assert all(problem and problem.wants_key for problem in told)
        assert not any("Bearer" in problem.message for problem in told if problem)
        assert (await _end(url, Ask(QUESTION), key=secret)).answer == "Verla"
        page = Endpoint(f"{url}/v1", secret)  # a page that has a key of its own
        assert (await page.corpus()).num_passages == 3
        with pytest.raises(Failed):
            await page.corpus("wrong")
        await page.close()


async def test_a_busy_server_says_so() -> None:
    actor = Actor()
    actor.says(gate=asyncio.Event())
    async with served(make_loop(actor), admission=Admission(1, 0)) as url:
        first = asyncio.create_task(_end(url, Ask(QUESTION)))
        await until(lambda: actor.num_running() == 1)
        busy = (await _end(url, Ask(QUESTION))).problem
        assert busy is not None
        assert busy.title == "The server is busy"
        first.cancel()
        await until(lambda: actor.num_running() == 0)


async def test_a_key_over_its_rate_is_not_a_busy_server() -> None:
    async with served(make_loop(Actor()), policy=Policy(requests_per_minute=1)) as url:
        assert (await _end(url, Ask(QUESTION))).answer == "Verla"
        problem = (await _end(url, Ask(QUESTION))).problem
    assert problem is not None
    assert problem.title == "The limit per minute is reached"
    assert "1 answers a minute" in problem.message


async def test_a_server_that_is_not_there_is_told_by_its_address() -> None:
    turn = await _end("http://127.0.0.1:9", Ask("Who?"))
    assert turn.problem is not None
    assert turn.problem.title == "The server cannot be reached"
    assert "http://127.0.0.1:9/v1" in turn.problem.message


def _odd_server() -> FastAPI:
    """Answers as no StepER server does, by the model that is asked for."""
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def chat(body: dict) -> object:
        async def cut() -> object:
            yield b'data: {"choices": [{"delta": {"reasoning_content": "Hm"}}]}\n\n'
            if body["model"] == "garbled":
                yield b"data: {nonsense\n\n"

        if body["model"] in ("cut", "garbled"):
            return StreamingResponse(cut(), media_type="text/event-stream")
        return JSONResponse({"error": {"message": "who are you?"}}, int(body["model"]))

    return app


@pytest.mark.parametrize(
    ("model", "title", "wants_key"),
    [
        ("401", "A key is needed", True),
        ("403", "The key is not accepted", True),
        ("429", "The server is busy", False),
        ("500", "The server failed", False),
        ("cut", "The answer broke off", False),
        ("garbled", "This is no StepER server", False),
    ],
)
async def test_every_failure_has_a_headline(model: str, title: str, wants_key: bool) -> None:
    async with served_app(_odd_server()) as url:
        turn = await _end(url, Ask("Who?", model), key="k")
    assert turn.status == "failed"
    assert turn.problem is not None
    assert (turn.problem.title, turn.problem.wants_key) == (title, wants_key)


async def test_what_the_page_asks_for_itself_fails_in_the_same_way() -> None:
    async with served_app(_odd_server()) as url, _endpoint(url) as endpoint:
        with pytest.raises(Failed) as caught:
            await endpoint.corpus()
    assert caught.value.problem.title == "The server failed"


async def test_a_connection_that_breaks_is_not_a_server_that_is_not_there() -> None:
    part = b'data: {"choices": [{"delta": {"reasoning_content": "Hm"}}]}\n\n'

    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
        writer.write(b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(part), part))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(break_off, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        turn = await _end(f"http://127.0.0.1:{port}", Ask("Who?"))
    assert turn.problem is not None
    assert turn.problem.title == "The answer broke off"


@pytest.mark.parametrize("said", [[], {"data": [{}]}, {"data": 7}, {}])
async def test_what_another_server_says_is_not_taken_for_ours(said: object) -> None:
    app = FastAPI()
    app.get("/v1/{path:path}")(lambda path: said)
    async with served_app(app) as url, _endpoint(url) as endpoint:
        for asked in (endpoint.models(), endpoint.corpus(), endpoint.search("x", 1)):
            with pytest.raises(Failed) as caught:
                await asked
            assert caught.value.problem.title == "This is no StepER server"
