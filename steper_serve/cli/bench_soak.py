"""`steper-serve bench soak`: a server under more than it takes, for minutes.

What is left out: what is done and seen (benchmarks.soak).
"""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from steper_serve.cli.bench import say
from steper_serve.generation.endpoint_key import key_in

if TYPE_CHECKING:
    from steper_serve.benchmarks.soak import Memory

# A cache that is full within the first tenth of the time: until then its pages are new memory.
_KV_CACHE_GIB = "0.125"


@click.command()
@click.option(
    "--endpoint",
    metavar="URL",
    help="A running server, up to /v1 (default: one with the bundled student is started).",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="For how long.",
)
@click.option(
    "--load",
    type=click.FloatRange(min=0, min_open=True),
    default=2.0,
    show_default=True,
    help="Clients for each answer that there is room for.",
)
@click.option("--max-running", type=click.IntRange(min=1), default=16, show_default=True)
@click.option("--max-queued", type=click.IntRange(min=0), default=16, show_default=True)
@click.option("--serve-flag", "flags", multiple=True, help="A flag for the server started here.")
@click.option("--key-env", metavar="VARIABLE", help="Environment variable with the API key.")
def soak(
    endpoint: str | None,
    minutes: float,
    load: float,
    max_running: int,
    max_queued: int,
    flags: tuple[str, ...],
    key_env: str | None,
) -> None:
    """Ask a server for more than it takes, leave early, and watch its memory.

    --max-running and --max-queued are those of the server, also of one at an --endpoint. Exit code
    1 where a request failed, a refusal did not say when to come back, more than 1% of the refusals
    took the server over 50 ms, or memory grew by 5%.
    """
    from steper_serve import questions
    from steper_serve.benchmarks import soak as soaking
    from steper_serve.cli.wiring import BUNDLED_QUESTIONS

    plan = soaking.Plan(
        questions=[question.question for question in questions.read(BUNDLED_QUESTIONS)],
        seconds=minutes * 60,
        room=max_running + max_queued,
        load=load,
        key=key_in(key_env, "--key-env"),
    )
    bounds = ("--max-running", str(max_running), "--max-queued", str(max_queued))
    with _server(endpoint, (*bounds, *flags)) as (url, memory):
        soaked = asyncio.run(soaking.soak(plan, url, memory))
    say([soaked.table()], [soaked.line()])
    sys.exit(0 if soaked.passed else 1)


@contextmanager
def _server(endpoint: str | None, flags: tuple[str, ...]) -> "Iterator[tuple[str, Memory | None]]":
    from steper_serve.benchmarks import server
    from steper_serve.benchmarks.soak import memory_of

    if endpoint is not None:
        yield endpoint.rstrip("/"), None
        return
    command = [sys.executable, "-m", "steper_serve", "serve", "--port", "0", "--no-page"]
    with server.process([*command, "--kv-cache-gib", _KV_CACHE_GIB, *flags]) as (url, pid):
        yield url, memory_of(pid)
