"""What `bench load` and `bench peers` share: their options, and the engine without a server.

Both ask a server with so many answers in flight and then have the same engine do the same work in
a process of its own, which is a hidden command. What is left out: the two commands.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import click
import uvloop

from steper_serve.cli.options import (
    F,
    add,
    guard_options,
    loop_options,
    model_options,
    page_options,
    settings_from,
)
from steper_serve.settings import Settings

_LEAST_WARMUP = 8
_SWEPT = (
    click.option(
        "--warmup",
        type=click.IntRange(min=0),
        help="Questions before each cell, not measured in any (default: as many as are in flight "
        "at most, at least 8).",
    ),
    click.option(
        "--repeat", "repetitions", type=click.IntRange(min=1), default=3, show_default=True
    ),
    click.option(
        "--streamed/--whole", default=True, show_default=True, help="How answers are asked for."
    ),
)
_ALONE = (
    click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path)),
    # All that `serve` takes, since it is given the same flags; what is for a server has no effect.
    guard_options,
    page_options,
    model_options,
    loop_options,
)


def concurrency_option(default: tuple[int, ...], help: str) -> Callable[[F], F]:
    """`--concurrency`, which may be repeated."""
    return click.option(
        "--concurrency",
        multiple=True,
        type=click.IntRange(min=1),
        default=default,
        show_default=True,
        help=f"{help}; may be repeated.",
    )


def swept(command: F) -> F:
    """The options of a sweep over numbers of answers in flight."""
    return add(command, _SWEPT)


def numbers_of(concurrency: tuple[int, ...], flags: dict[str, Any]) -> tuple[int, ...]:
    """The numbers in flight, each once; sets the default of `--warmup` by them."""
    numbers = tuple(dict.fromkeys(concurrency))
    if flags["warmup"] is None:
        flags["warmup"] = max(_LEAST_WARMUP, *numbers)
    return numbers


def alone(command: F) -> F:
    """FILE, and all flags of `serve`, for a process that has the engine of a server alone."""
    return add(command, _ALONE)


def tell(
    work: Callable[[Settings, Path], Awaitable[dict[str, Any]]], file: Path, flags: dict[str, Any]
) -> None:
    """Do what FILE says, and print one JSON object."""
    settings = settings_from(flags)

    async def told() -> dict[str, Any]:
        return await work(settings, file)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        click.echo(json.dumps(runner.run(told())))
