"""Answers on the wire, in the `openai` package's own pydantic models.

Its official client validates them strictly; what we add is `reasoning_content` beside an
answer, `annotations` on a delta as on a message, and the trace under `steper`.
What is left out: HTTP, and running anything.
"""

import time
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessage
from openai.types.chat.chat_completion import Choice
from openai.types.chat.chat_completion_chunk import Choice as ChunkChoice
from openai.types.chat.chat_completion_chunk import ChoiceDelta
from openai.types.chat.chat_completion_message import Annotation, AnnotationURLCitation
from openai.types.completion_usage import PromptTokensDetails

from steper_serve.drivers import Wrote
from steper_serve.trajectory import FinishReason, Passage, Trajectory, Usage

NOTHING_FOUND = "The passages do not answer this."


class ReasoningText:
    """Thoughts as one text: steps on lines of their own, alike in both modes."""

    def __init__(self) -> None:
        self.text = ""
        self._step = 0

    def add(self, event: Wrote) -> str:
        """The text to show for new text of a thought, "" for none."""
        new = event.text
        if event.step != self._step:
            new = new.lstrip()
            if not new:
                return ""
            self._step = event.step
            new = f"\n{new}" if self.text else new
        self.text += new
        return new


class Reply:
    """The parts of one answer, all with the same id, time and model."""

    def __init__(self, model: str) -> None:
        self.id = f"chatcmpl-{uuid.uuid4().hex}"
        self._model = model
        self._created = int(time.time())

    def chunk(
        self,
        *,
        finish_reason: FinishReason | None = None,
        steper: Mapping[str, Any] | None = None,
        **delta: Any,
    ) -> ChatCompletionChunk:
        """One chunk of a streamed answer; an empty delta carries a finish reason or a trace."""
        choice = ChunkChoice(
            index=0, delta=ChoiceDelta.model_construct(**delta), finish_reason=finish_reason
        )
        return self._chunk([choice], _extra(steper))

    def usage_chunk(self, usage: Usage) -> ChatCompletionChunk:
        """The chunk after the last: no choices, the usage over all steps."""
        return self._chunk([], {"usage": usage_json(usage)})

    def whole(
        self,
        content: str,
        finish_reason: FinishReason,
        usage: Usage,
        *,
        steper: Mapping[str, Any] | None = None,
        **message: Any,
    ) -> ChatCompletion:
        """The answer in one piece."""
        turn = ChatCompletionMessage.model_construct(role="assistant", content=content, **message)
        choice = Choice.model_construct(
            index=0, message=turn, finish_reason=finish_reason, logprobs=None
        )
        return ChatCompletion.model_construct(
            id=self.id,
            object="chat.completion",
            created=self._created,
            model=self._model,
            choices=[choice],
            usage=usage_json(usage),
            **_extra(steper),
        )

    def _chunk(self, choices: list[ChunkChoice], extra: Mapping[str, Any]) -> ChatCompletionChunk:
        return ChatCompletionChunk.model_construct(
            id=self.id,
            object="chat.completion.chunk",
            created=self._created,
            model=self._model,
            choices=choices,
            **extra,
        )


def _extra(steper: Mapping[str, Any] | None) -> dict[str, Any]:
    return {} if steper is None else {"steper": steper}


def usage_json(usage: Usage) -> CompletionUsage:
    """Usage over all steps, as OpenAI counts it."""
    return CompletionUsage(
        prompt_tokens=usage.num_prompt_tokens,
        completion_tokens=usage.num_completion_tokens,
        total_tokens=usage.num_prompt_tokens + usage.num_completion_tokens,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=usage.num_cached_tokens),
    )


def content_of(trajectory: Trajectory) -> str:
    """The answer as a client reads it; an honest sentence where no passage was found."""
    return NOTHING_FOUND if trajectory.stop_reason == "no_passages" else trajectory.answer


def finish_reason_of(trajectory: Trajectory) -> FinishReason:
    """`stop` for an answer, `length` where steps, tokens or time ended it."""
    return "stop" if trajectory.stop_reason in ("answer", "no_passages") else "length"


def annotations_of(trajectory: Trajectory, base_url: str) -> list[Annotation]:
    """The cited passages as `url_citation`s over the whole answer, in order of first use."""
    content = content_of(trajectory)
    by_id = {p.id: p for p in trajectory.passages}
    return [
        Annotation(
            type="url_citation",
            url_citation=AnnotationURLCitation(
                start_index=0,
                end_index=len(content),
                title=by_id[id].title,
                url=passage_url(by_id[id], base_url),
            ),
        )
        for id in trajectory.citations
    ]


def passage_url(passage: Passage, base_url: str) -> str:
    """Where a passage is found: its own web address, else where this server shows it.

    A corpus may say anything; what is no web address is not made a link.
    """
    if passage.url and passage.url.lower().startswith(("https://", "http://")):
        return passage.url
    return f"{base_url.rstrip('/')}/v1/passages/{quote(passage.id, safe='')}"
