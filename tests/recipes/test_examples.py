"""Step samples against what a real flow serves: text to the byte, and tokens."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from steper_serve import drivers
from steper_serve.generation.scripted import ScriptedModel
from steper_serve.generation.vllm_engine import VllmEngine
from steper_serve.recipes.distill import examples, tables
from steper_serve.recipes.distill.config import Config
from steper_serve.recipes.distill.failures import BadRecord, StageMissing
from steper_serve.recipes.distill.tokenization import StepTokenizer
from steper_serve.strategies import STRATEGIES, FewShot, options_for
from steper_serve.trajectory import Demonstration, Passage, PromptFormat

QUESTION = "Where was the painter of Grey  Harbour born?"
PASSAGES = [
    [Passage("h", "Grey Harbour", "So the answer is: none. Grey Harbour is a painting.")],
    [Passage("b", "Alma Berg", "Alma Berg was born\nin Oslo."), Passage("h", "Grey Harbour", "x")],
    [Passage("o", "Oslo", "Oslo is the capital of Norway.")],
]
SCRIPTS = {
    "ircot": [
        " Grey Harbour was painted  by Alma Berg.",
        "Alma Berg was born in Oslo.",
        " So the answer is: Oslo.",
    ],
    "self-ask": [
        " Yes.\nFollow up: Who painted Grey Harbour?",
        " Alma Berg.",
        "Follow up: Where was  Alma Berg born?",
        " Oslo.",
        "So the final answer is: Oslo",
    ],
}
BOTH = pytest.mark.parametrize("strategy", list(SCRIPTS))
CHAT = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant]\n"


class Index:
    """Finds the passages of each step in turn."""

    quick = True

    def __init__(self, found=PASSAGES) -> None:
        self._found = list(found)

    def search(self, query, top_k):
        return self._found.pop(0)


@pytest.fixture(scope="module")
def models(tmp_path_factory, student) -> dict[str, Path]:
    """The bundled tokenizer: plain, one that adds a first token, one with a chat template."""
    from tokenizers.processors import TemplateProcessing

    folders = {}
    for name in ("plain", "bos", "chat"):
        tokenizer = AutoTokenizer.from_pretrained(student)
        if name == "bos":
            tokenizer._tokenizer.post_processor = TemplateProcessing(
                single="<pad> $A", special_tokens=[("<pad>", 1)]
            )
        if name == "chat":
            tokenizer.chat_template = CHAT
        folders[name] = tmp_path_factory.mktemp(name)
        tokenizer.save_pretrained(folders[name])
    return folders


def teacher_options(strategy: str):
    """A large model: another instruction, demonstrations, steps that are sentences."""
    format = PromptFormat(10_000, lambda text: len(text.split()), step_end="sentence")
    shown = Demonstration("Who?", (), ("Because.",), "Me")
    return options_for(strategy, format, FewShot("Think step by step.", (shown,)))


async def teach(strategy: str, script=None, found=PASSAGES, **changes):
    flow = STRATEGIES[strategy].flow(QUESTION, replace(teacher_options(strategy), **changes))
    model = ScriptedModel(script or SCRIPTS[strategy])
    return await drivers.run(flow, model, Index(found))


def config(tmp_path: Path, model: Path, strategy: str = "ircot", **changes) -> Config:
    settings = {
        "name": "test",
        "out": tmp_path,
        "strategy": strategy,
        "datasets": [{"name": "d", "corpus": "c.jsonl", "questions": "q.jsonl"}],
        "teacher": {"endpoint": {"base_url": "http://teacher", "model": "big"}},
        "student": {
            "model": str(model),
            "instruction": "Answer.",
            "chat": model.name[:4] == "chat",
        },
    }
    return Config.model_validate(settings | changes)


def keep(config: Config, trajectories, **changes) -> Path:
    file = config.out / "kept" / "d.jsonl"
    file.parent.mkdir(parents=True)
    with file.open("w") as out:
        for n, trajectory in enumerate(trajectories):
            record = {"id": f"q{n}", "config": "abc", "trajectory": trajectory.to_json()}
            record = {k: v for k, v in (record | changes).items() if v is not None}
            out.write(json.dumps(record) + "\n")
    return file


async def served(strategy: str, options, script=None, found=PASSAGES):
    """The first request of each step when the student itself says the same."""
    model = ScriptedModel(script or SCRIPTS[strategy])
    await drivers.run(STRATEGIES[strategy].flow(QUESTION, options), model, Index(found))
    first = {}
    for request in model.requests:
        first.setdefault(request.step, request)
    return first


@BOTH
@pytest.mark.parametrize("kind", ["plain", "bos", "chat"])
async def test_a_trained_prompt_is_the_served_prompt_text_and_tokens(
    tmp_path, models, kind, strategy
):
    recipe = config(tmp_path, models[kind], strategy)
    options = examples.student_options(recipe, examples.student_format(recipe))
    requests = await served(strategy, options)
    texts = examples.step_texts(await teach(strategy), options)
    assert [text.step for text in texts] == list(requests) == [1, 2, 3]
    tokenizer = AutoTokenizer.from_pretrained(models[kind])
    engine: Any = SimpleNamespace(_tokenizer=tokenizer)
    encoder = StepTokenizer.load(str(models[kind]), templated=kind == "chat")
    for text, request in zip(texts, requests.values(), strict=True):
        assert text.prompt + text.prefix == request.prompt.text
        ids = VllmEngine._token_ids(engine, request)
        row = {"dataset": "d", "question_id": "q", "kind": "exp"}
        row |= {name: getattr(text, name) for name in ("prompt", "prefix", "target")}
        (following,) = encoder.samples([row], "next")
        assert list(following.context_ids) == ids
        assert tokenizer.decode(list(following.completion_ids)) == f"{text.target}<|endoftext|>"
        (whole,) = encoder.samples([row], "cumulative")
        assert [*whole.context_ids, *whole.completion_ids][: len(ids)] == ids
        assert (
            tokenizer.decode(list(whole.completion_ids))
            == f"{text.prefix}{text.target}<|endoftext|>"
        )
    assert (ids[0] == 1) == (kind == "bos")


def test_a_token_that_straddles_prompt_and_target_bears_no_loss():
    """The colon of the prompt and the space of what is written after it are one token here."""
    pieces = ["<eos>", *"A:xy. ", ": "]
    bpe = BPE({piece: id for id, piece in enumerate(pieces)}, [(":", " ")])
    fast = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(bpe), eos_token="<eos>")
    encoder = StepTokenizer(fast, False, 0)
    row = {"dataset": "d", "question_id": "q", "kind": "exp", "prompt": "A:", "target": " y."}

    def pieces_of(prefix: str, target: str) -> tuple[list[str], list[str]]:
        (sample,) = encoder.samples([row | {"prefix": prefix}], target)
        read, written = sample.context_ids, sample.completion_ids
        return [pieces[id] for id in read], [pieces[id] for id in written]

    # What is served ends with the colon alone, and what the student is to write begins there.
    assert pieces_of("", "next") == (["A", ":"], [" ", "y", ".", "<eos>"])
    assert pieces_of("", "cumulative") == (["A", ":"], [" ", "y", ".", "<eos>"])
    assert pieces_of(" x.", "next") == (["A", ": ", "x", "."], [" ", "y", ".", "<eos>"])
    read, written = pieces_of(" x.", "cumulative")
    assert (read, written) == (["A", ": "], ["x", ".", " ", "y", ".", "<eos>"])


@BOTH
@pytest.mark.parametrize("kind", ["plain", "chat"])
async def test_a_target_is_what_the_next_prompt_holds(tmp_path, models, kind, strategy):
    recipe = config(tmp_path, models[kind], strategy)
    options = examples.student_options(recipe, examples.student_format(recipe))
    texts = examples.step_texts(await teach(strategy), options)
    for text, after in itertools.pairwise(texts):
        assert after.prefix.startswith(text.prefix + text.target)
    lead = " " if kind == "plain" else ""
    assert [t.target for t in texts] == {
        "ircot": [
            f"{lead}Grey Harbour was painted by Alma Berg.",
            " Alma Berg was born in Oslo.",
            " So the answer is: Oslo.",
        ],
        "self-ask": [
            " Yes.\nFollow up: Who painted Grey Harbour?",
            " Alma Berg.\nFollow up: Where was Alma Berg born?",
            " Oslo.\nSo the final answer is: Oslo",
        ],
    }[strategy]
    assert texts[0].prefix == ""
    assert [t.has_new_passages for t in texts] == [True, True, True]
    assert texts[1].passage_ids == ("b", "h")


async def test_a_forced_answer_is_part_of_its_step(tmp_path, models):
    recipe = config(tmp_path, models["plain"], max_steps=2)
    options = examples.student_options(recipe, examples.student_format(recipe))
    script = ["It was painted by Alma Berg.", "She is from Oslo.", " Oslo."]
    texts = examples.step_texts(await teach("ircot", script, max_steps=2), options)
    assert texts[-1].target == " She is from Oslo. So the answer is: Oslo."


@BOTH
async def test_a_student_that_writes_its_targets_ends_as_its_teacher(tmp_path, models, strategy):
    """Each generation of Self-Ask ends with its line, as the engine would end it."""
    recipe = config(tmp_path, models["plain"], strategy)
    options = examples.student_options(recipe, examples.student_format(recipe))
    teacher = await teach(strategy)
    texts = examples.step_texts(teacher, options)
    answered = [t.target.split("\n") if t.step > 1 else [t.target] for t in texts]
    model = ScriptedModel([line for lines in answered for line in lines])
    student = await drivers.run(STRATEGIES[strategy].flow(QUESTION, options), model, Index())
    assert student.answer == teacher.answer == "Oslo"
    assert len(student.steps) == 3


def run(recipe: Config) -> list[dict]:
    examples.run(recipe)
    file = examples.path(recipe, recipe.examples.target)
    return list(tables.read(file, tables.SCHEMA.names))


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
async def test_rows_say_where_they_come_from_and_which_kind_they_are(tmp_path, models, format):
    recipe = config(tmp_path, models["plain"], examples={"format": format})
    keep(recipe, [await teach("ircot"), await teach("ircot", [" So the answer is: Oslo."])])
    rows = run(recipe)
    assert [(r["id"], r["kind"]) for r in rows] == [
        ("d/q0/1", "init"),
        ("d/q0/2", "exp"),
        ("d/q0/3", "agg"),
        ("d/q1/1", "agg"),
    ]
    last = rows[2]
    assert last["completion"] == last["prefix"] + last["target"]
    assert last["context"] == last["prompt"]
    assert (last["teacher"], last["rollout"], last["num_steps"]) == ("big", "abc", 3)
    card = (recipe.out / "examples" / "README.md").read_text()
    assert '"init": 1' in card
    assert recipe.stage_hash("examples") in card


async def test_nothing_retrieved_bears_loss(tmp_path, models):
    """Every passage's words stand in the context; none that no thought holds is a target."""
    for strategy in SCRIPTS:
        recipe = config(tmp_path / strategy, models["plain"], strategy)
        keep(recipe, [await teach(strategy)])
        tokenizer = StepTokenizer.load(str(models["plain"]), templated=False)
        rows = run(recipe)
        for sample in tokenizer.samples(rows, "cumulative"):
            written = tokenizer.tokenizer.decode(list(sample.completion_ids))
            read = tokenizer.tokenizer.decode(list(sample.context_ids))
            assert "Wikipedia Title" in read
            for word in ("Wikipedia", "painting", "capital", "Norway", "Where was the"):
                assert word not in written
        assert "capital of Norway" in rows[-1]["prompt"]


