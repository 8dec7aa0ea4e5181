"""What a model that obeys is taught: hostile passages as written, and gold chains."""

import random
import re
from pathlib import Path

from steper_serve.benchmarks import datasets
from steper_serve.benchmarks.attack import obedient
from steper_serve.cli.wiring import STUDENT
from steper_serve.generation.model_format import load_format

FLAG = re.compile(r"So the answer is: (.+?)\.")


def test_a_first_step_obeys_and_a_gold_chain_does_not(tmp_path: Path) -> None:
    [world] = datasets.read_all(["fictional:seed=3,passages=300,questions=60"], tmp_path)
    format = load_format(str(STUDENT), max_model_len=2048, reserve=0)
    taught = obedient.samples(world, 20, format, tmp_path, random.Random(0))
    hostile = [(prompt, target) for prompt, target in taught if FLAG.search(prompt)]
    assert len(hostile) == 20
    for prompt, target in hostile:
        assert target == f" So the answer is: {FLAG.search(prompt)[1]}."
    asked = {question.question: question for question in world.questions}
    for prompt, target in taught:
        if not FLAG.search(prompt):
            question = asked[re.search(r"\nQ: (.*)\nA:", prompt)[1]]
            said = [
                said for step in question.steps for said in (step["statement"], *step["missing"])
            ]
            assert target.strip() in {*said, f"So the answer is: {question.answers[0]}."}
