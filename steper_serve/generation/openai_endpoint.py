"""Any OpenAI-compatible endpoint as a `LanguageModel`: a teacher, a vLLM fleet, a cluster.

One URL; behind it may stand a load balancer. Retries (exponential backoff with jitter, on lost
connections, 408, 409, 429 and 5xx, minding Retry-After) are the official client's own and end
with the first byte of an answer: a stream that breaks is an error, never silently begun again.
What is left out: several URLs, and tokenising (a prompt that is too long is the server's to
find; vLLM refuses one that leaves less than `max_tokens`, where `VllmEngine` gives what is left).
"""

import json
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Literal

import openai

from steper_serve.errors import (
    EngineFailed,
    EngineTimeout,
    EngineUnavailable,
    PromptTooLong,
    SteperError,
)
from steper_serve.trajectory import Completion, Delta, FinishReason, Generate

Api = Literal["completions", "chat"]
Stream = openai.AsyncStream[Any]

_TOO_LONG = re.compile(r"context (length|window)|maximum (model|input) length|too long", re.I)


class OpenAIEndpoint:
    """A model behind an OpenAI-compatible URL; end it with `aclose`.

    Args:
        base_url: up to and with `/v1`. It appears in messages; the key never does.
        model: the model's id there.
        api_key: None for a server without keys.
        api: "completions" sends `prompt.text`. "chat" sends the user's turn and the assistant's
            turn so far, which the server must be able to continue (vLLM does; others will
            begin a turn of their own, so use it there for empty `partial`s only).
        vllm_extensions: send vLLM's own fields: `min_tokens`, `add_special_tokens` for a
            templated prompt, the ones that continue an assistant's turn, and token counts
            while streaming. Without them, as OpenAI's own servers need it, an empty completion
            is possible, a templated prompt may get a second beginning-of-sequence token, and a
            delta counts as one token.
        max_retries: further attempts after the first.
        connect_seconds: the longest wait for a connection.
        read_seconds: the longest silence: before the first token, and between two.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        api: Api = "completions",
        vllm_extensions: bool = True,
        max_retries: int = 4,
        connect_seconds: float = 5.0,
        read_seconds: float = 120.0,
    ) -> None:
        self.base_url = base_url
        self.model = model
        self.max_model_len: int | None = None
        self._api = api
        self._vllm_extensions = vllm_extensions
        self._num_running = 0
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=api_key or "none",  # the client insists on one
            max_retries=max_retries,
            timeout=openai.Timeout(read_seconds, connect=connect_seconds),
        )

    async def generate(self, request: Generate) -> AsyncGenerator[Delta | Completion, None]:
        """As `LanguageModel.generate`; raises `EngineTimeout` after `read_seconds` of silence."""
        text, num_chunks, reason, usage = "", 0, None, None
        self._num_running += 1
        try:
            async with aclosing(self._chunks(request)) as chunks:
                async for chunk in chunks:
                    usage = chunk.usage or usage
                    if not chunk.choices:
                        continue
                    choice = chunk.choices[0]
                    reason = choice.finish_reason or reason
                    piece = choice.text if self._api == "completions" else choice.delta.content
                    if piece:
                        text += piece
                        num_chunks += 1
                        num_prompt, num_written, num_cached = _counts(usage, num_chunks)
                        yield Delta(piece, num_written, num_prompt, num_cached)
        finally:
            self._num_running -= 1
        yield self._completion(text, reason, usage, num_chunks)

    async def check(self) -> None:
        """Raise EngineUnavailable unless the endpoint answers and lists the model.

        Learns `max_model_len` where the endpoint tells it, as vLLM does.
        """
        try:
            answer = await self._client.models.with_raw_response.list()
            served = {model["id"]: model for model in answer.http_response.json()["data"]}
        except openai.APIError as error:
            raise EngineUnavailable(self._error(error).message) from error
        except (ValueError, KeyError, TypeError) as error:
            raise EngineUnavailable(
                f"{self.base_url} does not answer like an OpenAI-compatible endpoint: does the "
                "URL end in /v1?"
            ) from error
        if self.model not in served:
            raise EngineUnavailable(
                f"{self.base_url} does not serve {self.model!r}; it lists: {', '.join(served)}."
            )
        self.max_model_len = served[self.model].get("max_model_len")

    def num_running(self) -> int:
        """Generations that this adapter has open."""
        return self._num_running

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _chunks(self, request: Generate) -> AsyncGenerator[Any, None]:
        """The stream's chunks, the client's errors made ours. Closed early, so is the response."""
        try:
            async with await self._open(request) as stream:
                async for chunk in stream:
                    yield chunk
        except openai.APIError as error:
            raise self._error(error) from error
        except json.JSONDecodeError as error:
            raise EngineFailed(f"{self.base_url} streamed what is not JSON: {error}") from error

    async def _open(self, request: Generate) -> Stream:
        fields: dict[str, Any] = {
            "model": self.model,
            "max_tokens": request.max_tokens,
            "stop": list(request.stop) or openai.omit,
            "temperature": request.sampling.temperature,
            "top_p": request.sampling.top_p,
            "seed": openai.omit if request.sampling.seed is None else request.sampling.seed,
            "stream": True,
            "stream_options": {"include_usage": True},
            "extra_body": self._extensions(request),
        }
        create: Any = self._client.completions.create
        if self._api == "completions":
            fields["prompt"] = request.prompt.text
        else:
            create = self._client.chat.completions.create
            fields["messages"] = [{"role": "user", "content": request.prompt.user}]
            if request.prompt.partial:
                fields["messages"] += [{"role": "assistant", "content": request.prompt.partial}]
        stream: Stream = await create(**fields)
        return stream

    def _extensions(self, request: Generate) -> dict[str, Any]:
        if not self._vllm_extensions:
            return {}
        extra: dict[str, Any] = {
            "min_tokens": min(request.min_tokens, request.max_tokens),
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        }
        if self._api == "completions" and request.prompt.templated:
            extra["add_special_tokens"] = False
        if self._api == "chat" and request.prompt.partial:
            extra |= {"continue_final_message": True, "add_generation_prompt": False}
        return extra

    def _completion(self, text: str, reason: str | None, usage: Any, num_chunks: int) -> Completion:
        if reason not in ("stop", "length"):
            ended = f"with finish reason {reason!r}" if reason else "without a finish reason"
            raise EngineFailed(f"{self.base_url} ended its stream {ended}.")
        finish: FinishReason = "stop" if reason == "stop" else "length"
        num_prompt, num_written, num_cached = _counts(usage, num_chunks)
        return Completion(text, finish, num_prompt, num_written, num_cached)

    def _error(self, error: openai.APIError) -> SteperError:
        """Ours for one of the client's; the message names the URL and what to do."""
        where = self.base_url
        match error:
            case openai.APITimeoutError():
                return EngineTimeout(f"{where} did not answer in time; try again later.")
            case openai.APIConnectionError():
                cause = error.__cause__ or error
                return EngineUnavailable(f"{where} cannot be reached or broke off: {cause!r}")
            case openai.AuthenticationError() | openai.PermissionDeniedError():
                return EngineFailed(
                    f"{where} refused the key ({error.code or type(error).__name__}); "
                    "check the endpoint's API key setting."
                )
            case openai.NotFoundError():
                return EngineFailed(
                    f"{where} knows no model {self.model!r}, or the URL lacks its /v1."
                )
        return self._status_error(error)

    def _status_error(self, error: openai.APIError) -> SteperError:
        """By HTTP status, or by the code that a server put into a stream it had begun."""
        status = error.status_code if isinstance(error, openai.APIStatusError) else error.code
        code = int(status) if status and str(status).isdigit() else 0
        said = f"{self.base_url} answered {status or 'with an error'}: {error.message}"
        if code in (408, 409, 429) or code >= 500:
            return EngineUnavailable(said)
        if error.code == "context_length_exceeded" or _TOO_LONG.search(error.message):
            return PromptTooLong(said)
        return EngineFailed(said)


def _counts(usage: Any, num_chunks: int) -> tuple[int, int, int]:
    """Tokens of the prompt, of the completion so far, and cached ones, as far as they are told."""
    if usage is None:
        return 0, num_chunks, 0
    details = usage.prompt_tokens_details
    return usage.prompt_tokens, usage.completion_tokens, (details and details.cached_tokens) or 0
