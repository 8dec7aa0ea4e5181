"""`steper-serve distill …`: the recipe that makes a student, a stage at a time or all of it.

The recipe is imported when a command runs, since its libraries are an extra. What is left out:
what the stages do (recipes/distill).
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from pydantic import SecretStr

from steper_serve.cli.wiring import open_model
from steper_serve.errors import ConfigurationError
from steper_serve.generation.endpoint_key import key_in
from steper_serve.settings import Settings
from steper_serve.trajectory import LanguageModel, PromptFormat

if TYPE_CHECKING:
    from steper_serve.recipes.distill.config import Config
    from steper_serve.recipes.distill.sections import EndpointConfig, ModelConfig

_CONFIG = click.argument("config", metavar="CONFIG.toml", type=click.Path(path_type=Path))
_RETRY = click.option("--retry-failed", is_flag=True, help="Ask questions again that failed.")
_EXTRA = ("torch", "transformers", "deepspeed", "peft", "pyarrow", "tensorboard", "tokenizers")


@click.group()
def distill() -> None:
    """Make a student from a teacher, a corpus and questions, by the StepER method.

    What to make, and how, stands in CONFIG.toml; recipes/distill/configs holds examples. A stage
    that was killed goes on where it was, and one that is finished is skipped.
    """


@distill.command()
@_CONFIG
@_RETRY
def run(config: Path, retry_failed: bool) -> None:
    """All stages, one after the other."""
    with _recipe(config) as (recipe, stages):
        stages.run_all(recipe, config, open_model_of, retry_failed=retry_failed)


@distill.command()
@_CONFIG
@click.option("--model", metavar="NAME", help="Make this one only.")
def pretrain(config: Path, model: str | None) -> None:
    """Stage 0: models made from scratch, if the recipe asks for any."""
    with _recipe(config) as (recipe, stages):
        stages.run_pretrain(recipe, model)


@distill.command()
@_CONFIG
@_RETRY
def rollout(config: Path, retry_failed: bool) -> None:
    """Stage 1: the teacher answers every question."""
    with _recipe(config) as (recipe, stages):
        stages.run_rollout(recipe, open_model_of, retry_failed=retry_failed)


@distill.command("filter")
@_CONFIG
def filter_(config: Path) -> None:
    """Stage 2: keep the right answers and, if set so, the supported steps."""
    with _recipe(config) as (recipe, stages):
        stages.run_filter(recipe)


@distill.command()
@_CONFIG
def examples(config: Path) -> None:
    """Stage 3: the step-wise data set."""
    with _recipe(config) as (recipe, stages):
        stages.run_examples(recipe)


@distill.command()
@_CONFIG
@click.option("--student", help="Train this one only.")
@click.option("--seed", type=int, help="Train with this seed only.")
def train(config: Path, student: str | None, seed: int | None) -> None:
    """Stage 4: the students."""
    with _recipe(config) as (recipe, stages):
        stages.run_train(recipe, config, student, seed)


@distill.command()
@_CONFIG
@click.option("--model", "models", multiple=True, metavar="NAME", help="This one; may be repeated.")
@_RETRY
def evaluate(config: Path, models: tuple[str, ...], retry_failed: bool) -> None:
    """Stage 5: the students, and what they are compared with, in the real loop."""
    with _recipe(config) as (recipe, stages):
        stages.run_evaluate(recipe, open_model_of, models, retry_failed=retry_failed)


@distill.command()
@_CONFIG
@click.argument("first")
@click.argument("second")
def compare(config: Path, first: str, second: str) -> None:
    """How far the model FIRST is ahead of SECOND, both evaluated, question by question."""
    with _recipe(config) as (recipe, stages):
        stages.run_compare(recipe, first, second)


@asynccontextmanager
async def open_model_of(source: "ModelConfig") -> AsyncIterator[tuple[LanguageModel, PromptFormat]]:
    """A recipe's model, started or reached; it ends with the context.

    Raises:
        ConfigurationError: it cannot be used as it is set.
        EngineUnavailable: the engine does not start, or the endpoint does not answer.
    """
    async with open_model(settings_of(source)) as opened:
        yield opened


def settings_of(source: "ModelConfig") -> Settings:
    """A model of a recipe as settings; the environment has no part in them."""
    names = ("model", "style", "prompts", "max_model_len", "kv_cache_gib", "enforce_eager")
    values: dict[str, Any] = {name: getattr(source, name) for name in names}
    values["engine_args"] = dict(source.engine_args)
    if source.endpoint is not None:
        values |= _endpoint(source.endpoint)
    return Settings.model_construct(**values)


def _endpoint(endpoint: "EndpointConfig") -> dict[str, Any]:
    key = key_in(endpoint.api_key_env, "`api_key_env`")
    return {
        "model": endpoint.model,
        "endpoint": endpoint.base_url,
        "endpoint_api": endpoint.api,
        "endpoint_key": SecretStr(key) if key else None,
        "endpoint_is_vllm": endpoint.vllm_extensions,
        "tokenizer": endpoint.tokenizer,
    }


@contextmanager
def _recipe(file: Path) -> "Iterator[tuple[Config, Any]]":
    """The configuration and the stages; a library of the extra that is missing is named."""
    try:
        from steper_serve.recipes.distill import stages
        from steper_serve.recipes.distill.config import load

        yield load(file), stages
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("steper_serve.recipes"):
            raise ConfigurationError(
                "the recipe is not in this installation (the Docker image serves and measures, no "
                "more): run `make distill` in a checkout"
            ) from error
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        raise ConfigurationError(
            f"`steper-serve distill` needs {error.name}, which is not installed: install the "
            "extra `train` (`make distill` does in a checkout, elsewhere pip install "
            "'steper-serve[train]')"
        ) from error
