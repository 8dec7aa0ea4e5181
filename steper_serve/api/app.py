"""The HTTP application: OpenAI-compatible chat, models, the corpus, health, metrics, and who may
ask.

`create_app` takes a ready `Loop` and adds the outside; it starts nothing and loads no model.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fastapi import FastAPI, Request, Response
from openai.types import Model
from opentelemetry.trace import Tracer
from starlette.middleware.cors import CORSMiddleware

import steper_serve
from steper_serve.api import chat, document, errors, health, metrics, passages, raw
from steper_serve.api.access import Access, as_browsers_write, caller_of
from steper_serve.api.account import account_of
from steper_serve.api.admission import Admission
from steper_serve.api.admitted import Admitted
from steper_serve.api.guard import ANSWERS, Guard
from steper_serve.api.health import Vitals
from steper_serve.api.keys import Keyring
from steper_serve.api.limits import Limits
from steper_serve.api.lines import Lines
from steper_serve.api.metrics import Metrics
from steper_serve.api.observed import REQUEST_ID_HEADER, Observed, Observer
from steper_serve.api.rates import RATED, Rates
from steper_serve.api.request import MODELS, RAW_MODEL, ChatRequest, check
from steper_serve.api.streams import event_stream, unless_gone
from steper_serve.api.tracing import Tracing
from steper_serve.errors import ModelNotFound
from steper_serve.loop import Loop
from steper_serve.strategies import is_trained

# What a page of another origin may read of a response's headers, where it may ask at all.
_SHOWN = (
    "retry-after",
    REQUEST_ID_HEADER,
    *(f"x-ratelimit-{n}-{of}" for n in ("limit", "remaining", "reset") for of in RATED),
)


@dataclass(frozen=True, slots=True)
class Policy:
    """Who may ask, and how much.

    Args:
        keys: API keys; without any, everybody may.
        origins: web pages that may ask from a browser; see `access`.
        hosts: names by which it may be asked beside this machine's own; None for any.
        limits: of one request.
        requests_per_minute: of one key, or of all together where there are no keys.
        tokens_per_minute: likewise.
    """

    keys: Keyring = field(default_factory=Keyring)
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] | None = None
    limits: Limits = field(default_factory=Limits)
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What an operator is told beyond metrics, and lines without content.

    Args:
        tracer: makes the traces of answers; None for none.
        content: whether questions, answers and passages are in lines and traces.
    """

    tracer: Tracer | None = None
    content: bool = False

    def observers(self, metrics: Metrics) -> tuple[Observer, ...]:
        """Traces first: lines name them."""
        lines = Lines(content=self.content)
        if self.tracer is None:
            return metrics.observe, lines.observe
        tracing = Tracing(self.tracer, content=self.content)
        return tracing.observe, metrics.observe, lines.observe


def create_app(
    loop: Loop,
    *,
    public_url: str | None = None,
    examples: Sequence[str] = (),
    policy: Policy = Policy(),
    admission: Admission | None = None,
    vitals: Vitals | None = None,
    telemetry: Telemetry = Telemetry(),
) -> FastAPI:
    """The application that answers with `loop`.

    Args:
        loop: model, index and defaults.
        public_url: the address that citations point to; by default the one a request came to.
        examples: questions that the corpus answers, for whoever does not know it.
        policy: who may ask, and how much.
        admission: bounds on answers, for whoever ends the server.
        vitals: what is known of the engine, for whoever watches it.
        telemetry: what an operator is told.
    """
    # No /docs: its page runs scripts of another server's, where readers keep their keys.
    app = FastAPI(
        title="StepER Serve",
        version=steper_serve.__version__,
        docs_url=None,
        redoc_url=None,
        responses=document.RESPONSES,
    )
    created = int(time.time())
    admission, counted = admission or Admission(), Metrics()
    counted.show(admission, loop)
    rates = Rates(policy.requests_per_minute, policy.tokens_per_minute)
    errors.install(app)
    passages.install(app, loop, examples)
    health.install(app, loop, admission, vitals or Vitals())
    metrics.install(app, counted)
    _protect(app, policy, admission, rates)
    app.add_middleware(Observed, observers=telemetry.observers(counted))

    @app.post(ANSWERS, response_model=None)
    async def chat_completions(body: ChatRequest, request: Request) -> Response:
        """Answer the last user message. Earlier turns are accepted and not used."""
        check(body)
        policy.limits.check(body)
        base_url = public_url or str(request.base_url)
        spend = partial(rates.spend, caller_of(request.scope))
        account = account_of(request.scope)
        account.model, account.streamed = body.model, bool(body.stream)
        admitted = Admitted(loop, admission, policy.limits, spend, account)
        if body.stream:
            if _raw(body):
                return await event_stream(request, raw.stream(admitted, body))
            return await event_stream(request, chat.stream(admitted, body, base_url))
        whole = await unless_gone(
            request,
            raw.answer(admitted, body) if _raw(body) else chat.answer(admitted, body, base_url),
        )
        return Response(whole.model_dump_json(exclude_unset=True), media_type="application/json")

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The default strategy, each strategy, and the model without the loop."""
        return {"object": "list", "data": [_model(id, created, loop) for id in MODELS]}

    @app.get("/v1/models/{id}")
    async def model(id: str) -> dict[str, Any]:
        """One of the models."""
        if id not in MODELS:
            raise ModelNotFound(f"there is no model {id!r}; there are {', '.join(MODELS)}")
        return _model(id, created, loop)

    document.tell(app, policy.limits)
    return app


def _protect(app: FastAPI, policy: Policy, admission: Admission, rates: Rates) -> None:
    """What each request passes, the last first."""
    app.add_middleware(Guard, admission=admission, rates=rates, limits=policy.limits)
    origins = as_browsers_write(policy.origins)
    app.add_middleware(Access, keys=policy.keys, origins=origins, hosts=policy.hosts)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=_SHOWN,
        )


def _raw(body: ChatRequest) -> bool:
    return body.model == RAW_MODEL


def _model(id: str, created: int, loop: Loop) -> dict[str, Any]:
    model = Model(id=id, object="model", created=created, owned_by="steper-serve")
    listed = model.model_dump(exclude_unset=True)
    if id != RAW_MODEL:
        strategy = MODELS[id] or loop.strategy
        trained = is_trained(strategy, loop.format)
        listed["steper"] = {"strategy": strategy, "trained": trained}
    return listed
