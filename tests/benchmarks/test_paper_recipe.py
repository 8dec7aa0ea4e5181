"""`bench paper --recipe`: what the recipe itself wrote, read back and drawn."""

import json
from pathlib import Path

import pytest

from steper_serve import journal
from steper_serve.benchmarks.paper import recipe as reading
from steper_serve.generation.scripted import ScriptedModel
from steper_serve.recipes.distill import card, evaluate, manifest
from steper_serve.recipes.distill.config import Config
from tests.benchmarks.court import abilities, sitting, validity
from tests.benchmarks.worlds import bench, last_line, wrong_about
from tests.recipes.test_evaluate import Opener, recipe
from tests.recipes.worlds import city, question, reason

STUDENTS = {
    "steper": {"seeds": [0, 1]},
    "steper-uniform": {"weighting": "uniform"},
    "vanilla-kd": {"steps": ["final"], "weighting": "uniform"},
    "s-1-5": {"steps": ["first", "final"], "weighting": "uniform"},
}


class Graded(Opener):
    """Students by their skill: vanilla-kd errs on three of six, one seed of steper on one."""

    def __init__(self) -> None:
        super().__init__(reason)

    def __call__(self, source):
        name = source.model or ""
        wrong = (0, 1, 2) if "vanilla" in name else (0,) if "steper-seed1" in name else ()
        self.model = ScriptedModel(wrong_about(*wrong))
        return super().__call__(source)


@pytest.fixture
async def made(tmp_path) -> Config:
    """A recipe's folder after `evaluate`: five students, six questions, cards and manifests."""
    config = recipe(tmp_path, students=STUDENTS, evaluate={"step_ends": ["eos"]})
    for student, told in config.students.items():
        facts = {"settings": config.train_for(student).model_dump(mode="json")}
        for seed in told.seeds:
            folder = config.out / "students" / config.student_name(student, seed)
            text = card.model_card(config, student, seed, facts)
            journal.write_text(folder / "README.md", text)
            trained = manifest.Manifest("train", config.student_hash(student, seed), True)
            manifest.write(folder, trained)
    counts = {"datasets": {"train": {"done": 6}}}
    manifest.write(config.out / "rollouts", manifest.Manifest("rollout", "h", True, counts=counts))
    await evaluate.run(config, Graded())
    return config


async def paper(name: str, config: Config, *arguments):
    return await bench(
        *("paper", name, "--recipe", config.out, "--out", config.out / "paper", *arguments)
    )


