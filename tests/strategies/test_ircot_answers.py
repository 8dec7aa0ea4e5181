"""IRCoT's answer: how it is read, and what becomes of it when time or tokens run out."""

import pytest

from steper_serve.strategies.ircot import ircot, parse_answer
from steper_serve.strategies.options import Options
from steper_serve.trajectory import OutOfTime
from tests.strategies.harbour import BERG, FIRST, OSLO, QUESTION


@pytest.mark.parametrize(
    ("thought", "answer"),
    [
        ("So the answer is: Rome.", "Rome"),
        ("He is from Italy. So the answer is: Rome", "Rome"),
        ("so  THE answer is :Rome. Q: another?", "Rome"),
        ("So the answer is: the U.S. Army. It", "the U.S. Army"),
        ("So the answer is: no. They are not.", "no"),
        ("So the answer is: 3.5 million", "3.5 million"),
        ('So the answer is: "Grey Harbour".', "Grey Harbour"),
        ("So the answer is: Edward L. Cahn. He died.", "Edward L. Cahn"),
        ("So the answer is: Washington, D.C.", "Washington, D.C."),
        ("So the answer is:", ""),
        ("So the answer is: .", ""),
        ("The answer is Rome.", None),
        ("So the answer is Rome.", None),
        ("", None),
    ],
)
def test_parse_answer(thought, answer):
    assert parse_answer(thought) == answer


@pytest.mark.parametrize(
    "thought",
    [
        "So the answer is: **Oslo**.",
        "**So the answer is:** Oslo.",
        "**So the answer is**: Oslo",
        "so  the answer is : `Oslo`",
    ],
)
def test_an_answer_is_read_through_markdown(thought):
    assert parse_answer(thought) == "Oslo"


@pytest.mark.parametrize(
    ("outcomes", "num_effects", "thoughts"),
    [
        # Before the first search, before each thought, before each later search.
        ([OutOfTime()], 2, ["So the answer is: x"]),
        ([[BERG], OutOfTime()], 3, ["So the answer is: x"]),
        ([[BERG], "A.", OutOfTime()], 4, ["A. So the answer is: x"]),
        ([[BERG], "A.", [OSLO], OutOfTime()], 5, ["A.", "So the answer is: x"]),
    ],
)
def test_out_of_time_goes_straight_to_the_answer(
    drive, said, student, outcomes, num_effects, thoughts
):
    outcomes = [said(o) if isinstance(o, str) else o for o in outcomes]
    effects, trajectory = drive(ircot(QUESTION, Options(student())), [*outcomes, said(" x")])
    assert len(effects) == num_effects
    assert effects[-1].final
    assert [s.thought for s in trajectory.steps] == thoughts
    assert (trajectory.answer, trajectory.stop_reason) == ("x", "budget")


def test_a_thought_that_time_ended_before_its_first_word_is_no_missing_marker(drive, said, student):
    for answer in ("x", ""):
        _, trajectory = drive(
            ircot(QUESTION, Options(student())),
            [[BERG], said("", finish_reason="length"), said(answer)],
        )
        assert (trajectory.answer, trajectory.stop_reason) == (answer, "budget")


def test_a_last_thought_that_was_cut_short_is_the_budgets_doing(drive, said, student):
    _, trajectory = drive(
        ircot(QUESTION, Options(student(), max_steps=1)),
        [[BERG], said("Alma Berg was", finish_reason="length"), said("x")],
    )
    assert (trajectory.answer, trajectory.stop_reason) == ("x", "budget")


@pytest.mark.parametrize(
    ("text", "finish_reason", "stop_reason"),
    [
        ("So the answer is: 14 Ma", "length", "budget"),
        ("So the answer is: 14 May", "stop", "answer"),
        # What was cut off is talk after the answer, not the answer.
        ("So the answer is: 14 May. Then the", "length", "answer"),
    ],
)
def test_an_answer_that_was_cut_off_does_not_pass_for_a_whole_one(
    drive, said, student, text, finish_reason, stop_reason
):
    _, trajectory = drive(
        ircot(QUESTION, Options(student())), [[BERG], said(text, finish_reason=finish_reason)]
    )
    assert trajectory.stop_reason == stop_reason
    assert trajectory.answer.startswith("14 Ma")


def test_a_forced_answer_that_was_cut_off_does_not_pass_for_a_whole_one(drive, said, student):
    _, trajectory = drive(
        ircot(QUESTION, Options(student(), max_steps=1)),
        [[BERG], said(FIRST), said(" 14 Ma", finish_reason="length")],
    )
    assert (trajectory.answer, trajectory.stop_reason) == ("14 Ma", "budget")
