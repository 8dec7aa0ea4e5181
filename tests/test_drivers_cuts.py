"""A cut ends a generation early, however its text comes."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from hypothesis import given
from hypothesis import strategies as st

from steper_serve import drivers
from steper_serve.drivers import Wrote
from steper_serve.trajectory import Completion, Delta, Generate
from tests.flows import Index, Model, start


def in_pieces(text: str, sizes: Sequence[int]) -> list[str]:
    pieces, place = [], 0
    for size in sizes:
        pieces.append(text[place : place + size])
        place += size
    return [piece for piece in [*pieces, text[place:]] if piece]


def babbling(text: str, sizes: Sequence[int] = ()) -> Model:
    """Says `text` in pieces of these sizes and then what comes to its mind."""

    async def speak(request: Generate) -> AsyncGenerator[Delta | Completion, None]:
        for number, piece in enumerate(in_pieces(text, sizes), 1):
            yield Delta(piece, number)
        yield Completion(text, "stop", num_completion_tokens=len(sizes))

    return Model(speak)


@given(st.lists(st.integers(1, 9), max_size=40), st.sampled_from(["", '"', "(“"]))
def test_a_cut_is_the_same_however_the_text_comes(sizes, opening):
    first = 'It was made by Edward L. Cahn (see "Films.")'
    model, events = babbling(f"{first}  {opening}He also said. More", sizes), []
    flow = start("ircot", step_end="sentence", max_steps=2)
    trajectory = asyncio.run(drivers.run(flow, model, Index(), events.append))
    step = trajectory.steps[0]
    assert step.thought == first
    assert step.completions[0].text == first
    assert step.completions[0].finish_reason == "stop"
    assert "".join(e.text for e in events if isinstance(e, Wrote) and e.step == 1) == first
    assert model.num_open == 0


async def test_a_cut_closes_the_models_generator_and_counts_what_came():
    model = babbling("One. Two. Three.", [3, 2, 3, 2])
    trajectory = await drivers.run(start(step_end="sentence", max_steps=2), model, Index())
    first = trajectory.steps[0].completions[0]
    # "One", ". ", "Two": with the third piece the sentence is known to be over.
    assert (first.text, first.finish_reason, first.num_completion_tokens) == ("One.", "stop", 3)
    assert (model.num_open, model.num_closed) == (0, 3)


async def test_text_that_no_cut_ends_is_shown_to_its_last_character():
    events = []
    model = babbling('He left. "', [4, 5])
    await drivers.run(start(step_end="sentence", max_steps=2), model, Index(), events.append)
    assert "".join(e.text for e in events if isinstance(e, Wrote) and e.step == 1) == 'He left. "'