def sigma_log(config: Config, student: str, values: list[tuple[float, float, float]]) -> None:
    lines = [
        {"step": n, "normalised_sigma": dict(zip(("init", "exp", "agg"), each, strict=True))}
        for n, each in enumerate(values, 1)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    file = config.out / "students" / student / "logs" / "metrics.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + '{"step": 9, "norm')  # as a kill leaves it


def test_a_card_tells_steps_weighting_and_data(made):
    found = {subject.cell.served: subject for subject in reading.subjects(made.out)}
    assert set(found) == set(STUDENTS)
    steper, vanilla = found["steper"].training, found["vanilla-kd"].training
    assert (steper.weighting, steper.steps) == ("difficulty", "first, mid, final")
    assert (steper.seeds, steper.data) == ((0, 1), "train")
    assert (vanilla.weighting, vanilla.steps) == ("uniform", "final")
    assert len(found["steper"].answers) == 2 * 6
    assert found["vanilla-kd"].summary["em"]["mean"] == 0.5
    (answer,) = [a for a in found["vanilla-kd"].answers if a.question.id == "q3"]
    assert answer.searches[0][0].text == "Work 3 was painted by Painter 3."


async def test_table_2_compares_students_of_all_steps_by_their_weighting(made):
    """steper: six of six, and five of six with the other seed; a question counts once."""
    done = await paper("table2", made)
    found = {line["name"]: line for line in last_line(done)["here"]}
    assert set(found) == {"steper (seeds 0, 1)", "steper-uniform"}
    assert found["steper (seeds 0, 1)"]["kind"] == "Difficulty-Aware"
    assert found["steper (seeds 0, 1)"]["dev Acc"] == pytest.approx(100 * 11 / 12, abs=1e-3)
    assert (found["steper-uniform"]["kind"], found["steper-uniform"]["dev EM"]) == ("Uniform", 100)
    assert "left out: s-1-5, vanilla-kd" in done.stdout
    assert f"of the recipe {made.out}" in done.stdout


async def test_table_3_wants_self_ask(made):
    done = await paper("table3", made)
    assert done.exit_code == 1
    assert "nothing was answered by self-ask" in done.stderr


async def test_other_tables_are_drawn_from_a_recipe_as_well(made):
    found = {line["name"]: line for line in last_line(await paper("fig5", made))["here"]}
    assert found["vanilla-kd"]["train → dev"] == 50
    counted = last_line(await paper("table7", made))["here"]
    (vanilla,) = [x for x in counted if (x["kind"], x["name"]) == ("right", "vanilla-kd")]
    assert (vanilla["2"], vanilla["Total"]) == (3, 3)


async def test_recall_follows_the_data_set_that_is_given(made, tmp_path):
    """The recipe's records hold no supporting titles; the data set's file does."""
    world = tmp_path / "world"
    (world / "questions.jsonl").rename(world / "dev.jsonl")
    blank = last_line(await paper("table8", made))["here"][0]
    assert blank["Recall"] is None
    given = last_line(await paper("table8", made, world / "dev.jsonl"))["here"][0]
    assert given["Recall"] == 1
    assert given["Duplicativeness"] == 2 / 8  # of two searches of four: the work, the painter


async def test_figure_3_needs_nothing_but_the_recipe(made):
    async with sitting(lambda prompt: abilities(1, int("Paris" not in prompt), 1)) as court:
        done = await paper("fig3", made, "--judge", court.url, "--judge-model", "wise")
    found = {line["kind"]: line for line in last_line(done)["here"]}
    assert found["steps final"]["Expansion"] == 50
    assert found["steps first, final"]["Expansion"] == 100
    assert len(court.prompts) == 6 + 3  # whoever wrote the same is judged once


async def test_table_4_takes_sub_questions_from_the_recipes_worlds(made):
    steps = {
        n: [
            {"question": f"Who painted Work {n}?", "answer": f"Painter {n}"},
            {"question": f"Where was Painter {n} born?", "answer": city(n)},
        ]
        for n in range(6)
    }
    lines = [
        {"id": f"q{n}", "question": question(n).question, "answers": [city(n)], "steps": steps[n]}
        for n in range(6)
    ]
    file = made.out / "worlds" / "dev" / "questions.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def judge(prompt: str) -> str:
        if "Paris" in prompt:
            return validity(0.5, "wrong", "correct", "wrong")
        return validity(1.0, "correct", "correct", "correct")

    async with sitting(judge) as court:
        done = await paper("table4", made, "--judge", court.url, "--judge-model", "wise")
    found = {line["name"]: line for line in last_line(done)["here"]}
    assert (found["vanilla-kd"]["Accuracy"], found["vanilla-kd"]["SQA"]) == (50, 75)
    assert found["vanilla-kd"]["RI"] == 100


async def test_figure_7_is_the_way_of_each_training(made):
    thirds = (1 / 3, 1 / 3, 1 / 3)
    sigma_log(made, "steper-seed0", [thirds, (0.4, 0.35, 0.25), (0.5, 0.3, 0.2)])
    sigma_log(made, "steper-seed1", [thirds])
    done = await paper("fig7", made)
    first, second = last_line(done)["here"]
    assert (first["name"], first["Initialization"], first["Aggregation"]) == (
        *("steper-seed0", 0.5, 0.2),
    )
    assert second["Expansion"] == pytest.approx(1 / 3)
    assert "step 2  " in done.stdout
    assert "- models, here: steper-seed0 of the recipe" in done.stdout
    assert "- data, here: train" in done.stdout
    kept = made.out / "paper" / "paper"
    drawn = [(kept / f"fig7-{n}.svg").read_text() for n in (1, 2)]
    assert [svg.count("<polyline") for svg in drawn] == [3, 3]


async def test_figure_7_leaves_out_a_recipe_that_learned_none(made, tmp_path):
    sigma_log(made, "steper-seed0", [(0.5, 0.3, 0.2)])
    (tmp_path / "uniform").mkdir()
    done = await paper("fig7", made, "--recipe", tmp_path / "uniform")
    assert done.exit_code == 0, done.output
    assert [line["name"] for line in last_line(done)["here"]] == ["steper-seed0"]


async def test_figure_4_takes_sizes_that_no_folder_tells(made):
    done = await paper("fig4", made, "--parameters", "steper=1.5B", "--parameters", "s-1-5=7.6B")
    found = {line["name"]: line for line in last_line(done)["here"]}
    assert found["s-1-5, dev"]["7B"] == 100
    assert "Of unknown size (--parameters): steper-uniform, vanilla-kd." in done.stdout
    done = await paper("fig4", made, "--parameters", "other=1B")
    assert "--parameters names 'other', which is not here; there is s-1-5" in done.stderr


async def test_two_recipes_are_told_apart(made, tmp_path):
    (tmp_path / "other").symlink_to(made.out)
    done = await paper("table2", made, "--recipe", tmp_path / "other")
    named = {line["name"] for line in last_line(done)["here"]}
    assert named >= {"steper-uniform of out", "steper-uniform of other"}


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("evaluations/vanilla-kd-seed0-eos-dev.json", "{", "does not hold JSON"),
        ("evaluations/vanilla-kd-seed0-eos-dev.json", "{}", "it has no 'model'"),
        ("evaluations/vanilla-kd-seed0-eos-dev.jsonl", "", "tells of 6 questions"),
        ("evaluations/vanilla-kd-seed0-eos-dev.jsonl", "[]\n", "line 1 is not a JSON object"),
        ("students/vanilla-kd-seed0/README.md", "```json\n{\nx\n}\n```", "does not hold JSON"),
    ],
)
async def test_what_cannot_be_read_is_named(made, file, text, message):
    (made.out / file).write_text(text)
    done = await paper("table1", made)
    assert done.exit_code == 1
    assert Path(file).stem in done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.output
