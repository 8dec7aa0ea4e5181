"""The trace as JSON: whole, and an event at a time."""

import json

import pytest

from steper_serve.drivers import Found, Generated, Searching, Wrote
from steper_serve.trace import Clockwork, event_json, result_json, trace_json
from steper_serve.trajectory import Completion, Passage, Step, Trajectory

OSLO = Passage("o", "Oslo", "A city.", url="https://example.org", score=2.5)
TIMED = Completion(" Hm. ", "stop", 10, 2, 5, 0.5, 0.25, 0.125)
UNTIMED = Completion("Oslo", "stop", 20, 1)
EVENTS = [
    Searching(1, "Where?"),
    Found(1, (OSLO,), 0.75),
    Wrote(1, " Hm. "),
    Generated(1, " Hm. ", TIMED, 1.5),
    Searching(2, "Hm."),
    Found(2, (), 0.25),
    Generated(2, " More.", TIMED, 2.0),
    Generated(2, " So the answer is: Oslo", UNTIMED, 0.5, final=True),
]
TRAJECTORY = Trajectory(
    strategy="ircot",
    question="Where?",
    steps=(
        Step("Where?", (OSLO,), "Hm.", (TIMED,)),
        Step("Hm.", (), "More. So the answer is: Oslo", (TIMED, UNTIMED), forced=True),
        Step(None, (), "", ()),
    ),
    answer="Oslo",
    stop_reason="answer",
    citations=("o",),
    dropped=("x",),
)
RESULT = {
    "answer": "Oslo",
    "strategy": "ircot",
    "stop_reason": "answer",
    "citations": ["o"],
    "dropped": ["x"],
    "usage": {
        "num_prompt_tokens": 40,
        "num_completion_tokens": 5,
        "num_cached_tokens": 10,
        "num_steps": 3,
    },
    "seconds": 1.234568,
}
SHOWN = {"id": "o", "title": "Oslo", "score": 2.5}
SAID = {
    "text": " Hm. ",
    "finish_reason": "stop",
    "num_prompt_tokens": 10,
    "num_completion_tokens": 2,
    "num_cached_tokens": 5,
}
SAID_LAST = {
    "text": "Oslo",
    "finish_reason": "stop",
    "num_prompt_tokens": 20,
    "num_completion_tokens": 1,
    "num_cached_tokens": 0,
}


@pytest.mark.parametrize(
    ("event", "shown"),
    [
        (EVENTS[0], {"step": 1, "query": "Where?"}),
        (EVENTS[1], {"step": 1, "passages": [SHOWN], "retrieval_seconds": 0.75}),
        (EVENTS[2], None),
        (
            EVENTS[3],
            {
                "step": 1,
                "thought": "Hm.",
                "completions": [SAID],
                "forced": False,
                "queue_seconds": 0.5,
                "prefill_seconds": 0.25,
                "decode_seconds": 0.125,
                "generation_seconds": 1.5,
            },
        ),
        (
            EVENTS[7],
            {
                "step": 2,
                "thought": "So the answer is: Oslo",
                "completions": [SAID_LAST],
                "forced": True,
                "queue_seconds": None,
                "prefill_seconds": None,
                "decode_seconds": None,
                "generation_seconds": 0.5,
            },
        ),
    ],
)
def test_an_event(event, shown):
    assert event_json(event) == shown


def test_the_end_of_a_stream_is_the_whole_without_its_steps():
    assert result_json(TRAJECTORY, 1.23456789) == RESULT


def test_the_whole():
    clockwork = Clockwork()
    for event in EVENTS:
        clockwork(event)
    whole = trace_json(TRAJECTORY, 1.23456789, clockwork)
    steps = whole.pop("steps")
    assert whole == RESULT
    assert steps == [
        {
            "query": "Where?",
            "passages": [SHOWN],
            "thought": "Hm.",
            "completions": [SAID],
            "forced": False,
            "retrieval_seconds": 0.75,
            "queue_seconds": 0.5,
            "prefill_seconds": 0.25,
            "decode_seconds": 0.125,
            "generation_seconds": 1.5,
        },
        # Two generations are added up; a time that an engine does not tell counts as none.
        {
            "query": "Hm.",
            "passages": [],
            "thought": "More. So the answer is: Oslo",
            "completions": [SAID, SAID_LAST],
            "forced": True,
            "retrieval_seconds": 0.25,
            "queue_seconds": 0.5,
            "prefill_seconds": 0.25,
            "decode_seconds": 0.125,
            "generation_seconds": 2.5,
        },
        # A step in which nothing was performed has the same keys.
        {
            "query": None,
            "passages": [],
            "thought": "",
            "completions": [],
            "forced": False,
            "retrieval_seconds": 0.0,
            "queue_seconds": 0.0,
            "prefill_seconds": 0.0,
            "decode_seconds": 0.0,
            "generation_seconds": 0.0,
        },
    ]
    assert json.loads(json.dumps({**whole, "steps": steps})) == {**whole, "steps": steps}
