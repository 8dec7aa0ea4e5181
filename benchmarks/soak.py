"""A server under more than it takes, for minutes: that it holds, and tells whom it does not take.

Clients ask in a closed loop, `load` times as many as there is room for answers, so that a part of
them is refused at any moment. Every third request is left before its answer has come. Refused
clients come back much sooner than they are told to, as bad ones do. Meanwhile the resident memory
of the server and of its engine's processes is sampled; its growth is the median of the last tenth
of the time against the median of the second tenth, when all has been warmed up. What is left out:
how fast answers are (load).
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from steper_serve.benchmarks.failures import EndpointUnreachable
from steper_serve.benchmarks.quantiles import quantile
from steper_serve.benchmarks.tables import Table
from steper_serve.errors import ConfigurationError

MOST_GROWTH = 0.05
SOON_SECONDS = 0.05
LEAST_SOON = 0.99
_LEAVING = 1 / 3
_LEAVE_SECONDS = 0.5
_PATIENCE_SECONDS = 0.1
_SAMPLE_SECONDS = 1.0
_LEAST_SAMPLES = 20
_REST_SECONDS = 60.0
_TIMEOUT = httpx.Timeout(120.0)
_MIB = 2**20

# The resident bytes of the server's process and of those below it; the second 0 where unknown.
Memory = Callable[[], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done.

    Args:
        questions: asked by turns.
        seconds: for how long.
        room: answers that run or wait at one time in the server.
        load: clients for each of these.
        key: of a server that wants one.
        seed: decides who leaves, and when.
    """

    questions: Sequence[str]
    seconds: float
    room: int
    load: float = 2.0
    key: str | None = None
    seed: int = 0

    @property
    def num_clients(self) -> int:
        return max(1, round(self.room * self.load))


@dataclass(slots=True)
class Seen:
    """What came of the requests.

    `failures` counts each kind of what should not have come; `refusals` are the clients' own
    seconds from a request to its refusal.
    """

    answered: int = 0
    left: int = 0
    refusals: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Soaked:
    """What a soak showed.

    Args:
        plan: what was done.
        seen: what came of it.
        samples: resident bytes, of server and engine.
        num_left: answers that the server still held when everybody had gone.
        soon: the share of refusals that the server itself took less than SOON_SECONDS for; None
            where it does not tell.
    """

    plan: Plan
    seen: Seen
    samples: Sequence[tuple[int, int]]
    num_left: int
    soon: float | None

    @property
    def passed(self) -> bool:
        """Whether nothing failed, who was refused was told so at once, and memory was bounded.

        What the server does not tell is not held against it.
        """
        seen, told = self.seen, [growth([s[n] for s in self.samples]) for n in (0, 1)]
        bounded = all(grown is None or grown[2] < MOST_GROWTH for grown in told)
        both = seen.answered > 0 and bool(seen.refusals)
        soon = self.soon is None or self.soon >= LEAST_SOON
        return both and soon and not seen.failures and self.num_left == 0 and bounded

    def table(self) -> Table:
        """All figures."""
        return Table("Soak", ("", ""), tuple(_rows(self)), _note(self))

    def line(self) -> dict[str, Any]:
        """The figures as JSON values."""
        seen = self.seen
        return {
            "passed": self.passed,
            "seconds": self.plan.seconds,
            "num_clients": self.plan.num_clients,
            "room": self.plan.room,
            "num_answered": seen.answered,
            "num_left_early": seen.left,
            "num_refused": len(seen.refusals),
            "failures": dict(seen.failures),
            "num_held_at_the_end": self.num_left,
            **{f"refusal_p{p}_seconds": quantile(seen.refusals, p / 100) for p in (50, 95, 99)},
            "refusals_within_50_ms_in_the_server": self.soon,
            **_grown("server", [sample[0] for sample in self.samples]),
            **_grown("engine", [sample[1] for sample in self.samples]),
        }


async def soak(plan: Plan, url: str, memory: Memory | None) -> Soaked:
    """Do it to the server at `url` (up to /v1).

    Args:
        memory: of a server on this machine; None to take what its metrics tell.

    Raises:
        ConfigurationError: the time is too short for its tenths.
        EndpointUnreachable: nothing answers there, or not with metrics.
    """
    if plan.seconds < _LEAST_SAMPLES * _SAMPLE_SECONDS:
        raise ConfigurationError(f"a soak takes {_LEAST_SAMPLES * _SAMPLE_SECONDS:g} s at least")
    seen, samples = Seen(), list[tuple[int, int]]()
    head = {"Authorization": f"Bearer {plan.key or 'none'}"}
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=url, headers=head, timeout=_TIMEOUT, limits=limits
    ) as http:
        before = await _metrics(http)
        end = time.monotonic() + plan.seconds
        async with asyncio.TaskGroup() as group:
            group.create_task(_sample(http, memory, samples, end))
            for number in range(plan.num_clients):
                group.create_task(_client(http, plan, number, seen, end))
        num_left = await _rest(http)
        return Soaked(plan, seen, samples, num_left, _soon(before, await _metrics(http)))


async def _client(http: httpx.AsyncClient, plan: Plan, number: int, seen: Seen, end: float) -> None:
    draw = random.Random(f"{plan.seed} {number}")
    while time.monotonic() < end:
        body = {
            "model": "steper",
            "messages": [{"role": "user", "content": draw.choice(plan.questions)}],
            "stream": draw.random() < 0.5,
        }
        leaves = draw.uniform(0, _LEAVE_SECONDS) if draw.random() < _LEAVING else None
        try:
            async with asyncio.timeout(leaves):
                was_refused = await _ask(http, body, seen)
        except TimeoutError:
            seen.left += 1
            continue
        await asyncio.sleep(_PATIENCE_SECONDS if was_refused else 0)


