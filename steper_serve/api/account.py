"""What is known of one request, gathered while it is answered: for metrics, logs and traces.

An account is opened when a request comes and closed when its response has been sent. Whoever
learns something in between notes it here; what is made of it is the observers' business
(metrics, tracing, lines), and is made once, at the end.
"""

import asyncio
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from starlette.types import Scope

from steper_serve.drivers import Event, Generated, Wrote
from steper_serve.errors import SteperError
from steper_serve.trajectory import Completion, Generate, Trajectory, Usage

RAW = "raw"
LEFT, BROKEN = "client_left", "internal_error"
CLIENT_GONE = 499
# Of the request that this task answers, for whatever is logged on the way.
REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")


@dataclass(slots=True)
class Answering:
    """One answer, from when it may wait for its slot to its end, whatever that is.

    Args:
        strategy: its name, RAW where no loop runs.
        question: what was asked; for whoever is allowed to tell.
        outcome: a stop reason (without the loop a finish reason), an error's code, LEFT or
            BROKEN. Where the client leaves nobody waits for the end, so that LEFT stands first.
        queued_seconds: until it had its slot; None where it never did.
        events: all but the text in the making, each with its seconds since the request came.
        usage: tokens read and written, also of what broke off.
        error: that ended it, if one of ours did.
    """

    strategy: str
    question: str
    began: float
    outcome: str = LEFT
    queued_seconds: float | None = None
    trajectory: Trajectory | None = None
    events: list[tuple[float, Event]] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    error: SteperError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, SteperError):
            self.error, self.outcome = error, error.code or error.type
        elif isinstance(error, (asyncio.CancelledError, GeneratorExit)):
            self.outcome = LEFT
        elif error is not None:
            self.outcome = BROKEN

    def watch(self, event: Event) -> None:
        """A watcher of the loop."""
        if not isinstance(event, Wrote):
            self.events.append((time.perf_counter() - self.began, event))

    def spent(self, usage: Usage) -> None:
        """Add the tokens of a generation."""
        self.usage += usage

    def ended(self, trajectory: Trajectory) -> None:
        """The loop is done."""
        self.trajectory = trajectory
        self.outcome = trajectory.stop_reason

    def completed(self, effect: Generate, completion: Completion, seconds: float) -> None:
        """The model is done, where no loop runs."""
        self.watch(Generated(effect.step, completion.text, completion, seconds))
        self.outcome = completion.finish_reason

    @property
    def num_steps(self) -> int:
        """Finished or begun."""
        if self.trajectory is not None:
            return len(self.trajectory.steps)
        return max((event.step for _, event in self.events), default=0)


@dataclass(slots=True)
class Account:
    """One request.

    Args:
        request_id: the caller's, or one of ours.
        method, path: as they came, the query left out.
        client: the address that it came from, a proxy's where there is one.
        trace_parent: the W3C headers of the trace that it is a part of.
        began: by the performance counter; `began_ns` by the wall clock.
        caller: the name of its key.
        model, streamed: as it asks.
        answer: from when it is let in; None for anything but an answer.
        status: of its response; CLIENT_GONE where there is nobody to send one to.
        error: why it was refused or broke off.
        first_byte_seconds, seconds: since it came.
        trace_id: of its trace, where one was made.
    """

    request_id: str = ""
    method: str = ""
    path: str = ""
    client: str = ""
    trace_parent: Mapping[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)
    began_ns: int = field(default_factory=time.time_ns)
    caller: str = ""
    model: str = ""
    streamed: bool = False
    answer: Answering | None = None
    status: int = 0
    error: SteperError | None = None
    first_byte_seconds: float | None = None
    seconds: float = 0.0
    trace_id: str | None = None

    def elapsed(self) -> float:
        """Seconds since it came."""
        return time.perf_counter() - self.began

    def answering(self, strategy: str, question: str) -> Answering:
        """Open the account of its answer."""
        self.answer = Answering(strategy, question, self.began)
        return self.answer

    def close(self, error: BaseException | None) -> None:
        """The response has been sent, or `error` came in its stead."""
        self.seconds = self.elapsed()
        if isinstance(error, asyncio.CancelledError):
            self.status = self.status or CLIENT_GONE
        elif error is not None:
            self.status = self.status or SteperError.status
            self.error = self.error or SteperError("internal error")


def account_of(scope: Scope) -> Account:
    """The account of a request that passed `Observed`."""
    account: Account = scope["state"]["account"]
    return account
