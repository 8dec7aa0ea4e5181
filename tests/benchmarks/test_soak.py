"""The soak: what it counts, over a real socket; and that it sees what should not be."""

import asyncio
from collections import Counter

import pytest
from fastapi import FastAPI, Response

from steper_serve.api.admission import Admission
from steper_serve.api.app import create_app
from steper_serve.benchmarks import soak as soaking
from steper_serve.benchmarks.failures import EndpointUnreachable
from steper_serve.benchmarks.soak import Plan, Seen, Soaked, growth
from steper_serve.errors import ConfigurationError
from steper_serve.generation.scripted import ScriptedModel
from steper_serve.trajectory import Generate
from tests.api.serving import QUESTION, by_step, make_loop, served_app

PLAN = Plan([QUESTION], seconds=2.0, room=4)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soaking, "_SAMPLE_SECONDS", 0.02)
    monkeypatch.setattr(soaking, "_LEAVE_SECONDS", 0.02)


class Slow(ScriptedModel):
    """Takes its time, so that there is no room for all."""

    async def generate(self, request: Generate):  # type: ignore[no-untyped-def]
        async for part in super().generate(request):
            await asyncio.sleep(0.01)
            yield part


async def test_a_server_that_is_asked_for_too_much_says_so() -> None:
    model, admission = Slow(by_step), Admission(2, 2)
    app = create_app(make_loop(model), admission=admission)
    async with served_app(app) as url:
        done = await _soak(PLAN, f"{url}/v1")
    seen = done.seen
    assert PLAN.num_clients == 8
    assert not seen.failures
    assert min(seen.answered, seen.left, len(seen.refusals)) > 0
    assert done.num_left == admission.num_present == model.num_running() == 0
    line = done.line()
    assert line["num_refused"] == len(seen.refusals)
    assert line["refusal_p50_seconds"] <= line["refusal_p99_seconds"]
    assert 0 <= line["refusals_within_50_ms_in_the_server"] <= 1
    assert line["server_rss_bytes"][0] > 0
    for told in ("refused, and told so", "of which within 50 ms in the server"):
        assert told in done.table().text()


async def _soak(plan: Plan, url: str) -> Soaked:
    return await soaking.soak(plan, url, None)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Response(status_code=503), "503 without Retry-After"),
        (Response(status_code=429, headers={"Retry-After": "soon"}), "429 without Retry-After"),
        (Response(status_code=500), "500"),
        (Response(b"data: {}\n\n", media_type="text/event-stream"), "broke off"),
    ],
)
async def test_what_should_not_come_is_counted(answer: Response, kind: str) -> None:
    app = FastAPI()

    @app.get("/metrics")
    async def metrics() -> Response:
        shown = ("steper_answers_running", "steper_answers_queued", "process_resident_memory_bytes")
        return Response("".join(f"{name} 0\n" for name in shown), media_type="text/plain")

    @app.post("/v1/chat/completions")
    async def chat() -> Response:
        return answer

    async with served_app(app) as url:
        done = await _soak(PLAN, f"{url}/v1")
    assert set(done.seen.failures) == {kind}
    assert not done.passed
    assert done.line()["passed"] is False
    assert "NOT passed" in done.table().text()


async def test_what_shows_no_metrics_is_told_at_once() -> None:
    async with served_app(FastAPI()) as url:
        with pytest.raises(EndpointUnreachable, match="shows no metrics"):
            await _soak(PLAN, f"{url}/v1")


async def test_a_time_without_tenths_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="at least"):
        await _soak(Plan([QUESTION], seconds=0.1, room=1), "http://127.0.0.1:9/v1")


@pytest.mark.parametrize(
    ("sizes", "share"),
    [
        ([100] * 100, 0.0),
        ([1] * 10 + [100] * 80 + [110] * 10, 0.1),  # what is there before all is warm counts not
        ([200] * 10 + [100] * 90, 0.0),
        ([100] * 99 + [10_000], 0.0),  # nor does one moment
    ],
)
def test_growth_is_of_the_last_tenth_against_the_second(sizes: list[int], share: float) -> None:
    assert growth(sizes)[2] == pytest.approx(share)


def test_growth_of_the_unknown_is_none() -> None:
    assert growth([0] * 100) is None
    assert growth([1] * 9) is None


def test_refusals_before_the_soak_are_not_its_own() -> None:
    within, total = (
        f"steper_refusal_seconds_{name}" for name in (f"bucket:{soaking.SOON_SECONDS}", "count")
    )
    before = {within: 10.0, total: 100.0}
    assert soaking._soon(before, {within: 19.0, total: 110.0}) == 0.9
    assert soaking._soon({}, before) == 0.1
    assert soaking._soon(before, before) is None
    assert soaking._soon({}, {total: 5.0}) is None
    assert soaking._soon({}, {}) is None


@pytest.mark.parametrize(
    ("change", "passed"),
    [
        ({}, True),
        ({"samples": [(100 + n, 50) for n in range(100)]}, False),
        ({"samples": [(100, 50 + n) for n in range(100)]}, False),
        ({"num_left": 1}, False),
        ({"soon": 0.99}, True),
        ({"soon": 0.98}, False),
        ({"soon": None}, True),  # of a server that does not tell
        ({"seen": Seen(9, 1, [], Counter())}, False),
        ({"seen": Seen(0, 1, [0.1], Counter())}, False),
        ({"seen": Seen(9, 1, [0.1], Counter({"500": 1}))}, False),
    ],
)
def test_what_passes(change: dict, passed: bool) -> None:
    good = {
        "seen": Seen(9, 1, [0.1], Counter()),
        "samples": [(100, 50)] * 100,
        "num_left": 0,
        "soon": 1.0,
    }
    assert Soaked(PLAN, **{**good, **change}).passed is passed
