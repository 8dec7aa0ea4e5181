"""Self-Ask: prompts to the byte, the loop effect by effect, and the parsers."""

import pytest

from steper_serve.strategies.draft import Context
from steper_serve.strategies.options import Options
from steper_serve.strategies.self_ask import (
    decision_end,
    parse_answer,
    parse_follow_up,
    render,
    self_ask,
)
from steper_serve.trajectory import (
    Demonstration,
    Generate,
    OutOfTime,
    Passage,
    Prompt,
    Retrieve,
)

QUESTION = "Where was the painter of Grey Harbour born?"
HARBOUR = Passage("h", "Grey Harbour", "Grey Harbour is a painting by Alma Berg.")
BERG = Passage("b", "Alma Berg", "Alma Berg was born in Oslo.")

SHOWN = {
    "h": "Wikipedia Title: Grey Harbour\nGrey Harbour is a painting by Alma Berg.\n\n",
    "b": "Wikipedia Title: Alma Berg\nAlma Berg was born in Oslo.\n\n",
}
OPENING = "Are follow up questions needed here:"


def prompt(passages: str, written: str = "") -> Prompt:
    shown = "".join(SHOWN[id] for id in passages)
    user = f"Passages:\n{shown}Question: Where was the painter of Grey Harbour born?\n"
    return Prompt(f"{user}{OPENING}{written}", user=user, partial=f"{OPENING}{written}")


def decide(step: int, prompt: Prompt, lead: str = "") -> Generate:
    return Generate(step, prompt, max_tokens=128, cut=decision_end, lead=lead)


def test_follow_ups_are_searched_answered_and_followed(drive, said, student):
    effects, trajectory = drive(
        self_ask(QUESTION, Options(student(), top_k=1)),
        [
            [HARBOUR],
            said(" Yes.\n\nFollow up: Who painted Grey Harbour? "),
            [HARBOUR],
            said(" Alma Berg."),
            said("Follow up: Where was Alma Berg born?"),
            [BERG],
            said(" In Oslo."),
            said("So the final answer is: Oslo"),
        ],
    )
    first = " Yes.\nFollow up: Who painted Grey Harbour?"
    second = f"{first}\nIntermediate answer: Alma Berg.\nFollow up: Where was Alma Berg born?"
    answering = {"max_tokens": 128, "stop": ("\n",), "lead": "\nIntermediate answer:"}
    assert effects == [
        Retrieve(1, QUESTION, 1),
        decide(1, prompt("h")),
        Retrieve(2, "Who painted Grey Harbour?", 1),
        Generate(2, prompt("h", f"{first}\nIntermediate answer:"), **answering),
        decide(2, prompt("h", f"{first}\nIntermediate answer: Alma Berg.\n"), lead="\n"),
        Retrieve(3, "Where was Alma Berg born?", 1),
        Generate(3, prompt("hb", f"{second}\nIntermediate answer:"), **answering),
        decide(3, prompt("hb", f"{second}\nIntermediate answer: In Oslo.\n"), lead="\n"),
    ]
    assert (trajectory.answer, trajectory.stop_reason) == ("Oslo", "answer")
    assert [s.thought for s in trajectory.steps] == [
        "Yes.\n\nFollow up: Who painted Grey Harbour?",
        "Intermediate answer: Alma Berg.\nFollow up: Where was Alma Berg born?",
        "Intermediate answer: In Oslo.\nSo the final answer is: Oslo",
    ]
    assert trajectory.strategy == "self-ask"


def test_no_follow_up_needed(drive, said, student):
    effects, trajectory = drive(
        self_ask(QUESTION, Options(student())),
        [[BERG], said(" No.\nSo the final answer is: Oslo.")],
    )
    assert len(effects) == 2
    assert (trajectory.answer, trajectory.stop_reason) == ("Oslo", "answer")


def test_the_last_search_has_its_follow_up_answered_and_the_answer_forced(drive, said, student):
    effects, trajectory = drive(
        self_ask(QUESTION, Options(student(), max_steps=2)),
        [[HARBOUR], said(" Yes.\nFollow up: Who?"), [BERG], said(" Berg."), said(" Oslo")],
    )
    asked = " Yes.\nFollow up: Who?\nIntermediate answer: Berg."
    assert effects[-1] == Generate(
        2,
        prompt("hb", f"{asked}\nSo the final answer is:"),
        max_tokens=64,
        stop=("\n",),
        lead="\nSo the final answer is:",
        final=True,
    )
    assert (trajectory.answer, trajectory.stop_reason) == ("Oslo", "answer")


@pytest.mark.parametrize("max_steps", [1, 3])
def test_an_answer_forced_before_any_follow_up_says_no(drive, said, student, max_steps):
    texts = [] if max_steps == 1 else [said("\n ")]
    effects, trajectory = drive(
        self_ask(QUESTION, Options(student(), max_steps=max_steps)), [[BERG], *texts, said(" Oslo")]
    )
    assert effects[-1].prompt == prompt("b", " No.\nSo the final answer is:")
    assert trajectory.answer == "Oslo"


