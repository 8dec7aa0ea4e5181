"""What is shown of an answer: made of events, one by one, without a server or a browser."""

from functools import reduce

import pytest

from steper_serve.ui.events import (
    Answered,
    Event,
    Found,
    Passage,
    Problem,
    Result,
    Searching,
    Texts,
    Thought,
    Wrote,
    event_of,
)
from steper_serve.ui.request import Ask
from steper_serve.ui.timeline import Turn, advance, finished, note, stopped

LUMEN = Passage("p1", "The Lumen", 2.5)
FROST = Passage("p2", "Ada Frost", 1.5)
TEXTS = {
    "p1": Passage("p1", "The Lumen", text="It runs for two hours. The film was made by Ada Frost."),
    "p2": Passage("p2", "Ada Frost", text="Ada Frost was born in Verla."),
}
EVENTS: tuple[Event, ...] = (
    Searching(1, "Where was the maker of The Lumen born?"),
    Found(1, (LUMEN,), 0.002),
    Wrote("The Lumen was"),
    Wrote(" made by Ada Frost."),
    Thought(1, "The Lumen was made by Ada Frost.", 0.04),
    Texts({"p1": TEXTS["p1"]}),
    Searching(2, "The Lumen was made by Ada Frost."),
    Found(2, (LUMEN, FROST), 0.001),
    Wrote("\nAda Frost was born in Verla."),
    Thought(2, "Ada Frost was born in Verla.", 0.03),
    Texts(TEXTS),
    Wrote("\nSo the answer is: Verla."),
    Thought(3, "So the answer is: Verla.", 0.02),
    Answered("Verla", (("The Lumen", "http://x/p1"), ("Ada Frost", "http://x/p2"))),
    Result("answer", ("p1", "p2"), 3, 18, 0.2),
)


def shown(*events: Event) -> Turn:
    return reduce(advance, events, Turn("t", Ask("Where?", max_steps=4)))


def test_a_search_shows_before_it_has_found_anything() -> None:
    [step] = shown(*EVENTS[:1]).steps
    assert (step.number, step.query, step.state) == (1, EVENTS[0].query, "searching")


def test_a_thought_grows_token_by_token() -> None:
    assert shown(*EVENTS[:2]).steps[0].state == "thinking"
    assert shown(*EVENTS[:3]).steps[0].thought == "The Lumen was"
    assert shown(*EVENTS[:4]).steps[0].thought == "The Lumen was made by Ada Frost."
    done = shown(*EVENTS[:5]).steps[0]
    assert (done.thought, done.state, done.generation_seconds) == (
        "The Lumen was made by Ada Frost.",
        "done",
        0.04,
    )


def test_a_line_break_begins_the_next_step_and_a_search_has_begun_it_already() -> None:
    steps = shown(*EVENTS[:9]).steps
    assert [s.number for s in steps] == [1, 2]
    assert steps[1].thought == "Ada Frost was born in Verla."
    steps = shown(*EVENTS[:12]).steps
    assert (steps[2].number, steps[2].query, steps[2].state) == (3, None, "thinking")


def test_a_line_break_may_also_lie_within_a_step() -> None:
    turn = shown(
        Searching(1, "q"),
        Found(1, ()),
        Wrote("Ada Frost made it."),
        Thought(1, "Ada Frost made it.", 0.5),
        Wrote("\nSo the final answer is: Verla"),
    )
    assert [s.number for s in turn.steps] == [1, 2]
    turn = advance(turn, Thought(1, "So the final answer is: Verla", 0.25))
    [step] = turn.steps
    assert step.thought == "Ada Frost made it. So the final answer is: Verla"
    assert step.generation_seconds == 0.75


def test_two_generations_of_one_step_are_one_thought() -> None:
    step = shown(
        Searching(1, "q"),
        Found(1, ()),
        Wrote("Yes."),
        Thought(1, "Yes.", 0.5),
        Wrote(" So the answer is: 3."),
        Thought(1, "So the answer is: 3.", 0.25),
    ).steps
    assert [s.thought for s in step] == ["Yes. So the answer is: 3."]
    assert step[0].generation_seconds == 0.75


