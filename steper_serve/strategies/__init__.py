"""The strategies by name, and the options that fit a model.

A strategy is a pure generator of effects. To add one: write its file beside these, with prompt,
stop rule and parser in it, and enter it in `STRATEGIES`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from steper_serve.strategies import demonstrations
from steper_serve.strategies.demonstrations import FewShot
from steper_serve.strategies.ircot import direct, ircot, single
from steper_serve.strategies.options import Options
from steper_serve.strategies.self_ask import self_ask
from steper_serve.trajectory import Flow, PromptFormat

__all__ = [
    "STRATEGIES",
    "FewShot",
    "Options",
    "Strategy",
    "few_shot_prompts",
    "is_trained",
    "options_for",
]


@dataclass(frozen=True, slots=True)
class Strategy:
    """A strategy: how a flow of it is made, and the file of its few-shot prompt."""

    flow: Callable[[str, Options], Flow]
    prompt_file: str


STRATEGIES: Mapping[str, Strategy] = {
    "ircot": Strategy(ircot, "ircot.toml"),
    "self-ask": Strategy(self_ask, "self-ask.toml"),
    "single": Strategy(single, "ircot.toml"),
    "direct": Strategy(direct, "direct.toml"),
}


def few_shot_prompts(folder: Path | None) -> Mapping[str, FewShot]:
    """The few-shot prompt of each strategy: the project's own, or those in `folder`.

    Raises:
        ConfigurationError: a prompt file cannot be read.
    """
    return {
        name: demonstrations.load(strategy.prompt_file, folder)
        for name, strategy in STRATEGIES.items()
    }


def is_trained(strategy: str, format: PromptFormat) -> bool:
    """Whether a model was made for a strategy; one that names none was made for any."""
    return not format.strategies or strategy in format.strategies


def options_for(strategy: str, format: PromptFormat, few_shot: FewShot) -> Options:
    """Default options of a strategy for a model.

    A student gets the bare prompt for the strategies that it was trained for. Any other pair
    gets the instruction and the demonstrations.
    """
    if not is_trained(strategy, format):
        format = replace(format, few_shot=True, instruction=None, step_end="sentence")
    shown = few_shot.demonstrations if format.few_shot else ()
    instruction = few_shot.instruction if format.instruction is None else format.instruction
    return Options(format=format, instruction=instruction, demonstrations=shown)
