"""The two forms that a judge fills in: Table 17 (abilities) and Table 18 (sub-questions).

Names of fields and their scales are the paper's; the sentences are this project's. A reply
counts if it is the filled-in form as one JSON object, alone or in one code fence, and nothing is
read into any other. What is left out: asking (judge), and what verdicts add up to (judged).
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from steper_serve.benchmarks.paper.answered import Answer
from steper_serve.strategies.passages import one_line, render_passages
from steper_serve.trajectory import Passage

ABILITIES = ("Reasoning Initialization", "Reasoning Expansion", "Reasoning Aggregation")
ANSWERABILITY, CORRECTNESS = "Sub-question Answerability", "Answer Correctness"
_CORRECTNESS = {"correct": 1.0, "wrong": 0.0}
_FENCE = re.compile(r"```(?:json)?\s*\n(?P<inside>.*)\n\s*```", re.DOTALL)
_REFERENCE = re.compile(r"#(\d+)")
_ROUNDING = 0.011  # "0.67" or "0.66" for two of three

_ABILITIES = """\
Below are a question, the answers to it that count as right, the passages that a system found, and \
all that the system then wrote, its final answer last. Say how it reasoned, with a 0 or a 1 for \
each of three points. Rely on the passages, not on what you know besides.

"Reasoning Initialization": 1 if what it wrote first is something, out of the question or the \
passages, that the way to the answer can start from; 0 if that is beside the question, even where \
the final answer is right.

"Reasoning Expansion": 1 if each later sentence takes from the passages what is needed there and \
carries on from what was said before; 0 if it passes over or misreads a passage that matters.

"Reasoning Aggregation": 1 if the reasoning leads to the final answer, both are right, and it \
answers what was asked; 0 if the answer is wrong or does not follow, and 0 as well if it is right \
in spite of wrong reasoning.

Reply with one JSON object and nothing else:
{{"Reasoning Initialization": 0 or 1, "Reasoning Expansion": 0 or 1, \
"Reasoning Aggregation": 0 or 1}}

Question: {question}

Right answers: {answers}

Passages:

{passages}
What the system wrote: {written}
"""

_SUB_QUESTIONS = """\
Below are a question with its right answer, the reasoning that a system wrote, and {count} \
sub-questions with their right answers. Say whether the reasoning alone holds what the \
sub-questions ask for. What you know besides does not count.

"Sub-question Answerability": the share of the sub-questions that someone who reads nothing but \
the reasoning would answer rightly, one of {scale}.

"Answer Correctness": a list of {entries} words, each "correct" or "wrong". First, whether the \
reasoning ends in the right answer to the question; then, for each sub-question in its order, \
whether the answer that the reasoning gives to it is the right one ("wrong" if it gives none).

Reply with one JSON object and nothing else:
{{"Sub-question Answerability": {scale_in_words}, "Answer Correctness": [{words}]}}

Question: {question}
Right answer: {answer}

