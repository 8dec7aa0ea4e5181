"""A client of the endpoint, through the official `openai` package.

It turns the endpoint's chunks into the events of a timeline, and its errors into problems that
say what was wrong and what to do. What is left out: what is shown of either.
"""

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import openai

from steper_serve.ui.events import Answered, Event, Passage, Problem, Wrote, event_of, passages_of
from steper_serve.ui.request import Ask

# Runs no loop and takes no settings of one.
_RAW_MODEL = "steper-raw"
_SILENCE_SECONDS = 600.0
_CONNECT_SECONDS = 5.0
# What the page asks for itself comes at once or not at all.
_QUICK_SECONDS = 20.0
# The field of a request that the question is in; whoever asks on a page knows it by no name.
_QUESTION = "messages"
# What asking and reading end in where the endpoint fails, or is none of this project's.
_MISUNDERSTOOD = (openai.APIError, ValueError, LookupError, TypeError, AttributeError)


class Failed(Exception):
    """The endpoint did not do what was asked; `problem` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Corpus:
    """What the endpoint tells of its corpus; `created` is UTC in ISO 8601."""

    num_passages: int
    size_bytes: int | None = None
    created: str | None = None
    examples: tuple[str, ...] = ()


class Endpoint:
    """The endpoint at `url` (up to /v1). Each call takes the key to use, "" for none.

    Args:
        key: used where a call has none.

    Every method raises `Failed`.
    """

    def __init__(self, url: str, key: str = "") -> None:
        self.url = url.rstrip("/")
        self._key = key
        self._client = openai.AsyncOpenAI(
            base_url=self.url,
            api_key=key or "none",  # the client insists on one, but need not send it
            max_retries=0,
            timeout=openai.Timeout(_SILENCE_SECONDS, connect=_CONNECT_SECONDS),
        )

    async def close(self) -> None:
        """Give up all connections."""
        await self._client.close()

    async def answer(self, ask: Ask, key: str = "") -> AsyncGenerator[Event, None]:
        """The events of an answer as they come. Closing this ends the answer in the server."""
        body = ask.body()
        extra = {"steper": body.pop("steper")}
        begun = False
        try:
            chat = self._with(key).chat.completions
            asked = chat.create(
                **body, stream=True, extra_body=extra, extra_headers=self._headers(key)
            )
            async with await asked as stream:
                async for chunk in stream:
                    begun = True
                    for event in _events(chunk):
                        yield event
        except _MISUNDERSTOOD as error:
            raise Failed(self._problem(error, begun=begun)) from error

    async def ready(self, key: str = "") -> None:
        """Return if the endpoint can answer."""
        with self._failing():
            await self._get(self.url.removesuffix("/v1") + "/ready", key)

    async def models(self, key: str = "") -> dict[str, bool]:
        """The ids of the models that answer questions; whether each was trained to."""
        with self._failing():
            listed = (await self._get("/models", key))["data"]
            return {
                model["id"]: model.get("steper", {}).get("trained", True)
                for model in listed
                if model["id"] != _RAW_MODEL
            }

    async def corpus(self, key: str = "") -> Corpus:
        """How large the corpus is, and questions for it."""
        with self._failing():
            told = await self._get("/corpus", key)
            return Corpus(
                num_passages=told["num_passages"],
                size_bytes=told.get("size_bytes"),
                created=told.get("created"),
                examples=tuple(told.get("examples", ())),
            )

    async def search(self, query: str, top_k: int, key: str = "") -> tuple[Passage, ...]:
        """The passages that a search by hand finds, scored, best first."""
        with self._failing():
            found = await self._get("/passages", key, {"query": query, "top_k": top_k})
            return passages_of(found["data"])

    async def texts(
        self, query: str, wanted: Sequence[Passage], key: str = ""
    ) -> dict[str, Passage]:
        """Passages with their texts, by id: those that `query` has just found.

        One search gives them all, as long as the index has not changed in between.
        """
        read = {p.id: p for p in await self.search(query, len(wanted), key)} if wanted else {}
        for id in [p.id for p in wanted if p.id not in read]:
            with self._failing():
                [read[id]] = passages_of([await self._get(f"/passages/{quote(id, safe='')}", key)])
        return {p.id: read[p.id] for p in wanted}

    async def _get(self, path: str, key: str, params: Mapping[str, object] | None = None) -> Any:
        options: Any = {
            "params": params or {},
            "timeout": _QUICK_SECONDS,
            "headers": self._headers(key),
        }
        return await self._with(key).get(path, cast_to=object, options=options)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Whatever is not as it should be in what the endpoint says, as `Failed`."""
        try:
            yield
        except _MISUNDERSTOOD as error:
            raise Failed(self._problem(error)) from error

    def _with(self, key: str) -> openai.AsyncOpenAI:
        return self._client.with_options(api_key=key) if key else self._client

    def _headers(self, key: str) -> dict[str, Any]:
        """So that a server can tell no key from a wrong one."""
        return {} if key or self._key else {"Authorization": openai.Omit()}

    def _problem(self, error: Exception, *, begun: bool = False) -> Problem:
        match error:
            case openai.APITimeoutError():
                return Problem("The server is silent", f"{self.url} did not answer in time.", _WAIT)
            case openai.APIConnectionError() if begun:
                said = f"The connection to {self.url} ended in the middle."
                return Problem("The answer broke off", said, _WAIT)
            case openai.APIConnectionError():
                said = f"Nothing answers at {self.url} ({_cause(error)})."
                return Problem("The server cannot be reached", said, _WAIT)
            case openai.APIError():
                return _told(error)
        said = f"{self.url} says what this page cannot read ({type(error).__name__}: {error})."
        return Problem("This is no StepER server", said, "Look at the address of the endpoint.")


