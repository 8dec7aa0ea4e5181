"""A question over HTTP by the official `openai` client: its answer, its trace, its times.

A whole answer and a stream give the same trace; a stream tells besides when its first byte, its
first thought and its first piece of answer came. What is left out: scoring (rows), and what to
do about a failure (running).
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import openai

from steper_serve.benchmarks.cells import Cell
from steper_serve.benchmarks.endpoint import EndpointClient, openai_client
from steper_serve.benchmarks.failures import AnswerFailed, EndpointUnreachable, RequestRefused
from steper_serve.errors import SteperError
from steper_serve.trace import TIMES

_RESULT = ("answer", "stop_reason", "usage", "seconds")
_REFUSED_PARAMS = ("model", "steper", "stream_options")
_UNREADY = frozenset({"engine_unavailable", "engine_timeout", "index_unavailable"})


@dataclass(frozen=True, slots=True)
class Times:
    """When what came, in seconds from the request; None for what did not come by itself."""

    wall_seconds: float
    first_byte_seconds: float | None = None
    first_thought_seconds: float | None = None
    first_answer_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """`content` is the answer as a user reads it; `trace` has the form of `ask --json`."""

    content: str
    trace: Mapping[str, Any]
    times: Times


class Client(EndpointClient):
    """Asks the endpoint at `url` (up to /v1); a context manager.

    Args:
        key: of an endpoint that wants one.
        timeout: seconds without a byte after which an answer is given up.
        num_retries: how often the client tries again by itself, where that is no harm.
    """

    def __init__(
        self, url: str, *, key: str | None = None, timeout: float = 600.0, num_retries: int = 0
    ) -> None:
        self.url = url
        self._timeout = timeout
        self._client = openai_client(url, key=key, timeout=timeout, num_retries=num_retries)

    async def close(self) -> None:
        """Give up all connections."""
        await self._client.close()

    async def models(self) -> list[str]:
        """The ids of the models there.

        Raises:
            EndpointUnreachable: nothing answers at the URL, or nothing that lists models.
            RequestRefused: the key is not accepted.
        """
        try:
            return [model.id async for model in self._client.models.list()]
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise RequestRefused(f"{self.url} refuses the key: {error.message}") from error
        except (openai.APIError, ValueError, TypeError, AttributeError) as error:
            raise EndpointUnreachable(
                f"{self.url} does not answer as a StepER server ({_cause(error)}): is it running, "
                "and does the URL end in /v1?"
            ) from error

    async def ask(self, cell: Cell, question: str) -> Reply:
        """The answer to a question under a cell's settings.

        Raises:
            AnswerFailed: this question has no answer.
            EndpointUnreachable: nothing answers there, or it says that it is not ready.
            RequestRefused: no question of this cell can be answered.
        """
        start = time.perf_counter()
        try:
            if cell.streamed:
                return await self._streamed(request_of(cell, question), start)
            done = await self._client.chat.completions.create(**request_of(cell, question))
        except openai.APIError as error:
            raise self._error(error) from error
        except ValueError as error:
            raise AnswerFailed(f"{self.url} sent what is not JSON: {error}") from error
        times = Times(_since(start))
        trace = checked(getattr(done, "steper", None), self.url)
        return Reply(done.choices[0].message.content or "", trace, times)

    async def _streamed(self, request: Mapping[str, Any], start: float) -> Reply:
        content, events, first = "", [], dict[str, float]()
        async with await self._client.chat.completions.create(**request, stream=True) as stream:
            async for chunk in stream:
                now = _since(start)
                first.setdefault("first_byte_seconds", now)
                delta = chunk.choices[0].delta if chunk.choices else None
                if getattr(delta, "reasoning_content", None):
                    first.setdefault("first_thought_seconds", now)
                if delta is not None and delta.content:
                    first.setdefault("first_answer_seconds", now)
                    content += delta.content
                if event := getattr(chunk, "steper", None):
                    events.append(event)
        times = Times(_since(start), **first)
        return Reply(content, trace_of(events, content, self.url), times)

    def _error(self, error: openai.APIError) -> SteperError:
        """Ours for one of the client's; the message names the URL."""
        match error:
            case openai.APITimeoutError():
                return AnswerFailed(f"{self.url} was silent for {self._timeout:.0f} s")
            case openai.APIConnectionError():
                return EndpointUnreachable(f"{self.url} cannot be reached: {_cause(error)}")
        body = error.body if isinstance(error.body, Mapping) else {}
        return failure(self.url, _status(error), {"message": error.message, **body})


def failure(url: str, status: int | None, body: Mapping[str, Any]) -> SteperError:
    """Ours for an answer of `url` with an error: its status, None within a stream, and `error`."""
    said = f"{url} answered {status or 'with an error'}: {body.get('message')}"
    if status in (429, 503) or body.get("code") in _UNREADY:
        return EndpointUnreachable(said)
    param = str(body.get("param") or "").partition(".")[0]
    if status in (401, 403, 404) or param in _REFUSED_PARAMS:
        return RequestRefused(said)
    return AnswerFailed(said, body)


def checked(trace: Any, url: str) -> Mapping[str, Any]:
    """A trace with all that rows need of it.

    Raises:
        RequestRefused: there is none.
        AnswerFailed: it breaks off.
    """
    if not isinstance(trace, Mapping) or not isinstance(trace.get("steps"), list):
        raise RequestRefused(
            f"{url} sends no trace of its steps: it is no StepER server, or what stands "
            "between takes the field `steper` away"
        )
    if missing := [name for name in _RESULT if name not in trace]:
        raise AnswerFailed(f"{url} ended an answer before its {missing[0]!r}")
    return trace


def trace_of(events: Sequence[Mapping[str, Any]], content: str, url: str) -> Mapping[str, Any]:
    """The trace of a stream with all that rows need of it.

    Raises:
        RequestRefused: an answer came, and no event of a trace.
        AnswerFailed: it breaks off, maybe before anything came.
    """
    return checked(joined(events) if events or not content else None, url)


def joined(events: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The trace that a stream's events are of; without a last event its result is missing."""
    steps: dict[int, dict[str, Any]] = {}
    result: Mapping[str, Any] = {}
    for event in events:
        if "step" not in event:
            result = event
            continue
        step = steps.setdefault(event["step"], _no_step())
        step.update({name: event[name] for name in ("query", "passages") if name in event})
        if thought := event.get("thought"):
            step["thought"] = f"{step['thought']} {thought}".lstrip()
        step["completions"] += event.get("completions", [])
        step["forced"] |= event.get("forced", False)
        for name in TIMES:
            step[name] += event.get(name) or 0.0
    return {"steps": [steps[number] for number in sorted(steps)], **result}


def _since(start: float) -> float:
    return round(time.perf_counter() - start, 6)  # so that what is read back is the same


def _no_step() -> dict[str, Any]:
    wrote = {"thought": "", "completions": [], "forced": False}
    return {"query": None, "passages": [], **wrote, **dict.fromkeys(TIMES, 0.0)}


def request_of(cell: Cell, question: str) -> dict[str, Any]:
    """What is asked, as arguments of the official client."""
    chosen = {"strategy": cell.strategy, "max_steps": cell.max_steps, "top_k": cell.top_k}
    steper = {name: value for name, value in chosen.items() if value is not None}
    return {
        "model": cell.model,
        "messages": [{"role": "user", "content": question}],
        "extra_body": {"steper": {"trace": True, **steper}},
    }


def _status(error: openai.APIError) -> int | None:
    return error.status_code if isinstance(error, openai.APIStatusError) else None


def _cause(error: BaseException) -> str:
    """The innermost reason that says something."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__