{sub_questions}
Reasoning: {written}
"""


class OutsideForm(Exception):
    """A reply that is not the filled-in form; the text says where it departs from it."""


@dataclass(frozen=True, slots=True)
class Form:
    """A form.

    Args:
        name: what its verdicts are kept under.
        prompt: what the judge is sent of an answer; None if it cannot be judged.
        read: the values of a reply's JSON object, by name, all from 0 to 1; raises OutsideForm.
    """

    name: str
    prompt: Callable[[Answer], str | None]
    read: Callable[[Mapping[str, Any], Answer], dict[str, float]]


def parse(form: Form, reply: str, answer: Answer) -> dict[str, float]:
    """The values of a reply.

    Raises:
        OutsideForm: it is not the form, filled in.
    """
    text = reply.strip()
    fenced = _FENCE.fullmatch(text)
    try:
        found = json.loads(fenced["inside"] if fenced else text)
    except ValueError as error:
        raise OutsideForm("not one JSON object") from error
    if not isinstance(found, dict):
        raise OutsideForm("not one JSON object")
    return form.read(found, answer)


def sub_questions(answer: Answer) -> list[tuple[str, str]]:
    """The question's gold sub-questions with their answers; "#1" is read as the first's answer.

    A step without a question (a conclusion out of what is known by then) is none.
    """
    steps = answer.question.steps
    told = [str(step.get("answer") or "") for step in steps]

    def named(match: re.Match[str]) -> str:
        number = int(match[1])
        return told[number - 1] if 0 < number <= len(told) else match[0]

    return [
        (_REFERENCE.sub(named, str(step["question"])), answer)
        for step, answer in zip(steps, told, strict=True)
        if step.get("question") and answer
    ]


def _ask_of_abilities(answer: Answer) -> str:
    found: dict[str, Passage] = {}
    for passage in (p for search in answer.searches for p in search):
        found.setdefault(passage.id, passage)
    return _ABILITIES.format(
        question=one_line(answer.question.question),
        answers=json.dumps(answer.question.answers, ensure_ascii=False),
        passages=render_passages(tuple(found.values()), ()) or "(none)\n",
        written=_written(answer),
    )


def _ask_of_sub_questions(answer: Answer) -> str | None:
    asked = sub_questions(answer)
    if len(asked) < 2:
        return None
    scale = [_share(n, len(asked)) for n in range(len(asked), -1, -1)]
    listed = "".join(
        f"Sub-question {n}: {one_line(question)}\nRight answer {n}: {one_line(gold)}\n"
        for n, (question, gold) in enumerate(asked, 1)
    )
    return _SUB_QUESTIONS.format(
        count=len(asked),
        scale=", ".join(scale),
        entries=len(asked) + 1,
        scale_in_words=" or ".join(scale),
        words=", ".join(['"correct" or "wrong"'] * (len(asked) + 1)),
        question=one_line(answer.question.question),
        answer=" / ".join(map(one_line, answer.question.answers)),
        sub_questions=listed,
        written=_written(answer),
    )


def _read_abilities(found: Mapping[str, Any], answer: Answer) -> dict[str, float]:
    return {name: _zero_or_one(found, name) for name in ABILITIES}


def _read_sub_questions(found: Mapping[str, Any], answer: Answer) -> dict[str, float]:
    count = len(sub_questions(answer))
    main, *subs = _words(found, count + 1)
    share = _on_scale(found, count)
    return {
        "answerability": share,
        "main": main,
        "all_subs": float(all(subs)),
        "contradicts": float(abs(share - sum(subs) / count) > _ROUNDING),
    }


def _zero_or_one(found: Mapping[str, Any], name: str) -> float:
    value = _field(found, name)
    if isinstance(value, bool) or value not in (0, 1, "0", "1"):
        raise OutsideForm(f"{name!r} is neither 0 nor 1")
    return float(value)


def _on_scale(found: Mapping[str, Any], count: int) -> float:
    value = _field(found, ANSWERABILITY)
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            given = float(value)
        except ValueError:
            given = -1.0
        for n in range(count + 1):
            if abs(given - n / count) <= _ROUNDING:
                return n / count
    raise OutsideForm(f"{ANSWERABILITY!r} is none of {count + 1} values from 0 to 1")


def _words(found: Mapping[str, Any], count: int) -> Iterator[float]:
    value = _field(found, CORRECTNESS)
    if not isinstance(value, list) or len(value) != count:
        raise OutsideForm(f"{CORRECTNESS!r} is not a list of {count}")
    if any(word not in _CORRECTNESS for word in value if isinstance(word, str)) or not all(
        isinstance(word, str) for word in value
    ):
        raise OutsideForm(f'{CORRECTNESS!r} holds other than "correct" and "wrong"')
    return (_CORRECTNESS[word] for word in value)


def _field(found: Mapping[str, Any], name: str) -> Any:
    if name not in found:
        raise OutsideForm(f"{name!r} is missing")
    return found[name]


def _share(number: int, count: int) -> str:
    return f"{number / count:.2f}".removesuffix("0")


def _written(answer: Answer) -> str:
    return one_line(" ".join(answer.thoughts)) or "(nothing)"


REASONING = Form("abilities", _ask_of_abilities, _read_abilities)
RATIONALE = Form("sub-questions", _ask_of_sub_questions, _read_sub_questions)
