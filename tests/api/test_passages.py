"""The corpus over HTTP, on a real socket; the search against the index itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from steper_serve.api.app import create_app
from steper_serve.generation.scripted import ScriptedModel
from steper_serve.loop import Loop
from steper_serve.retrieval import bm25
from steper_serve.trajectory import Passage
from tests.api.serving import PASSAGES, client_of, make_loop, served_app

EXAMPLES = ("Where was the maker of The Lumen born?",)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    bm25.build(PASSAGES, tmp_path / "index")
    return tmp_path / "index"


@pytest.fixture
def loop(index: Path) -> Loop:
    return make_loop(ScriptedModel([]), retriever=bm25.Bm25Retriever.open(index), top_k=2)


@asynccontextmanager
async def _http(loop: Loop) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        served_app(create_app(loop, examples=EXAMPLES)) as url,
        httpx.AsyncClient(base_url=url) as http,
    ):
        yield http


async def test_a_search_finds_what_the_loop_finds(loop: Loop) -> None:
    async with _http(loop) as http:
        response = await http.get("/v1/passages", params={"query": "Ada Frost", "top_k": 3})
    assert response.status_code == 200
    body = response.json()
    assert body["object"] == "list"
    expected = loop.retriever.search("Ada Frost", 3)
    assert [(p["id"], p["score"]) for p in body["data"]] == [(p.id, p.score) for p in expected]
    assert body["data"][0] == {
        "id": "p 2",
        "object": "passage",
        "title": "Ada Frost",
        "text": "Ada Frost was born in Verla.",
        "url": "https://example.org/ada",
        "score": expected[0].score,
    }


async def test_top_k_is_the_loops_unless_it_is_given(loop: Loop) -> None:
    async with _http(loop) as http:
        found = await http.get("/v1/passages", params={"query": "Lumen Ada Frost Verla"})
    assert len(found.json()["data"]) == loop.top_k == 2


@pytest.mark.parametrize("query", ["nothing-of-the-kind", "title:Verla AND", '"', "\ud800"])
async def test_a_query_is_words_and_may_find_nothing(loop: Loop, query: str) -> None:
    async with _http(loop) as http:
        escaped = httpx.QueryParams({"query": query.encode("utf-8", "surrogatepass")})
        response = await http.get("/v1/passages", params=escaped)
    assert response.status_code == 200
    assert isinstance(response.json()["data"], list)


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({}, "query"),
        ({"query": " "}, "query"),
        ({"query": "x" * 10_001}, "query"),
        ({"query": "x", "top_k": "0"}, "top_k"),
        ({"query": "x", "top_k": "21"}, "top_k"),
        ({"query": "x", "top_k": "many"}, "top_k"),
        ({"query": "x", "page": "2"}, "page"),
    ],
)
async def test_what_is_not_supported_is_refused_by_name(
    loop: Loop, params: dict, named: str
) -> None:
    async with _http(loop) as http:
        response = await http.get("/v1/passages", params=params)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", named)


async def test_the_corpus_is_described_as_it_is_now(loop: Loop, index: Path) -> None:
    async with _http(loop) as http:
        before = (await http.get("/v1/corpus")).json()
        bm25.add([Passage("new", "Olm", "The Olm is a river.")], index)
        after = (await http.get("/v1/corpus")).json()
        found = (await http.get("/v1/passages", params={"query": "Olm", "top_k": 1})).json()
    info = bm25.info(index)
    assert before["num_passages"] == 3
    assert after == {
        "object": "corpus",
        "num_passages": 4,
        "size_bytes": info.size_bytes,
        "created": info.created,
        "generation": 2,
        "examples": list(EXAMPLES),
    }
    assert found["data"][0]["id"] == "new"


async def test_what_a_citation_points_to_is_as_it_is_now(loop: Loop, index: Path) -> None:
    """A citation that was given before a switch: another text, or 404 once it is deleted."""
    async with _http(loop) as http:
        before = await http.get("/v1/passages/p3")
        bm25.delete(["p3", "lum/1"], index)
        bm25.add([Passage("p3", "Verla", "Verla is a city.")], index)
        changed = await http.get("/v1/passages/p3")
        deleted = await http.get("/v1/passages/lum/1")
    assert before.json()["text"] == "Verla is a town on the river Olm."
    assert changed.json()["text"] == "Verla is a city."
    assert deleted.status_code == 404
    assert "'lum/1'" in deleted.json()["error"]["message"]


async def test_the_official_client_reads_it(loop: Loop) -> None:
    async with client_of(loop) as client:
        response = await client.get(
            "/passages", cast_to=httpx.Response, options={"params": {"query": "Verla"}}
        )
    assert response.json()["data"][0]["title"] == "Verla"
