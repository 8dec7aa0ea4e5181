"""What each request meets first and leaves last: its id, its account, and who is told of it.

The id is the caller's `x-request-id` if that is a sensible one, else a new one; every response
has it. What is left out: what observers make of an account (metrics, tracing, lines).
"""

import re
import uuid
from collections.abc import Callable, Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from steper_serve.api.access import OPEN, caller_of
from steper_serve.api.account import REQUEST_ID, Account

REQUEST_ID_HEADER = "x-request-id"
_SENSIBLE = re.compile(r"[\w.:/+=@-]{1,128}", re.ASCII)
_OF_A_TRACE = ("traceparent", "tracestate")

Observer = Callable[[Account], None]


class Observed:
    """ASGI: opens an account, closes it, and shows it to each observer in turn."""

    def __init__(self, app: ASGIApp, *, observers: Sequence[Observer]) -> None:
        self._app = app
        self._observers = observers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        account = _opened(scope)
        scope.setdefault("state", {})["account"] = account
        REQUEST_ID.set(account.request_id)  # not set back: what comes after it is about it too
        broke: BaseException | None = None
        try:
            await self._app(scope, receive, _Noting(send, account))
        except BaseException as error:
            broke = error
            raise
        finally:
            account.caller = caller_of(scope)
            account.close(broke)
            if scope["path"] not in OPEN:  # what is asked there every few seconds is the answer
                for observe in self._observers:
                    observe(account)


class _Noting:
    """Sends a response with its request's id, and notes when what was sent."""

    def __init__(self, send: Send, account: Account) -> None:
        self._send = send
        self._account = account

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._account.status = message["status"]
            MutableHeaders(scope=message)[REQUEST_ID_HEADER] = self._account.request_id
        elif self._account.first_byte_seconds is None and message.get("body"):
            self._account.first_byte_seconds = self._account.elapsed()
        await self._send(message)


def _opened(scope: Scope) -> Account:
    headers = Headers(scope=scope)
    given = headers.get(REQUEST_ID_HEADER, "")
    return Account(
        request_id=given if _SENSIBLE.fullmatch(given) else uuid.uuid4().hex,
        method=scope["method"],
        path=scope["path"],
        client=(scope.get("client") or ("",))[0],
        trace_parent={name: headers[name] for name in _OF_A_TRACE if name in headers},
    )
