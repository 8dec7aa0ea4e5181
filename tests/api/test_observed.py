"""What an operator sees of requests: ids, lines and metrics, and what is not in any of them."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx
import openai
import pytest
from openai import AsyncOpenAI
from prometheus_client.parser import text_string_to_metric_families

from steper_serve.api.admission import Admission
from steper_serve.api.app import Policy, Telemetry
from steper_serve.api.keys import Keyring, read_keys
from steper_serve.api.limits import Limits
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

SECRET = "a-key-of-the-test"
KEYS = Policy(keys=Keyring(tuple(read_keys(f"ada:{SECRET}", "a test"))))


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="steper_serve")
    return caplog


@asynccontextmanager
async def _both(
    model: ScriptedModel, key: str = "none", **guarded: object
) -> AsyncIterator[tuple[AsyncOpenAI, httpx.AsyncClient]]:
    async with (
        served(make_loop(model), **guarded) as url,
        official(url, key) as client,
        httpx.AsyncClient(base_url=url) as http,
    ):
        yield client, http


def _lines(told: pytest.LogCaptureFixture, event: str) -> list[logging.LogRecord]:
    return [record for record in told.records if getattr(record, "event", None) == event]


async def _line(told: pytest.LogCaptureFixture, event: str) -> logging.LogRecord:
    """The one line of its kind; written when the response is over, which is after it came."""
    await until(lambda: bool(_lines(told, event)))
    [line] = _lines(told, event)
    return line


async def _metrics(http: httpx.AsyncClient) -> dict[tuple[str, str], float]:
    """Every sample, by its name and its labels' values, as the official parser reads them."""
    text = (await http.get("/metrics")).text
    return {
        (s.name, ",".join(s.labels[name] for name in sorted(s.labels))): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


@pytest.mark.parametrize("given", ["abc-123", "a" * 128, "trace:1/2=3@x.y"])
async def test_a_sensible_request_id_is_taken_over(given: str) -> None:
    async with _both(ScriptedModel([])) as (_, http):
        for path in ("/health", "/v1/models", "/v1/nothing"):
            response = await http.get(path, headers={"x-request-id": given})
            assert response.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a b", "a" * 129, "häh".encode(), "<script>"])
async def test_any_other_is_replaced_by_one_of_ours(given: str) -> None:
    async with _both(ScriptedModel([])) as (_, http):
        ids = [
            (await http.get("/health", headers={"x-request-id": given})).headers["x-request-id"]
            for _ in range(2)
        ]
    assert all(re.fullmatch("[0-9a-f]{32}", id) for id in ids)
    assert ids[0] != ids[1]


async def test_every_refusal_has_an_id_where_the_official_client_looks_for_it() -> None:
    policy = Policy(keys=KEYS.keys, limits=Limits(max_body_bytes=2000))
    async with _both(ScriptedModel(by_step), SECRET, policy=policy) as (client, http):
        with pytest.raises(openai.APIStatusError) as refused:
            await client.chat.completions.create(
                model="steper", messages=ASKED, n=2, extra_headers={"x-request-id": "mine"}
            )
        assert refused.value.request_id == "mine"
        for path in ("/v1/corpus", "/metrics", "/nowhere"):
            assert (await http.get(path)).headers["x-request-id"]
        too_large = await http.post(
            "/v1/chat/completions",
            content=b"x" * 3000,
            headers={"Authorization": f"Bearer {SECRET}"},
        )
        assert (too_large.status_code, bool(too_large.headers["x-request-id"])) == (413, True)


async def test_what_nobody_foresaw_is_named_by_its_id(told: pytest.LogCaptureFixture) -> None:
    def speak(_: object) -> str:
        raise ZeroDivisionError

    async with _both(ScriptedModel(speak)) as (client, http):
        with pytest.raises(openai.InternalServerError, match="request id abc") as broken:
            await client.chat.completions.create(
                model="steper", messages=ASKED, extra_headers={"x-request-id": "abc"}
            )
        assert broken.value.request_id == "abc"
        line = await _line(told, "answer")
        samples = await _metrics(http)
    assert (line.outcome, line.status, line.levelname) == ("internal_error", 500, "ERROR")
    assert samples["steper_answers_total", "internal_error,ircot"] == 1


async def test_an_answer_is_one_line_without_its_content(told: pytest.LogCaptureFixture) -> None:
    async with _both(ScriptedModel(by_step), SECRET, policy=KEYS) as (client, _):
        done = await client.chat.completions.create(
            model="steper-ircot", messages=ASKED, extra_headers={"x-request-id": "abc"}
        )
        line = await _line(told, "answer")
    assert (line.request_id, line.key, line.status) == ("abc", "ada", 200)
    assert (line.model, line.strategy, line.outcome) == ("steper-ircot", "ircot", "answer")
    assert (line.num_steps, line.streamed) == (3, False)
    assert line.num_prompt_tokens == done.usage.prompt_tokens
    assert line.num_completion_tokens == done.usage.completion_tokens
    assert line.seconds >= line.generation_seconds + line.retrieval_seconds > 0
    said = repr([record.__dict__ for record in told.records])
    for content in (QUESTION, "Verla", *THOUGHTS, *(p.text for p in PASSAGES), SECRET):
        assert content not in said


async def test_content_is_told_where_that_is_wanted(told: pytest.LogCaptureFixture) -> None:
    async with _both(ScriptedModel(by_step), telemetry=Telemetry(content=True)) as (client, _):
        await client.chat.completions.create(model="steper", messages=ASKED)
        line = await _line(told, "answer")
    assert (line.question, line.answer) == (QUESTION, "Verla")
    assert line.steps[0]["query"] == QUESTION
    assert line.steps[0]["passages"][0]["text"] == PASSAGES[0].text


async def test_a_refusal_is_one_line_without_what_was_said(told: pytest.LogCaptureFixture) -> None:
    async with _both(ScriptedModel([])) as (_, http):
        await http.post("/v1/chat/completions", json={"model": QUESTION, "messages": ASKED})
        line = await _line(told, "refusal")
        await http.get("/v1/passages", params={"query": QUESTION, "top_k": 99})
        await until(lambda: len(_lines(told, "refusal")) == 2)
    assert (line.status, line.code, line.path) == (404, "model_not_found", "/v1/chat/completions")
    assert QUESTION not in repr([record.__dict__ for record in told.records])


async def test_health_and_what_is_shown_make_no_lines(told: pytest.LogCaptureFixture) -> None:
    model = ScriptedModel([])
    model.down = "away"
    async with _both(model) as (_, http):
        for path in ("/health", "/ready", "/metrics", "/v1/corpus"):
            await http.get(path)
    assert not [r for r in told.records if r.name.startswith("steper_serve")]


async def test_a_path_cannot_forge_a_line(told: pytest.LogCaptureFixture) -> None:
    async with _both(ScriptedModel([])) as (_, http):
        await http.get("/x%0A12:00:00 INFO forged" + "y" * 500)
        line = await _line(told, "refusal")
    assert "\n" not in line.getMessage()
    assert len(line.getMessage()) < 400


async def test_metrics_count_what_the_answers_say() -> None:
    async with _both(ScriptedModel(by_step)) as (client, http):
        chat = client.chat.completions
        used = []
        for model in ("steper-ircot", "steper-raw"):
            used.append((await chat.create(model=model, messages=ASKED)).usage)
            stream = await chat.create(
                model=model, messages=ASKED, stream=True, stream_options={"include_usage": True}
            )
            used.append([chunk.usage async for chunk in stream][-1])
        with pytest.raises(openai.BadRequestError):
            await chat.create(model="steper", messages=ASKED, n=2)
        await http.get("/nowhere")
        samples = await _metrics(http)
    assert samples["steper_answers_total", "answer,ircot"] == 2
    assert samples["steper_answers_total", "stop,raw"] == 2
    assert samples["steper_prompt_tokens_total", ""] == sum(u.prompt_tokens for u in used)
    assert samples["steper_completion_tokens_total", ""] == sum(u.completion_tokens for u in used)
    assert samples["steper_answer_steps_sum", ""] == 3 + 3 + 1 + 1
    assert samples["steper_retrieval_seconds_count", ""] == 6
    assert samples["steper_generation_seconds_count", ""] == 8
    assert samples["steper_answer_seconds_count", ""] == 4
    assert samples["steper_first_byte_seconds_count", ""] == 2
    assert samples["steper_queue_seconds_count", ""] == 4
    refused = "steper_refused_requests_total"
    assert samples[refused, "unsupported_parameter,invalid_request_error"] == 1
    assert samples[refused, "unknown_url,invalid_request_error"] == 1
    assert samples["steper_index_passages", ""] == 3
    assert samples["process_resident_memory_bytes", ""] > 0


async def test_gauges_tell_what_runs_and_what_waits() -> None:
    gate, admission = asyncio.Event(), Admission(max_running=1)
    model = ScriptedModel(by_step, gate=gate)
    async with _both(model, admission=admission) as (client, http):
        asked = [
            asyncio.create_task(client.chat.completions.create(model="steper", messages=ASKED))
            for _ in range(3)
        ]
        await until(lambda: admission.num_present == 3)
        samples = await _metrics(http)
        assert samples["steper_answers_running", ""] == 1
        assert samples["steper_answers_queued", ""] == 2
        # One that is given up while it waits says nothing of how long answers take.
        asked.pop().cancel()
        await until(lambda: admission.num_present == 2)
        gate.set()
        await asyncio.gather(*asked)
        samples = await _metrics(http)
        assert samples["steper_answer_steps_count", ""] == 2
        assert samples["steper_answer_seconds_count", ""] == 2


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("model_id", ["steper", "steper-raw"])
async def test_how_an_answer_broke_off_is_told(
    streamed: bool, model_id: str, told: pytest.LogCaptureFixture
) -> None:
    gate = asyncio.Event()
    strategy = "raw" if model_id == "steper-raw" else "ircot"
    async with _both(ScriptedModel([EngineFailed("broken"), *THOUGHTS], gate=gate)) as (
        client,
        http,
    ):

        async def ask() -> None:
            done = await client.chat.completions.create(
                model=model_id, messages=ASKED, stream=streamed
            )
            if streamed:
                async for _ in done:
                    pass

        with pytest.raises(openai.APIError):
            await ask()
        leaving = asyncio.create_task(ask())
        running = ("steper_answers_running", "")
        while (await _metrics(http))[running] != 1:
            await asyncio.sleep(0.01)
        leaving.cancel()
        with suppress(asyncio.CancelledError):
            await leaving
        await until(lambda: len(_lines(told, "answer")) == 2)
        samples = await _metrics(http)
    assert [line.outcome for line in _lines(told, "answer")] == ["engine_failed", "client_left"]
    assert samples["steper_answers_total", f"engine_failed,{strategy}"] == 1
    assert samples["steper_answers_total", f"client_left,{strategy}"] == 1
    assert "broken" not in repr([line.__dict__ for line in _lines(told, "answer")])


async def test_metrics_want_a_key_where_all_else_does() -> None:
    async with _both(ScriptedModel([]), policy=KEYS) as (_, http):
        assert (await http.get("/metrics")).status_code == 401
        shown = await http.get("/metrics", headers={"Authorization": f"Bearer {SECRET}"})
        assert shown.headers["content-type"].startswith("text/plain")
        assert "ada" not in shown.text


async def test_labels_are_names_of_ours() -> None:
    """Whatever is asked for, there are as many series as there are kinds of refusals."""
    async with _both(ScriptedModel(by_step)) as (_, http):
        for number in range(20):
            await http.get(f"/nowhere/{number}")
            await http.post("/v1/chat/completions", json={"model": f"m{number}", "messages": ASKED})
            await http.request(f"METHOD{number}", "/v1/models")
        refused = [name for name in await _metrics(http) if "refused_requests_total" in name[0]]
    assert len(refused) == 2
