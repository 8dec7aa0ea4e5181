"""`steper-serve serve`: the endpoint and the page, in this process."""

import asyncio
import logging
import multiprocessing
import os
import signal
import socket
import time
from typing import Any

import click
import uvicorn
import uvloop

import steper_serve
from steper_serve.api.app import Policy, Telemetry, create_app
from steper_serve.api.connections import dropping_after
from steper_serve.api.health import Vitals
from steper_serve.cli import logs
from steper_serve.cli.guarding import admission_of, policy_of
from steper_serve.cli.options import (
    guard_options,
    loop_options,
    model_options,
    page_options,
    settings_from,
)
from steper_serve.cli.page import Site, examples_of, open_page, report_of
from steper_serve.cli.server import AnsweringServer
from steper_serve.cli.serving import bind, signals_end_the_server_only, url_of
from steper_serve.cli.telemetry import tracing
from steper_serve.cli.wiring import model_name, open_loop
from steper_serve.settings import Settings
from steper_serve.trajectory import LanguageModel

_log = logging.getLogger(__name__)


@click.command()
@guard_options
@page_options
@model_options
@loop_options
def serve(**flags: Any) -> None:
    """Serve the OpenAI-compatible endpoint, and the page at /.

    Each flag is also an environment variable (STEPER_PORT) and a key of the TOML file.
    Exit code 1 where the engine dies.
    """
    settings = settings_from(flags)
    logs.set_up(settings.log_format)
    policy = policy_of(settings)
    signal.signal(signal.SIGTERM, _end_at_once)
    # Before the model is loaded, so that a taken port is told at once.
    with (
        bind(settings.host, settings.port) as listener,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(_serve(settings, policy, listener))


async def _serve(settings: Settings, policy: Policy, listener: socket.socket) -> None:
    start = time.monotonic()
    _log.info("Loading %s …", model := model_name(settings), extra=_start(model))
    examples = examples_of(settings)
    report = None if settings.results is None else report_of(settings.results)
    async with tracing() as tracer, open_loop(settings) as loop:
        page = open_page(settings, listener.getsockname()[1], report) if settings.page else None
        admission, vitals = admission_of(settings), Vitals()
        app = create_app(
            loop,
            public_url=settings.public_url,
            examples=examples,
            policy=policy,
            admission=admission,
            vitals=vitals,
            telemetry=Telemetry(tracer, settings.record_content),
        )
        config = uvicorn.Config(
            app if page is None else Site(app, page, policy.hosts),
            http=dropping_after(settings.client_seconds),
            log_config=None,
            log_level="warning",
            access_log=False,
        )
        # From here on a client that comes at once is kept waiting, not refused.
        listener.listen(config.backlog)
        _tell_ready(url_of(listener), time.monotonic() - start, has_page=page is not None)
        server = AnsweringServer(config, page, admission, vitals, settings.drain_seconds)
        await _watched(server, listener, vitals, None if settings.endpoint else loop.model)
    _log.info("Ended", extra={"event": "stop"})
    vitals.check()


def _start(model: str) -> dict[str, str]:
    return {"event": "start", "model": model, "version": steper_serve.__version__}


def _tell_ready(url: str, seconds: float, *, has_page: bool) -> None:
    _log.info(
        "Ready after %.0f s: %s/v1 (models steper, steper-ircot, …; end with Ctrl-C)",
        seconds,
        url,
        extra={"event": "ready", "url": f"{url}/v1", "seconds": round(seconds, 3)},
    )
    if has_page:
        _log.info("The page: %s", url)


async def _watched(
    server: AnsweringServer, listener: socket.socket, vitals: Vitals, model: LanguageModel | None
) -> None:
    """Serve until a signal or, where the engine is in this process, its death."""
    watching = model and asyncio.create_task(vitals.watch(model))
    try:
        with signals_end_the_server_only():
            await server.serve(sockets=[listener])
    finally:
        if watching:
            watching.cancel()


def _end_at_once(number: int, frame: object) -> None:
    """End while the model loads, or while the engine is closing, and the engine with us.

    Its process does not watch ours before it has greeted it (see generation/orphans.py).
    """
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(128 + number)
