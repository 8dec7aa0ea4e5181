"""What stands between the page and the network.

It says how the endpoint is doing, tells the browser to load nothing from elsewhere, and lets open
pages go when the server ends: a connection may be held for as long as a page is open, and a server
would never end that waited for it. What is left out: what the page has no use for (visitors).
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from steper_serve.ui import visitors
from steper_serve.ui.asking import Stops
from steper_serve.ui.client import Endpoint, Failed

# Gradio evaluates templates, hence unsafe-eval; the copied commands never run here.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self'; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'self'"
)
_STATUS = "/steper/status"
_ASKING = "/gradio_api/queue/"


class Shell:
    """The page as an ASGI application; `close` lets go of everyone who looks at it.

    `num_asking` is how many requests are open through which pages are told what they asked for.

    Args:
        stops: what pages are asking.
    """

    def __init__(self, page: ASGIApp, endpoint: Endpoint, stops: Iterable[Stops] = ()) -> None:
        self._page = page
        self._endpoint = endpoint
        self._stops = tuple(stops)
        self._closing = asyncio.Event()
        self.num_asking = 0

    def stop(self) -> None:
        """Stop all that pages are asking; they are told so. In the server's own event loop."""
        for stops in self._stops:
            stops.end_all()

    def close(self) -> None:
        """End all connections to open pages. In the server's own event loop."""
        self._closing.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._page(scope, receive, send)
            return
        try:
            visitors.check(scope)
            receive = await visitors.with_body(scope, receive)
        except visitors.Refused as refused:
            await refused.response(scope, receive, send)
            return
        if scope["path"] == _STATUS:
            await (await self._status(Request(scope)))(scope, receive, send)
        else:
            await self._shown(scope, receive, send)

    async def _shown(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_asking = scope["path"].startswith(_ASKING)
        self.num_asking += is_asking
        guarded = _Guarded(send)
        try:
            await self._page(scope, self._until_closing(receive), guarded)
            await guarded.finish()
        finally:
            self.num_asking -= is_asking

    async def _status(self, request: Request) -> JSONResponse:
        """Whether the endpoint can answer this reader and, in a few words, why not.

        A page that knows what the endpoint serves was let in by it, and is not tried again.
        """
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        try:
            await self._endpoint.ready(key)
            if request.query_params.get("known") != "true":
                await self._endpoint.models(key)
        except Failed as failure:
            told = failure.problem
            return JSONResponse({"ready": False, "said": told.title, "wants_key": told.wants_key})
        return JSONResponse({"ready": True, "said": "Ready", "wants_key": False})

    def _until_closing(self, receive: Receive) -> Receive:
        async def received() -> Message:
            coming = asyncio.ensure_future(receive())
            closing = asyncio.ensure_future(self._closing.wait())
            try:
                await asyncio.wait({coming, closing}, return_when=asyncio.FIRST_COMPLETED)
                return coming.result() if coming.done() else {"type": "http.disconnect"}
            finally:
                closing.cancel()
                coming.cancel()

        return received


class _Guarded:
    """Sends a response with what it must not lack, and ends one that was left in the middle."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._open = False

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._open = True
            headers = MutableHeaders(scope=message)
            headers["Content-Security-Policy"] = _POLICY
            headers["X-Content-Type-Options"] = "nosniff"
            headers["Referrer-Policy"] = "no-referrer"
        elif message["type"] == "http.response.body":
            self._open = message.get("more_body", False)
        await self._send(message)

    async def finish(self) -> None:
        """End a stream that its reader, or the end of the server, has cut off."""
        if self._open:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
