"""Errors on the wire: always one top-level `error` object, as OpenAI shapes it.

An error from inside a loop carries the steps that were finished before it.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from steper_serve.api.account import CLIENT_GONE, account_of
from steper_serve.errors import (
    InvalidJson,
    InvalidRequest,
    MethodNotSupported,
    SteperError,
    UnknownUrl,
)
from steper_serve.trace import step_json


class ClientGone(Exception):
    """The client has left; there is nobody to answer."""


# What Starlette itself refuses.
_HTTP_ERRORS = {error.status: error for error in (UnknownUrl, MethodNotSupported)}


def error_json(error: SteperError) -> dict[str, Any]:
    """OpenAI's error object for an error of ours."""
    body: dict[str, Any] = {
        "message": error.public or error.message,
        "type": error.type,
        "param": error.param,
        "code": error.code,
    }
    if error.steps:
        body["steper"] = {"steps": [step_json(step) for step in error.steps]}
    return {"error": body}


def error_frame(error: SteperError) -> bytes:
    """An error as one Server-Sent Event: the last of a stream that broke."""
    return b"data: " + json.dumps(error_json(error)).encode() + b"\n\n"


def error_response(error: SteperError, scope: Scope) -> Response:
    """An error as the response to a request, with when to try again and how to name a key.

    The request's account has it from here.
    """
    account_of(scope).error = error
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
    if error.retry_seconds is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_seconds))
    return JSONResponse(error_json(error), error.status, headers)


def install(app: FastAPI) -> None:
    """Make `app` answer every failure in this shape."""
    app.add_exception_handler(SteperError, _steper_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientGone, _client_gone)
    app.add_exception_handler(Exception, _unexpected)


async def _steper_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, SteperError)  # noqa: S101 - for the type checker
    return error_response(error, request.scope)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return await _steper_error(request, InvalidJson(_not_json(first, error.body)))
    param = _param(first["loc"])
    said = first["msg"][:1].lower() + first["msg"][1:]
    message = f"{param}: {said}" if param else _about_the_body(request, said)
    return await _steper_error(request, InvalidRequest(message, param=param))


def _not_json(first: Mapping[str, Any], body: object) -> str:
    """Why the body is no JSON and, where it is a text, where in it."""
    why = first.get("ctx", {}).get("error", first["msg"])
    at = first["loc"][-1]
    if not isinstance(body, str) or not isinstance(at, int):
        return f"the body is not valid JSON: {why}"
    line, column = body.count("\n", 0, at) + 1, at - body.rfind("\n", 0, at)
    return f"the body is not valid JSON: line {line}, column {column}: {why}"


def _about_the_body(request: Request, said: str) -> str:
    kind = request.headers.get("content-type", "")
    if "json" not in kind:
        return f"the body is read as JSON only with Content-Type: application/json, not {kind!r}"
    return f"the body must be a JSON object: {said}"


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    if error.status_code == 400:  # FastAPI has read the body and made no sense of it
        said = "the body is not valid JSON: it is no UTF-8, or nested too deep"
        return await _steper_error(request, InvalidJson(said))
    path = request.url.path
    hint = "" if path.startswith("/v1/") else " (the endpoint's paths begin with /v1)"
    refused = _HTTP_ERRORS.get(error.status_code, InvalidRequest)(
        f"{error.detail}: {request.method} {path}{hint}"
    )
    account_of(request.scope).error = refused
    response = JSONResponse(error_json(refused), error.status_code)
    response.headers.update(error.headers or {})
    return response


async def _client_gone(request: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_GONE)


async def _unexpected(request: Request, error: Exception) -> Response:
    # Starlette raises it again for the server's log once this is sent, and sends this past all
    # middleware.
    id = account_of(request.scope).request_id
    return JSONResponse(error_json(internal_error(id)), 500, {"x-request-id": id})


def internal_error(request_id: str) -> SteperError:
    """What a client is told of a failure that nobody foresaw."""
    return SteperError(f"internal error; the server's log has it under the request id {request_id}")


def _param(location: tuple[Any, ...]) -> str | None:
    """The field that a validation error is about; a union's branches are not fields."""
    path = [str(part) for part in location[location[:1] in (("body",), ("query",)) :]]
    if "content" in path:
        path = path[: path.index("content") + 1]
    return ".".join(part for part in path if "[" not in part) or None
