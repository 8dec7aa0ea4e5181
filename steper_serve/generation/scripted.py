"""A `LanguageModel` that says what it is told: for tests of whatever drives one.

Words stand for tokens. What is left out: sampling (`Generate.sampling` is recorded, not used).
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator

from steper_serve.errors import (
    EngineDied,
    EngineFailed,
    EngineUnavailable,
    PromptTooLong,
    SteperError,
)
from steper_serve.trajectory import Completion, Delta, FinishReason, Generate

Response = str | SteperError


class ScriptedModel:
    """Answers request by request from `responses`.

    Args:
        responses: texts in the order of the requests, or a function from a request to its text.
            An error in a text's place is raised.
        max_prompt_tokens: words that a prompt may have; None for any number.
        gate: what a generation waits for after its first word, so that a test can leave it there.

    `requests` holds every request in order.
    """

    def __init__(
        self,
        responses: Iterable[Response] | Callable[[Generate], Response],
        *,
        max_prompt_tokens: int | None = None,
        gate: asyncio.Event | None = None,
    ) -> None:
        self._respond = responses if callable(responses) else _in_order(iter(responses))
        self._max_prompt_tokens = max_prompt_tokens
        self._gate = gate
        self._num_running = 0
        self.requests: list[Generate] = []
        self.down: str | None = None
        self.dead: str | None = None

    async def generate(self, request: Generate) -> AsyncGenerator[Delta | Completion, None]:
        """As `LanguageModel.generate`."""
        self.requests.append(request)
        await self.check()
        num_prompt_tokens = len(_words(request.prompt.text))
        if self._max_prompt_tokens is not None and num_prompt_tokens > self._max_prompt_tokens:
            raise PromptTooLong(
                f"The prompt has {num_prompt_tokens} words of at most {self._max_prompt_tokens}."
            )
        response = self._respond(request)
        if isinstance(response, SteperError):
            raise response
        text, num_tokens, reason = _cut(response, request)
        self._num_running += 1
        try:
            for i, word in enumerate(_words(text), start=1):
                yield Delta(word, i)
                await (self._gate.wait() if self._gate else asyncio.sleep(0))
        finally:
            self._num_running -= 1
        yield Completion(text, reason, num_prompt_tokens, num_tokens)

    async def check(self) -> None:
        """Raise EngineDied with `dead`, EngineUnavailable with `down`, where a test has set it."""
        if self.dead is not None:
            raise EngineDied(self.dead)
        if self.down is not None:
            raise EngineUnavailable(self.down)

    def num_running(self) -> int:
        """Generations that have begun and not ended."""
        return self._num_running


def _in_order(responses: Iterator[Response]) -> Callable[[Generate], Response]:
    def respond(request: Generate) -> Response:
        return next(
            responses,
            EngineFailed(f"The script has no response left for step {request.step}."),
        )

    return respond


def _cut(text: str, request: Generate) -> tuple[str, int, FinishReason]:
    """The text up to the first stop string or `max_tokens`, its words, and which it was."""
    words = _words(text)
    for num_tokens in range(1, min(len(words), request.max_tokens) + 1):
        written = "".join(words[:num_tokens])
        found = [written.find(s) for s in request.stop if s in written]
        if found:
            return written[: min(found)], num_tokens, "stop"
    if len(words) > request.max_tokens:
        return "".join(words[: request.max_tokens]), request.max_tokens, "length"
    return text, len(words), "stop"


def _words(text: str) -> list[str]:
    """Words with the space before them; joined, they are the text again."""
    return re.findall(r"\s*\S+|\s+$", text)