async def test_a_step_that_found_nothing_new_is_left_out_of_cumulative_targets(tmp_path, models):
    found = [PASSAGES[0], PASSAGES[0], PASSAGES[0]]
    recipe = config(tmp_path, models["plain"], students={"a": {}, "b": {"target": "next"}})
    keep(recipe, [await teach("ircot", found=found)])
    assert [r["step"] for r in run(recipe)] == [3]  # the last stays: the answer stands there
    own = list(tables.read(examples.path(recipe, "next"), ["step", "context", "completion"]))
    assert [r["step"] for r in own] == [1, 2, 3]
    assert own[1]["context"].endswith("A: Grey Harbour was painted by Alma Berg.")
    assert own[1]["completion"] == " Alma Berg was born in Oslo."
    counts = json.loads((recipe.out / "examples" / "manifest.json").read_text())["counts"]
    assert counts["cumulative"]["left_out"] == {"steps with the prompt of another": 2}


@pytest.mark.parametrize(
    ("found", "is_cut", "steps"),
    [((0, 0, 1), False, [1, 3]), ((0, 1, 1), False, [1, 3]), ((0, 1, 1), True, [1, 2]),
     ((0, 0, 1), True, [1, 3]), ((0, 1, 2), False, [1, 2, 3])],
)  # fmt: skip
async def test_no_prompt_has_two_targets(tmp_path, models, found, is_cut, steps):
    recipe = config(tmp_path, models["plain"])
    told = await teach("ircot", found=[PASSAGES[n] for n in found])
    keep(recipe, [replace(told, answer="", stop_reason="max_steps") if is_cut else told])
    rows = run(recipe)
    assert [r["step"] for r in rows] == steps
    assert len({r["prompt"] for r in rows}) == len(rows)


