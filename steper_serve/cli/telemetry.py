"""Where traces go: by OTLP to what OpenTelemetry's own variables name, or nowhere.

`OTEL_EXPORTER_OTLP_ENDPOINT` (or `…_TRACES_ENDPOINT`) switches them on; headers, sampler, service
name and the rest are the SDK's to read. What is left out: what a trace holds (api/tracing).
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from opentelemetry.trace import Tracer

import steper_serve
from steper_serve.errors import ConfigurationError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SERVICE = "steper-serve"


@asynccontextmanager
async def tracing() -> AsyncIterator[Tracer | None]:
    """A tracer that exports in the background, what is left at the end; None where none is wanted.

    Raises:
        ConfigurationError: the protocol that is set is none that we speak.
    """
    if not is_wanted():
        yield None
        return
    exporter = _exporter()
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = {} if "OTEL_SERVICE_NAME" in os.environ else {SERVICE_NAME: _SERVICE}
    provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    try:
        yield provider.get_tracer(_SERVICE, steper_serve.__version__)
    finally:
        await asyncio.to_thread(provider.shutdown)


def is_wanted() -> bool:
    """Whether the environment asks for traces."""
    off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    none = os.environ.get("OTEL_TRACES_EXPORTER", "otlp").lower() == "none"
    return bool(_first(_ENDPOINTS)) and not (off or none)


def described() -> str:
    """For `doctor`: where traces go.

    Raises:
        ConfigurationError: as `tracing`.
    """
    if not is_wanted():
        return "no traces"
    _exporter().shutdown()
    return f"traces to {_first(_ENDPOINTS)}"


def _first(names: tuple[str, ...]) -> str:
    return next(filter(None, map(os.environ.get, names)), "")


def _exporter() -> "SpanExporter":
    protocol = _first(_PROTOCOLS) or "http/protobuf"
    if protocol == "http/protobuf":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as Http

        return Http()
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as Grpc

        return Grpc()
    raise ConfigurationError(
        f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol!r}: this server sends traces by http/protobuf "
        "or grpc"
    )
