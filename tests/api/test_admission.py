"""How many answers run and wait, what each may take, and how they end when the server does."""

import asyncio
from types import SimpleNamespace

import httpx
import openai
import pytest

from steper_serve.api import admission as admitting
from steper_serve.api.account import Account
from steper_serve.api.admission import Admission
from steper_serve.api.admitted import Admitted
from steper_serve.api.app import Policy
from steper_serve.api.limits import Limits
from steper_serve.drivers import unwatched
from steper_serve.errors import Draining, Overloaded
from steper_serve.generation.scripted import ScriptedModel
from steper_serve.loop import Ask
from steper_serve.trajectory import Completion, Delta, Generate, Prompt
from tests.api.serving import (
    ASKED,
    QUESTION,
    THOUGHTS,
    by_step,
    client_of,
    make_loop,
    official,
    served,
    until,
)
from tests.flows import forever

RAW = Generate(1, Prompt("Grey", "Grey"), max_tokens=9)


async def test_as_many_run_and_wait_as_may() -> None:
    admission, order = Admission(max_running=2, max_queued=1), list[int]()
    gates = [asyncio.Event() for _ in range(3)]

    async def answer(number: int) -> None:
        with admission.enter():
            async with admission.slot():
                order.append(number)
                await gates[number].wait()

    tasks = [asyncio.create_task(answer(n)) for n in range(3)]
    await until(lambda: admission.num_present == 3)
    assert (order, admission.num_running) == ([0, 1], 2)
    with pytest.raises(Overloaded), admission.enter():
        pass
    gates[0].set()
    await until(lambda: order == [0, 1, 2])
    for gate in gates:
        gate.set()
    await asyncio.gather(*tasks)
    assert (admission.num_present, admission.num_running) == (0, 0)


@pytest.mark.parametrize(
    ("max_queued", "took", "told"),
    [
        (0, [], 1.0),  # a turn of one second, until more is known
        (4, [], 3.0),
        (4, [11.0], 6.0),  # each answer is a tenth of the mean
        (4, [11.0, 2.0], 6.0),
        (4, [11.0, 12.0], 9.0),
        (0, [0.0], 1.0),
        (4, [1000.0], 60.0),
    ],
)
async def test_a_refusal_tells_when_those_that_wait_will_have_run(
    monkeypatch: pytest.MonkeyPatch, max_queued: int, took: list[float], told: float
) -> None:
    now = 0.0
    monkeypatch.setattr(admitting, "time", SimpleNamespace(monotonic=lambda: now))
    admission = Admission(2, max_queued)
    for seconds in took:
        async with admission.slot():
            now += seconds
    admission.num_present = 2 + max_queued
    with pytest.raises(Overloaded) as refused, admission.enter():
        pass
    assert refused.value.retry_seconds == pytest.approx(told)


async def test_whoever_leaves_while_waiting_is_not_waited_for() -> None:
    admission, gate = Admission(1, 5), asyncio.Event()

    async def answer() -> None:
        with admission.enter():
            async with admission.slot():
                await gate.wait()

    tasks = [asyncio.create_task(answer()) for _ in range(3)]
    await until(lambda: admission.num_present == 3)
    tasks[1].cancel()
    await until(lambda: admission.num_present == 2)
    gate.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (admission.num_present, admission.num_running) == (0, 0)


async def test_what_is_stopped_says_so_and_what_is_cancelled_does_not() -> None:
    admission = Admission(1, 5)

    async def answer() -> None:
        async with admission.slot():
            await asyncio.Event().wait()

    cancelled, running, waiting = [asyncio.create_task(answer()) for _ in range(3)]
    await asyncio.sleep(0)
    cancelled.cancel()
    await until(lambda: cancelled.done() and admission.num_running == 1)
    assert cancelled.cancelled()
    admission.stop()
    for task in (running, waiting):
        with pytest.raises(Draining):
            await task
    with pytest.raises(Draining), admission.enter():
        pass
    with pytest.raises(Draining):  # of one whose request was still being read
        async with admission.slot():
            pass


def _admitted(model: object, spent: list[int], **changes: object) -> Admitted:
    limits = Limits(**changes)  # type: ignore[arg-type]
    return Admitted(make_loop(model), Admission(1, 1), limits, spent.append, Account())  # type: ignore[arg-type]


async def test_the_tokens_that_are_paid_are_those_of_the_usage() -> None:
    spent: list[int] = []
    done = await _admitted(ScriptedModel(by_step), spent).run(Ask(QUESTION), unwatched)
    assert sum(spent) == done.usage.num_prompt_tokens + done.usage.num_completion_tokens > 0


