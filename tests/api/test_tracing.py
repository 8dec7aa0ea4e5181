"""Traces of answers, by the SDK's own in-memory exporter and the conventions' own names."""

import json
import logging
from collections.abc import Sequence

import openai
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.trace import SpanKind, StatusCode

from steper_serve.api.app import Telemetry
from steper_serve.errors import EngineFailed
from steper_serve.generation.scripted import ScriptedModel
from tests.api.serving import (
    ASKED,
    PASSAGES,
    QUESTION,
    THOUGHTS,
    by_step,
    make_loop,
    official,
    served,
    until,
)

CONVENTIONS = {
    value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_")
}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def _spans(
    model: ScriptedModel, *, content: bool = False, headers: dict | None = None, **asked: object
) -> Sequence[ReadableSpan]:
    """The spans of one answer, in the order in which they ended."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry = Telemetry(provider.get_tracer("test"), content)
    async with served(make_loop(model), telemetry=telemetry) as url, official(url) as client:
        try:
            done = await client.chat.completions.create(
                **{"model": "steper-ircot", "messages": ASKED, **asked}, extra_headers=headers
            )
            if asked.get("stream"):
                async for _ in done:
                    pass
        except openai.APIError:
            pass
        await until(lambda: any(span.kind == SpanKind.SERVER for span in _finished(exporter)))
    provider.shutdown()
    return _finished(exporter)


def _finished(exporter: InMemorySpanExporter) -> Sequence[ReadableSpan]:
    return exporter.get_finished_spans()


def _under(spans: Sequence[ReadableSpan], above: ReadableSpan | None) -> list[ReadableSpan]:
    id = above and above.context.span_id
    found = [span for span in spans if (span.parent and span.parent.span_id) == id]
    return sorted(found, key=lambda span: span.start_time)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_is_a_tree_of_spans(stream: bool) -> None:
    spans = await _spans(ScriptedModel(by_step), stream=stream)
    [root] = _under(spans, None)
    assert (root.name, root.kind) == ("invoke_agent steper-ircot", SpanKind.SERVER)
    steps = _under(spans, root)
    assert [step.name for step in steps] == ["step 1", "step 2", "step 3"]
    work = [[span.name for span in _under(spans, step)] for step in steps]
    assert work == [["retrieval index", "text_completion steper-ircot"]] * 3
    assert len(spans) == 1 + 3 + 6
    for step in steps:
        for inner, outer in [(step, root), *((w, step) for w in _under(spans, step))]:
            assert outer.start_time <= inner.start_time <= inner.end_time <= outer.end_time
    assert root.status.status_code is StatusCode.UNSET


async def test_attributes_are_the_conventions_own_and_add_up() -> None:
    spans = await _spans(ScriptedModel(by_step), stream=True)
    ours = {name for span in spans for name in span.attributes}
    assert {name for name in ours if name.startswith("gen_ai.")} <= CONVENTIONS
    assert all(n.startswith(("gen_ai.", "steper.", "http.response.")) for n in ours)
    [root] = _under(spans, None)
    assert root.attributes["gen_ai.request.model"] == "steper-ircot"
    assert root.attributes["steper.outcome"] == "answer"
    assert root.attributes["gen_ai.response.time_to_first_chunk"] > 0
    texts = [span for span in spans if span.name.startswith("text_completion")]
    for name in ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"):
        assert root.attributes[name] == sum(span.attributes[name] for span in texts) > 0


async def test_content_is_no_attribute_unless_it_is_wanted() -> None:
    spans = await _spans(ScriptedModel(by_step))
    said = repr([(span.name, dict(span.attributes), span.events) for span in spans])
    for content in (QUESTION, "Verla", *THOUGHTS, *(p.text for p in PASSAGES)):
        assert content not in said
    spans = await _spans(ScriptedModel(by_step), content=True)
    [root] = _under(spans, None)
    [asked] = json.loads(root.attributes["gen_ai.input.messages"])
    assert asked == {"role": "user", "parts": [{"type": "text", "content": QUESTION}]}
    first = next(span for span in spans if span.name == "retrieval index")
    assert first.attributes["gen_ai.retrieval.query.text"] == QUESTION
    [found, *_] = json.loads(first.attributes["gen_ai.retrieval.documents"])
    assert found["text"] == PASSAGES[0].text


async def test_a_trace_that_comes_in_goes_on() -> None:
    spans = await _spans(ScriptedModel(by_step), headers={"traceparent": PARENT})
    root = next(span for span in spans if span.kind == SpanKind.SERVER)
    assert f"{root.context.trace_id:032x}" == PARENT.split("-")[1]
    assert f"{root.parent.span_id:016x}" == PARENT.split("-")[2]
    assert {span.context.trace_id for span in spans} == {root.context.trace_id}


async def test_one_that_says_that_it_is_not_kept_is_not() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry = Telemetry(provider.get_tracer("test"))
    loop = make_loop(ScriptedModel(by_step))
    async with served(loop, telemetry=telemetry) as url, official(url) as client:
        await client.chat.completions.create(
            model="steper", messages=ASKED, extra_headers={"traceparent": f"{PARENT[:-2]}00"}
        )
    assert _finished(exporter) == ()
    provider.shutdown()


async def test_a_nonsensical_parent_is_none() -> None:
    spans = await _spans(ScriptedModel(by_step), headers={"traceparent": "00-nonsense"})
    assert len(_under(spans, None)) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_what_breaks_is_an_error_with_the_steps_before(stream: bool) -> None:
    model = ScriptedModel([THOUGHTS[0], EngineFailed("broken")])
    spans = await _spans(model, stream=stream)
    [root] = _under(spans, None)
    assert root.status.status_code is StatusCode.ERROR
    assert root.attributes["error.type"] == "engine_failed"
    assert [step.name for step in _under(spans, root)] == ["step 1", "step 2"]


async def test_the_line_of_an_answer_names_its_trace(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="steper_serve")
    spans = await _spans(ScriptedModel(by_step))
    [line] = [r for r in caplog.records if getattr(r, "event", None) == "answer"]
    assert line.trace_id == f"{spans[0].context.trace_id:032x}"
