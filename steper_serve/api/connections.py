"""Connections that do not wait for ever for a client that does not read.

uvicorn stops a response whose client reads too slowly once 64 KiB of it wait to be sent, and
would keep it, and the answer behind it, for as long as the connection is open. What is left out:
clients that do not send (guard).
"""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


def dropping_after(seconds: float) -> type[asyncio.Protocol]:
    """uvicorn's protocol, for `uvicorn.Config(http=…)`, that ends a connection on which nothing
    could be sent for so long. Whatever answer was being sent is cancelled by that."""

    class Dropping(HttpToolsProtocol):
        _end: asyncio.TimerHandle | None = None

        def pause_writing(self) -> None:
            super().pause_writing()
            # abort and not close, which would first wait until all is sent
            self._end = self.loop.call_later(seconds, self.transport.abort)

        def resume_writing(self) -> None:
            self._stop_waiting()
            super().resume_writing()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def _stop_waiting(self) -> None:
            if self._end is not None:
                self._end.cancel()

    return Dropping
