"""What the clients of the benchmarks share: how they are opened, and that they are closed.

What is left out: what is asked, and what an error of the endpoint means (client.py, lean.py,
paper/judge.py).
"""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

import openai

# A connection that takes longer is taken for none.
CONNECT_SECONDS = 10.0


class EndpointClient(ABC):
    """Connections to an endpoint, as a context manager that closes them."""

    @abstractmethod
    async def close(self) -> None:
        """Give up all connections."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


def openai_client(
    url: str, *, key: str | None, timeout: float, num_retries: int
) -> openai.AsyncOpenAI:
    """The official client of the endpoint at `url` (up to /v1).

    Args:
        timeout: seconds without a byte after which a reply is given up.
    """
    return openai.AsyncOpenAI(
        base_url=url,
        api_key=key or "none",  # the client insists on one
        timeout=openai.Timeout(timeout, connect=CONNECT_SECONDS),
        max_retries=num_retries,
    )
