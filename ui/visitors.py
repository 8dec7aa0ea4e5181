"""What a request must be to reach the page: of a page of ours, and no larger than ours are.

Gradio answers pages of other origins, and reads whatever is sent to it for as long as it comes.
What is left out: who may ask for an answer, which is the endpoint's to say.
"""

import asyncio
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message, Receive, Scope

# A question has ten thousand characters at most, and little comes with it.
_MOST_BYTES = 2**20
_BODY_SECONDS = 30.0
# All that the page uses of Gradio's own API, which also takes files and writes states to disk.
_API = "/gradio_api/"
_USED = ("queue/", "heartbeat/", "startup-events", "app_id", "cancel", "reset", "info")
_GONE: Message = {"type": "http.disconnect"}


class Refused(Exception):
    """A request that goes no further; `response` says why."""

    def __init__(self, said: str, status: int, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(said)
        self.response: Response = PlainTextResponse(said, status, headers)


def check(scope: Scope) -> None:
    """Return if a page of ours sends such a request.

    Raises:
        Refused: a page of another origin does, or none.
    """
    path, headers = scope["path"], Headers(scope=scope)
    of_api = path.startswith(_API)
    if of_api and not path.removeprefix(_API).startswith(_USED):
        raise Refused("Not here.", 404)
    if scope["method"] not in ("GET", "HEAD") and not (of_api and scope["method"] == "POST"):
        raise Refused("Not so.", 405)
    if _is_foreign(headers):
        raise Refused(
            "A page of another origin may not ask here. (Behind a proxy: have it pass the header "
            "Host on, or set X-Forwarded-Host.)",
            403,
        )


async def with_body(scope: Scope, receive: Receive) -> Receive:
    """A channel that gives the whole body at once, and then what comes after it.

    Raises:
        Refused: it is too large, or does not come in time.
    """
    if scope["method"] != "POST":
        return receive
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            body = await _read(receive)
    except TimeoutError as error:
        said = f"The body did not come within {_BODY_SECONDS:g} s."
        # What may still come of it is no request.
        raise Refused(said, 408, {"Connection": "close"}) from error
    first: list[Message] = [body]

    async def received() -> Message:
        return first.pop() if first else await receive()

    return received


async def _read(receive: Receive) -> Message:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return _GONE
        body += message.get("body", b"")
        if len(body) > _MOST_BYTES:
            raise Refused(f"The body has more than {_MOST_BYTES:,} bytes.", 413)
        if not message.get("more_body", False):
            return {"type": "http.request", "body": bytes(body), "more_body": False}


def _is_foreign(headers: Headers) -> bool:
    """Browsers name the page that sends a request, and set `Sec-Fetch-Site` as no page can."""
    origin = headers.get("origin")
    if origin is None or headers.get("sec-fetch-site") == "same-origin":
        return False
    hosts = {headers.get("host", ""), headers.get("x-forwarded-host", "").partition(",")[0]}
    return _host_of(origin.lower()) not in {host.strip().lower() for host in hosts}


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc or None
    except ValueError:  # as of "http://["
        return None
