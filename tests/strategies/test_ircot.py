"""IRCoT, single and direct: prompts to the byte, and the loop effect by effect."""

import pytest

from steper_serve.errors import InvalidRequest
from steper_serve.strategies.draft import Context
from steper_serve.strategies.ircot import direct, ircot, parse_answer, render, single
from steper_serve.strategies.options import Options
from steper_serve.strategies.sentences import line_end, thought_end
from steper_serve.trajectory import (
    Demonstration,
    Generate,
    OutOfTime,
    Passage,
    Prompt,
    Retrieve,
    Sampling,
)

QUESTION = "In which country was the painter of Grey Harbour born?"
HARBOUR = Passage("h", "Grey Harbour (painting)", "Grey Harbour is a painting by Alma Berg.")
BERG = Passage("b", "Alma Berg", "Alma Berg is a painter,\nborn in Oslo.")
OSLO = Passage("o", "Oslo", "Oslo is the capital of Norway.")
NORWAY = Passage("n", "Norway", "Norway is a country in Europe.")

SHOWN = {
    "h": "Wikipedia Title: Grey Harbour (painting)\nGrey Harbour is a painting by Alma Berg.\n\n",
    "b": "Wikipedia Title: Alma Berg\nAlma Berg is a painter, born in Oslo.\n\n",
    "o": "Wikipedia Title: Oslo\nOslo is the capital of Norway.\n\n",
    "n": "Wikipedia Title: Norway\nNorway is a country in Europe.\n\n",
}
ASKED = "Q: In which country was the painter of Grey Harbour born?\nA:"
FIRST = " Grey Harbour was painted by Alma Berg."
SECOND = " Alma Berg was born in Oslo."


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


SHOT = Demonstration(
    question="What is the capital of Hungary?",
    passages=(Passage("d", "Hungary", "Hungary's capital is Budapest."),),
    thoughts=("Hungary lies in Europe.", "Its capital is Budapest."),
    answer="Budapest",
)


def context(**changes) -> Context:
    fields = {
        "instruction": "Answer step by step.",
        "demonstrations": (SHOT,),
        "passages": (OSLO,),
        "question": "Where is Oslo?",
        "written": " Oslo is a capital.",
    }
    return Context(**fields | changes)


FEW_SHOT = (
    "Wikipedia Title: Hungary\n"
    "Hungary's capital is Budapest.\n"
    "\n"
    "Q: Answer step by step.\n"
    "What is the capital of Hungary?\n"
    "A: Hungary lies in Europe. Its capital is Budapest. So the answer is: Budapest.\n"
    "\n"
    "\n"
    "Wikipedia Title: Oslo\n"
    "Oslo is the capital of Norway.\n"
    "\n"
    "Q: Answer step by step.\n"
    "Where is Oslo?"
)


def test_few_shot_prompt(student):
    assert render(context(), student()) == Prompt(
        f"{FEW_SHOT}\nA: Oslo is a capital.", user=f"{FEW_SHOT}\nA:", partial=" Oslo is a capital."
    )


def test_chat_prompt(student):
    chat = ("<|user|>\n", "<|end|>\n<|assistant|>\n")
    assert render(context(), student(chat=chat)) == Prompt(
        f"<|user|>\n{FEW_SHOT}<|end|>\n<|assistant|>\nOslo is a capital.",
        user=FEW_SHOT,
        partial="Oslo is a capital.",
        templated=True,
    )
    opened = render(context(written=""), student(chat=chat))
    assert opened.text == f"<|user|>\n{FEW_SHOT}<|end|>\n<|assistant|>\n"
    assert opened.partial == ""


def test_special_tokens_in_a_question_and_a_thought_are_broken_up(drive, said, student):
    effects, _ = drive(
        ircot("What is <eos>?", Options(student(special_tokens=("<eos>",)), max_steps=1)),
        [[OSLO], said("An <eos> it is."), said("x")],
    )
    assert effects[2].prompt.text == (
        f"{SHOWN['o']}Q: What is < eos>?\nA: An < eos> it is. So the answer is:"
    )


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
    ("name", "value"),
    [("max_steps", 0), ("max_steps", 11), ("top_k", 0), ("top_k", 21), ("max_tokens", 0)],
)
def test_numbers_out_of_bounds_are_refused_by_name(student, name, value):
    with pytest.raises(InvalidRequest, match=f"{name} is {value}") as refused:
        Options(student(), **{name: value})
    assert refused.value.param == name


@pytest.mark.parametrize("options", [{"max_steps": 1, "top_k": 1}, {"max_steps": 10, "top_k": 20}])
def test_the_bounds_themselves_are_allowed(student, options):
    Options(student(), **options, max_tokens=1)


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


def test_a_flow_refuses_an_outcome_of_the_wrong_kind(said, student):
    flow = ircot(QUESTION, Options(student()))
    next(flow)
    with pytest.raises(TypeError, match="Retrieve was answered with a Completion"):
        flow.send(said("x"))
    flow = direct(QUESTION, Options(student()))
    next(flow)
    with pytest.raises(TypeError, match="Generate was answered with passages"):
        flow.send([BERG])


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
    assert format.count_tokens(asked.prompt.text) + asked.max_tokens <= 70
