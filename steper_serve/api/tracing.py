"""An OpenTelemetry trace of each answer: a span for it, one a step, and in a step one a search and
one a generation.

A trace is made of a closed account, each span with the times that were noted, so that an answer
under way knows nothing of it. Names and attributes are those of the semantic conventions for
generative AI where there are any, ours (`steper.*`) elsewhere. What is left out: where spans are
sent (cli).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from steper_serve.api.account import BROKEN, RAW, Account, Answering
from steper_serve.drivers import Event, Found, Generated, Searching

Attributes = Mapping[str, str | bool | int | float | Sequence[str]]

PROVIDER = "steper_serve"
_NS = 10**9


class Tracing:
    """Makes traces of closed accounts of answers.

    Args:
        tracer: makes and exports the spans.
        content: whether questions, answers and passages become attributes.
    """

    def __init__(self, tracer: Tracer, *, content: bool = False) -> None:
        self._tracer = tracer
        self._content = content

    def observe(self, account: Account) -> None:
        """Make the trace of an answer, and note its id in the account."""
        if (answer := account.answer) is None:
            return
        above = TraceContextTextMapPropagator().extract(account.trace_parent, context=Context())
        operation = "chat" if answer.strategy == RAW else "invoke_agent"
        span = self._tracer.start_span(
            f"{operation} {account.model}",
            above,
            SpanKind.SERVER,
            {**dict(_known(account, answer, operation)), **self._asked(answer)},
            start_time=account.began_ns,
        )
        if span.get_span_context().is_valid:
            account.trace_id = trace.format_trace_id(span.get_span_context().trace_id)
        _tell_failure(span, answer)
        within = trace.set_span_in_context(span, Context())
        for number, events in groupby(answer.events, key=lambda item: item[1].step):
            self._step(number, list(events), account, within)
        span.end(_at(account, account.seconds))

    def _step(
        self, number: int, events: list[tuple[float, Event]], account: Account, within: Context
    ) -> None:
        starts = [at - _seconds(event) for at, event in events]
        span = self._tracer.start_span(
            f"step {number}",
            within,
            attributes={"steper.step": number},
            start_time=_at(account, min(starts)),
        )
        inside = trace.set_span_in_context(span, Context())
        query = ""
        for start, (at, event) in zip(starts, events, strict=True):
            if isinstance(event, Searching):
                query = event.query
            else:
                self._work(event, query, account, inside, (start, at))
        span.end(_at(account, events[-1][0]))

    def _work(
        self,
        event: Event,
        query: str,
        account: Account,
        within: Context,
        between: tuple[float, float],
    ) -> None:
        if isinstance(event, Found):
            operation, target, told = "retrieval", "index", self._of_search(event, query)
        else:
            assert isinstance(event, Generated)  # noqa: S101 - for the type checker
            operation, target, told = "text_completion", account.model, self._of_text(event)
        span = self._tracer.start_span(
            f"{operation} {target}",
            within,
            SpanKind.CLIENT,
            {"gen_ai.operation.name": operation, "gen_ai.provider.name": PROVIDER, **told},
            start_time=_at(account, between[0]),
        )
        span.end(_at(account, between[1]))

    def _asked(self, answer: Answering) -> Attributes:
        if not self._content:
            return {}
        asked: Attributes = {"gen_ai.input.messages": _message("user", answer.question)}
        done = answer.trajectory
        if done is None:
            return asked
        return {**asked, "gen_ai.output.messages": _message("assistant", done.answer)}

    def _of_search(self, event: Found, query: str) -> Attributes:
        told: Attributes = {"steper.num_passages": len(event.passages)}
        if not self._content:
            return told
        passages = [
            {"id": p.id, "score": p.score, "title": p.title, "text": p.text} for p in event.passages
        ]
        return {
            **told,
            "gen_ai.retrieval.query.text": query,
            "gen_ai.retrieval.documents": json.dumps(passages),
        }

    def _of_text(self, event: Generated) -> Attributes:
        done = event.completion
        parts = {
            "queue": done.queue_seconds,
            "prefill": done.prefill_seconds,
            "decode": done.decode_seconds,
        }
        said = {"gen_ai.output.messages": _message("assistant", event.text)}
        return {
            "gen_ai.usage.input_tokens": done.num_prompt_tokens,
            "gen_ai.usage.output_tokens": done.num_completion_tokens,
            "gen_ai.usage.cache_read.input_tokens": done.num_cached_tokens,
            "gen_ai.response.finish_reasons": [done.finish_reason],
            "steper.forced": event.final,
            **{f"steper.{name}_seconds": s for name, s in parts.items() if s is not None},
            **(said if self._content else {}),
        }


def _known(
    account: Account, answer: Answering, operation: str
) -> Iterator[tuple[str, str | bool | int | float]]:
    yield "gen_ai.operation.name", operation
    yield "gen_ai.provider.name", PROVIDER
    yield "gen_ai.request.model", account.model
    yield "gen_ai.request.stream", account.streamed
    yield "gen_ai.usage.input_tokens", answer.usage.num_prompt_tokens
    yield "gen_ai.usage.output_tokens", answer.usage.num_completion_tokens
    yield "gen_ai.usage.cache_read.input_tokens", answer.usage.num_cached_tokens
    if account.streamed and account.first_byte_seconds is not None:
        yield "gen_ai.response.time_to_first_chunk", account.first_byte_seconds
    yield "http.response.status_code", account.status
    yield "steper.request_id", account.request_id
    yield "steper.strategy", answer.strategy
    yield "steper.outcome", answer.outcome
    yield "steper.num_steps", answer.num_steps
    if answer.queued_seconds is not None:
        yield "steper.queued_seconds", answer.queued_seconds


def _tell_failure(span: Span, answer: Answering) -> None:
    """As the conventions want it: what a client has got wrong is no error of a server's span."""
    error = answer.error
    if error is not None or answer.outcome == BROKEN:
        span.set_attribute("error.type", answer.outcome)
        if error is None or error.status >= 500:
            span.set_status(Status(StatusCode.ERROR))


def _seconds(event: Event) -> float:
    return event.seconds if isinstance(event, Found | Generated) else 0.0


def _at(account: Account, seconds: float) -> int:
    return account.began_ns + round(seconds * _NS)


def _message(role: str, text: str) -> str:
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}])
