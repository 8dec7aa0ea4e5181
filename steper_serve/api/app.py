"""The HTTP application: OpenAI-compatible chat, models, the corpus, health.

`create_app` takes a ready `Loop` and adds the outside; it starts nothing and loads no model.
"""

import time
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from openai.types import Model

import steper_serve
from steper_serve.api import chat, errors, passages, raw
from steper_serve.api.request import MODELS, RAW_MODEL, ChatRequest, check
from steper_serve.api.streams import event_stream, unless_gone
from steper_serve.errors import ModelNotFound
from steper_serve.loop import Loop


def create_app(
    loop: Loop, *, public_url: str | None = None, examples: Sequence[str] = ()
) -> FastAPI:
    """The application that answers with `loop`.

    Args:
        loop: model, index and defaults.
        public_url: the address that citations point to; by default the one a request came to.
        examples: questions that the corpus answers, for whoever does not know it.
    """
    app = FastAPI(title="StepER Serve", version=steper_serve.__version__)
    created = int(time.time())
    errors.install(app)
    passages.install(app, loop, examples)

    @app.post("/v1/chat/completions", response_model=None)
    async def chat_completions(body: ChatRequest, request: Request) -> Response:
        """Answer the last user message. Earlier turns are accepted and not used."""
        check(body)
        base_url = public_url or str(request.base_url)
        if body.stream:
            frames = raw.stream(loop, body) if _raw(body) else chat.stream(loop, body, base_url)
            return await event_stream(request, frames)
        work = raw.answer(loop, body) if _raw(body) else chat.answer(loop, body, base_url)
        whole = await unless_gone(request, work)
        return Response(whole.model_dump_json(exclude_unset=True), media_type="application/json")

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The default strategy, each strategy, and the model without the loop."""
        return {"object": "list", "data": [_model(id, created) for id in MODELS]}

    @app.get("/v1/models/{id}")
    async def model(id: str) -> dict[str, Any]:
        """One of the models."""
        if id not in MODELS:
            raise ModelNotFound(f"there is no model {id!r}; there are {', '.join(MODELS)}")
        return _model(id, created)

    @app.api_route("/health", methods=["GET", "HEAD"])
    async def health() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.api_route("/ready", methods=["GET", "HEAD"])
    async def ready() -> dict[str, str]:
        """The engine can serve; 503 with the reason otherwise."""
        await loop.model.check()
        return {"status": "ready"}

    return app


def _raw(body: ChatRequest) -> bool:
    return body.model == RAW_MODEL


def _model(id: str, created: int) -> dict[str, Any]:
    return Model(id=id, object="model", created=created, owned_by="steper-serve").model_dump(
        exclude_unset=True
    )