def test_the_used_sentence_is_found_when_thought_and_text_are_there() -> None:
    assert shown(*EVENTS[:4], Texts(TEXTS)).used(LUMEN) is None
    assert shown(*EVENTS[:5]).used(LUMEN) is None
    turn = shown(*EVENTS[:6])
    start, end = turn.used(LUMEN) or (0, 0)
    assert TEXTS["p1"].text[start:end] == "The film was made by Ada Frost."
    # In step 2 the passage was found again, and step 2's own thought used another.
    turn = shown(*EVENTS)
    assert turn.used(LUMEN, since=1) is not None
    assert turn.used(LUMEN, since=2) is None
    assert turn.used(FROST, since=2) == (0, len(TEXTS["p2"].text))


def test_citations_are_passages_in_the_order_of_their_numbers() -> None:
    turn = finished(shown(*EVENTS))
    assert turn.status == "done"
    assert [(p.id, p.text, p.score) for p in turn.citations] == [
        ("p1", TEXTS["p1"].text, 2.5),
        ("p2", TEXTS["p2"].text, 1.5),
    ]


def test_citations_of_an_endpoint_without_a_trace_are_its_annotations() -> None:
    turn = finished(shown(Wrote("Hm."), Answered("Verla", (("Ada", "http://x/2"),))))
    assert [(p.title, p.url) for p in turn.citations] == [("Ada", "http://x/2")]
    assert turn.status == "done"


@pytest.mark.parametrize(
    ("reason", "answer", "told"),
    [
        ("answer", "Verla", ""),
        ("max_steps", "", "within 4 steps"),
        ("budget", "Verla", "forced early"),
        ("budget", "", "before there was an answer"),
        ("no_answer_marker", "", "without saying"),
        ("no_passages", "The passages do not answer this.", "No passage"),
    ],
)
def test_how_it_ended_is_told(reason: str, answer: str, told: str) -> None:
    events = [Answered(answer)] if answer else []
    said = note(finished(shown(*events, Result(reason))))
    assert told in said
    assert bool(told) == bool(said)


@pytest.mark.parametrize(
    ("num_steps", "most", "told"), [(2, 2, "last of 2"), (1, 1, "only step"), (1, 2, "early")]
)
def test_an_answer_that_was_forced_says_so(num_steps: int, most: int, told: str) -> None:
    turn = Turn("t", Ask("Where?", max_steps=most))
    for step in range(1, num_steps + 1):
        turn = advance(turn, Thought(step, "Ada Frost was born in Verla."))
    turn = advance(turn, Thought(num_steps, "So the answer is: Verla.", forced=True))
    said = note(finished(reduce(advance, (Answered("Verla"), Result("answer")), turn)))
    assert "forced" in said
    assert told in said


def test_a_failure_keeps_the_steps_and_says_why() -> None:
    problem = Problem("The server is not ready", "the engine is down", "Try again.")
    turn = finished(shown(*EVENTS[:5], problem))
    assert (turn.status, turn.problem, len(turn.steps)) == ("failed", problem, 1)


def test_an_end_without_an_answer_or_an_error_is_a_failure_too() -> None:
    turn = finished(shown(*EVENTS[:3]))
    assert turn.status == "failed"
    assert "broke off" in turn.problem.title


def test_a_stopped_turn_stays_stopped() -> None:
    assert finished(stopped(shown(*EVENTS[:3]))).status == "stopped"


def test_events_are_read_off_the_trace_that_the_endpoint_documents() -> None:
    assert event_of({"step": 1, "query": "q"}) == Searching(1, "q")
    told = {"step": 1, "passages": [{"id": "p1", "title": "The Lumen", "score": 2.5}]}
    assert event_of({**told, "retrieval_seconds": 0.1}) == Found(1, (LUMEN,), 0.1)
    thought = {"step": 2, "thought": "So.", "completions": [], "forced": False}
    assert event_of({**thought, "generation_seconds": 0.2}) == Thought(2, "So.", 0.2)
    assert event_of({**thought, "forced": True}) == Thought(2, "So.", forced=True)
    result = {
        "answer": "Verla",
        "stop_reason": "answer",
        "citations": ["p1"],
        "usage": {"num_steps": 3, "num_completion_tokens": 18},
        "seconds": 0.5,
    }
    assert event_of(result) == Result("answer", ("p1",), 3, 18, 0.5)
    with pytest.raises(KeyError):
        event_of({"step": 1})
