"""What a model said, kept by what it was asked: asked the same again, it need not say it again.

A teacher may be hours of work, or cost money; and students are compared on the same trajectories
only if these can be had again, on another machine too. The first line says whose file it is, and
each other one is a generation:

    {"said_by"}
    {"key", "text", "finish_reason", "num_prompt_tokens", "num_completion_tokens"}

The key is a hash of the prompt and of how its continuation is drawn. `finish_reason` is null where
the loop itself ended the generation (the sentence rule): what was written by then is kept. What is
left out: questions and trajectories (rollout.py), which come out the same as long as retrieval
finds the same.
"""

import hashlib
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import asdict
from pathlib import Path

from steper_serve import journal
from steper_serve.errors import ConfigurationError, EngineFailed
from steper_serve.journal import Appender, Record
from steper_serve.recipes.distill import records
from steper_serve.trajectory import Completion, Delta, Generate, LanguageModel


class Recorded:
    """A `LanguageModel` that answers from a file what the file holds, and asks `model` the rest.

    What is asked is appended to `file` as it ends, and counted in `num_asked`; see `recorded`.
    """

    def __init__(
        self, model: LanguageModel, file: Path, said: dict[str, Record], out: Appender
    ) -> None:
        self._model = model
        self.file = file
        self._said = said
        self._out = out
        self.num_asked = 0

    async def generate(self, request: Generate) -> AsyncGenerator[Delta | Completion, None]:
        """As `LanguageModel.generate`; what is recorded comes in one piece."""
        key = key_of(request)
        said = self._said.get(key)
        if said is None:
            async with aclosing(self._ask(request, key)) as events:
                async for event in events:
                    yield event
            return
        text, tokens = said["text"], said["num_completion_tokens"]
        yield Delta(text, tokens, said["num_prompt_tokens"])
        if said["finish_reason"] is None:
            raise EngineFailed(
                f"{self.file} holds {text!r} up to where the loop ended it once, and the loop "
                "goes on now: move the file away to ask the model again"
            )
        yield Completion(text, said["finish_reason"], said["num_prompt_tokens"], tokens)

    async def check(self) -> None:
        """As `LanguageModel.check`."""
        await self._model.check()

    async def _ask(self, request: Generate, key: str) -> AsyncGenerator[Delta | Completion, None]:
        self.num_asked += 1
        text, num_tokens, num_prompt_tokens, reason = "", 0, 0, None
        try:
            async with aclosing(self._model.generate(request)) as generation:
                async for event in generation:
                    if isinstance(event, Completion):
                        text, reason = event.text, event.finish_reason
                        num_tokens = event.num_completion_tokens
                    else:
                        text, num_tokens = text + event.text, event.num_tokens
                    num_prompt_tokens = event.num_prompt_tokens or num_prompt_tokens
                    yield event
        except GeneratorExit:
            if request.cut is not None and request.cut(text) is not None:
                self._keep(key, text, None, num_prompt_tokens, num_tokens)
            raise
        if reason is not None:
            self._keep(key, text, reason, num_prompt_tokens, num_tokens)

    def _keep(self, key: str, text: str, reason: str | None, read: int, written: int) -> None:
        self._said[key] = {
            "key": key,
            "text": text,
            "finish_reason": reason,
            "num_prompt_tokens": read,
            "num_completion_tokens": written,
        }
        self._out.append(self._said[key])


@contextmanager
def recorded(model: LanguageModel, file: Path, said_by: str) -> Iterator[Recorded]:
    """`model`, with what the file holds answered from it.

    Args:
        model: is asked what the file does not hold.
        file: made if there is none.
        said_by: what the model is known by (`Config.teacher_hash`).

    Raises:
        BadRecord: a line of the file is not one of these; names it.
        ConfigurationError: the file holds what another model said.
        DiskFailed: the file cannot be opened, or another process appends to it.
    """
    with Appender(file) as out:
        said = _read(file, said_by)
        if said is None:
            out.append({"said_by": said_by})
        yield Recorded(model, file, said or {}, out)


def key_of(request: Generate) -> str:
    """Sixteen hexadecimal digits that stand for what is asked."""
    how = [request.max_tokens, request.stop, request.cut is None, request.min_tokens]
    asked = json.dumps([request.prompt.text, *how, asdict(request.sampling)])
    return hashlib.sha256(asked.encode()).hexdigest()[:16]


def _read(file: Path, said_by: str) -> dict[str, Record] | None:
    """The file's generations by their keys; None where it is new."""
    lines = journal.read_placed(file)
    if (first := next(lines, None)) is None:
        return None
    whose = records.required(first[1], "said_by", file, first[0])
    if whose != said_by:
        raise ConfigurationError(
            f"{file} holds what another model said ({whose}; this teacher is {said_by}): give "
            "`recorded` a file of its own"
        )
    said: dict[str, Record] = {}
    for place, record in lines:
        for name in ("text", "finish_reason", "num_prompt_tokens", "num_completion_tokens"):
            records.required(record, name, file, place)
        said[records.required(record, "key", file, place)] = record
    return said