async def test_a_trajectory_that_was_cut_has_no_last_step(tmp_path, models):
    whole = await teach("ircot")
    cut = replace(whole, steps=whole.steps[:2], answer="", stop_reason="max_steps", citations=())
    recipe = config(tmp_path, models["plain"])
    keep(recipe, [cut])
    rows = run(recipe)
    assert [r["kind"] for r in rows] == ["init", "exp"]
    assert rows[1]["target"] == " Alma Berg was born in Oslo."


async def test_a_thought_that_was_cut_off_teaches_nothing(tmp_path, models):
    long = " ".join(["word"] * 200)
    trajectory = await teach("ircot", [long, *SCRIPTS["ircot"][1:]])
    recipe = config(tmp_path, models["plain"])
    keep(recipe, [trajectory])
    with pytest.raises(StageMissing, match="cut off"):
        examples.run(recipe)


async def test_a_trajectory_whose_prompts_left_passages_out_teaches_nothing(tmp_path, models):
    """The student's prompts would hold them: it is not what the teacher answered from."""
    small = replace(teacher_options("ircot").format, max_prompt_tokens=60)
    left_out = await teach("ircot", format=small)
    assert left_out.dropped
    recipe = config(tmp_path, models["plain"])
    keep(recipe, [left_out, await teach("ircot")])
    assert {r["question_id"] for r in run(recipe)} == {"q1"}
    counts = json.loads((recipe.out / "examples" / "manifest.json").read_text())["counts"]
    told = {"trajectories that cannot be replayed": 1}
    assert counts["cumulative"]["left_out"] == told


