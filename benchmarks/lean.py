"""A question over HTTP by a client that takes next to no time itself, for servers under load.

The official client (client) makes an object of every chunk, and where it shares a machine with
the server, that time is the server's too. This one notes what came when, and reads it when the
measurement is over. What is left out: redirects, proxies, compression, HTTP/2.
"""

import asyncio
import json
import ssl
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, cast
from urllib.parse import urlsplit

import httptools

from steper_serve.benchmarks.cells import Cell
from steper_serve.benchmarks.client import (
    Reply,
    Times,
    checked,
    failure,
    request_of,
    trace_of,
)
from steper_serve.benchmarks.endpoint import CONNECT_SECONDS, EndpointClient
from steper_serve.benchmarks.failures import AnswerFailed, EndpointUnreachable

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Sent:
    """What came for a request: pieces of the body, each with its seconds from the request."""

    streamed: bool
    status: int
    pieces: tuple[tuple[float, bytes], ...]
    wall_seconds: float


class LeanClient(EndpointClient):
    """Asks the endpoint at `url` (up to /v1), over connections that it keeps; a context manager.

    Args:
        key: of an endpoint that wants one.
        timeout: seconds without a byte after which an answer is given up.
    """

    def __init__(self, url: str, *, key: str | None = None, timeout: float = 600.0) -> None:
        parts = urlsplit(url)
        self.url = url
        self._timeout = timeout
        self._host = parts.hostname or ""
        self._port = parts.port or _PORTS[parts.scheme]
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._head = (
            f"POST {parts.path}/chat/completions HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            f"Content-Type: application/json\r\nAuthorization: Bearer {key or 'none'}\r\n"
        )
        self._idle: list[_Connection] = []

    async def close(self) -> None:
        """Give up all connections."""
        while self._idle:
            self._idle.pop().close()
        await asyncio.sleep(0)  # for the connections to end

    async def ask(self, cell: Cell, question: str) -> Sent:
        """What came for a question under a cell's settings; `read` makes a reply of it.

        Raises:
            AnswerFailed, EndpointUnreachable, RequestRefused: as `Client.ask`, as far as that
                can be told without reading the answer.
        """
        asked = request_of(cell, question)
        ours = asked.pop("extra_body")
        fields = {**asked, **ours, "stream": cell.streamed}
        body = json.dumps(fields).encode()
        request = f"{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        try:
            sent = await self._send(request, cell.streamed)
        except TimeoutError as error:
            raise AnswerFailed(f"{self.url} was silent for {self._timeout:.0f} s") from error
        except OSError as error:
            raise EndpointUnreachable(f"{self.url} cannot be reached: {error}") from error
        except httptools.HttpParserError as error:
            raise AnswerFailed(f"{self.url} sent what is not HTTP: {error}") from error
        if sent.status != 200:
            raise failure(self.url, sent.status, _error(b"".join(b for _, b in sent.pieces)))
        return sent

    async def _send(self, request: bytes, streamed: bool) -> Sent:
        """Over a connection that is free, or over a new one; also if the free one had ended."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                break
        else:
            connection = await self._connect()
        try:
            return await connection.send(request, streamed, self._timeout)
        except ConnectionError:
            if not connection.is_used_up:
                raise
            connection = await self._connect()
            return await connection.send(request, streamed, self._timeout)
        finally:
            if connection.is_open:
                self._idle.append(connection)

    async def _connect(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        where = (self._host, self._port)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, connection = await loop.create_connection(_Connection, *where, ssl=self._tls)
        except TimeoutError as error:
            raise ConnectionError(f"no connection within {CONNECT_SECONDS:.0f} s") from error
        return connection


def read(sent: Sent, url: str) -> Reply:
    """The answer and its trace.

    Raises:
        AnswerFailed, EndpointUnreachable, RequestRefused: as `Client.ask`.
    """
    try:
        return _stream(sent, url) if sent.streamed else _whole(sent, url)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise AnswerFailed(f"{url} sent what is not JSON of an answer: {error!r}") from error


def _whole(sent: Sent, url: str) -> Reply:
    body = json.loads(b"".join(piece for _, piece in sent.pieces))
    content = body["choices"][0]["message"]["content"] or ""
    return Reply(content, checked(body.get("steper"), url), _times(sent))


def _stream(sent: Sent, url: str) -> Reply:
    content, events, first = "", [], dict[str, float]()
    for now, chunk in _chunks(sent):
        if "error" in chunk:
            raise failure(url, None, chunk["error"])
        delta = chunk["choices"][0]["delta"] if chunk["choices"] else {}
        if delta.get("reasoning_content"):
            first.setdefault("first_thought_seconds", now)
        if delta.get("content"):
            first.setdefault("first_answer_seconds", now)
            content += delta["content"]
        if event := chunk.get("steper"):
            events.append(event)
    return Reply(content, trace_of(events, content, url), _times(sent, **first))


def _times(sent: Sent, **firsts: float) -> Times:
    first_byte = sent.pieces[0][0] if sent.pieces else None
    return Times(sent.wall_seconds, first_byte, **firsts)


def _chunks(sent: Sent) -> Iterator[tuple[float, Mapping[str, Any]]]:
    """Every chunk of a stream, with the time when all of it was there."""
    ends = list(accumulate(len(piece) for _, piece in sent.pieces))
    reached = 0
    for frame in b"".join(piece for _, piece in sent.pieces).split(b"\n\n"):
        reached += len(frame) + 2
        if frame.startswith(b"data: ") and frame != b"data: [DONE]":
            arrived = min(bisect_left(ends, reached), len(ends) - 1)
            yield sent.pieces[arrived][0], json.loads(frame[len(b"data: ") :])


def _error(body: bytes) -> Mapping[str, Any]:
    """What a body says of an error, in the form of OpenAI's errors as far as it has it."""
    try:
        told = json.loads(body)
    except ValueError:
        return {"message": body[:200].decode(errors="replace")}
    error = told.get("error", told) if isinstance(told, dict) else told
    return error if isinstance(error, dict) else {"message": str(error)}


