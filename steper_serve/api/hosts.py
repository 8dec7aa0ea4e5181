"""By which names a server may be asked that only this machine reaches.

A web page can have its own name point to this machine (DNS rebinding): a browser here then takes
the server for a part of that page, and lets it read all answers. Such requests say which name they
came for. What is left out: servers with keys, which such a page does not know, and servers that
others reach, whose names nobody knows here.
"""

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from steper_serve.api.errors import error_json
from steper_serve.errors import HostRefused


class Hosts:
    """ASGI: `check_host` before an application that keeps no account of its requests, as the page.

    Args:
        others: see `check_host`.
    """

    def __init__(self, app: ASGIApp, others: Collection[str] = ()) -> None:
        self._app = app
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http":
            try:
                check_host(Headers(scope=scope), self._others)
            except HostRefused as error:
                response = JSONResponse(error_json(error), error.status)
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


def check_host(headers: Headers, others: Collection[str]) -> None:
    """Return if a request asks for this machine.

    Args:
        others: names beside its own, as of a proxy that stands before it; in lower case.

    Raises:
        HostRefused: it asks for another.
    """
    # Browsers always say for which; the first version of HTTP could not.
    asked = headers.get("host", "localhost")
    name = name_in(f"//{asked}")
    if not (is_loopback(name) or name.endswith(".localhost") or name in others):
        raise HostRefused(
            f"this server is asked as 127.0.0.1 or localhost, not as {asked[:200]!r}: behind a "
            "proxy say --allow-unauthenticated or, to `serve`, the proxy's --public-url"
        )


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own alone; a name other than localhost is not."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def name_in(url: str) -> str:
    """The host that a URL names, without its port and in lower case; "" where it names none."""
    try:
        return (urlsplit(url).hostname or "").removesuffix(".")
    except ValueError:  # as of "http://["
        return ""
