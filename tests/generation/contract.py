"""What every `LanguageModel` adapter must do; each adapter's test file runs it.

A test class derives from `Contract` and brings a fixture `subject`.
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

import pytest

from steper_serve.errors import PromptTooLong
from steper_serve.trajectory import (
    Completion,
    Delta,
    Generate,
    LanguageModel,
    Prompt,
    Sampling,
)

PEOPLE = ("Tirel", "Wodab", "Nusek", "Havil", "Zomer", "Pegan", "Lurit", "Dacov")
LONG = 1500  # tokens that no test waits for


@dataclass(frozen=True)
class Subject:
    """An adapter, and how many requests the engine behind it has in its own table."""

    model: LanguageModel
    num_running: Callable[[], int]


def prompt(i: int = 0, reasoning: str = "") -> Prompt:
    """A prompt in the style that the bundled student was trained on, from a world of its own."""
    person, place = f"{PEOPLE[i]} Sarov", f"{PEOPLE[-1 - i]}burg"
    text = (
        f"Wikipedia Title: A Kelan the {PEOPLE[i]}\n"
        f"A Kelan the {PEOPLE[i]} is a film. It was directed by {person}.\n\n"
        f"Wikipedia Title: {person}\n"
        f"{person} is a film director. {person} was born in {place}.\n\n"
        f"Q: What is the birthplace of the director of A Kelan the {PEOPLE[i]}?\nA:{reasoning}"
    )
    return Prompt(text=text, user=text)


def request(i: int = 0, max_tokens: int = 60, **options: object) -> Generate:
    given = {"prompt": prompt(i), "min_tokens": 1} | options
    return Generate(step=1, max_tokens=max_tokens, **given)  # type: ignore[arg-type]


async def complete(model: LanguageModel, request: Generate) -> tuple[list[Delta], Completion]:
    """Everything a generation yields; checks that the one completion comes last."""
    items = [item async for item in model.generate(request)]
    *deltas, completion = items
    assert isinstance(completion, Completion)
    assert all(isinstance(item, Delta) for item in deltas)
    return [item for item in deltas if isinstance(item, Delta)], completion


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


class Contract:
    async def test_deltas_make_up_the_completion(self, subject: Subject) -> None:
        deltas, completion = await complete(subject.model, request())
        assert completion.finish_reason == "stop"
        assert "".join(d.text for d in deltas) == completion.text != ""
        counts = [d.num_tokens for d in deltas]
        assert counts == sorted(counts)
        assert 0 < counts[0] <= counts[-1] <= completion.num_completion_tokens

    async def test_tokens_are_counted(self, subject: Subject) -> None:
        _, completion = await complete(subject.model, request())
        assert completion.num_prompt_tokens > 10
        assert completion.num_completion_tokens > 1
        assert completion.num_cached_tokens >= 0

    async def test_greedy_says_the_same_twice(self, subject: Subject) -> None:
        first = await complete(subject.model, request())
        second = await complete(subject.model, request())
        assert first[1].text == second[1].text

    async def test_a_stop_string_ends_the_text_and_is_no_part_of_it(self, subject: Subject) -> None:
        _, whole = await complete(subject.model, request())
        stop = whole.text.split()[3]
        deltas, cut = await complete(subject.model, request(stop=("never said", stop)))
        assert cut.finish_reason == "stop"
        assert cut.text == whole.text[: whole.text.index(stop)]
        assert "".join(d.text for d in deltas) == cut.text

    async def test_max_tokens_ends_with_length(self, subject: Subject) -> None:
        _, whole = await complete(subject.model, request())
        _, cut = await complete(subject.model, request(max_tokens=3))
        assert (cut.finish_reason, cut.num_completion_tokens) == ("length", 3)
        assert whole.text.startswith(cut.text)
        assert cut.text

    async def test_min_tokens_forbids_an_empty_step(self, subject: Subject) -> None:
        person, place = f"{PEOPLE[0]} Sarov", f"{PEOPLE[-1]}burg"
        done = prompt(0, f" {person} was born in {place}. So the answer is: {place}.")
        _, completion = await complete(subject.model, request(prompt=done, min_tokens=1))
        assert completion.text

    async def test_a_prompt_that_does_not_fit_is_refused(self, subject: Subject) -> None:
        long = prompt().text * 60
        with pytest.raises(PromptTooLong, match=r"\d"):
            await complete(subject.model, request(prompt=Prompt(long, long)))
        assert subject.num_running() == 0

    async def test_closing_early_frees_the_engine(self, subject: Subject) -> None:
        async with aclosing(
            subject.model.generate(request(max_tokens=LONG, min_tokens=LONG))
        ) as stream:
            await anext(stream)
            assert subject.num_running() == 1
        await until(lambda: subject.num_running() == 0)

    async def test_cancelling_the_reader_frees_the_engine(self, subject: Subject) -> None:
        task = asyncio.create_task(
            complete(subject.model, request(max_tokens=LONG, min_tokens=LONG))
        )
        await until(lambda: subject.num_running() == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: subject.num_running() == 0)

    async def test_generations_side_by_side_do_not_mix(self, subject: Subject) -> None:
        alone = [(await complete(subject.model, request(i)))[1].text for i in range(8)]
        together = await asyncio.gather(*(complete(subject.model, request(i)) for i in range(8)))
        assert [c.text for _, c in together] == alone
        assert len(set(alone)) == 8
        for deltas, completion in together:
            assert "".join(d.text for d in deltas) == completion.text

    async def test_a_seed_repeats_a_sample(self, subject: Subject) -> None:
        sampling = Sampling(temperature=1.5, top_p=0.95, seed=11)
        first = await complete(subject.model, request(sampling=sampling))
        second = await complete(subject.model, request(sampling=sampling))
        assert first[1].text == second[1].text

    async def test_a_model_that_serves_passes_its_check(self, subject: Subject) -> None:
        await subject.model.check()
