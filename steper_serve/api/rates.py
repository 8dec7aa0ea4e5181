"""How much a key may ask in a minute: answers, and tokens.

Both are token buckets: full at a minute's worth, refilled evenly. What an answer takes in tokens
is known when it has been given, so that a key whose tokens are used up is refused until its debt
is paid; how far answers that run at one time can get it into debt is bounded by their own caps.
Cached prompt tokens count as others do. What is left out: HTTP, and who is asking (access).
"""

import math
import time
from collections.abc import Callable

from steper_serve.errors import RequestRateExceeded, TokenRateExceeded

RATED = ("requests", "tokens")
_MINUTE = 60


class Bucket:
    """Holds up to `per_minute` and refills in a minute; may be overdrawn."""

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._level = float(per_minute)
        self._at = clock()

    @property
    def level(self) -> float:
        """What is left now, below 0 where there is a debt."""
        now = self._clock()
        gained = (now - self._at) * self.per_minute / _MINUTE
        self._level, self._at = min(self.per_minute, self._level + gained), now
        return self._level

    def take(self, amount: float) -> None:
        """Take an amount, be it there or not."""
        self._level = self.level - amount

    def seconds_until(self, level: float) -> float:
        """Seconds until there is so much, 0 if there is."""
        return max(0.0, level - self.level) * _MINUTE / self.per_minute

    def headers(self, kind: str) -> dict[str, str]:
        """As OpenAI names them; the reset is when it is full again."""
        return {
            f"x-ratelimit-limit-{kind}": str(self.per_minute),
            f"x-ratelimit-remaining-{kind}": str(max(0, math.floor(self.level))),
            f"x-ratelimit-reset-{kind}": duration(self.seconds_until(self.per_minute)),
        }


class Rates:
    """The buckets of each caller; None bounds nothing.

    There is one pair for each name that it is asked about: keys, so that they are few.
    """

    def __init__(
        self,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = requests_per_minute, tokens_per_minute
        self._clock = clock
        self._buckets: dict[str, tuple[Bucket | None, Bucket | None]] = {}

    def admit(self, caller: str) -> None:
        """Count a request for an answer.

        Raises:
            RequestRateExceeded: there were as many as there may be.
            TokenRateExceeded: the tokens are used up.
        """
        requests, tokens = self._of(caller)
        if requests is not None and (wait := requests.seconds_until(1)):
            said = f"{requests.per_minute} answers a minute are what this key may ask for"
            raise RequestRateExceeded(f"{said}: {_again(wait)}", retry_seconds=wait)
        if tokens is not None and (wait := tokens.seconds_until(1)):
            said = f"{tokens.per_minute} tokens a minute are what this key may use"
            raise TokenRateExceeded(f"{said}: {_again(wait)}", retry_seconds=wait)
        if requests is not None:
            requests.take(1)

    def spend(self, caller: str, num_tokens: int) -> None:
        """Count the tokens of an answer, prompt and completion."""
        if (tokens := self._of(caller)[1]) is not None:
            tokens.take(num_tokens)

    def headers(self, caller: str) -> dict[str, str]:
        """What a response tells the caller; nothing where nothing is bounded."""
        requests, tokens = self._of(caller)
        told = {} if requests is None else requests.headers("requests")
        return told if tokens is None else told | tokens.headers("tokens")

    def _of(self, caller: str) -> tuple[Bucket | None, Bucket | None]:
        if caller not in self._buckets:
            requests, tokens = (n and Bucket(n, self._clock) for n in self._limits)
            self._buckets[caller] = requests or None, tokens or None
        return self._buckets[caller]


def duration(seconds: float) -> str:
    """As OpenAI writes it: 20ms, 1.5s, 6m0s."""
    milliseconds = math.ceil(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    if milliseconds < 1000 * _MINUTE:
        return f"{milliseconds / 1000:g}s"
    minutes, rest = divmod(math.ceil(milliseconds / 1000), _MINUTE)
    return f"{minutes}m{rest}s"


def _again(seconds: float) -> str:
    """In whole seconds, of which there are enough: a message is for people."""
    return f"try again in {duration(math.ceil(seconds))}"
