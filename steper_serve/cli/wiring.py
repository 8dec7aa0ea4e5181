"""Put a `Loop` together from settings: index, model, prompts. Heavy imports happen inside."""

import asyncio
import hashlib
import os
import shutil
import sysconfig
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from steper_serve.cli import model_files
from steper_serve.errors import ConfigurationError, IndexUnavailable, SteperError
from steper_serve.generation import student_card
from steper_serve.loop import Loop
from steper_serve.retrieval import bm25
from steper_serve.settings import Settings
from steper_serve.strategies import few_shot_prompts
from steper_serve.trajectory import LanguageModel, PromptFormat

if TYPE_CHECKING:
    from steper_serve.generation.openai_endpoint import OpenAIEndpoint
    from steper_serve.generation.vllm_engine import VllmEngine

ASSETS = Path(str(files("steper_serve") / "assets"))
STUDENT = ASSETS / "student"
CORPUS = ASSETS / "corpus" / "corpus.jsonl"
BUNDLED_QUESTIONS = ASSETS / "corpus" / "questions.jsonl"

# Tokens kept free behind a prompt for what a step writes.
RESERVE = 160
# Context length assumed of an endpoint that does not tell.
_ENDPOINT_CONTEXT = 8192


@asynccontextmanager
async def open_loop(settings: Settings) -> AsyncIterator[Loop]:
    """A loop that is ready to answer; the engine ends with the context.

    Raises:
        SteperError: the index, the model or a prompt file cannot be used; the message says why.
    """
    few_shot = few_shot_prompts(settings.prompts)
    retriever = open_index(settings)
    async with open_model(settings) as (model, format):
        yield Loop(
            model=model,
            retriever=retriever,
            format=format,
            few_shot=few_shot,
            strategy=settings.strategy,
            max_steps=settings.max_steps,
            top_k=settings.top_k,
            max_seconds=settings.max_seconds,
        )


def index_directory(settings: Settings) -> Path:
    """The index to serve: the one that is set, or the bundled corpus's, built if need be."""
    if settings.index is not None:
        return settings.index
    from steper_serve import corpus

    digest = hashlib.sha256(CORPUS.read_bytes()).hexdigest()[:12]
    target = settings.cache_dir / f"bundled-index-{digest}"
    if not bm25.is_usable(target):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"cannot keep the bundled index in {settings.cache_dir}: {error}; "
                "set STEPER_CACHE_DIR to a folder that can be written"
            ) from error
        bm25.build(corpus.read(CORPUS), target)
    return target


def open_index(settings: Settings) -> bm25.Bm25Retriever:
    """The index to serve, open.

    Raises:
        IndexUnavailable: it is missing, broken, empty, or of another version.
    """
    target = index_directory(settings)
    retriever = bm25.Bm25Retriever.open(target)
    if not retriever.num_documents:
        raise IndexUnavailable(
            f"the index in {target} is empty: add passages (steper-serve index add)"
        )
    return retriever


def runs_eagerly(settings: Settings) -> bool:
    """Whether the engine is to start without compiling the model.

    Compiling needs a C++ compiler and Python's headers, which a small machine may lack.
    """
    if settings.enforce_eager is not None:
        return settings.enforce_eager
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    return compiler is None or not headers.is_file()


def model_name(settings: Settings) -> str:
    """The model directory, hub id, or name at the endpoint that is to be used.

    Raises:
        ConfigurationError: what looks like a directory is none.
    """
    name = settings.model or str(STUDENT)
    if settings.endpoint is None and name[0] in "/.~" and not Path(name).is_dir():
        raise ConfigurationError(f"there is no model directory {name}")
    return name


def check_model(settings: Settings) -> str:
    """What model an engine is to load, in a few words, as far as its files tell.

    Raises:
        ConfigurationError: it cannot be loaded, has no room for a prompt, or vLLM has no such
            argument as is set.
    """
    name, length = model_name(settings), settings.max_model_len
    if settings.engine_args and find_spec("vllm"):  # whose import takes seconds
        from steper_serve.generation import vllm_args

        vllm_args.merged({"model": name}, settings.engine_args)
    if length is not None and length <= RESERVE:
        raise ConfigurationError(
            f"`max_model_len` is {length}, of which {RESERVE} tokens are kept for what a step "
            "writes: raise it"
        )
    if not Path(name).is_dir():
        return f"{name}: a hub id, not checked"
    card = student_card.find(Path(name))
    if card is not None and settings.style != "few-shot":
        student_card.read(card)
    return model_files.check(Path(name))


@asynccontextmanager
async def open_model(settings: Settings) -> AsyncIterator[tuple[LanguageModel, PromptFormat]]:
    """The model that the settings name, started or reached, and how it wants its prompts.

    Raises:
        SteperError: it cannot be used, or does not start or answer; the message says why.
    """
    model, format = await (
        _start_engine(settings) if settings.endpoint is None else _open_endpoint(settings)
    )
    try:
        yield model, format
    finally:
        await model.aclose()


async def _start_engine(settings: Settings) -> "tuple[VllmEngine, PromptFormat]":
    from steper_serve.generation.model_format import load_format
    from steper_serve.generation.vllm_engine import VllmEngine

    name = model_name(settings)
    check_model(settings)
    engine = await asyncio.to_thread(
        VllmEngine.start,
        name,
        max_model_len=settings.max_model_len,
        kv_cache_gib=settings.kv_cache_gib,
        enforce_eager=runs_eagerly(settings),
        engine_args=settings.engine_args,
    )
    length = engine.max_model_len
    try:
        format = load_format(name, max_model_len=length, reserve=RESERVE, style=settings.style)
    except SteperError:
        await engine.aclose()
        raise
    return engine, format


async def _open_endpoint(settings: Settings) -> "tuple[OpenAIEndpoint, PromptFormat]":
    from steper_serve.generation.model_format import estimated_format, load_format
    from steper_serve.generation.openai_endpoint import OpenAIEndpoint

    assert settings.endpoint is not None  # noqa: S101 - for the type checker
    assert settings.model is not None  # noqa: S101 - likewise: settings see to it
    endpoint = OpenAIEndpoint(
        settings.endpoint,
        settings.model,
        api_key=settings.endpoint_key.get_secret_value() if settings.endpoint_key else None,
        api=settings.endpoint_api,
        vllm_extensions=settings.endpoint_is_vllm,
    )
    await endpoint.check()
    length = settings.max_model_len or endpoint.max_model_len or _ENDPOINT_CONTEXT
    format = (
        estimated_format(max_model_len=length, reserve=RESERVE, style=settings.style)
        if settings.tokenizer is None
        else load_format(
            settings.tokenizer, max_model_len=length, reserve=RESERVE, style=settings.style
        )
    )
    return endpoint, format
