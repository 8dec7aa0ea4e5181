"""Answer a question through the loop: in one piece, or as a stream of its steps."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

from openai.types.chat import ChatCompletion

from steper_serve.api.admitted import Admitted
from steper_serve.api.errors import error_frame
from steper_serve.api.reply import (
    ReasoningText,
    Reply,
    annotations_of,
    content_of,
    finish_reason_of,
)
from steper_serve.api.request import ChatRequest, read_ask
from steper_serve.api.streams import DONE, followed, frame
from steper_serve.drivers import Event, Wrote
from steper_serve.errors import SteperError
from steper_serve.trace import Clockwork, event_json, result_json, trace_json
from steper_serve.trajectory import Trajectory


async def answer(admitted: Admitted, request: ChatRequest, base_url: str) -> ChatCompletion:
    """The whole answer to a checked request."""
    start = time.perf_counter()
    reply, reasoning, clockwork = Reply(request.model), ReasoningText(), Clockwork()

    def watch(event: Event) -> None:
        clockwork(event)
        if isinstance(event, Wrote):
            reasoning.add(event)

    trajectory = await admitted.run(read_ask(request), watch)
    seconds = time.perf_counter() - start
    return reply.whole(
        content_of(trajectory),
        finish_reason_of(trajectory),
        trajectory.usage,
        steper=trace_json(trajectory, seconds, clockwork) if request.options.trace else None,
        reasoning_content=reasoning.text,
        annotations=annotations_of(trajectory, base_url),
    )


async def stream(
    admitted: Admitted, request: ChatRequest, base_url: str
) -> AsyncGenerator[bytes, None]:
    """The answer to a checked request as Server-Sent Events, as it comes.

    The first item comes with the first text (with a trace, with the first event), and what
    fails before it is raised; what fails later is sent as an error event.
    """
    opened = False
    held = b""
    try:
        async with aclosing(_frames(admitted, request, base_url)) as frames:
            async for item, opens in frames:
                held += item
                if opened := opened or opens:
                    yield held
                    held = b""
        yield held + DONE
    except SteperError as error:
        if not opened:
            raise
        yield held + error_frame(error)


async def _frames(
    admitted: Admitted, request: ChatRequest, base_url: str
) -> AsyncGenerator[tuple[bytes, bool], None]:
    """Each frame, and whether it is text."""
    start = time.perf_counter()
    reply, reasoning, trace = Reply(request.model), ReasoningText(), request.options.trace
    yield frame(reply.chunk(role="assistant", content="")), False
    async with aclosing(followed(partial(admitted.run, read_ask(request)))) as events:
        async for event in events:
            if isinstance(event, Trajectory):
                trajectory = event
            elif isinstance(event, Wrote):
                if text := reasoning.add(event):
                    yield frame(reply.chunk(reasoning_content=text)), True
            elif trace:
                yield frame(reply.chunk(steper=event_json(event))), True
    if content := content_of(trajectory):
        annotations = annotations_of(trajectory, base_url)
        yield frame(reply.chunk(content=content, annotations=annotations)), True
    if trace:
        result = result_json(trajectory, time.perf_counter() - start)
        yield frame(reply.chunk(steper=result)), True
    yield frame(reply.chunk(finish_reason=finish_reason_of(trajectory))), True
    if request.stream_options and request.stream_options.include_usage:
        yield frame(reply.usage_chunk(trajectory.usage)), True
