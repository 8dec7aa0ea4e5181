"""What a key may ask for in a minute: by a clock of the test's own, and over a real socket."""

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steper_serve.api.app import Policy
from steper_serve.api.keys import Keyring, make_key
from steper_serve.api.rates import Bucket, Rates, duration
from steper_serve.errors import RequestRateExceeded, TokenRateExceeded
from steper_serve.generation.scripted import ScriptedModel
from tests.api.serving import ASKED, by_step, client_of, make_loop, official, served


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_requests_come_back_one_by_one() -> None:
    clock = Clock()
    rates = Rates(requests_per_minute=3, clock=clock)
    for _ in range(3):
        rates.admit("ada")
    with pytest.raises(RequestRateExceeded) as refused:
        rates.admit("ada")
    assert refused.value.retry_seconds == pytest.approx(20)
    rates.admit("bob")
    clock.now += 20.001
    rates.admit("ada")
    with pytest.raises(RequestRateExceeded):
        rates.admit("ada")
    clock.now += 3600
    assert rates.headers("ada") == {
        "x-ratelimit-limit-requests": "3",
        "x-ratelimit-remaining-requests": "3",
        "x-ratelimit-reset-requests": "0ms",
    }


def test_a_debt_of_tokens_is_paid_before_the_next_answer() -> None:
    clock = Clock()
    rates = Rates(tokens_per_minute=600, clock=clock)
    rates.admit("ada")
    rates.spend("ada", 900)
    assert rates.headers("ada")["x-ratelimit-remaining-tokens"] == "0"
    assert rates.headers("ada")["x-ratelimit-reset-tokens"] == "1m30s"
    with pytest.raises(TokenRateExceeded) as refused:
        rates.admit("ada")
    assert refused.value.retry_seconds == pytest.approx(30.1)
    clock.now += 30.2
    rates.admit("ada")


def test_what_is_refused_for_its_tokens_is_no_request() -> None:
    rates = Rates(2, 10, Clock())
    rates.spend("ada", 10)
    for _ in range(5):
        with pytest.raises(TokenRateExceeded):
            rates.admit("ada")
    assert rates.headers("ada")["x-ratelimit-remaining-requests"] == "2"


def test_nothing_bounded_is_nothing_told() -> None:
    rates = Rates()
    rates.admit("")
    rates.spend("", 10**9)
    rates.admit("")
    assert rates.headers("") == {}


@given(st.integers(1, 100), st.lists(st.tuples(st.floats(0, 90), st.integers(0, 50)), max_size=40))
def test_no_more_than_was_filled_in_is_taken(per_minute: int, events: list) -> None:
    clock = Clock()
    bucket, taken, start = Bucket(per_minute, clock), 0, clock.now
    for seconds, amount in events:
        clock.now += seconds
        if bucket.level >= amount:
            bucket.take(amount)
            taken += amount
    assert taken <= per_minute * (1 + (clock.now - start) / 60) + 1e-6


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0ms"),
        (0.0123, "13ms"),
        (1, "1s"),
        (1.5, "1.5s"),
        (60, "1m0s"),
        (119.6, "2m0s"),
        (372.2, "6m13s"),
    ],
)
def test_durations_are_written_as_openai_writes_them(seconds: float, told: str) -> None:
    assert duration(seconds) == told


async def test_the_official_client_is_told() -> None:
    (ada, ada_key), (bob, bob_key) = make_key("ada"), make_key("bob")
    policy = Policy(keys=Keyring((ada_key, bob_key)), requests_per_minute=2)
    async with served(make_loop(ScriptedModel(by_step)), policy=policy) as url:
        async with official(url, ada) as client:
            raw = client.chat.completions.with_raw_response
            first = await raw.create(model="steper", messages=ASKED)
            assert first.headers["x-ratelimit-limit-requests"] == "2"
            assert first.headers["x-ratelimit-remaining-requests"] == "1"
            assert first.headers["x-ratelimit-reset-requests"].endswith("s")
            await raw.create(model="steper", messages=ASKED, stream=True)
            with pytest.raises(openai.RateLimitError) as refused:
                await raw.create(model="steper", messages=ASKED)
            assert (refused.value.type, refused.value.code) == ("requests", "rate_limit_exceeded")
            assert 1 <= int(refused.value.response.headers["retry-after"]) <= 30
            # What is no answer is not counted.
            assert [model.id async for model in client.models.list()]
        async with official(url, bob) as client:
            await client.chat.completions.create(model="steper", messages=ASKED)


async def test_used_up_tokens_are_told_too() -> None:
    policy = Policy(tokens_per_minute=10)
    async with client_of(make_loop(ScriptedModel(by_step)), policy=policy) as client:
        raw = client.chat.completions.with_raw_response
        first = await raw.create(model="steper", messages=ASKED)
        assert first.headers["x-ratelimit-limit-tokens"] == "10"
        assert first.headers["x-ratelimit-remaining-tokens"] == "0"
        assert first.parse().usage.total_tokens > 10
        with pytest.raises(openai.RateLimitError) as refused:
            await raw.create(model="steper", messages=ASKED)
        assert refused.value.type == "tokens"
        assert int(refused.value.response.headers["retry-after"]) >= 1
