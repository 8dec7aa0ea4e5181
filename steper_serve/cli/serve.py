"""`steper-serve serve`: the endpoint and the page, in this process."""

import asyncio
import multiprocessing
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import click
import uvicorn
import uvloop

from steper_serve.api.app import create_app
from steper_serve.cli.options import loop_options, model_options, settings_from
from steper_serve.cli.page import Server, Site, examples_of, open_page, report_of
from steper_serve.cli.serving import bind, signals_end_the_server_only, url_of
from steper_serve.cli.wiring import model_name, open_loop
from steper_serve.settings import Settings


@click.command()
@click.option("--host", help="Address to serve on (default 127.0.0.1).")
@click.option("--port", type=int, help="Port to serve on (default 8000; 0 takes a free one).")
@click.option("--public-url", help="Address that citations point to, behind a proxy.")
@click.option("--page/--no-page", default=None, help="Serve the page at / too (default: yes).")
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    help="Folder with results of `steper-serve bench`, for the page to show.",
)
@click.option(
    "--examples",
    type=click.Path(path_type=Path),
    help="File of questions to try on the page (default: the bundled corpus's).",
)
@model_options
@loop_options
def serve(**flags: Any) -> None:
    """Serve the OpenAI-compatible endpoint, and the page at /.

    Each flag is also an environment variable (STEPER_PORT) and a key of the TOML file.
    """
    settings = settings_from(flags)
    signal.signal(signal.SIGTERM, _end_at_once)
    # Before the model is loaded, so that a taken port is told at once.
    listener = bind(settings.host, settings.port)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, listener))


async def _serve(settings: Settings, listener: socket.socket) -> None:
    start = time.monotonic()
    click.echo(f"Loading {model_name(settings)} …", err=True)
    examples = examples_of(settings)
    report = None if settings.results is None else report_of(settings.results)
    async with open_loop(settings) as loop:
        page = open_page(settings, listener.getsockname()[1], report) if settings.page else None
        app = create_app(loop, public_url=settings.public_url, examples=examples)
        config = uvicorn.Config(
            app if page is None else Site(app, page), log_level="warning", access_log=False
        )
        url = url_of(listener)
        # From here on a client that comes at once is kept waiting, not refused.
        listener.listen(config.backlog)
        click.echo(
            f"Ready after {time.monotonic() - start:.0f} s: {url}/v1 "
            f"(models steper, steper-ircot, …; end with Ctrl-C)",
            err=True,
        )
        if page is not None:
            click.echo(f"The page: {url}", err=True)
        with signals_end_the_server_only():
            await Server(config, page).serve(sockets=[listener])


def _end_at_once(number: int, frame: object) -> None:
    """End while the model loads, or while the engine is closing, and the engine with us.

    Its process does not watch ours before it has greeted it (see generation/orphans.py).
    """
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(128 + number)