_WAIT = "It may be starting, or gone: the light at the top of the page is green when it is back."
# By the endpoint's error code or, failing that, by its status.
_TITLES: Mapping[str | int, tuple[str, str]] = {
    "engine_unavailable": ("The server is not ready", "Try again in a moment."),
    "engine_timeout": ("The engine did not answer in time", "Try again in a moment."),
    "index_unavailable": ("The corpus cannot be searched", "The server's operator has to look."),
    "context_length_exceeded": ("The question is too long", "Ask a shorter one."),
    "invalid_api_key": ("The key is not accepted", "Enter another key in Ask's settings."),
    "server_draining": ("The server is ending", "Try again when it is back."),
    "server_overloaded": ("The server is busy", "Try again in a moment."),
    "rate_limit_exceeded": ("The limit per minute is reached", "Ask again when it has passed."),
    "model_not_found": ("There is no such strategy", "Choose another one in the settings."),
    400: ("The server refuses the request", "Change what it names."),
    401: ("A key is needed", "Enter the key of this server in Ask's settings."),
    403: ("The key is not accepted", "Enter another key in Ask's settings."),
    429: ("The server is busy", "Try again in a moment."),
    503: ("The server is not ready", "Try again in a moment."),
}

# Of what the endpoint tells programmers in terms of HTTP.
_OWN_WORDS = {
    "missing_api_key": "This server answers only those who give it a key.",
    "invalid_api_key": "The key in the settings is none of this server's.",
}


def _told(error: openai.APIError) -> Problem:
    """What the endpoint itself says of an error, before an answer or in the middle of one."""
    body = error.body if isinstance(error.body, Mapping) else {}
    status = error.status_code if isinstance(error, openai.APIStatusError) else 500
    failed = ("The server failed", "Its log has the reason.")
    title, hint = _TITLES.get(body.get("code") or "") or _TITLES.get(status, failed)
    code = body.get("code") or ""
    said = _OWN_WORDS.get(code) or str(body.get("message") or error.message)
    param = body.get("param") or ""
    named = f" ({param})" if param not in said and not param.startswith(_QUESTION) else ""
    if said.partition(" ")[0].isalpha():  # else it begins with a parameter's name, or a number
        said = said[:1].upper() + said[1:]
    hint = "" if "shorter" in said else hint  # it says so itself
    return Problem(title, f"{said}{named}", hint, wants_key=status in (401, 403))


def _events(chunk: Any) -> Iterator[Event]:
    if told := getattr(chunk, "steper", None):
        yield event_of(told)
    delta = chunk.choices[0].delta if chunk.choices else None
    if text := getattr(delta, "reasoning_content", None):
        yield Wrote(text)
    if delta is not None and delta.content:
        cited = [a["url_citation"] for a in getattr(delta, "annotations", None) or ()]
        yield Answered(delta.content, tuple((c["title"], c["url"]) for c in cited))


def _cause(error: BaseException) -> str:
    """The innermost reason that says something."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__
