"""What a server tells while it runs: lines as JSON, and traces to a collector; real processes."""

import io
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from steper_serve.api.account import REQUEST_ID
from steper_serve.cli import logs
from steper_serve.retrieval import bm25
from steper_serve.trajectory import Passage
from tests.api.serving import official, served_app
from tests.cli.test_serve_ends import ASKED, _ended, serving

QUESTION = ASKED[0]["content"]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What is written in JSON; logging is as it was afterwards."""
    root = logging.getLogger()
    for name in ("uvicorn", "uvicorn.error"):  # a server run by another test may have set its own
        monkeypatch.setattr(logging.getLogger(name), "handlers", [])
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    before = root.handlers[:], root.level
    logs.set_up("json")
    out = io.StringIO()
    root.handlers[0].setStream(out)
    yield out
    root.handlers[:], level = before
    root.setLevel(level)
    logging.captureWarnings(False)


def test_lines_of_others_are_json_too_and_know_the_request(written: io.StringIO) -> None:
    token = REQUEST_ID.set("abc")
    try:
        raise ZeroDivisionError("of a\nquestion")
    except ZeroDivisionError as error:
        logging.getLogger("uvicorn.error").error("Exception in ASGI", exc_info=error)
    finally:
        REQUEST_ID.reset(token)
    logging.getLogger("uvicorn.error").info("is not told")
    logging.getLogger("steper_serve.api").info("is told", extra={"event": "start"})
    first, second = (json.loads(line) for line in written.getvalue().splitlines())
    assert (first["level"], first["logger"]) == ("ERROR", "uvicorn.error")
    assert first["request_id"] == "abc"
    assert "ZeroDivisionError" in first["exception"]
    assert (second["message"], second["event"]) == ("is told", "start")
    assert "request_id" not in second
    assert second["time"].endswith("+00:00")


async def test_a_server_tells_its_life_in_json() -> None:
    key = "a-key-of-the-test"
    flags = ("--log-format", "json")
    async with serving(*flags, STEPER_API_KEYS=f"ada:{key}") as (process, url, writer):
        writer.gate.set()
        async with official(url, key) as client, httpx.AsyncClient() as http:
            await client.chat.completions.create(
                model="steper-direct", messages=ASKED, extra_headers={"x-request-id": "abc"}
            )
            assert (await http.get(f"{url}/v1/corpus")).status_code == 401
        process.send_signal(signal.SIGTERM)
        code, said = await _ended(process)
    lines = [json.loads(line) for line in said.splitlines()]
    assert code == 0
    assert [line["event"] for line in lines] == ["answer", "refusal", "drain", "stop"]
    answer, refusal, *_ = lines
    assert (answer["request_id"], answer["key"], answer["outcome"]) == ("abc", "ada", "answer")
    assert (refusal["status"], refusal["code"]) == (401, "missing_api_key")
    assert refusal["client"] == "127.0.0.1"
    assert QUESTION not in said
    assert key not in said


async def test_citations_point_to_the_public_address(tmp_path: Path) -> None:
    used = Passage("v", "The Answer", "The Answer is a film about Verla.")
    bm25.build([used], tmp_path / "index")
    flags = ("--index", str(tmp_path / "index"), "--public-url", "https://box.example/steper/")
    async with serving(*flags) as (_, url, writer), official(url) as client:
        writer.gate.set()
        done = await client.chat.completions.create(model="steper-single", messages=ASKED)
    [cited] = done.choices[0].message.annotations
    assert cited.url_citation.url == "https://box.example/steper/v1/passages/v"


async def test_traces_reach_a_collector_before_the_server_has_ended() -> None:
    received: list[ExportTraceServiceRequest] = []
    collector = FastAPI()

    @collector.post("/v1/traces")
    async def traces(request: Request) -> Response:
        body = await request.body()
        received.append(ExportTraceServiceRequest.FromString(body))
        return Response(media_type="application/x-protobuf")

    async with served_app(collector) as where:
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": where,
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        }
        async with serving(**variables) as (process, url, writer):
            writer.gate.set()
            async with official(url) as client:
                await client.chat.completions.create(model="steper-direct", messages=ASKED)
            process.send_signal(signal.SIGTERM)
            assert (await _ended(process))[0] == 0
    [resource] = [r for request in received for r in request.resource_spans]
    named = {a.key: a.value.string_value for a in resource.resource.attributes}
    assert named["service.name"] == "steper-serve"
    names = {span.name for scope in resource.scope_spans for span in scope.spans}
    assert {"invoke_agent steper-direct", "step 1", "text_completion steper-direct"} <= names


async def test_a_collector_that_is_away_costs_no_answer_and_no_end() -> None:
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    async with serving(**variables) as (process, url, writer):
        writer.gate.set()
        async with official(url) as client:
            done = await client.chat.completions.create(model="steper-direct", messages=ASKED)
        assert done.choices[0].message.content == "Verla"
        process.send_signal(signal.SIGTERM)
        assert (await _ended(process))[0] == 0


def test_without_a_variable_nothing_of_the_sdk_is_loaded() -> None:
    check = (
        "import asyncio, sys\n"
        "from steper_serve.cli.telemetry import tracing\n"
        "async def main():\n"
        "    async with tracing() as tracer:\n"
        "        print(tracer, 'opentelemetry.sdk.trace' in sys.modules)\n"
        "asyncio.run(main())"
    )
    bare = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=True, env=bare
    )
    assert done.stdout.strip() == "None False"
