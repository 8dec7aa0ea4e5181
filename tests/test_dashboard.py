"""The Grafana dashboard asks for nothing that is not there."""

import json
import re
from collections.abc import Iterator
from importlib.resources import files

import httpx
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from steper_serve.api.account import Account, Answering
from steper_serve.api.admission import Admission
from steper_serve.api.metrics import Metrics
from steper_serve.errors import InvalidRequest
from steper_serve.generation.scripted import ScriptedModel
from tests.api.serving import make_loop
from tests.bundled import QUESTIONS, bundled_server

DASHBOARD = json.loads(
    (files("steper_serve") / "assets" / "grafana-dashboard.json").read_text(encoding="utf-8")
)
# What Prometheus adds to every sample itself.
OF_PROMETHEUS = {"job", "instance", "le"}


def _expressions() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel.get("targets", []))
    yield from (v["definition"] for v in DASHBOARD["templating"]["list"] if "definition" in v)


EXPRESSIONS = list(_expressions())


def _families() -> list[Metric]:
    """What a server shows that has answered and refused."""
    metrics = Metrics()
    metrics.show(Admission(), make_loop(ScriptedModel([])))
    metrics.observe(Account(answer=Answering("ircot", "Who?", 0.0)))
    metrics.observe(Account(error=InvalidRequest("no")))
    return list(metrics.registry.collect())


SAMPLES = {sample.name: set(sample.labels) for f in _families() for sample in f.samples}


def _metrics_of(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:steper|process|vllm)[_:]\w+", expression))


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_query_names_a_metric_that_exists(expression: str) -> None:
    names = _metrics_of(expression)
    assert names
    assert {name for name in names if not name.startswith("vllm:")} <= SAMPLES.keys()


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_label_is_one_that_the_metrics_have(expression: str) -> None:
    known = OF_PROMETHEUS.union(*(SAMPLES.get(name, ()) for name in _metrics_of(expression)))
    asked = set(re.findall(r"[{,]\s*(\w+)\s*=", expression))
    for grouped in re.findall(r"by \(([^)]*)\)", expression):
        asked |= {label.strip() for label in grouped.split(",")}
    assert asked <= known


def test_every_metric_of_ours_is_shown_somewhere() -> None:
    asked = {name for expression in EXPRESSIONS for name in _metrics_of(expression)}
    ours = [family for family in _families() if family.name.startswith("steper_")]
    # A family is asked for by the name of one of its samples: …_total, …_bucket, …_sum.
    samples = {family.name: {sample.name for sample in family.samples} for family in ours}
    assert {name for name, told in samples.items() if not told & asked} == set()


def test_panels_have_names_and_places_of_their_own() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    places = {(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels}
    assert len(places) == len(panels)


@pytest.mark.engine
def test_every_metric_of_the_engine_is_one_that_it_has() -> None:
    asked = {name for expression in EXPRESSIONS for name in _metrics_of(expression)}
    with bundled_server("--enforce-eager", "--no-page") as (_, url):
        body = {"model": "steper", "messages": [{"role": "user", "content": QUESTIONS[0].question}]}
        httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).raise_for_status()
        shown = text_string_to_metric_families(httpx.get(f"{url}/metrics").text)
        found = {sample.name for family in shown for sample in family.samples}
    assert {name for name in asked if name.startswith("vllm:")} <= found