def test_neither_follow_up_nor_answer_has_the_answer_forced(drive, said, student):
    effects, trajectory = drive(
        self_ask(QUESTION, Options(student())), [[BERG], said(" Let me think."), said("")]
    )
    assert effects[-1].prompt == prompt("b", " Let me think.\nSo the final answer is:")
    assert (trajectory.answer, trajectory.stop_reason) == ("", "no_answer_marker")


def test_a_marker_without_an_answer_is_not_written_twice(drive, said, student):
    effects, trajectory = drive(
        self_ask(QUESTION, Options(student())),
        [[BERG], said(" No.\nSo the final answer is:"), said(" Oslo")],
    )
    assert effects[-1].prompt == prompt("b", " No.\nSo the final answer is:")
    assert trajectory.steps[0].thought == "No.\nSo the final answer is: Oslo"
    assert trajectory.answer == "Oslo"


def test_without_any_passage_nothing_is_generated(drive, student):
    effects, trajectory = drive(self_ask(QUESTION, Options(student())), [[]])
    assert effects == [Retrieve(1, QUESTION, 4)]
    assert (trajectory.answer, trajectory.stop_reason) == ("", "no_passages")


ASKS = " Yes.\nFollow up: Who?"


@pytest.mark.parametrize(
    ("outcomes", "num_steps"),
    [
        ([OutOfTime()], 1),
        ([[BERG], OutOfTime()], 1),
        ([[BERG], ASKS, OutOfTime()], 1),
        ([[BERG], ASKS, [HARBOUR], OutOfTime()], 2),
        ([[BERG], ASKS, [HARBOUR], " Berg.", OutOfTime()], 2),
    ],
)
def test_out_of_time_goes_straight_to_the_answer(drive, said, student, outcomes, num_steps):
    outcomes = [said(o) if isinstance(o, str) else o for o in outcomes]
    effects, trajectory = drive(self_ask(QUESTION, Options(student())), [*outcomes, said(" x")])
    assert effects[-1].final
    assert len(effects) == len(outcomes) + 1
    assert len(trajectory.steps) == num_steps
    assert (trajectory.answer, trajectory.stop_reason) == ("x", "budget")


def test_few_shot_and_chat_prompts(student):
    shot = Demonstration(
        question="What is the capital of Hungary?",
        passages=(Passage("d", "Hungary", "Its capital is Budapest."),),
        thoughts=("Follow up: Which city?", "Intermediate answer: Budapest."),
        answer="Budapest",
    )
    context = Context("Ask and answer.", (shot,), (BERG,), "Where was she born?", " Yes.")
    user = (
        "Ask and answer.\n"
        "\n"
        "Passages:\n"
        "Wikipedia Title: Hungary\n"
        "Its capital is Budapest.\n"
        "\n"
        "Question: What is the capital of Hungary?\n"
        "Are follow up questions needed here: Yes.\n"
        "Follow up: Which city?\n"
        "Intermediate answer: Budapest.\n"
        "So the final answer is: Budapest\n"
        "\n"
        "Passages:\n"
        "Wikipedia Title: Alma Berg\n"
        "Alma Berg was born in Oslo.\n"
        "\n"
        "Question: Where was she born?"
    )
    partial = f"{OPENING} Yes."
    assert render(context, student()) == Prompt(
        f"{user}\n{partial}", user=f"{user}\n", partial=partial
    )
    assert render(context, student(chat=("<U>", "<A>"))) == Prompt(
        f"<U>{user}<A>{partial}", user=user, partial=partial, templated=True
    )


@pytest.mark.parametrize(
    ("text", "follow_up"),
    [
        (" Yes.\nFollow up: Who was it?", "Who was it?"),
        ("Follow up: A?\nFollow up: B?", "B?"),
        ("Follow up: A?\nFollow up:", "A?"),
        ("  FOLLOW-UP :  Who? ", "Who?"),
        ("Followup: Who?", "Who?"),
        ("Follow up:", None),
        ("No follow up: none.", None),
        ("So the final answer is: x", None),
    ],
)
def test_parse_follow_up(text, follow_up):
    assert parse_follow_up(text) == follow_up


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("So the final answer is: Oslo.\nFollow up: x", "Oslo"),
        ("No. so the FINAL answer is :Oslo", "Oslo"),
        ("So the final answer is:\nOslo", ""),
        ("So the answer is: Oslo", None),
    ],
)
def test_parse_answer(text, answer):
    assert parse_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("Follow up: Who", None),
        ("Follow up: Who?\n", 15),
        ("Yes.\nFollow up: Who?\nIntermediate answer: A\nFollow up: B\n", 20),
        ("Follow up:\nFollow up: Who?\n", 26),
        ("So the final answer is: x\nFollow up: y\n", 25),
        ("Yes.\n", None),
    ],
)
def test_line_end(text, end):
    assert decision_end(text) == end
    # A stream is cut where the whole text would be.
    known = [decision_end(text[:n]) for n in range(len(text) + 1)]
    assert set(known) <= {None, end}
