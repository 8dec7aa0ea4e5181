"""Malformed requests, drawn by schemathesis from the endpoint's own OpenAPI document.

Over a real socket; a failure of the server would be a 500, whose shape OpenAI's clients know too.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

from steper_serve.api.app import Policy
from steper_serve.api.limits import Limits
from steper_serve.generation.scripted import ScriptedModel
from tests.api.serving import ASKED, by_step, make_loop, served

schemathesis = pytest.importorskip("schemathesis")

NUM_CASES = 150  # of each operation
POLICY = Policy(limits=Limits(max_answer_tokens=300))
_NO_HTTP = "Invalid HTTP request"  # uvicorn's own, of a URL that is too long, say
DEEP = b"[" * 200_000
ODD = [
    DEEP,
    b'{"messages": ' + DEEP,
    b'{"model": "steper", "messages": [{"role": "user", "content": ' + DEEP + b"}]}",
    b'{"seed": ' + b"9" * 10_000 + b"}",
    b'{"temperature": 1e999, "model": "steper", "messages": []}',
    b'{"temperature": NaN, "model": "steper", "messages": [{"role": "user", "content": "x"}]}',
    b'{"model": "\xed\xa0\x80"}',
    b'{"model": "steper", "model": null}',
    b"\x00" * 100,
    "\ufeff{}".encode(),
    "{}".encode("utf-16"),
]


def _of_questions(document: dict) -> dict:
    """Of answers alone, with what their schema leaves open: what is asked, and of which model."""
    chat = document["components"]["schemas"]["ChatRequest"]
    chat["properties"] |= {"model": {"enum": ["steper"]}, "messages": {"enum": [ASKED]}}
    chat["additionalProperties"] = False
    path = "/v1/chat/completions"
    return {**document, "paths": {path: document["paths"][path]}}


def _fuzz(url: str, mode: str, narrow: Callable[[dict], dict] = dict) -> Counter[int]:
    """How often each status came, over all operations."""
    document = narrow(httpx.get(f"{url}/openapi.json").json())
    statuses: Counter[int] = Counter()
    for found in schemathesis.openapi.from_dict(document).get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=NUM_CASES,
            deadline=None,
            database=None,
            phases=[Phase.generate],  # what is found is printed as it is
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode[mode]))
        def send(case: object) -> None:
            response = case.call(base_url=url, timeout=30)  # type: ignore[attr-defined]
            statuses[response.status_code] += 1
            assert response.status_code not in range(500, 600), (case, response.text)
            if response.status_code >= 400 and response.request.method != "HEAD":
                assert response.text.startswith(('{"error":', _NO_HTTP)), (case, response.text)

        with suppress(Unsatisfiable):  # what takes nothing cannot be asked wrongly
            send()
    return statuses


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", ["NEGATIVE", "POSITIVE"])
async def test_no_request_is_a_failure(mode: str) -> None:
    loop = make_loop(ScriptedModel(by_step))
    async with served(loop, policy=POLICY) as url:
        statuses = await asyncio.to_thread(_fuzz, url, mode)
    refused = sum(num for status, num in statuses.items() if 400 <= status < 500)
    assert refused >= 200 if mode == "NEGATIVE" else statuses[200] >= 100


async def test_well_formed_questions_are_answered() -> None:
    """Not all are: no schema tells what goes with what, and 1.0 is an integer to some."""
    async with served(make_loop(ScriptedModel(by_step)), policy=POLICY) as url:
        statuses = await asyncio.to_thread(_fuzz, url, "POSITIVE", _of_questions)
    assert statuses[200] >= 20


async def test_what_json_allows_and_nobody_sends() -> None:
    async with (
        served(make_loop(ScriptedModel(by_step)), policy=POLICY) as url,
        httpx.AsyncClient(base_url=url) as http,
    ):
        for body in ODD:
            headers = {"content-type": "application/json"}
            response = await http.post("/v1/chat/completions", content=body, headers=headers)
            assert response.status_code == 400, body[:80]
            assert response.json().keys() == {"error"}
