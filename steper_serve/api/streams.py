"""Work that ends when its client leaves, and Server-Sent Events.

What is left out: what is sent (chat, raw).
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import StreamingResponse

from steper_serve.api.account import account_of
from steper_serve.api.errors import ClientGone, error_frame, internal_error

_log = logging.getLogger(__name__)

T = TypeVar("T")
Event = TypeVar("Event")

DONE = b"data: [DONE]\n\n"
# A proxy must neither keep nor gather what is streamed.
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def frame(chunk: BaseModel) -> bytes:
    """A pydantic model as one Server-Sent Event."""
    return b"data: " + chunk.model_dump_json(exclude_unset=True).encode() + b"\n\n"


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do `work`, or cancel it as soon as the client leaves.

    Raises:
        ClientGone: the client has left.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_wait_until_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        gone.cancel()
        await _end(task)


async def followed(
    work: Callable[[Callable[[Event], None]], Coroutine[Any, Any, T]],
) -> AsyncGenerator[Event | T, None]:
    """What `work` tells its argument as it happens and, last, what it returns.

    It is one task from first to last; closing this cancels it and sees it end.
    """
    queue: asyncio.Queue[Event | None] = asyncio.Queue()
    task = asyncio.ensure_future(work(queue.put_nowait))
    task.add_done_callback(lambda _: queue.put_nowait(None))
    try:
        while (event := await queue.get()) is not None:
            yield event
        yield task.result()
    finally:
        await _end(task)


async def _end(task: asyncio.Future[Any]) -> None:
    """Cancel a task and wait until it has told what it used; what it ends in is nobody's."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()


async def event_stream(request: Request, frames: AsyncGenerator[bytes, None]) -> StreamingResponse:
    """A streamed response that opens with the first frame.

    What goes wrong before it is still an error with a status of its own. Starlette cancels the
    response, and with it `frames`, when the client leaves.
    """
    first = await unless_gone(request, anext(frames))

    async def body() -> AsyncGenerator[bytes, None]:
        try:
            yield first
            async for following in frames:
                yield following
        except Exception:  # noqa: BLE001 - the boundary: the status is sent, an error can be
            _log.exception("an answer broke off")
            yield error_frame(internal_error(account_of(request.scope).request_id))
        finally:
            await frames.aclose()

    return StreamingResponse(body(), media_type="text/event-stream", headers=_HEADERS)


async def _wait_until_gone(request: Request) -> None:
    # The body has been read, so that the next message can only be the disconnect.
    while (await request.receive())["type"] != "http.disconnect":
        pass
