"""Trajectories: what they sum up, and their way through JSON."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steper_serve.trajectory import Completion, Passage, Step, Trajectory, Usage

A = Passage("a", "Oslo", "A city.", url="https://example.org/a", score=2.5)
B = Passage("b", "Rome", "Another.")
TRAJECTORY = Trajectory(
    strategy="ircot",
    question="Where?",
    steps=(
        Step("Where?", (A, B), "Hm.", (Completion("Hm.", "stop", 10, 2, 5),)),
        Step(
            "Hm.",
            (B, dataclasses.replace(A, score=1.0)),
            "So the answer is: Oslo",
            (
                Completion("", "length", 20, 0, 16, 0.25, 0.5, 0.125),
                Completion("Oslo", "stop", 24, 1, 20),
            ),
            forced=True,
        ),
        Step(None, (), "", ()),
    ),
    answer="Oslo",
    stop_reason="answer",
    citations=("a",),
    dropped=("b",),
)


def test_usage_sums_every_completion_of_every_step():
    assert TRAJECTORY.usage == Usage(
        num_prompt_tokens=54, num_completion_tokens=3, num_cached_tokens=41
    )
    assert dataclasses.replace(TRAJECTORY, steps=()).usage == Usage(0, 0, 0)


def test_passages_are_those_of_all_steps_once_as_they_were_first_found():
    assert TRAJECTORY.passages == (A, B)


def test_a_line_of_json_spelt_out():
    small = Trajectory("direct", "Q?", (Step(None, (B,), "x", ()),), "", "max_steps")
    assert json.loads(json.dumps(small.to_json())) == {
        "strategy": "direct",
        "question": "Q?",
        "steps": [
            {
                "query": None,
                "passages": [
                    {"id": "b", "title": "Rome", "text": "Another.", "url": None, "score": None}
                ],
                "thought": "x",
                "completions": [],
                "forced": False,
            }
        ],
        "answer": "",
        "stop_reason": "max_steps",
        "citations": [],
        "dropped": [],
    }


def test_json_and_back():
    line = json.dumps(TRAJECTORY.to_json())
    back = Trajectory.from_json(json.loads(line))
    assert back == TRAJECTORY
    assert hash(back) == hash(TRAJECTORY)
    assert "\n" not in line


names = st.text(max_size=8)
numbers = st.integers(0, 10**6)
seconds = st.one_of(st.none(), st.floats(0, 1e6))
passages = st.builds(
    Passage,
    names,
    names,
    names,
    st.one_of(st.none(), names),
    st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
)
completions = st.builds(
    Completion,
    names,
    st.sampled_from(["stop", "length"]),
    numbers,
    numbers,
    numbers,
    seconds,
    seconds,
    seconds,
)
tuples = st.lists(names, max_size=3).map(tuple)
steps = st.builds(
    Step,
    st.one_of(st.none(), names),
    st.lists(passages, max_size=2).map(tuple),
    names,
    st.lists(completions, max_size=2).map(tuple),
    st.booleans(),
)
trajectories = st.builds(
    Trajectory,
    names,
    names,
    st.lists(steps, max_size=3).map(tuple),
    names,
    st.sampled_from(["answer", "max_steps", "budget", "no_answer_marker", "no_passages"]),
    tuples,
    tuples,
)


@given(trajectories)
def test_any_trajectory_survives_json(trajectory):
    assert Trajectory.from_json(json.loads(json.dumps(trajectory.to_json()))) == trajectory


@pytest.mark.parametrize("missing", ["question", "steps", "citations"])
def test_a_line_that_lacks_something_is_no_trajectory(missing):
    data = TRAJECTORY.to_json()
    del data[missing]
    with pytest.raises((KeyError, TypeError), match=missing):
        Trajectory.from_json(data)


def test_a_line_with_something_unknown_is_no_trajectory():
    with pytest.raises(TypeError, match="colour"):
        Trajectory.from_json(TRAJECTORY.to_json() | {"colour": "red"})


@pytest.mark.parametrize("noun", [A, TRAJECTORY, TRAJECTORY.steps[0], Completion("", "stop")])
def test_nouns_are_frozen(noun):
    name = dataclasses.fields(noun)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(noun, name, "x")