class _Connection(asyncio.Protocol):
    """One connection, on which one request follows another."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._ended: asyncio.Future[None] | None = None
        self._is_kept = False
        self._num_sent = 0

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def is_used_up(self) -> bool:
        """Whether it ended between two requests, so that the second was never heard."""
        return self._num_sent > 1 and not self._pieces

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def send(self, request: bytes, streamed: bool, silence: float) -> Sent:
        """Send a request and wait for all of its answer.

        Raises:
            ConnectionError: the connection ended before.
            TimeoutError: nothing came for `silence` seconds.
            HttpParserError: what came is not HTTP.
        """
        self._num_sent += 1
        self._pieces: list[tuple[float, bytes]] = []
        self._parser = httptools.HttpResponseParser(self)
        self._ended = asyncio.get_running_loop().create_future()
        self._start = self._heard = time.perf_counter()
        try:
            if self._transport is None or self._transport.is_closing():
                raise ConnectionResetError("the connection was closed")
            self._transport.write(request)
            await self._wait(self._ended, silence)
        except BaseException:
            self._ended.cancel()  # nobody waits for it any longer
            self.close()
            raise
        if not self._is_kept:
            self.close()
        wall = round(self._heard - self._start, 6)
        return Sent(streamed, self._parser.get_status_code(), tuple(self._pieces), wall)

    async def _wait(self, ended: "asyncio.Future[None]", silence: float) -> None:
        while (left := self._heard + silence - time.perf_counter()) > 0:
            await asyncio.wait({ended}, timeout=left)
            if ended.done():
                return ended.result()
        raise TimeoutError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._heard = time.perf_counter()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(error)

    def connection_lost(self, error: Exception | None) -> None:
        self._end(ConnectionResetError(f"the connection was closed early ({error or 'by it'})"))

    def on_body(self, body: bytes) -> None:
        self._pieces.append((round(self._heard - self._start, 6), body))

    def on_message_complete(self) -> None:
        self._is_kept = self._parser.should_keep_alive()
        self._end(None)

    def _end(self, error: Exception | None) -> None:
        if self._ended is None or self._ended.done():
            return
        if error is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(error)
