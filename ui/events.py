"""The events of an answer, as the endpoint tells them in a stream and its trace.

What is left out: HTTP (client), and what they add up to (timeline).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage as the endpoint gives it; `text` is None until it has been read."""

    id: str
    title: str
    score: float | None = None
    text: str | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Why there is no answer: a headline, what the server said of it, and what to do.

    `wants_key` says that a key, or another one, would help.
    """

    title: str
    message: str
    hint: str = ""
    wants_key: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """The end of an answer; `seconds` are the server's own."""

    stop_reason: str
    citations: tuple[str, ...] = ()
    num_steps: int = 0
    num_tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Searching:
    """A search begins."""

    step: int
    query: str


@dataclass(frozen=True, slots=True)
class Found:
    """A search is done."""

    step: int
    passages: tuple[Passage, ...]
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Wrote:
    """Text of a thought as it comes; a line break at its start begins another step."""

    text: str


@dataclass(frozen=True, slots=True)
class Thought:
    """A generation is done; `text` is all of it. `forced`: the model was made to answer."""

    step: int
    text: str
    seconds: float | None = None
    forced: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer's text, and (title, URL) of what it cites, in order."""

    text: str
    cited: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Texts:
    """Passages whose texts have been read."""

    passages: Mapping[str, Passage]


Event = Searching | Found | Wrote | Thought | Answered | Texts | Result | Problem


def event_of(told: Mapping[str, Any]) -> Event:
    """An event of the endpoint's trace (`steper` of a chunk).

    Raises:
        KeyError, TypeError: it has not the form that the endpoint documents.
    """
    if "stop_reason" in told:
        usage = told.get("usage", {})
        return Result(
            stop_reason=told["stop_reason"],
            citations=tuple(told.get("citations", ())),
            num_steps=usage.get("num_steps", 0),
            num_tokens=usage.get("num_completion_tokens", 0),
            seconds=told.get("seconds", 0.0),
        )
    if "query" in told:
        return Searching(told["step"], told["query"])
    if "passages" in told:
        return Found(told["step"], passages_of(told["passages"]), told.get("retrieval_seconds"))
    seconds, forced = told.get("generation_seconds"), told.get("forced", False)
    return Thought(told["step"], told["thought"], seconds, forced)


def passages_of(told: Iterable[Mapping[str, Any]]) -> tuple[Passage, ...]:
    """Passages as the endpoint gives them, in a trace or to a search."""
    names = ("id", "title", "score", "text", "url")
    return tuple(Passage(**{name: p[name] for name in names if name in p}) for p in told)
