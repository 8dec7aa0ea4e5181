"""The loop of a recipe's model: how it is opened, and what answers a recipe's questions.

Starting an engine is the command line's business (`cli`), which hands an `OpenModel` to the
stages that need one; a test hands over a scripted model. What is left out: the engines.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from steper_serve.loop import Loop
from steper_serve.recipes.distill.config import Config, pretrained
from steper_serve.recipes.distill.failures import StageMissing
from steper_serve.recipes.distill.sections import ModelConfig
from steper_serve.strategies import FewShot
from steper_serve.trajectory import LanguageModel, PromptFormat, Retriever

Opened = tuple[LanguageModel, PromptFormat]
OpenModel = Callable[[ModelConfig], AbstractAsyncContextManager[Opened]]
"""Open a model whose `model` is a directory or hub id already; it ends with the context.

Raises ConfigurationError or EngineUnavailable where that cannot be done.
"""


def resolved(config: Config, model: ModelConfig) -> ModelConfig:
    """The model with "pretrain:NAME" replaced by the folder that stage 0 writes.

    Raises:
        StageMissing: stage 0 has not made it.
    """
    if model.model is None:
        return model
    path = config.model_path(model.model)
    if pretrained(model.model) and not (Path(path) / "config.json").is_file():
        raise StageMissing(
            f"there is no model in {path}: run `steper-serve distill pretrain` first"
        )
    return model.model_copy(update={"model": path})


def loop_of(
    config: Config,
    model: LanguageModel,
    retriever: Retriever,
    format: PromptFormat,
    few_shot: Mapping[str, FewShot],
    *,
    max_step_tokens: int | None = None,
) -> Loop:
    """The loop with the recipe's strategy, S and K."""
    return Loop(
        model=model,
        retriever=retriever,
        format=format,
        few_shot=few_shot,
        strategy=config.strategy,
        max_steps=config.max_steps,
        top_k=config.top_k,
        max_step_tokens=max_step_tokens,
    )
