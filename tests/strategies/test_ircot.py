"""IRCoT, single and direct: the loop effect by effect."""

import pytest

from steper_serve.strategies.ircot import direct, ircot, single
from steper_serve.strategies.options import Options
from steper_serve.strategies.sentences import line_end, thought_end
from steper_serve.trajectory import Generate, Prompt, Retrieve, Sampling
from tests.strategies.harbour import (
    BERG,
    FIRST,
    HARBOUR,
    NORWAY,
    OSLO,
    QUESTION,
    SECOND,
    SHOWN,
)

ADDED_TOKENS = 8  # what is left free for a tokenizer that adds some of its own
ASKED = "Q: In which country was the painter of Grey Harbour born?\nA:"


def prompt(passages: str, written: str = "") -> Prompt:
    user = "".join(SHOWN[id] for id in passages) + ASKED
    return Prompt(user + written, user=user, partial=written)


def generate(step: int, prompt: Prompt, **changes) -> Generate:
    return Generate(step, prompt, **{"max_tokens": 128, "stop": ("\n",)} | changes)


def test_a_student_is_asked_step_by_step(drive, said, student):
    effects, trajectory = drive(
        ircot(QUESTION, Options(student(), top_k=2)),
        [
            [HARBOUR, BERG],
            said("Grey Harbour was painted by Alma Berg."),
            [BERG, OSLO],
            said(" Alma Berg was born in Oslo.\t"),
            [OSLO, NORWAY],
            said(" So the answer is: Norway."),
        ],
    )
    assert effects == [
        Retrieve(1, QUESTION, 2),
        generate(1, prompt("hb")),
        Retrieve(2, "Grey Harbour was painted by Alma Berg.", 2),
        generate(2, prompt("hbo", FIRST)),
        Retrieve(3, "Alma Berg was born in Oslo.", 2),
        generate(3, prompt("hbon", FIRST + SECOND)),
    ]
    assert (trajectory.answer, trajectory.stop_reason) == ("Norway", "answer")
    assert [s.query for s in trajectory.steps] == [QUESTION, FIRST[1:], SECOND[1:]]
    assert [s.passages for s in trajectory.steps] == [
        (HARBOUR, BERG),
        (BERG, OSLO),
        (OSLO, NORWAY),
    ]
    assert [s.thought for s in trajectory.steps] == [
        FIRST[1:],
        SECOND[1:],
        "So the answer is: Norway.",
    ]
    assert trajectory.citations == ("h", "b")
    assert trajectory.passages == (HARBOUR, BERG, OSLO, NORWAY)
    assert trajectory.usage.num_completion_tokens == 7 + 6 + 5
    assert (trajectory.strategy, trajectory.question) == ("ircot", QUESTION)


def test_the_last_step_thinks_and_then_has_its_answer_forced(drive, said, student):
    effects, trajectory = drive(
        ircot(QUESTION, Options(student(), max_steps=2, top_k=2, sampling=Sampling(0.7, 0.9, 3))),
        [[HARBOUR], said(FIRST), [BERG], said(SECOND), said(" Norway. Or so.")],
    )
    drawn = {"sampling": Sampling(0.7, 0.9, 3)}
    marked = prompt("hb", f"{FIRST}{SECOND} So the answer is:")
    assert effects[3:] == [
        generate(2, prompt("hb", FIRST), **drawn),
        generate(2, marked, max_tokens=64, lead=" So the answer is:", final=True, **drawn),
    ]
    assert len(trajectory.steps) == 2
    assert trajectory.steps[1].thought == f"{SECOND[1:]} So the answer is: Norway. Or so."
    assert [s.forced for s in trajectory.steps] == [False, True]
    assert (trajectory.answer, trajectory.stop_reason) == ("Norway", "answer")


def test_no_answer_after_the_last_step_is_said_to_be_one(drive, said, student):
    _, trajectory = drive(
        ircot(QUESTION, Options(student(), max_steps=1)), [[BERG], said(FIRST), said("  ")]
    )
    assert (trajectory.answer, trajectory.stop_reason) == ("", "max_steps")


@pytest.mark.parametrize("nothing", ["", "  ", "\u200b", "\n"])
def test_an_empty_thought_has_the_answer_forced(drive, said, student, nothing):
    effects, trajectory = drive(
        ircot(QUESTION, Options(student())), [[BERG], said(nothing), said("Norway")]
    )
    assert effects[2].prompt == prompt("b", " So the answer is:")
    assert effects[2].final
    assert (trajectory.answer, trajectory.stop_reason) == ("Norway", "answer")
    _, trajectory = drive(
        ircot(QUESTION, Options(student())), [[BERG], said(nothing), said(nothing)]
    )
    assert (trajectory.answer, trajectory.stop_reason) == ("", "no_answer_marker")


