"""One answer that was let in: it waits for its slot, keeps its budgets and pays its tokens.

What is left out: who is let in (guard), and how an answer is worded (chat, raw).
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

from steper_serve.api.account import RAW, Account, Answering
from steper_serve.api.admission import Admission
from steper_serve.api.limits import Limits
from steper_serve.drivers import Event, Watcher
from steper_serve.loop import Ask, Loop
from steper_serve.trajectory import Completion, Delta, Generate, LanguageModel, Trajectory, Usage

# A budget that was spent waiting: the loop then forces its final step at once.
_SPENT_SECONDS = 1e-6


class Metered:
    """A `LanguageModel` that counts what is read and written, also where it breaks off."""

    def __init__(self, model: LanguageModel, spend: Callable[[Usage], None]) -> None:
        self._model = model
        self._spend = spend

    async def generate(self, request: Generate) -> AsyncGenerator[Delta | Completion, None]:
        """See `LanguageModel.generate`."""
        used = Usage()
        try:
            async with aclosing(self._model.generate(request)) as output:
                async for part in output:
                    used = _at_least(used, part)
                    yield part
        finally:
            self._spend(used)

    async def check(self) -> None:
        """See `LanguageModel.check`."""
        await self._model.check()


@dataclass(frozen=True, slots=True)
class Admitted:
    """The loop, as one answer may use it.

    Args:
        loop: what answers.
        admission: gives out slots.
        limits: the caps that hold where a request asks for nothing.
        spend: told the tokens of each generation.
        account: of the request that it answers.
    """

    loop: Loop
    admission: Admission
    limits: Limits
    spend: Callable[[int], None]
    account: Account

    async def run(self, ask: Ask, watch: Watcher) -> Trajectory:
        """As `Loop.run`, when it is its turn. Time spent waiting is part of its budget.

        Raises:
            Draining: the server ended.
        """
        strategy = ask.strategy or self.loop.strategy
        with self.account.answering(strategy, ask.question) as answer:
            async with self.admission.slot() as waited:
                answer.queued_seconds = waited
                budget = ask.max_seconds or self.loop.max_seconds or self.limits.max_seconds
                loop = replace(self.loop, model=self._metered(answer))
                capped = replace(
                    ask,
                    max_seconds=max(budget - waited, _SPENT_SECONDS),
                    max_tokens=ask.max_tokens or self.limits.max_answer_tokens,
                )
                answer.ended(trajectory := await loop.run(capped, _both(answer.watch, watch)))
                return trajectory

    async def generate(self, effect: Generate, tell: Callable[[Delta], None]) -> Completion:
        """The model's completion, likewise; where time is up, it is what there is by then."""
        effect = replace(effect, max_tokens=min(effect.max_tokens, self.limits.max_answer_tokens))
        with self.account.answering(RAW, effect.prompt.user) as answer:
            async with self.admission.slot() as waited:
                answer.queued_seconds = waited
                start = asyncio.get_running_loop().time()
                parts = self._metered(answer).generate(effect)
                end = start + self.limits.max_seconds - waited
                async with aclosing(_until(end, parts)) as ended:
                    async for part in ended:
                        if isinstance(part, Completion):
                            done = part
                        else:
                            tell(part)
                answer.completed(effect, done, asyncio.get_running_loop().time() - start)
                return done

    def _metered(self, answer: Answering) -> Metered:
        def spend(used: Usage) -> None:
            answer.spent(used)
            self.spend(used.num_prompt_tokens + used.num_completion_tokens)

        return Metered(self.loop.model, spend)


def _both(first: Watcher, second: Watcher) -> Watcher:
    def watch(event: Event) -> None:
        first(event)
        second(event)

    return watch


def _at_least(used: Usage, part: Delta | Completion) -> Usage:
    """What has been used once `part` has come; some engines tell of the prompt at the end alone."""
    wrote = part.num_tokens if isinstance(part, Delta) else part.num_completion_tokens
    return Usage(
        max(used.num_prompt_tokens, part.num_prompt_tokens),
        max(used.num_completion_tokens, wrote),
        max(used.num_cached_tokens, part.num_cached_tokens),
    )


async def _until(
    end: float, parts: AsyncGenerator[Delta | Completion, None]
) -> AsyncGenerator[Delta | Completion, None]:
    text, last = "", Delta("", 0)
    async with aclosing(parts):
        while True:
            try:
                async with asyncio.timeout_at(end):
                    part = await anext(parts, None)
            except TimeoutError:
                yield Completion(
                    text, "length", last.num_prompt_tokens, last.num_tokens, last.num_cached_tokens
                )
                return
            if part is None:
                return
            if isinstance(part, Delta):
                text, last = text + part.text, part
            yield part
