"""A small HTTP server over a real socket that answers as badly as it is told to.

Replies are served in order, the last one for ever; every request is kept. What is left out:
keep-alive, and any HTTP that the official OpenAI client does not speak.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Reply:
    """Args: end: "close" cleanly, "cut" a chunked body short, or "hang" after what was sent."""

    status: int = 200
    body: Any = None
    events: Sequence[Any] = ()
    headers: tuple[tuple[str, str], ...] = ()
    end: str = "close"


@dataclass
class FaultServer:
    url: str
    paths: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)
    num_open: int = 0


def event(text: str | None = None, finish: str | None = None, **extra: Any) -> dict[str, Any]:
    """One chunk of a streamed completion."""
    choices = [] if text is None else [{"index": 0, "text": text, "finish_reason": finish}]
    return {"id": "c", "object": "text_completion", "created": 1, "model": "m"} | {
        "choices": choices,
        **extra,
    }


USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
GOOD = Reply(events=[event(" two"), event(" words", "stop"), event(usage=USAGE), "[DONE]"])


@asynccontextmanager
async def serve(*replies: Reply) -> AsyncIterator[FaultServer]:
    queue = list(replies)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        faults.num_open += 1
        try:
            await _keep(reader, faults)
            reply = queue.pop(0) if len(queue) > 1 else queue[0]
            await _send(reply, reader, writer)
        finally:
            faults.num_open -= 1
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    faults = FaultServer(f"http://{host}:{port}/v1")
    async with server:
        yield faults


async def _keep(reader: asyncio.StreamReader, faults: FaultServer) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = [
        int(line.partition(":")[2])
        for line in head.splitlines()
        if line.lower().startswith("content-length:")
    ]
    body = await reader.readexactly(length[0]) if length else b"{}"
    faults.paths.append(head.split()[1])
    faults.headers.append(head.lower())
    faults.bodies.append(json.loads(body))


async def _send(reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    kind = "text/event-stream" if reply.events else "application/json"
    head = [f"HTTP/1.1 {reply.status} Said", f"content-type: {kind}", "connection: close"]
    head += [f"{name}: {value}" for name, value in reply.headers]
    if reply.end == "hang" and not reply.events:
        await reader.read()
        return
    if not reply.events:
        body = json.dumps(reply.body).encode()
        head.append(f"content-length: {len(body)}")
        writer.write("\r\n".join([*head, "", ""]).encode() + body)
        await writer.drain()
        return
    writer.write("\r\n".join([*head, "transfer-encoding: chunked", "", ""]).encode())
    for item in reply.events:
        data = f"data: {item if isinstance(item, str) else json.dumps(item)}\n\n".encode()
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
    if reply.end == "close":
        writer.write(b"0\r\n\r\n")
    await writer.drain()
    if reply.end == "hang":
        await reader.read()
