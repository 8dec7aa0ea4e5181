"""`steper-serve ui`: the page alone, of an endpoint that runs elsewhere."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import click
import uvicorn
import uvloop

from steper_serve.cli.page import Server, make_page, report_of
from steper_serve.cli.serving import bind, signals_end_the_server_only, url_of


@click.command()
@click.option(
    "--endpoint",
    default="http://127.0.0.1:8000/v1",
    show_default=True,
    metavar="URL",
    help="A running StepER endpoint, up to /v1.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to serve on.")
@click.option("--port", type=int, default=7860, show_default=True, help="Port; 0 takes a free one.")
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    help="Folder with results of `steper-serve bench`, to show.",
)
def ui(endpoint: str, host: str, port: int, results: Path | None) -> None:
    """Serve the page alone, for an endpoint that runs elsewhere.

    The endpoint may come and go: the page says so.
    """
    if not endpoint.startswith(("http://", "https://")):
        raise click.BadParameter(
            f"{endpoint!r} is no URL: http://HOST:PORT/v1", param_hint="--endpoint"
        )
    report = None if results is None else report_of(results)
    listener = bind(host, port)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(endpoint.rstrip("/"), listener, report))


async def _serve(endpoint: str, listener: socket.socket, report: Callable[[], str] | None) -> None:
    page = make_page(endpoint, shown_url=endpoint, report=report)
    config = uvicorn.Config(page, log_level="warning", access_log=False)
    listener.listen(config.backlog)
    click.echo(f"Ready: {url_of(listener)} (asks {endpoint}; end with Ctrl-C)", err=True)
    with signals_end_the_server_only():
        await Server(config, page).serve(sockets=[listener])
