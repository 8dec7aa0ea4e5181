"""A saved run is replayed, prompts to the byte, or refused."""

import json

import pytest

from steper_serve import drivers
from steper_serve.generation.scripted import ScriptedModel
from steper_serve.strategies import STRATEGIES, Options
from steper_serve.trajectory import (
    Completion,
    Demonstration,
    Flow,
    Generate,
    OutOfTime,
    Prompt,
    Retrieve,
    Trajectory,
)
from tests.flows import (
    ALL,
    BERG,
    HARBOUR,
    QUESTION,
    SCRIPTS,
    Index,
    Watched,
    forever,
    start,
    student,
)

SHOTS = (Demonstration("Q?", (BERG,), ("Hm.",), "a"),)
WAYS = {
    "student": {},
    "sentences": {"step_end": "sentence"},
    "shown how": {"instruction": "Do it.", "demonstrations": SHOTS, "step_end": "sentence"},
    "forced": {"max_steps": 1},
    "few tokens": {"max_tokens": 40},
    "fewest tokens": {"max_tokens": 3},
}


async def saved_run(strategy: str, max_seconds: float | None = None, model=None, **options):
    texts = iter(SCRIPTS[strategy])
    model = model or ScriptedModel(lambda r: "Oslo" if r.final else next(texts, "Hm."))
    trajectory = await drivers.run(
        start(strategy, **options), model, Index(), max_seconds=max_seconds
    )
    return model, Trajectory.from_json(json.loads(json.dumps(trajectory.to_json())))


def prompts(flow: Flow, saved: Trajectory) -> list[Prompt]:
    return [e.prompt for e, _ in drivers.replay(flow, saved) if isinstance(e, Generate)]


@ALL
@pytest.mark.parametrize("way", list(WAYS))
async def test_a_replayed_prompt_is_the_served_one(strategy, way):
    model, saved = await saved_run(strategy, **WAYS[way])
    served = [request.prompt for request in model.requests]
    assert served
    assert prompts(start(strategy, **WAYS[way]), saved) == served


@ALL
@pytest.mark.parametrize("max_seconds", [0.0, 0.02])
async def test_a_run_that_time_ended_is_replayed(strategy, max_seconds):
    _, saved = await saved_run(strategy, max_seconds, forever())
    last = [e for e, o in drivers.replay(start(strategy), saved) if not isinstance(o, OutOfTime)][
        -1
    ]
    assert last.final
    assert saved.stop_reason == "budget"


async def test_a_thought_that_was_never_performed_does_not_get_the_answers_completion():
    """Time ran out between a search and its thought: what is saved last is the forced answer."""
    flow, outcome, effects = start(), None, []
    for reply in [[HARBOUR], OutOfTime(), Completion(" Oslo", "stop")]:
        effects.append(flow.send(outcome))
        outcome = reply
    with pytest.raises(StopIteration) as stop:
        flow.send(outcome)
    assert [e for e, _ in drivers.replay(start(), stop.value.value)] == effects


@pytest.mark.parametrize(
    ("strategy", "options"),
    [
        ("ircot", {"max_steps": 1}),
        ("ircot", {"max_tokens": 3}),
        ("ircot", {"question": "Another question?"}),
        ("ircot", {"special_tokens": ("Harbour",)}),
        ("self-ask", {}),
        ("single", {}),
        ("direct", {}),
    ],
)
async def test_a_replay_under_other_options_is_refused(strategy, options):
    _, saved = await saved_run("ircot")
    assert len(saved.steps) == 2
    special = options.pop("special_tokens", ())
    question = options.pop("question", QUESTION)
    flow = STRATEGIES[strategy].flow(question, Options(student(special_tokens=special), **options))
    with pytest.raises(ValueError, match="was it made with other options"):
        list(drivers.replay(flow, saved))


async def test_a_replay_of_a_longer_run_than_was_saved_is_refused():
    _, saved = await saved_run("ircot", max_steps=1)
    with pytest.raises(ValueError, match="step 2 asks for a search"):
        list(drivers.replay(start(), saved))


async def test_a_replay_that_is_left_early_closes_the_flow():
    _, saved = await saved_run("ircot")
    flow = Watched(start())
    replay = drivers.replay(flow, saved)
    assert next(replay) == (Retrieve(1, QUESTION, 4), (HARBOUR,))
    replay.close()
    assert flow.closed
