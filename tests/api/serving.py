"""A served application on a real socket, and the official client in strict validation."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import uvicorn
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionChunk
from starlette.types import ASGIApp

from steper_serve.api.app import create_app
from steper_serve.errors import PassageNotFound
from steper_serve.loop import Loop
from steper_serve.strategies import STRATEGIES, demonstrations
from steper_serve.trajectory import CorpusInfo, Generate, LanguageModel, Passage, PromptFormat

PASSAGES = (
    Passage("lum/1", "The Lumen", "The Lumen is a film made by Ada Frost."),
    Passage("p 2", "Ada Frost", "Ada Frost was born in Verla.", url="https://example.org/ada"),
    Passage("p3", "Verla", "Verla is a town on the river Olm."),
)
QUESTION = "Where was the maker of The Lumen born?"
ASKED = [{"role": "user", "content": QUESTION}]
THOUGHTS = (
    " The Lumen was made by Ada Frost.",
    " Ada Frost was born in Verla.",
    " So the answer is: Verla.",
)
STUDENT = PromptFormat(
    max_prompt_tokens=500,
    count_tokens=lambda text: len(text.split()),
    step_end="eos",
    instruction="",
    few_shot=False,
)


class Shelf:
    """A retriever that finds every passage with a word of the query in its title."""

    quick = False

    def search(self, query: str, top_k: int) -> Sequence[Passage]:
        said = set(query.lower().split())
        found = [p for p in PASSAGES if said & set(p.title.lower().split())]
        return [replace(p, score=1.0) for p in found[:top_k]]

    def reload_if_changed(self) -> bool:
        return False

    def describe(self) -> CorpusInfo:
        return CorpusInfo(len(PASSAGES), 12_345, "2026-11-21T10:00:00+00:00")

    def passage(self, id: str) -> Passage:
        for passage in PASSAGES:
            if passage.id == id:
                return passage
        raise PassageNotFound(f"no passage has the id {id!r}")


def make_loop(model: LanguageModel, **changes: object) -> Loop:
    few_shot = {name: demonstrations.load(s.prompt_file) for name, s in STRATEGIES.items()}
    loop = Loop(model=model, retriever=Shelf(), format=STUDENT, few_shot=few_shot)
    return replace(loop, **changes)  # type: ignore[arg-type]


@asynccontextmanager
async def served(loop: Loop, **guarded: object) -> AsyncIterator[str]:
    """The application of `loop` on a free port of this machine; gives its URL."""
    async with served_app(create_app(loop, **guarded)) as url:  # type: ignore[arg-type]
        yield url


@asynccontextmanager
async def served_app(app: ASGIApp, **config: object) -> AsyncIterator[str]:
    """Any application, likewise; `config` is uvicorn's."""
    config = uvicorn.Config(app, port=0, log_level="error", **config)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def client_of(loop: Loop, key: str = "none", **guarded: object) -> AsyncIterator[AsyncOpenAI]:
    """The official client, strict and without retries, of a served loop."""
    async with served(loop, **guarded) as url, official(url, key) as client:
        yield client


def official(url: str, key: str = "none") -> AsyncOpenAI:
    """The official client, likewise, of what is served at `url`."""
    return AsyncOpenAI(
        base_url=f"{url}/v1", api_key=key, max_retries=0, _strict_response_validation=True
    )


async def streamed_to(client: AsyncOpenAI, **request: object) -> list[ChatCompletionChunk]:
    """Every chunk of an answer, of the loop and to the question unless told otherwise."""
    stream = await client.chat.completions.create(
        **{"model": "steper", "messages": ASKED, "stream": True, **request}
    )
    return [chunk async for chunk in stream]


def by_step(request: Generate) -> str:
    """What a model says next: the thought after those that the prompt already holds."""
    return next((t for t in THOUGHTS if t not in request.prompt.text), "")


async def until(condition: Callable[[], bool]) -> None:
    """Wait, with a generous bound, until a condition holds."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)
