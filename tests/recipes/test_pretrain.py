"""Stage 0: what is learnt from is true of the passages, and a killed training goes on the same."""

import json
import re
import signal
import subprocess
import sys
import time
from itertools import chain, islice
from pathlib import Path

import pytest

from steper_serve.fictional import World
from steper_serve.recipes.distill import lessons, vocabulary
from steper_serve.recipes.distill.config import load
from steper_serve.recipes.distill.tokenization import StepTokenizer

RECIPE = """
name = "tiny"
out = "{out}"
[pretrain.small]
layers = 2
width = 64
heads = 2
feed_forward = 128
vocabulary = 640
first_seed = 30
last_seed = 31
passages_per_world = 100
questions_per_world = 4
strategies = ["ircot", "self-ask"]
reading_tokens = 8000
loop_tokens = 30000
tokens_per_batch = 4000
[[datasets]]
name = "world"
fictional = {{ seed = 1, passages = 100, questions = 10 }}
[teacher]
model = "pretrain:small"
[student]
model = "pretrain:small"
"""
TEXT = ["Wikipedia Title: Q: A: So the answer is: Follow up: Intermediate answer: of the in was"]


@pytest.fixture(scope="module")
def tokenizer() -> StepTokenizer:
    learnt = vocabulary.learn(TEXT, 600, 2048)
    return StepTokenizer(learnt, False, learnt.eos_token_id)


def texts(tokenizer, sample):
    decode = tokenizer.tokenizer.decode
    return decode(sample.context_ids), decode(sample.completion_ids[:-1])


def recipe(folder: Path) -> Path:
    file = folder / "tiny.toml"
    file.write_text(RECIPE.format(out=folder / "out"))
    return file


def test_any_text_can_be_read_and_digits_stand_alone(tokenizer) -> None:
    text = "Née 1987 — “x” 日本\n"
    ids = tokenizer.tokenizer(text).input_ids
    assert tokenizer.tokenizer.decode(ids) == text
    assert sum(tokenizer.tokenizer.decode([i]).strip() in set("1987") for i in ids) >= 4


def test_what_is_read_holds_every_answer(tokenizer) -> None:
    questions = list(lessons.reading(World(3, 300), tokenizer, 20, 0.5))
    assert len(questions) == 20
    for samples in questions:
        for sample in samples:
            context, completion = texts(tokenizer, sample)
            answer = re.fullmatch(r" So the answer is: (.*)\.", completion)
            assert answer
            assert answer[1] in context.split("\nQ: ")[0]


@pytest.mark.parametrize("strategy", ["ircot", "self-ask"])
def test_the_gold_reasoner_states_nothing_that_its_prompt_does_not_hold(
    tokenizer, strategy: str
) -> None:
    arguments = {"max_steps": 5, "top_k": 4, "lm_weight": 0.0}
    questions = list(lessons.loop(World(3, 300), tokenizer, [strategy], 40, **arguments))
    stated = 0
    for samples in questions:
        for sample in samples:
            context, completion = texts(tokenizer, sample)
            wanted = {
                "ircot": r" The .+? is (.+?)\.(?: So the answer is.*)?$",
                "self-ask": r" ?(?:Intermediate answer: )?([A-Z].*)\n",
            }[strategy]
            found = re.match(wanted, completion)
            if found and "still to be found" not in completion and "Not found" not in completion:
                stated += 1
                name = re.sub(r" \(.*\)$", "", found[1])
                assert name in context or name.startswith("Yes")
    assert stated > 60
    assert len(questions) > 20


def test_worlds_take_turns(tmp_path: Path, tokenizer) -> None:
    config = load(recipe(tmp_path))
    batches = lessons.batches(config, config.pretrain["small"], tokenizer)
    rows = list(chain.from_iterable(islice(batches, 2)))
    assert len({bytes(row.ids[:12]) for row in rows}) > 3


@pytest.mark.timeout(200)
def test_a_killed_training_goes_on_to_the_same_losses(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    unbroken = losses(tmp_path / "whole", kill_at=None)
    assert losses(tmp_path / "killed", kill_at=4) == pytest.approx(unbroken, rel=2e-2)
    assert len(unbroken) > 6
    folder = tmp_path / "killed" / "out" / "pretrain" / "small"
    assert json.loads((folder / "manifest.json").read_text())["finished"]
    assert json.loads((folder / "steper.json").read_text())["strategies"] == ["ircot", "self-ask"]
    assert not (folder / "checkpoint.pt").exists()


def losses(folder: Path, kill_at: int | None) -> list[float]:
    code = (
        "import sys; from pathlib import Path; from steper_serve.recipes.distill import pretrain; "
        "from steper_serve.recipes.distill.config import load; import torch; "
        "torch.set_num_threads(1); pretrain._SECONDS_BETWEEN_CHECKPOINTS = 0; "
        f"pretrain.run(load(Path({str(recipe(folder))!r})), 'small')"
    )
    log = folder / "out" / "pretrain" / "small" / "metrics.jsonl"
    if kill_at is not None:
        started = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
        while not log.exists() or len(log.read_text().splitlines()) < kill_at:
            assert started.poll() is None
            time.sleep(0.05)
        started.send_signal(signal.SIGKILL)
        started.wait()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return list({line["step"]: line["answer_loss"] for line in lines}.values())
