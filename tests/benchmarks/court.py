"""A judge on a real socket: an OpenAI-compatible endpoint that answers as a test says.

What is left out: any model.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

Respond = Callable[[str], str | tuple[int, dict[str, Any]]]


@dataclass
class Court:
    """`prompts` and `bodies` are what came, in order; `keys` the authorization headers."""

    url: str = ""
    prompts: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)


@asynccontextmanager
async def sitting(respond: Respond, *, at_once: int = 1) -> AsyncIterator[Court]:
    """A judge that replies to a prompt with a text, or with a status and an `error` object.

    It says nothing before it has been asked `at_once` prompts.
    """
    court, app, full = Court(), FastAPI(), asyncio.Event()

    @app.post("/v1/chat/completions")
    async def complete(request: Request) -> JSONResponse:
        body = await request.json()
        prompt = body["messages"][0]["content"]
        court.bodies.append(body)
        court.keys.append(request.headers.get("authorization", ""))
        if len(court.bodies) >= at_once:
            full.set()
        await full.wait()
        said = respond(prompt)
        if isinstance(said, tuple):
            return JSONResponse({"error": said[1]}, status_code=said[0])
        court.prompts.append(prompt)
        message = {"role": "assistant", "content": said}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return JSONResponse(
            {"id": "c", "object": "chat.completion", "created": 1, "model": body["model"]}
            | {"choices": [choice]}
        )

    @app.get("/v1/models")
    async def models() -> JSONResponse:
        return JSONResponse({"object": "list", "data": []})

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    court.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    try:
        yield court
    finally:
        server.should_exit = True
        await task


def abilities(first: int, second: int, third: int) -> str:
    """The form of Table 17, filled in."""
    names = ("Initialization", "Expansion", "Aggregation")
    given = zip(names, (first, second, third), strict=True)
    return json.dumps({f"Reasoning {name}": value for name, value in given})


def validity(share: float, *words: str) -> str:
    """The form of Table 18, filled in."""
    return json.dumps({"Sub-question Answerability": share, "Answer Correctness": list(words)})
