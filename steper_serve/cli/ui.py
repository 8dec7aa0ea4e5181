"""`steper-serve ui`: the page alone, of an endpoint that runs elsewhere."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import click
import uvicorn
import uvloop

from steper_serve.api.connections import dropping_after
from steper_serve.api.hosts import Hosts
from steper_serve.cli.guarding import check_exposure
from steper_serve.cli.page import make_page, report_of
from steper_serve.cli.server import Server
from steper_serve.cli.serving import bind, signals_end_the_server_only, url_of
from steper_serve.generation.endpoint_key import key_in

# As `serve` has it where nothing else is said.
_CLIENT_SECONDS = 30.0


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
@click.option(
    "--key-env",
    metavar="VARIABLE",
    help="Environment variable with an API key to use for whoever gives the page none.",
)
@click.option(
    "--allow-unauthenticated",
    is_flag=True,
    help="Serve others than this machine, although the page itself asks nobody who they are.",
)
def ui(
    endpoint: str,
    host: str,
    port: int,
    results: Path | None,
    key_env: str | None,
    allow_unauthenticated: bool,
) -> None:
    """Serve the page alone, for an endpoint that runs elsewhere.

    The endpoint may come and go: the page says so. Where it wants a key, the page asks for one.
    """
    if not endpoint.startswith(("http://", "https://")):
        raise click.BadParameter(
            f"{endpoint!r} is no URL: http://HOST:PORT/v1", param_hint="--endpoint"
        )
    if not allow_unauthenticated:
        check_exposure(
            host, "the page shows them what the endpoint shows it: say --allow-unauthenticated"
        )
    key = key_in(key_env, "--key-env") or ""
    report = None if results is None else report_of(results)
    listener = bind(host, port)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(endpoint.rstrip("/"), listener, report, key, allow_unauthenticated))


async def _serve(
    endpoint: str,
    listener: socket.socket,
    report: Callable[[], str] | None,
    key: str,
    by_any_name: bool,
) -> None:
    page = make_page(endpoint, shown_url=endpoint, report=report, key=key)
    app = page if by_any_name else Hosts(page)
    http = dropping_after(_CLIENT_SECONDS)
    config = uvicorn.Config(app, http=http, log_level="warning", access_log=False)
    listener.listen(config.backlog)
    click.echo(f"Ready: {url_of(listener)} (asks {endpoint}; end with Ctrl-C)", err=True)
    with signals_end_the_server_only():
        await Server(config, page).serve(sockets=[listener])