async def test_what_breaks_off_is_paid_as_far_as_it_came() -> None:
    spent: list[int] = []
    model = ScriptedModel(THOUGHTS, gate=asyncio.Event())
    task = asyncio.create_task(_admitted(model, spent).run(Ask(QUESTION), unwatched))
    await until(lambda: model.num_running() == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert spent == [1]


async def test_time_forces_the_last_step_and_not_a_failure() -> None:
    admitted = _admitted(forever(), [], max_seconds=0.05)
    done = await admitted.run(Ask(QUESTION), unwatched)
    assert (done.stop_reason, done.answer) == ("budget", "Oslo")


async def test_time_spent_waiting_is_time_spent() -> None:
    model = forever()
    admitted = _admitted(model, [], max_seconds=0.05)
    async with admitted.admission.slot():
        waiting = asyncio.create_task(admitted.run(Ask(QUESTION), unwatched))
        await asyncio.sleep(0.1)
    done = await waiting
    assert (done.stop_reason, done.answer) == ("budget", "Oslo")
    assert [request.final for request in model.requests] == [True]


async def test_without_the_loop_time_ends_what_is_written() -> None:
    told: list[Delta] = []
    last = await _admitted(forever(), [], max_seconds=0.05).generate(RAW, told.append)
    assert "".join(part.text for part in told) == last.text
    assert last == Completion("Grey Harbour", "length", 0, 2, 0)


async def test_time_is_told_by_the_finish_reason() -> None:
    policy = Policy(limits=Limits(max_seconds=0.05))
    async with client_of(make_loop(forever()), policy=policy) as client:
        for model in ("steper", "steper-raw"):
            done = await client.chat.completions.create(model=model, messages=ASKED)
            assert done.choices[0].finish_reason == "length"


async def test_no_answer_takes_more_tokens_than_the_server_gives() -> None:
    policy = Policy(limits=Limits(max_answer_tokens=20))
    async with client_of(make_loop(ScriptedModel(lambda _: " word" * 99)), policy=policy) as client:
        for model in ("steper", "steper-raw"):
            done = await client.chat.completions.create(model=model, messages=ASKED)
            assert done.choices[0].finish_reason == "length"
            assert done.usage.completion_tokens <= 20


async def test_beyond_the_bound_an_answer_is_refused_before_it_is_read() -> None:
    gate = asyncio.Event()
    model = ScriptedModel(by_step, gate=gate)
    async with served(make_loop(model), admission=Admission(1, 1)) as url, official(url) as client:
        asked = [
            asyncio.create_task(client.chat.completions.create(model="steper", messages=ASKED))
            for _ in range(2)
        ]
        admission_full = await _refused(url)
        assert admission_full.status_code == 503
        assert admission_full.json()["error"]["code"] == "server_overloaded"
        assert int(admission_full.headers["retry-after"]) >= 1
        with pytest.raises(openai.InternalServerError) as refused:
            await client.chat.completions.create(model="steper", messages=ASKED, stream=True)
        assert refused.value.status_code == 503
        # All else goes on.
        assert [model.id async for model in client.models.list()]
        gate.set()
        for task in asked:
            assert (await task).choices[0].message.content == "Verla"
        done = await client.chat.completions.create(model="steper", messages=ASKED)
        assert done.choices[0].message.content == "Verla"


async def _refused(url: str) -> httpx.Response:
    """The refusal of a request whose body never comes, as soon as there is one."""
    async with httpx.AsyncClient() as http, asyncio.timeout(30):
        while True:
            found = await http.post(f"{url}/v1/chat/completions", content=b"not even JSON")
            if found.status_code == 503:
                return found


LIMITS = Limits(
    max_body_bytes=2000, max_messages=3, max_question_characters=100, max_answer_tokens=50,
    max_seconds=60,
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"messages": ASKED * 4}, 400, "messages"),
        ({"messages": [{"role": "user", "content": "why " * 26}]}, 400, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x" * 101}]}]}, 400,
         "messages"),
        ({"model": "steper-raw", "messages": [{"role": "user", "content": "x" * 51}] * 2}, 400,
         "messages"),
        ({"max_tokens": 51}, 400, "max_tokens"),
        ({"max_completion_tokens": 51}, 400, "max_completion_tokens"),
        ({"steper": {"max_seconds": 61.0}}, 400, "steper.max_seconds"),
        ({"messages": [{"role": "user", "content": "x" * 2001}]}, 413, None),
    ],
)  # fmt: skip
async def test_what_is_too_much_is_refused_by_name(
    change: dict, status: int, param: str | None
) -> None:
    body = {"model": "steper", "messages": ASKED, **change}
    policy = Policy(limits=LIMITS)
    async with (
        served(make_loop(ScriptedModel(by_step)), policy=policy) as url,
        httpx.AsyncClient() as http,
    ):
        refused = await http.post(f"{url}/v1/chat/completions", json=body)
    assert refused.status_code == status
    assert refused.json()["error"]["param"] == param


async def test_what_is_just_not_too_much_is_answered() -> None:
    body = {
        "messages": [{"role": "assistant", "content": "x" * 500}, *ASKED],
        "max_tokens": 50,
        "extra_body": {"steper": {"max_seconds": 60.0}},
    }
    policy = Policy(limits=LIMITS)
    async with client_of(make_loop(ScriptedModel(by_step)), policy=policy) as client:
        done = await client.chat.completions.create(model="steper", **body)
    assert done.choices[0].message.content == "Verla"


async def test_a_body_of_unknown_length_is_not_read_beyond_the_cap() -> None:
    policy = Policy(limits=LIMITS)
    async with (
        served(make_loop(ScriptedModel(by_step)), policy=policy) as url,
        httpx.AsyncClient() as http,
    ):
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(3):
            writer.write(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
        async with asyncio.timeout(30):
            assert b" 413 " in await reader.readline()
        writer.close()
        assert (await http.get(f"{url}/ready")).status_code == 200


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    admission = Admission()
    policy = Policy(limits=Limits(client_seconds=0.1))
    async with served(make_loop(ScriptedModel(by_step)), policy=policy, admission=admission) as url:
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{"
        )
        async with asyncio.timeout(30):
            said = await reader.read()
        assert b" 408 " in said.splitlines()[0]
        assert b"body_too_slow" in said
        assert admission.num_present == 0
        writer.close()
