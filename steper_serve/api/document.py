"""The OpenAPI document, where FastAPI cannot know: the shape of errors, and this server's bounds.

What is left out: the request's own schema (request), and refusing (errors, limits).
"""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from steper_serve.api.limits import Limits
from steper_serve.api.request import MODELS, RAW_MODEL
from steper_serve.strategies import STRATEGIES


class ErrorObject(BaseModel):
    """What went wrong, in OpenAI's shape; `steper` has the steps that were finished before."""

    message: str
    type: str
    param: str | None
    code: str | None
    steper: dict[str, Any] | None = None


class ErrorBody(BaseModel):
    """The body of every response that is a refusal or a failure."""

    error: ErrorObject


RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "Refused: the message says why"},
    "5XX": {"model": ErrorBody, "description": "Failed, or there is no room now"},
}


def tell(app: FastAPI, limits: Limits) -> None:
    """Add what `limits` allow, and which models and strategies there are; once all routes are."""
    schemas = app.openapi()["components"]["schemas"]
    asked = schemas["ChatRequest"]["properties"]
    asked["model"]["enum"] = list(MODELS)
    asked["messages"]["maxItems"] = limits.max_messages
    asked["stop"]["description"] = f"Taken by {RAW_MODEL} alone"
    for name in ("max_tokens", "max_completion_tokens"):
        _set(asked[name])["maximum"] = limits.max_answer_tokens
    options = schemas["SteperOptions"]["properties"]
    _set(options["strategy"])["enum"] = list(STRATEGIES)
    _set(options["max_seconds"])["maximum"] = limits.max_seconds


def _set(field: dict[str, Any]) -> dict[str, Any]:
    """Of a field that may be null, the schema of what else it may be."""
    found: dict[str, Any] = next(one for one in field["anyOf"] if one["type"] != "null")
    return found
