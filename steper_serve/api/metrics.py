"""Prometheus metrics: what the server has answered and refused, and what it holds now.

Labels are names of ours alone: strategies, outcomes, codes of errors. In this process vLLM keeps
metrics of its own (`vllm:*`), which are shown along. What is left out: who may read them (access).
"""

from collections.abc import Iterator

from fastapi import FastAPI, Request, Response
from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

import steper_serve
from steper_serve.api.account import Account, Answering
from steper_serve.api.admission import Admission
from steper_serve.drivers import Event, Found, Generated
from steper_serve.errors import IndexUnavailable
from steper_serve.loop import Loop
from steper_serve.strategies.options import MAX_STEPS
from steper_serve.trajectory import CorpusInfo

PATH = "/metrics"
_ENGINE_PREFIX = "vllm:"
_SEARCH_BUCKETS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0)
_REFUSAL_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 30.0)
_WAIT_BUCKETS = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_WORK_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0)
_STEP_BUCKETS = tuple(range(MAX_STEPS[0], MAX_STEPS[1] + 1))


class Metrics:
    """Counts closed accounts, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._answers = self._counter(
            "answers", "Answers that were begun, by how they ended.", "strategy", "outcome"
        )
        self._refused = self._counter(
            "refused_requests", "Requests of any route that were refused.", "code", "type"
        )
        self._refusals = self._histogram(
            "refusal_seconds", "From a request to the end of its refusal.", _REFUSAL_BUCKETS
        )
        self._prompt = self._counter("prompt_tokens", "Tokens read, each time that they were.")
        self._cached = self._counter("cached_prompt_tokens", "Of these, held by the prefix cache.")
        self._completion = self._counter("completion_tokens", "Tokens generated.")
        self._hits = self._counter(
            "prefix_cache_hits", "Generations that found a part of their prompt in the cache."
        )
        self._steps = self._histogram("answer_steps", "Steps of an answer.", _STEP_BUCKETS)
        self._queued = self._histogram("queue_seconds", "Until an answer ran.", _WAIT_BUCKETS)
        self._first = self._histogram(
            "first_byte_seconds", "From a request to its stream's first byte.", _WORK_BUCKETS
        )
        self._whole = self._histogram(
            "answer_seconds", "From a request to its answer's last byte.", _WORK_BUCKETS
        )
        self._searches = self._histogram("retrieval_seconds", "Of each search.", _SEARCH_BUCKETS)
        self._generations = self._histogram(
            "generation_seconds", "Of each generation.", _WORK_BUCKETS
        )
        info = Info("steper_build", "What runs.", registry=self.registry)
        info.info({"version": steper_serve.__version__})
        ProcessCollector(registry=self.registry)
        self.registry.register(_EngineMetrics())

    def show(self, admission: Admission, loop: Loop) -> None:
        """Have gauges of what runs and waits, and of the index, read when they are asked for."""
        running = self._gauge("answers_running", "Answers that have a slot.")
        running.set_function(lambda: admission.num_running)
        queued = self._gauge("answers_queued", "Answers that wait for one.")
        queued.set_function(lambda: admission.num_present - admission.num_running)
        passages = self._gauge("index_passages", "Passages that a search can find.")
        passages.set_function(lambda: _described(loop).num_passages)
        generation = self._gauge("index_generation", "Number of the index's live generation.")
        generation.set_function(lambda: _described(loop).generation or 0)

    def observe(self, account: Account) -> None:
        """Count a closed account."""
        if account.answer is not None:
            self._count(account, account.answer)
        elif account.error is not None:
            self._refused.labels(account.error.code or "", account.error.type).inc()
            self._refusals.observe(account.seconds)

    def _count(self, account: Account, answer: Answering) -> None:
        self._answers.labels(answer.strategy, answer.outcome).inc()
        self._prompt.inc(answer.usage.num_prompt_tokens)
        self._cached.inc(answer.usage.num_cached_tokens)
        self._completion.inc(answer.usage.num_completion_tokens)
        if answer.queued_seconds is not None:  # it was not given up before it ran
            self._queued.observe(answer.queued_seconds)
            self._steps.observe(answer.num_steps)
            self._whole.observe(account.seconds)
        if account.streamed and account.first_byte_seconds is not None:
            self._first.observe(account.first_byte_seconds)
        for _, event in answer.events:
            self._time(event)

    def _time(self, event: Event) -> None:
        if isinstance(event, Found):
            self._searches.observe(event.seconds)
        elif isinstance(event, Generated):
            self._generations.observe(event.seconds)
            self._hits.inc(event.completion.num_cached_tokens > 0)

    def _counter(self, name: str, told: str, *labels: str) -> Counter:
        return Counter(f"steper_{name}", told, labels, registry=self.registry)

    def _gauge(self, name: str, told: str) -> Gauge:
        return Gauge(f"steper_{name}", told, registry=self.registry)

    def _histogram(self, name: str, told: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"steper_{name}", told, registry=self.registry, buckets=buckets)


class _EngineMetrics(Collector):
    """Those that vLLM keeps in the registry of this process, where it runs in it."""

    def collect(self) -> Iterator[Metric]:
        for metric in REGISTRY.collect():
            if metric.name.startswith(_ENGINE_PREFIX):
                yield metric


def install(app: FastAPI, metrics: Metrics) -> None:
    """Add the route to `app`."""

    @app.get(PATH, response_class=Response)
    def shown(request: Request) -> Response:
        """What has been answered and refused, and how long it took, for Prometheus."""
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(metrics.registry), media_type=content_type)


def _described(loop: Loop) -> CorpusInfo:
    try:
        return loop.retriever.describe()
    except IndexUnavailable:
        return CorpusInfo(0)
