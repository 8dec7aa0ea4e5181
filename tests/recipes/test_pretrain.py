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

from steper_serve import fictional
from steper_serve.fictional import World, passage
from steper_serve.recipes.distill import lessons, pretrain, readings, vocabulary
from steper_serve.recipes.distill.config import load
from steper_serve.recipes.distill.readings import Shares
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
lessons = [
    {{ name = "pairs", tokens = 4000 }},
    {{ name = "kin", facts = 1, tokens = 4000 }},
    {{ name = "search", answered = 0.5, described = 0.4, missing = 0.2, tokens = 4000 }},
    {{ name = "plan", tokens = 2000 }},
    {{ name = "loop", tokens = 30000 }},
]
tokens_per_batch = 4000
[[datasets]]
name = "world"
fictional = {{ seed = 1, passages = 100, questions = 10 }}
[teacher]
model = "pretrain:small"
[student]
model = "pretrain:small"
"""
LOOP_WITH_PLANS = 'lessons = [{ name = "loop", plans = 2, tokens = 20000 }]\ncontext = 9000'
TITLE = re.compile(r"Wikipedia Title: (.*)")
NAME = re.compile(r"[A-Z][a-z]+")
TOLD = re.compile(r"[A-Z][a-z]+|\d+")
ENGLISH = set(
    "The A Mount University Park River Prize Museum Herald Province Republic Quartet Works Rovers "
    "Nights Rising Road Lanterns Return Winter Last Day Letters Beyond House Farewell Other".split()
)
TEXT = ["Wikipedia Title: Q: A: So the answer is: Follow up: Intermediate answer: of the in was"]


@pytest.fixture(scope="module")
def tokenizer() -> StepTokenizer:
    learnt = vocabulary.learn(TEXT, 600, 2048)
    return StepTokenizer(learnt, False, learnt.eos_token_id)


def recipe(folder: Path) -> Path:
    file = folder / "tiny.toml"
    file.write_text(RECIPE.format(out=folder / "out"))
    return file


def test_any_text_can_be_read_and_digits_stand_alone(tokenizer) -> None:
    text = "Née 1987 — “x” 日本\n"
    ids = tokenizer.tokenizer(text).input_ids
    assert tokenizer.tokenizer.decode(ids) == text
    assert sum(tokenizer.tokenizer.decode([i]).strip() in set("1987") for i in ids) >= 4


@pytest.mark.parametrize(
    ("answered", "form"),
    [(1.0, r" So the answer is: (.*)\."), (0.0, r" (?:The|Mount|[A-Z]).* is (?:the )?(.*)\.")],
)
@pytest.mark.parametrize("lesson", ["kin", "brief", "search"])
def test_what_is_read_holds_every_answer(lesson: str, answered: float, form: str) -> None:
    world = World(3, 300)
    found = {
        "kin": lambda: readings.kin(world, 20, 4, None, Shares(answered)),
        "brief": lambda: readings.kin(world, 20, 4, 2, Shares(answered)),
        "search": lambda: readings.search(world, 20, Shares(answered)),
    }[lesson]()
    asked = list(found)
    assert len(asked) == 20
    assert all(asked)
    assert any(len(questions) > 6 for questions in asked)
    for text in chain.from_iterable(asked):
        answer = re.fullmatch(form, text["target"])
        assert answer
        told = answer[1].split(" (")[0]  # a namesake is told apart by title
        assert told in text["prompt"].split("\nQ: ")[0]


def test_kin_are_of_one_kind_and_not_one_entity_twice() -> None:
    world = World(3, 300)
    kinds = {passage(world, entity).title: entity.kind for entity in world.entities()}
    for questions in readings.kin(world, 20, 4, None, Shares()):
        titles = TITLE.findall(questions[0]["prompt"])
        assert 2 <= len(titles) == len(set(titles)) <= 4
        assert len({kinds[title] for title in titles}) == 1


def test_of_each_kin_the_same_is_told_where_it_is_brief() -> None:
    world = World(3, 300)
    whole = {p.title: p.text for p in (passage(world, e) for e in world.entities())}
    num_alike = 0
    for questions in readings.kin(world, 40, 4, 1, Shares()):
        passages = questions[0]["prompt"].split("\nQ: ")[0].strip().split("\n\n")
        for title, text in (p.split("\n") for p in passages):
            said = world.words() & set(NAME.findall(text))
            assert said <= set(NAME.findall(whole[title.removeprefix("Wikipedia Title: ")] + title))
        num_alike += len(passages) == len(questions) > 1
    assert num_alike > 20


def test_each_line_of_two_names_is_to_be_completed() -> None:
    for lines in readings.pairs(World(3, 300), 20, 6):
        shown, *_ = lines[0]["prompt"].rsplit("\n", 1)
        assert 2 <= len(lines) == len(shown.splitlines()) <= 6
        completed = {text["prompt"].rsplit("\n", 1)[1] + text["target"] for text in lines}
        assert completed == set(shown.splitlines())


def test_who_fits_a_description_is_told_by_one_passage_alone() -> None:
    num_described = 0
    for questions in readings.search(World(3, 300), 60, Shares(described=1)):
        passages = questions[0]["prompt"].split("\nQ: ")[0].strip().split("\n\n")
        for text in questions:
            told = text["target"].strip().removesuffix(".")
            assert sum(told in passage for passage in passages) == 1
            num_described += 1
    assert num_described > 60


def test_what_is_missing_is_told_by_no_passage() -> None:
    world = World(3, 300)
    told = {
        statement: source
        for entity in world.entities()
        for fact in world.facts(entity)
        for statement, source in [(f"The {fact.relation.noun} of {world.title(entity)}", fact)]
    }
    num_missing = 0
    for questions in readings.search(world, 30, Shares(missing=0.5)):
        titles = set(TITLE.findall(questions[0]["prompt"]))
        for text in questions:
            if missing := re.fullmatch(r" (The .+) is still to be found\.", text["target"]):
                num_missing += 1
                if fact := told.get(missing[1]):
                    assert world.title(world.source(fact)) not in titles
    assert num_missing > 60


def test_a_plan_says_what_comes_next_and_ends_with_the_answer() -> None:
    world = World(3, 300)
    gold = {q.id: q for q in fictional.questions(world, 60)}
    planned = list(lessons.plan(world, 60))
    assert len(planned) == len(gold)
    for texts in planned:
        question = gold[texts[0]["question_id"]]
        assert texts[-1]["target"] == f" So the answer is: {question.answers[0]}."
        assert texts[-1]["prefix"] == "".join(f" {step.statement}" for step in question.steps)
        for step, text in zip(question.steps, texts, strict=False):
            assert text["prompt"] == f"Q: {question.question}\nA:"
            sought = text["target"].removesuffix(" is still to be found.").strip()
            if step.question.startswith("Which ") and step.answer == step.title:  # a description
                assert set(TOLD.findall(sought)) <= set(TOLD.findall(step.statement)) | {"The"}
            else:
                assert step.statement.startswith(sought)


def test_questions_to_one_reading_share_its_passages() -> None:
    for questions in readings.search(World(3, 300), 10, Shares(0.5)):
        assert len({text["prompt"].split("\nQ: ")[0] for text in questions}) == 1
        assert len({text["prompt"] for text in questions}) == len(questions)


@pytest.mark.parametrize("strategy", ["ircot", "self-ask"])
def test_the_gold_reasoner_names_nothing_that_its_prompt_does_not_hold(strategy: str) -> None:
    world = World(3, 300)
    words = world.words()
    questions = list(lessons.loop(world, [strategy], 40, max_steps=5, top_k=4))
    num_named = 0
    for text in chain.from_iterable(questions):
        named = {w for w in TOLD.findall(text["target"]) if w in words or w.isdigit()}
        assert named <= set(TOLD.findall(text["prompt"] + text["prefix"]))
        num_named += bool(named)
    assert num_named > 60
    assert len(questions) > 20


def test_renaming_leaves_all_but_the_names_and_no_name_of_another_world(tmp_path: Path) -> None:
    settings, world = load(recipe(tmp_path)).pretrain["small"], World(3, 300)
    words = world.words()
    assert {w for e in world.entities() for w in NAME.findall(world.title(e))} - ENGLISH <= words
    plain = list(lessons.loop(world, ["ircot"], 20, max_steps=5, top_k=4))
    for before, after in zip(plain, lessons.renamed(world, settings, plain), strict=True):
        told = [text["prompt"] + text["prefix"] + text["target"] for text in before]
        anew = [text["prompt"] + text["prefix"] + text["target"] for text in after]
        pairs = {
            pair
            for old, new in zip(told, anew, strict=True)
            for pair in zip(NAME.findall(old), NAME.findall(new), strict=True)
            if pair[0] in words
        }
        assert len(pairs) == len({old for old, _ in pairs}) == len({new for _, new in pairs})
        assert not words & {new for _, new in pairs}
        assert [NAME.sub("", text) for text in told] == [NAME.sub("", text) for text in anew]


def test_worlds_take_turns(tmp_path: Path, tokenizer) -> None:
    config = load(recipe(tmp_path))
    batches = lessons.batches(config, config.pretrain["small"], tokenizer)
    rows = list(chain.from_iterable(islice(batches, 2)))
    assert len({bytes(row.ids[:12]) for row in rows}) > 3


def test_plans_stand_behind_each_question_of_the_loop(
    tmp_path: Path, tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lessons, "_WORLDS_AT_ONCE", 1)
    file = recipe(tmp_path)
    text = re.sub(r"lessons = \[.*?\n\]", LOOP_WITH_PLANS, file.read_text(), flags=re.DOTALL)
    file.write_text(text)
    config = load(file)
    batches = lessons.batches(config, config.pretrain["small"], tokenizer)
    rows = [tokenizer.tokenizer.decode(row.ids) for row in chain.from_iterable(batches)]
    reads = ["Wikipedia Title: " in row for row in rows]
    assert reads == ([True, False, False] * len(reads))[: len(reads)]
    assert len(reads) > 9


def test_the_learning_rate_goes_up_stays_and_goes_down() -> None:
    points = {0.0: 0.05, 0.01: 0.55, 0.02: 1.0, 0.6: 1.0, 0.8: 0.5, 1.0: 0.0, 1.1: 0.0}
    assert {at: pretrain.pace(at, 0.6) for at in points} == pytest.approx(points)


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


@pytest.mark.timeout(200)
def test_two_ranks_learn_as_one_does(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    alone, shared = losses(tmp_path / "one", kill_at=None), losses(tmp_path / "two", num_ranks=2)
    assert shared == pytest.approx(alone, rel=2e-2)


def losses(folder: Path, kill_at: int | None = None, num_ranks: int = 1) -> list[float]:
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
        log.write_text(log.read_text().replace("{", '{"kept": true, ', 1))
    script = folder / "script.py"
    script.write_text(code)
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", str(num_ranks), "--standalone"]
    launcher = torchrun if num_ranks > 1 else []
    subprocess.run([sys.executable, *launcher, str(script)], check=True, capture_output=True)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert ("kept" in lines[0]) == (kill_at is not None)  # or it began anew
    return list({line["step"]: line["answer_loss"] for line in lines}.values())
