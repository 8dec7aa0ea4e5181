"""Requests on the wire: OpenAI's chat completions, and what we add under `steper`.

A field that is not supported is refused by name, never ignored. What is left out: HTTP.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from steper_serve.errors import (
    InvalidRequest,
    ModelNotFound,
    UnknownParameter,
    UnsupportedParameter,
)
from steper_serve.loop import Ask
from steper_serve.strategies import STRATEGIES
from steper_serve.strategies.options import MAX_STEPS, TOP_K
from steper_serve.trajectory import Sampling

DEFAULT_MODEL = "steper"
RAW_MODEL = "steper-raw"
MODELS: Mapping[str, str | None] = {
    DEFAULT_MODEL: None,
    **{f"steper-{name}": name for name in STRATEGIES},
    RAW_MODEL: None,
}

# Standard parameters that we do not support, with the values that ask for nothing.
_NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "audio": (),
    "frequency_penalty": (0,),
    "function_call": ("none",),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "moderation": (),
    "n": (1,),
    "parallel_tool_calls": (True, False),
    "prediction": (),
    "presence_penalty": (0,),
    "reasoning_effort": ("none",),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "verbosity": ("medium",),
    "web_search_options": (),
}
# Parameters that are about the asker and not the answer; accepted, not used.
_ABOUT_THE_ASKER = frozenset(
    {"metadata", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "user"}
)


class ContentPart(BaseModel):
    """A part of a message's content; only text is supported."""

    model_config = ConfigDict(extra="allow")
    type: str
    text: str | None = None


class Message(BaseModel):
    """A turn. Only the last user turn is used; the rest of a turn's fields are accepted."""

    model_config = ConfigDict(extra="allow")
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "\n".join(part.text or "" for part in self.content)
        return self.content or ""


class StreamOptions(BaseModel):
    """Options of a streamed answer."""

    model_config = ConfigDict(extra="forbid")
    include_usage: Annotated[bool, Field(strict=True)] = False
    include_obfuscation: Literal[False] = False


class SteperOptions(BaseModel):
    """What we add to a request: the loop's own settings, and whether to send its trace."""

    model_config = ConfigDict(extra="forbid")
    trace: Annotated[bool, Field(strict=True)] = False
    strategy: str | None = None
    max_steps: Annotated[int, Field(ge=MAX_STEPS[0], le=MAX_STEPS[1], strict=True)] | None = None
    top_k: Annotated[int, Field(ge=TOP_K[0], le=TOP_K[1], strict=True)] | None = None
    max_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)] | None = None


class ChatRequest(BaseModel):
    """`POST /v1/chat/completions`."""

    model_config = ConfigDict(extra="allow")
    model: str
    messages: Annotated[list[Message], Field(min_length=1)]
    stream: Annotated[bool, Field(strict=True)] | None = False
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False, strict=True)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False, strict=True)] | None = None
    max_tokens: Annotated[int, Field(ge=1, strict=True)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, strict=True)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63, strict=True)] | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    steper: SteperOptions | None = None

    @property
    def options(self) -> SteperOptions:
        return self.steper or SteperOptions()

    @property
    def token_budget(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def asked(self) -> str:
        """The last user turn; all turns where no loop runs."""
        if self.model == RAW_MODEL:
            return "\n\n".join(message.text for message in self.messages)
        return next((m.text for m in reversed(self.messages) if m.role == "user"), "")

    @property
    def sampling(self) -> Sampling:
        """Greedy unless a temperature is asked for: a loop's steps build on each other."""
        top_p = 1.0 if self.top_p is None else self.top_p
        return Sampling(self.temperature or 0.0, top_p, self.seed)

    @property
    def stop_strings(self) -> tuple[str, ...]:
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        # A lone surrogate is valid in JSON and in no text.
        return tuple(s.encode(errors="replace").decode() for s in stop if s)


def check(request: ChatRequest) -> None:
    """Refuse what is not supported.

    Raises:
        ModelNotFound: no such model is served.
        InvalidRequest: a parameter is not supported or contradicts another; `param` names it.
    """
    if request.model not in MODELS:
        raise ModelNotFound(
            f"there is no model {request.model!r}; there are {', '.join(MODELS)}", param="model"
        )
    for name, value in (request.model_extra or {}).items():
        _check_extra(name, value)
    for number, message in enumerate(request.messages):
        _check_parts(message, f"messages.{number}.content")
    if request.stream_options is not None and not request.stream:
        raise InvalidRequest("stream_options needs stream=true", param="stream_options")
    if request.model == RAW_MODEL:
        if request.steper is not None:
            raise InvalidRequest(f"{RAW_MODEL} runs no loop and takes no `steper`", param="steper")
    elif request.stop_strings:
        raise InvalidRequest(
            f"stop is supported by {RAW_MODEL} only: a loop's steps have stops of their own",
            param="stop",
        )


def read_ask(request: ChatRequest) -> Ask:
    """The question of a checked request, and what it sets.

    Raises:
        InvalidRequest: there is no question, or model and strategy disagree.
    """
    options = request.options
    strategy = MODELS[request.model]
    if options.strategy is not None and options.strategy not in STRATEGIES:
        raise InvalidRequest(
            f"there is no strategy {options.strategy!r}; there are {', '.join(STRATEGIES)}",
            param="steper.strategy",
        )
    if strategy and options.strategy and strategy != options.strategy:
        raise InvalidRequest(
            f"model {request.model!r} is the strategy {strategy!r}, but steper.strategy is "
            f"{options.strategy!r}: leave one out, or use model {DEFAULT_MODEL!r}",
            param="steper.strategy",
        )
    return Ask(
        question=_question(request),
        strategy=strategy or options.strategy,
        max_steps=options.max_steps,
        top_k=options.top_k,
        max_tokens=request.token_budget,
        max_seconds=options.max_seconds,
        sampling=request.sampling,
    )


def _question(request: ChatRequest) -> str:
    for number, message in reversed(list(enumerate(request.messages))):
        if message.role == "user":
            if question := message.text.strip():
                return question
            raise InvalidRequest("the question is empty", param=f"messages.{number}.content")
    raise InvalidRequest(
        "no message has the role user; the last one is the question", param="messages"
    )


def _check_parts(message: Message, where: str) -> None:
    parts = message.content if isinstance(message.content, list) else []
    for part in parts:
        if part.type not in ("text", "refusal") or (part.type == "text" and part.text is None):
            raise InvalidRequest(
                f"a content part of type {part.type!r} is not supported: send text", param=where
            )


def _check_extra(name: str, value: object) -> None:
    if name in _ABOUT_THE_ASKER or value is None:
        return
    if name not in _NEUTRAL:
        raise UnknownParameter(f"unknown parameter: {name!r}", param=name)
    # True == 1 in Python; not so in JSON.
    if not any(value == v and type(value) in (type(v), float) for v in _NEUTRAL[name]):
        allowed = " or ".join(repr(v) for v in _NEUTRAL[name])
        hint = f" or set it to {allowed}" if allowed else ""
        raise UnsupportedParameter(f"{name} is not supported: leave it out{hint}", param=name)