async def _ask(http: httpx.AsyncClient, body: dict[str, Any], seen: Seen) -> bool:
    """Ask, and count what comes; whether it was a refusal."""
    start = time.perf_counter()
    try:
        async with http.stream("POST", "/chat/completions", json=body) as response:
            seconds = time.perf_counter() - start
            said = await response.aread()
    except httpx.TransportError as error:
        seen.failures[type(error).__name__] += 1
        return True
    if response.status_code == 200:
        if _is_whole(said, streamed=body["stream"]):
            seen.answered += 1
        else:
            seen.failures["broke off"] += 1
        return False
    if response.status_code not in (429, 503):
        seen.failures[str(response.status_code)] += 1
    elif not response.headers.get("retry-after", "").isdecimal():
        seen.failures[f"{response.status_code} without Retry-After"] += 1
    else:
        seen.refusals.append(seconds)
    return True


def _is_whole(said: bytes, *, streamed: bool) -> bool:
    if streamed:
        return said.endswith(b"data: [DONE]\n\n") and b'data: {"error"' not in said
    return b'"finish_reason":"' in said


async def _sample(
    http: httpx.AsyncClient, memory: Memory | None, samples: list[tuple[int, int]], end: float
) -> None:
    while time.monotonic() < end:
        if memory is not None:
            samples.append(memory())
        else:
            found = await _metrics(http)
            samples.append((int(found.get("process_resident_memory_bytes", 0)), 0))
        await asyncio.sleep(_SAMPLE_SECONDS)


async def _rest(http: httpx.AsyncClient) -> int:
    """Answers that the server holds once it has had time to let go of all."""
    end = time.monotonic() + _REST_SECONDS
    while True:
        found = await _metrics(http)
        num = int(found["steper_answers_running"] + found["steper_answers_queued"])
        if num == 0 or time.monotonic() > end:
            return num
        await asyncio.sleep(_SAMPLE_SECONDS)


async def _metrics(http: httpx.AsyncClient) -> dict[str, float]:
    """Every sample without labels, or with `le` alone (`NAME:LE`)."""
    url = http.base_url.join("/metrics")
    try:
        response = await http.get(url)
        response.raise_for_status()
        families = list(text_string_to_metric_families(response.text))
    except (httpx.HTTPError, ValueError) as error:
        raise EndpointUnreachable(f"{url} shows no metrics: {error}") from error
    samples = [sample for family in families for sample in family.samples]
    return {
        ":".join((s.name, *s.labels.values())): s.value
        for s in samples
        if s.labels.keys() <= {"le"}
    }


def _soon(before: dict[str, float], after: dict[str, float]) -> float | None:
    """The share of the refusals between the two; None where it is not told or there were none."""
    names = (f"steper_refusal_seconds_bucket:{SOON_SECONDS}", "steper_refusal_seconds_count")
    if not after.keys() >= {*names}:
        return None
    within, total = (after[name] - before.get(name, 0.0) for name in names)
    return round(within / total, 4) if total > 0 else None


def memory_of(pid: int) -> Memory:
    """The memory of a server on this machine, and of all that it started."""
    process = psutil.Process(pid)

    def read() -> tuple[int, int]:
        below = 0
        for child in process.children(recursive=True):
            try:
                below += child.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return process.memory_info().rss, below

    return read


def growth(sizes: Sequence[int]) -> tuple[float, float, float] | None:
    """Medians of the second and of the last tenth, and by which share the latter is greater.

    None where nothing is known.
    """
    tenth = len(sizes) // 10
    if not tenth or not any(sizes):
        return None
    before, after = median(sizes[tenth : 2 * tenth]), median(sizes[-tenth:])
    return before, after, after / before - 1


def _rows(soaked: Soaked) -> list[tuple[str, str]]:
    seen, plan = soaked.seen, soaked.plan
    times = [quantile(seen.refusals, p) for p in (0.5, 0.95, 0.99)]
    told = " / ".join("–" if t is None else f"{t * 1000:.0f}" for t in times)
    failures = ", ".join(f"{num} × {kind}" for kind, num in seen.failures.most_common())
    rows = [
        ("clients, and room", f"{plan.num_clients}, {plan.room}"),
        ("answered", f"{seen.answered:,}"),
        ("left early", f"{seen.left:,}"),
        ("refused, and told so", f"{len(seen.refusals):,}"),
        ("failed", failures or "0"),
        ("held at the end", str(soaked.num_left)),
        ("refusal p50 / p95 / p99", f"{told} ms"),
        ("of which within 50 ms in the server", _share(soaked.soon)),
    ]
    for name, at in (("server", 0), ("engine", 1)):
        if (grown := growth([sample[at] for sample in soaked.samples])) is not None:
            before, after, share = grown
            rows.append(
                (f"{name}: MiB", f"{before / _MIB:.0f} → {after / _MIB:.0f} ({share:+.1%})")
            )
    return rows


def _note(soaked: Soaked) -> str:
    said = "Passed" if soaked.passed else "NOT passed"
    wanted = (
        f"nothing failed or held, {LEAST_SOON:.0%} of refusals within {SOON_SECONDS * 1000:.0f} ms "
        f"in the server, growth under {MOST_GROWTH:.0%}"
    )
    return f"{said}: {wanted}; {soaked.plan.seconds:g} s."


def _share(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _grown(name: str, sizes: Sequence[int]) -> dict[str, Any]:
    before, after, share = growth(sizes) or (None, None, None)
    return {
        f"{name}_rss_bytes": [before, after],
        f"{name}_rss_growth": None if share is None else round(share, 4),
    }
