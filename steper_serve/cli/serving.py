"""What every server of the command line needs: an address, and an end that is its own."""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from steper_serve.errors import ConfigurationError


def bind(host: str, port: int) -> socket.socket:
    """A socket that has the address and does not listen yet; port 0 is a free one.

    Raises:
        ConfigurationError: somebody else has it, or there is no such address here.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigurationError(
            f"cannot serve on {host}:{port}: {why}; choose another with --host, --port"
        ) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """The URL of a bound socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def signals_end_the_server_only() -> Iterator[None]:
    """Let SIGINT and SIGTERM stop uvicorn, and us clean up after it.

    uvicorn ends gracefully on either and then raises it anew, which would end this process
    before its engine is shut down.
    """
    before = {s: signal.signal(s, lambda *_: None) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
