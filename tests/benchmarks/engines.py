"""A scripted engine that can be measured alone: what `VllmEngine` can beside a `LanguageModel`.

What is left out: any real engine.
"""

import asyncio
import re

from steper_serve.generation.scripted import ScriptedModel
from steper_serve.trajectory import Completion, Generate


class Alone(ScriptedModel):
    """Words are tokens. A prompt is cached from its beginning as far as any before it went.

    `again` holds every request to `generate_exactly` in order, `most_running` how many were
    running at once, and `resets` how many requests there had been at each reset.
    """

    def __init__(self, *script, short_by: int = 0) -> None:
        super().__init__(*script or [[]])
        self.again: list[Generate] = []
        self.resets: list[int] = []
        self.most_running = 0
        self._num_exactly = 0
        self._seen: list[list[str]] = []
        self._short_by = short_by

    async def generate_exactly(self, request: Generate) -> Completion:
        self.again.append(request)
        self._num_exactly += 1
        self.most_running = max(self.most_running, self._num_exactly)
        await asyncio.sleep(0)
        self._num_exactly -= 1
        # As the scripted model counts: words with the space before them.
        words = re.findall(r"\s*\S+|\s+$", request.prompt.text)
        cached = max((_common(words, seen) for seen in self._seen), default=0)
        self._seen.append(words)
        num_tokens = request.max_tokens - self._short_by
        return Completion("x", "length", len(words), num_tokens, cached)

    async def reset_prefix_cache(self) -> None:
        assert self._num_exactly == 0
        self.resets.append(len(self.again))
        self._seen = []


def _common(one: list[str], other: list[str]) -> int:
    return next(
        (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )
