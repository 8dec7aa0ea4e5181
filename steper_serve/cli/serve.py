"""`steper-serve serve`: the endpoint, in this process."""

import asyncio
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
import uvicorn
import uvloop

from steper_serve.api.app import create_app
from steper_serve.cli.options import loop_options, model_options, settings_from
from steper_serve.cli.wiring import model_name, open_loop
from steper_serve.errors import ConfigurationError
from steper_serve.settings import Settings


@click.command()
@click.option("--host", help="Address to serve on (default 127.0.0.1).")
@click.option("--port", type=int, help="Port to serve on (default 8000; 0 takes a free one).")
@click.option("--public-url", help="Address that citations point to, behind a proxy.")
@model_options
@loop_options
def serve(**flags: Any) -> None:
    """Serve the OpenAI-compatible endpoint.

    Each flag is also an environment variable (STEPER_PORT) and a key of the TOML file.
    """
    settings = settings_from(flags)
    signal.signal(signal.SIGTERM, _end_at_once)
    # Before the model is loaded, so that a taken port is told at once.
    listener = _bind(settings.host, settings.port)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, listener))


async def _serve(settings: Settings, listener: socket.socket) -> None:
    start = time.monotonic()
    click.echo(f"Loading {model_name(settings)} …", err=True)
    async with open_loop(settings) as loop:
        app = create_app(loop, public_url=settings.public_url)
        config = uvicorn.Config(app, log_level="warning", access_log=False)
        host, port = listener.getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        # From here on a client that comes at once is kept waiting, not refused.
        listener.listen(config.backlog)
        click.echo(
            f"Ready after {time.monotonic() - start:.0f} s: {url}/v1 "
            f"(models steper, steper-ircot, …; end with Ctrl-C)",
            err=True,
        )
        with _signals_end_the_server_only():
            await uvicorn.Server(config).serve(sockets=[listener])


def _end_at_once(number: int, frame: object) -> None:
    """End while the model loads, or while the engine is closing, and the engine with us.

    Its process does not watch ours before it has greeted it (see generation/orphans.py).
    """
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(128 + number)


@contextmanager
def _signals_end_the_server_only() -> Iterator[None]:
    """Let SIGINT and SIGTERM stop uvicorn, and us clean up after it.

    uvicorn ends gracefully on either and then raises it anew, which would end this process
    before its engine is shut down.
    """
    before = {s: signal.signal(s, lambda *_: None) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _bind(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        raise ConfigurationError(
            f"cannot serve on {host}:{port}: {error.strerror}; choose another with --host, --port"
        ) from error
    return listener
