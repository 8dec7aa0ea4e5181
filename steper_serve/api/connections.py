"""Connections that do not wait for ever for their client.

uvicorn waits without end for a request's head, of any length, and for a client to read: it stops a
response of which 64 KiB wait to be sent, and would keep it, and the answer behind it, for as long
as the connection is open. What is left out: bodies that do not come (guard).
"""

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

_MOST_HEAD_BYTES = 2**16


def dropping_after(seconds: float) -> type[asyncio.Protocol]:
    """uvicorn's protocol, for `uvicorn.Config(http=…)`, with an end to what it waits for.

    A connection ends on which nothing could be sent for so long, and whatever answer was being sent
    is cancelled by that. One whose request's head (all before its body) does not come within as
    long is told 408; one whose head goes on beyond 64 KiB, 431.
    """

    class Dropping(HttpToolsProtocol):
        # What came of a head beyond the piece that it began in; None between heads.
        _num_head_bytes: int | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            # abort and not close, which would first wait until all is sent
            self._writing = _Bound(self.loop, seconds, transport.abort)
            self._head = _Bound(self.loop, seconds, lambda: self._refuse(408))
            self._head.set()

        def data_received(self, data: bytes) -> None:
            was_in_head = self._num_head_bytes is not None
            # While an answer is here its client may send the next request as slowly as it likes.
            if self.cycle is not None and self.cycle.response_complete:
                self._head.set()
            super().data_received(data)
            if was_in_head and self._num_head_bytes is not None:
                self._num_head_bytes += len(data)
                if self._num_head_bytes > _MOST_HEAD_BYTES:
                    self._refuse(431)

        def on_message_begin(self) -> None:
            self._num_head_bytes = 0
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self._num_head_bytes = None
            self._head.lift()
            super().on_headers_complete()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._writing.set()

        def resume_writing(self) -> None:
            self._writing.lift()
            super().resume_writing()

        def connection_lost(self, exc: Exception | None) -> None:
            self._writing.lift()
            self._head.lift()
            super().connection_lost(exc)

        def _refuse(self, status: int) -> None:
            said = b"content-length: 0\r\nconnection: close\r\n\r\n"
            self.transport.write(STATUS_LINE[status] + said)
            self.transport.close()

    return Dropping


class _Bound:
    """Calls `end` unless it is lifted within so many seconds of when it was first set."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, seconds: float, end: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._seconds = seconds
        self._end = end
        self._timer: asyncio.TimerHandle | None = None

    def set(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._end)

    def lift(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
