"""A judge: a model behind any OpenAI-compatible endpoint, asked for one reply at a time.

What is left out: what it is asked (forms), and where its replies are kept (verdicts).
"""

from collections.abc import Mapping
from typing import Any

import openai

from steper_serve.benchmarks.endpoint import EndpointClient, openai_client
from steper_serve.benchmarks.failures import AnswerFailed, EndpointUnreachable, RequestRefused

_RETRIES = 3
_MAX_TOKENS = 1024
_REFUSALS = (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError)


class Judge(EndpointClient):
    """Asks `model` at `url` (up to /v1), greedily; a context manager.

    Args:
        key: of an endpoint that wants one.
        timeout: seconds of silence after which a reply is given up.
    """

    def __init__(
        self, url: str, model: str, *, key: str | None = None, timeout: float = 600.0
    ) -> None:
        self.url, self.model = url, model
        # What newer models refuse is left out once they have said so.
        self._settings: dict[str, Any] = {"temperature": 0.0, "max_tokens": _MAX_TOKENS}
        self._client = openai_client(url, key=key, timeout=timeout, num_retries=_RETRIES)

    async def close(self) -> None:
        """Give up all connections."""
        await self._client.close()

    async def ask(self, prompt: str) -> str:
        """The judge's reply.

        Raises:
            EndpointUnreachable: nothing answers, or with an error of its own.
            RequestRefused: no prompt will be answered: the key or the model is refused.
            AnswerFailed: this prompt is refused.
        """
        sent = dict(self._settings)  # another prompt in flight may leave one out meanwhile
        try:
            return await self._reply(prompt, sent)
        except openai.BadRequestError as error:
            refused = error.param or ""
            if refused not in sent:
                raise AnswerFailed(self._said(error), error.body) from error
            self._settings.pop(refused, None)
        return await self.ask(prompt)

    async def check(self) -> None:
        """Return if something answers at the URL, though it were a refusal.

        Raises:
            EndpointUnreachable: nothing does, or only errors of its own.
        """
        try:
            await self._client.models.list()
        except (openai.APIConnectionError, openai.InternalServerError) as error:
            raise EndpointUnreachable(self._said(error)) from error
        except openai.APIError:
            return

    async def _reply(self, prompt: str, settings: Mapping[str, Any]) -> str:
        messages: Any = [{"role": "user", "content": prompt}]
        try:
            done = await self._client.chat.completions.create(
                model=self.model, messages=messages, **settings
            )
        except _REFUSALS as error:
            raise RequestRefused(self._said(error)) from error
        except openai.BadRequestError:
            raise
        except (openai.APIConnectionError, openai.RateLimitError) as error:
            raise EndpointUnreachable(self._said(error)) from error
        except openai.APIStatusError as error:
            kind = EndpointUnreachable if error.status_code >= 500 else AnswerFailed
            raise kind(self._said(error)) from error
        except (openai.APIError, ValueError) as error:
            raise EndpointUnreachable(self._said(error)) from error
        if not done.choices:
            raise AnswerFailed(f"the judge {self.model!r} at {self.url} sent no reply")
        return done.choices[0].message.content or ""

    def _said(self, error: Exception) -> str:
        """What went wrong, in the endpoint's own words or by its innermost cause."""
        status, cause = "", error
        if isinstance(error, openai.APIStatusError):
            status = f" ({error.status_code})"
            told = error.body.get("message") if isinstance(error.body, Mapping) else None
            said = told or error.message
        else:
            while isinstance(cause.__cause__, Exception):
                cause = cause.__cause__
            said = str(cause) or type(cause).__name__
        return f"the judge {self.model!r} at {self.url} gave no verdict{status}: {said}"