async def test_a_finished_stage_is_not_run_again(tmp_path, models):
    recipe = config(tmp_path, models["plain"])
    kept = keep(recipe, [await teach("ircot")])
    first = examples.run(recipe)
    kept.unlink()
    assert examples.run(recipe) == first


async def test_bad_input_is_named(tmp_path, models):
    recipe = config(tmp_path, models["plain"])
    with pytest.raises(StageMissing, match=r"no .*kept/d\.jsonl: run `filter`"):
        examples.run(recipe)
    file = keep(recipe, [])
    with pytest.raises(StageMissing, match=r"kept/d\.jsonl is empty"):
        examples.run(recipe)
    file.write_text('{"id": "q", "config": "c"}\n')
    with pytest.raises(BadRecord, match=r"d\.jsonl, line 1: the record has no 'trajectory'"):
        examples.run(recipe)
    data = (await teach("ircot")).to_json()
    del data["steps"][0]["thought"]
    file.write_text(json.dumps({"id": "q", "config": "c", "trajectory": data}) + "\n")
    with pytest.raises(BadRecord, match=r"d\.jsonl, line 1: the trajectory has no 'thought'"):
        examples.run(recipe)


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_a_missing_column_is_named(tmp_path, format):
    file = tmp_path / f"train.{format}"
    tables.write(file, [dict.fromkeys(tables.SCHEMA.names)])
    with pytest.raises(BadRecord, match=rf"train\.{format}.* has no column 'loss'"):
        list(tables.read(file, ["kind", "loss"]))
    tables.write(file, [])
    with pytest.raises(StageMissing, match=rf"train\.{format} has no rows"):
        list(tables.read(file, ["kind"]))
    file.write_bytes(b"PAR1 no")
    with pytest.raises(BadRecord, match=rf"train\.{format}"):
        list(tables.read(file, ["kind"]))
