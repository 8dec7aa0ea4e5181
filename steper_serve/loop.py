"""A strategy, a model and an index put together: one question in, one trajectory out.

Everything that answers a question goes through `Loop.run`: the endpoint, `ask`, rollouts and
benchmarks. What is left out: starting models and opening indexes (cli).
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from steper_serve import drivers
from steper_serve.errors import IndexUnavailable, InvalidRequest
from steper_serve.strategies import STRATEGIES, FewShot, options_for
from steper_serve.trajectory import (
    Flow,
    LanguageModel,
    PromptFormat,
    Retriever,
    Sampling,
    Trajectory,
)


@dataclass(frozen=True, slots=True)
class Ask:
    """A question, and what its asker sets. None leaves a setting at the loop's default."""

    question: str
    strategy: str | None = None
    max_steps: int | None = None
    top_k: int | None = None
    max_tokens: int | None = None
    max_seconds: float | None = None
    sampling: Sampling = Sampling()


@dataclass(frozen=True, slots=True)
class Loop:
    """All that it takes to answer, with defaults.

    Args:
        model: writes the thoughts.
        retriever: finds the passages.
        format: how `model` wants its prompts.
        few_shot: the few-shot prompt of each strategy, by the strategy's name.
        strategy: the name of the default one.
        max_steps: default of S, 1..10.
        top_k: default of K, 1..20.
        max_seconds: default time budget of an answer, None for none.
        max_step_tokens: the most tokens of one thought, None for `Options`' own.
    """

    model: LanguageModel
    retriever: Retriever
    format: PromptFormat
    few_shot: Mapping[str, FewShot]
    strategy: str = "ircot"
    max_steps: int = 5
    top_k: int = 4
    max_seconds: float | None = None
    max_step_tokens: int | None = None

    def flow(self, ask: Ask) -> Flow:
        """A fresh flow for this question.

        Raises:
            InvalidRequest: an unknown strategy or a number out of bounds; `param` names it.
        """
        name = ask.strategy or self.strategy
        if name not in STRATEGIES:
            raise InvalidRequest(
                f"there is no strategy {name!r}; there are {', '.join(STRATEGIES)}",
                param="strategy",
            )
        options = replace(
            options_for(name, self.format, self.few_shot[name]),
            max_steps=self.max_steps if ask.max_steps is None else ask.max_steps,
            top_k=self.top_k if ask.top_k is None else ask.top_k,
            max_tokens=ask.max_tokens,
            sampling=ask.sampling,
        )
        if self.max_step_tokens is not None:
            options = replace(options, max_step_tokens=self.max_step_tokens)
        # A lone surrogate is valid in JSON and in no text.
        question = ask.question.encode(errors="replace").decode()
        return STRATEGIES[name].flow(question, options)

    async def run(self, ask: Ask, watch: drivers.Watcher = drivers.unwatched) -> Trajectory:
        """Answer; see `drivers.run` for events, time budget, cancellation and errors.

        An index that was changed since the last question is taken up first; if it changes again
        meanwhile, later searches of this answer find what is there by then.
        """
        self.take_up_changes()
        seconds = self.max_seconds if ask.max_seconds is None else ask.max_seconds
        flow = self.flow(ask)
        return await drivers.run(flow, self.model, self.retriever, watch, max_seconds=seconds)

    def take_up_changes(self) -> None:
        """Search the index as it is now, from here on; the one before where that is unusable."""
        with suppress(IndexUnavailable):  # of two evils the older index is the lesser
            self.retriever.reload_if_changed()
