"""A small world for tests of the recipe: passages, questions, and models that know their way.

Every question "Where was the painter of Work 7 born?" takes two facts: who painted it, and where
that painter was born. What is left out: any real engine or index.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from steper_serve.generation.scripted import ScriptedModel
from steper_serve.loop import Loop
from steper_serve.questions import Question
from steper_serve.strategies import FewShot
from steper_serve.trajectory import Completion, Delta, Generate, Passage, PromptFormat

FORMAT = PromptFormat(
    max_prompt_tokens=10_000,
    count_tokens=lambda text: len(text.split()),
    step_end="eos",
    instruction="",
    few_shot=False,
    strategies=("ircot",),
)
FEW_SHOT = dict.fromkeys(["ircot", "self-ask", "single", "direct"], FewShot("", ()))
CITIES = ("Oslo", "Turin", "Lagos")


def city(number: int) -> str:
    return CITIES[number % len(CITIES)]


def question(number: int, **fields) -> Question:
    known = {
        "id": f"q{number}",
        "question": f"Where was the painter of Work {number} born?",
        "answers": (city(number),),
        "supporting_titles": (f"Work {number}", f"Painter {number}"),
        "type": "bridge",
        "hops": 2,
    }
    return Question(**known | fields)


def passages(number: int) -> list[Passage]:
    return [
        Passage(f"w{number}", f"Work {number}", f"Work {number} was painted by Painter {number}."),
        Passage(f"p{number}", f"Painter {number}", f"Painter {number} was born in {city(number)}."),
    ]


class Library:
    """A retriever that finds the work by its number and the painter by name."""

    quick = True

    def search(self, query: str, top_k: int) -> Sequence[Passage]:
        found = re.search(r"(Work|Painter) (\d+)(?!.*(Work|Painter) \d)", query)
        if found is None:
            return []
        work, painter = passages(int(found[2]))
        return [work] if found[1] == "Work" else [painter]

    def reload_if_changed(self) -> bool:
        return False

    def passage(self, id: str) -> Passage:
        raise NotImplementedError


def reason(request: Generate) -> str:
    """What a good teacher writes next."""
    number = int(re.findall(r"Q: .*Work (\d+)", request.prompt.text)[-1])
    if request.step == 1:
        return f" Work {number} was painted by Painter {number}."
    return f" Painter {number} was born in {city(number)}. So the answer is: {city(number)}."


def loop(model=None, retriever=None) -> Loop:
    return Loop(model or ScriptedModel(reason), retriever or Library(), FORMAT, FEW_SHOT)


class SlowModel:
    """`reason`, with time for a kill in it; each generation is told to a file."""

    def __init__(self, told: Path, seconds: float) -> None:
        self._told = told
        self._seconds = seconds

    async def generate(self, request: Generate) -> AsyncGenerator[Delta | Completion, None]:
        with self._told.open("a") as out:
            out.write(re.findall(r"Work (\d+)", request.prompt.text)[-1] + "\n")
        await asyncio.sleep(self._seconds)
        text = reason(request)
        yield Completion(text, "stop", 1, len(text.split()))

    async def check(self) -> None:
        return None


def write_world(folder: Path, numbers: Sequence[int]) -> tuple[Path, Path]:
    """Files of a corpus and of questions."""
    folder.mkdir(parents=True, exist_ok=True)
    corpus, questions = folder / "corpus.jsonl", folder / "questions.jsonl"
    lines = [{"id": p.id, "title": p.title, "text": p.text} for n in numbers for p in passages(n)]
    corpus.write_text("".join(json.dumps(line) + "\n" for line in lines))
    lines = [{n: getattr(question(k), n) for n in Question.__slots__} for k in numbers]
    questions.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return corpus, questions
