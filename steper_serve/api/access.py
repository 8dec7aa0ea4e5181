"""Who may ask, and by which name: API keys, the web pages that a browser may ask for, hosts.

Health and readiness are open; every other path of the endpoint is not, whatever it is. What is
left out: how much a caller may ask (rates, admission), and the page's own files, which the
endpoint does not have.
"""

from collections.abc import Collection, Iterable, Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from steper_serve.api.errors import error_response
from steper_serve.api.hosts import check_host
from steper_serve.api.keys import Keyring
from steper_serve.errors import KeyMissing, KeyRefused, OriginRefused, SteperError

OPEN = frozenset({"/health", "/ready"})
ANYBODY = ""


class Access:
    """ASGI: lets through who may ask, and says who it is (`caller_of`).

    Args:
        keys: without any, nobody needs one.
        origins: web pages that may ask beside those of the server's own host, written as browsers
            do (`as_browsers_write`); "*" for all.
        hosts: names by which it may be asked beside this machine's own; None for any.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Keyring,
        origins: Sequence[str],
        hosts: Collection[str] | None = None,
    ) -> None:
        self._app = app
        self._keys = keys
        self._origins = frozenset(origins)
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http" and scope["path"] not in OPEN:
            try:
                headers = Headers(scope=scope)
                if self._hosts is not None:
                    check_host(headers, self._hosts)
                self._check_origin(headers)
                scope.setdefault("state", {})["caller"] = self._caller(headers)
            except SteperError as error:
                await error_response(error, scope)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _caller(self, headers: Headers) -> str:
        if not self._keys:
            return ANYBODY
        scheme, _, secret = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise KeyMissing("this server wants an API key: Authorization: Bearer YOUR-KEY")
        # Starlette reads headers as Latin-1, so that this is what was sent, byte for byte.
        key = self._keys.find(secret.strip().encode("latin-1"))
        if key is None:
            raise KeyRefused("the API key is not one of this server's")
        return key.name

    def _check_origin(self, headers: Headers) -> None:
        """Browsers send some requests of foreign pages unasked, and name the page in them."""
        origin = headers.get("origin", "").lower()
        if not origin or "*" in self._origins or origin in self._origins:
            return
        if _host_of(origin) != headers.get("host", "").lower():
            raise OriginRefused(
                f"pages of {origin[:200]} may not ask here: allow them with --cors-origins"
            )


def as_browsers_write(origins: Iterable[str]) -> tuple[str, ...]:
    """Origins in lower case and without a slash at the end."""
    return tuple(origin.rstrip("/").lower() for origin in origins)


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # as of "http://["
        return None


def caller_of(scope: Scope) -> str:
    """The name of the key that a request came with; ANYBODY where none is wanted."""
    name: str = scope.get("state", {}).get("caller", ANYBODY)
    return name
