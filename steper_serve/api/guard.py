"""What a request for an answer meets first: is there room, and may its caller ask again already?

A refusal comes at once, before the body is read. The body is read here, within bounds, so that
what follows has it whole; no other route reads one. What is left out: who may ask (access), and
what a body may say (request, limits).
"""

import asyncio
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from steper_serve.api.access import caller_of
from steper_serve.api.account import CLIENT_GONE, account_of
from steper_serve.api.admission import Admission
from steper_serve.api.errors import ClientGone, error_response
from steper_serve.api.limits import Limits
from steper_serve.api.rates import Rates
from steper_serve.errors import BodyTooLarge, BodyTooSlow, SteperError

ANSWERS = "/v1/chat/completions"


class Guard:
    """ASGI: lets in as many answers, and as much of each request, as there may be."""

    def __init__(self, app: ASGIApp, *, admission: Admission, rates: Rates, limits: Limits) -> None:
        self._app = app
        self._admission = admission
        self._rates = rates
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or scope["path"] != ANSWERS or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        caller = caller_of(scope)
        telling = _Telling(send, self._rates, caller)
        try:
            with self._admission.enter():
                self._rates.admit(caller)
                body = await self._body(Headers(scope=scope), receive)
                await self._app(scope, _replayed(body, receive), telling)
        except SteperError as error:  # before anything was sent: all else is answered further in
            response = error_response(error, scope)
            if isinstance(error, BodyTooSlow):  # what may still come of it is no request
                response.headers["Connection"] = "close"
            await response(scope, receive, telling)
        except ClientGone:
            account_of(scope).status = CLIENT_GONE

    async def _body(self, headers: Mapping[str, str], receive: Receive) -> bytes:
        """The whole body.

        Raises:
            BodyTooLarge: it has, or says it has, too many bytes.
            BodyTooSlow: it does not come in time.
            ClientGone: its sender left.
        """
        self._check_size(int(headers.get("content-length", "0")))
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.client_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    body += message.get("body", b"")
                    self._check_size(len(body))
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError as error:
            raise BodyTooSlow(
                f"the body did not come within {self._limits.client_seconds:g} s"
            ) from error

    def _check_size(self, num_bytes: int) -> None:
        if num_bytes > self._limits.max_body_bytes:
            raise BodyTooLarge(
                f"the body has {num_bytes:,} bytes or more, and this server takes "
                f"{self._limits.max_body_bytes:,}"
            )


class _Telling:
    """Sends a response with what its caller may still ask for."""

    def __init__(self, send: Send, rates: Rates, caller: str) -> None:
        self._send = send
        self._rates = rates
        self._caller = caller

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(self._rates.headers(self._caller))
        await self._send(message)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A channel that gives `body`, and then what comes after it."""
    given = False

    async def received() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return received
