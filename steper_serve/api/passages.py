"""The corpus over HTTP: search it by hand, read a passage, and know how large it is.

What is left out: the loop (chat), and how scores are made (retrieval).
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import FastAPI, Query
from pydantic import BaseModel, ConfigDict, Field

from steper_serve.errors import InvalidRequest
from steper_serve.loop import Loop
from steper_serve.strategies.options import TOP_K
from steper_serve.trajectory import Passage

# A longer one is no query; what is asked of the model has a bound of its own, its context.
MOST_QUERY_CHARACTERS = 10_000


class Search(BaseModel):
    """The query string of `GET /v1/passages`."""

    model_config = ConfigDict(extra="forbid")
    query: Annotated[str, Field(max_length=MOST_QUERY_CHARACTERS)]
    top_k: Annotated[int, Field(ge=TOP_K[0], le=TOP_K[1])] | None = None


def install(app: FastAPI, loop: Loop, examples: Sequence[str]) -> None:
    """Add the routes to `app`; `examples` are questions to begin with."""

    @app.get("/v1/passages")
    def search(asked: Annotated[Search, Query()]) -> dict[str, Any]:
        """The passages that the loop's own search finds, best first, with their scores."""
        if not asked.query.strip():
            raise InvalidRequest("the query is empty", param="query")
        loop.take_up_changes()
        # A lone surrogate is valid in a URL's escapes and in no text.
        query = asked.query.encode(errors="replace").decode()
        found = loop.retriever.search(query, asked.top_k or loop.top_k)
        return {"object": "list", "data": [{**_json(p), "score": p.score} for p in found]}

    @app.get("/v1/passages/{id:path}")
    def passage(id: str) -> dict[str, Any]:
        """A passage by its id, as it is now: what a citation points to. 404 once it is deleted."""
        loop.take_up_changes()
        return _json(loop.retriever.passage(id))

    @app.get("/v1/corpus")
    def corpus() -> dict[str, Any]:
        """How large the corpus is, and questions that it answers."""
        loop.take_up_changes()
        told = asdict(loop.retriever.describe())
        return {"object": "corpus", **told, "examples": list(examples)}


def _json(passage: Passage) -> dict[str, Any]:
    return {
        "id": passage.id,
        "object": "passage",
        "title": passage.title,
        "text": passage.text,
        "url": passage.url,
    }
