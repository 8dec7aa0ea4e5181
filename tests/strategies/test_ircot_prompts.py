"""IRCoT's prompts, to the byte."""

from steper_serve.strategies.draft import Context
from steper_serve.strategies.ircot import ircot, render
from steper_serve.strategies.options import Options
from steper_serve.trajectory import Demonstration, Passage, Prompt
from tests.strategies.harbour import OSLO, SHOWN

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
