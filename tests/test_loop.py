"""The loop: a model, an index and a strategy put together, and what an ask may change."""

import pytest

from steper_serve.errors import InvalidRequest
from steper_serve.generation.scripted import ScriptedModel
from steper_serve.loop import Ask, Loop
from steper_serve.strategies import STRATEGIES, FewShot
from tests.flows import QUESTION, THOUGHTS, Index, student

FEW = dict.fromkeys(STRATEGIES, FewShot("", ()))


def loop(**changes) -> Loop:
    model = ScriptedModel(THOUGHTS)
    return Loop(model, Index(), student(few_shot=False), FEW, **changes)


async def test_a_loop_answers_with_its_defaults():
    trajectory = await loop(strategy="single").run(Ask(QUESTION))
    assert (trajectory.answer, trajectory.strategy) == ("Oslo", "single")


async def test_an_ask_goes_before_the_defaults():
    asked = loop(strategy="single", max_steps=5, top_k=4)
    await asked.run(Ask(QUESTION, strategy="ircot", max_steps=1, top_k=2))
    assert asked.retriever.queries == [(QUESTION, 2)]
    assert [r.final for r in asked.model.requests] == [False, True]


async def test_an_ask_may_have_a_time_of_its_own():
    trajectory = await loop(max_seconds=600).run(Ask(QUESTION, max_seconds=0.0))
    assert trajectory.stop_reason == "budget"


@pytest.mark.parametrize(
    ("ask", "param"),
    [
        (Ask(QUESTION, strategy="ircott"), "strategy"),
        (Ask(QUESTION, max_steps=0), "max_steps"),
        (Ask(QUESTION, top_k=21), "top_k"),
        (Ask(QUESTION, max_tokens=0), "max_tokens"),
    ],
)
async def test_what_an_ask_may_not_say_is_refused_by_name(ask, param):
    with pytest.raises(InvalidRequest, match=param) as refused:
        await loop().run(ask)
    assert refused.value.param == param