def test_a_marker_without_an_answer_is_not_written_twice(drive, said, student):
    effects, trajectory = drive(
        ircot(QUESTION, Options(student())),
        [[BERG], said("Alma Berg was born in Oslo. So the answer is:"), said(" Norway.")],
    )
    assert effects[2].prompt == prompt("b", f"{SECOND} So the answer is:")
    assert (effects[2].lead, effects[2].final) == ("", True)
    assert trajectory.steps[0].thought == f"{SECOND[1:]} So the answer is: Norway."
    assert (trajectory.answer, trajectory.stop_reason) == ("Norway", "answer")


def test_without_any_passage_nothing_is_generated(drive, student):
    for strategy in (ircot, single):
        effects, trajectory = drive(strategy(QUESTION, Options(student())), [[]])
        assert effects == [Retrieve(1, QUESTION, 4)]
        assert (trajectory.answer, trajectory.stop_reason) == ("", "no_passages")
        assert len(trajectory.steps) == 1


def test_a_later_search_may_find_nothing(drive, said, student):
    _, trajectory = drive(
        ircot(QUESTION, Options(student())),
        [[BERG], said(FIRST), [], said("So the answer is: Norway")],
    )
    assert (trajectory.answer, trajectory.steps[1].passages) == ("Norway", ())


def test_an_untuned_model_has_its_first_sentence_cut_until_the_last_step(drive, said, student):
    effects, _ = drive(
        ircot(QUESTION, Options(student(step_end="sentence"), max_steps=2)),
        [[BERG], said(FIRST), [OSLO], said(SECOND), said("Norway")],
    )
    assert [e.cut for e in effects if isinstance(e, Generate)] == [
        thought_end,
        line_end,
        thought_end,
    ]
    assert [e.max_tokens for e in effects if isinstance(e, Generate)] == [128, 256, 64]


def test_single_searches_once(drive, said, student):
    effects, trajectory = drive(
        single(QUESTION, Options(student(), max_steps=3, top_k=2)),
        [[HARBOUR, BERG], said(FIRST), said(SECOND), said("So the answer is: Norway.")],
    )
    assert effects == [
        Retrieve(1, QUESTION, 2),
        generate(1, prompt("hb")),
        generate(2, prompt("hb", FIRST)),
        generate(3, prompt("hb", FIRST + SECOND)),
    ]
    assert [s.query for s in trajectory.steps] == [QUESTION, None, None]
    assert (trajectory.strategy, trajectory.answer) == ("single", "Norway")


def test_direct_never_searches(drive, said, student):
    effects, trajectory = drive(
        direct(QUESTION, Options(student(), max_steps=2)),
        [said(FIRST), said(SECOND), said(" Norway")],
    )
    assert effects == [
        generate(1, prompt("")),
        generate(2, prompt("", FIRST)),
        generate(
            2,
            prompt("", f"{FIRST}{SECOND} So the answer is:"),
            max_tokens=64,
            lead=" So the answer is:",
            final=True,
        ),
    ]
    assert (trajectory.strategy, trajectory.answer, trajectory.citations) == (
        "direct",
        "Norway",
        (),
    )


def test_an_untuned_model_writes_all_thoughts_at_once_where_nothing_is_searched(
    drive, said, student
):
    options = Options(student(step_end="sentence"), max_steps=3)
    effects, trajectory = drive(
        direct(QUESTION, options), [said(f"{FIRST}{SECOND} So the answer is: Norway. Q: more")]
    )
    assert effects == [generate(1, prompt(""), max_tokens=3 * 128, stop=(), cut=line_end)]
    assert trajectory.answer == "Norway"


def test_a_flow_refuses_an_outcome_of_the_wrong_kind(said, student):
    flow = ircot(QUESTION, Options(student()))
    next(flow)
    with pytest.raises(TypeError, match="Retrieve was answered with a Completion"):
        flow.send(said("x"))
    flow = direct(QUESTION, Options(student()))
    next(flow)
    with pytest.raises(TypeError, match="Generate was answered with passages"):
        flow.send([BERG])


def test_a_step_may_begin_with_new_lines(drive, said, student):
    _, trajectory = drive(
        ircot(QUESTION, Options(student(step_end="sentence"), max_steps=3)),
        [[BERG], said(f"\n\n{FIRST}"), [OSLO], said("\n So the answer is: Norway.")],
    )
    assert trajectory.steps[0].thought == FIRST.strip()
    assert trajectory.answer == "Norway"


def test_a_completion_is_kept_within_the_models_context(drive, said, student):
    format = student(step_end="sentence", max_prompt_tokens=60, max_model_len=70)
    effects, _ = drive(
        single(QUESTION, Options(format, max_steps=5)),
        [[BERG], said(" So the answer is: Norway.")],
    )
    asked = effects[-1]
    assert asked.max_tokens == 70 - format.count_tokens(asked.prompt.text) - ADDED_TOKENS > 1
