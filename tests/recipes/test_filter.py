"""What is kept of the rollouts: right answers, supported steps; and what is said about the rest."""

import json
from dataclasses import replace

import pytest

from steper_serve import drivers, journal
from steper_serve.errors import ConfigurationError, EngineFailed, EngineUnavailable
from steper_serve.generation.scripted import ScriptedModel
from steper_serve.loop import Ask
from steper_serve.recipes.distill import filter as filtering
from steper_serve.recipes.distill import rollout, support
from steper_serve.recipes.distill.config import Config
from steper_serve.recipes.distill.failures import BadRecord, StageMissing
from steper_serve.recipes.distill.sections import JudgeConfig
from steper_serve.strategies import STRATEGIES, FewShot, options_for
from steper_serve.trajectory import Completion, Passage, Step, Trajectory
from tests.generation.fault_server import Reply, serve
from tests.recipes.worlds import FORMAT, city, loop, question, reason, write_world


def recipe(tmp_path, **chosen) -> Config:
    corpus, questions = write_world(tmp_path / "world", range(6))
    return Config.model_validate(
        {
            "name": "small",
            "out": tmp_path / "out",
            "datasets": [{"name": "world", "corpus": corpus, "questions": questions}],
            "teacher": {"endpoint": {"base_url": "http://teacher/v1", "model": "big"}},
            "student": {"model": "base"},
            "filter": chosen,
        }
    )


def teach(request):
    """Wrong about work 1, fails on work 2, invents a painter of work 3, else right."""
    text = request.prompt.text
    if "Work 2 born" in text:
        return EngineFailed("no")
    if "Work 1 born" in text:
        return " So the answer is: Nowhere."
    if "Work 3 born" in text and request.step == 2:
        return f" Mona Lisa Vinci was born in Paris. So the answer is: {city(3)}."
    return reason(request)


async def rolled(config: Config, teacher=teach) -> None:
    (dataset,) = config.datasets
    questions = [question(n, hops=2 if n < 4 else 3) for n in range(6)]
    job = rollout.job_of(config, dataset)
    await rollout.collect(job, questions, loop(ScriptedModel(teacher)))
    rows = [{n: getattr(q, n) for n in q.__slots__} for q in questions]
    dataset.questions.write_text("".join(json.dumps(row) + "\n" for row in rows))


def kept(config: Config) -> dict[str, dict]:
    file = filtering.file_of(config, config.datasets[0])
    return {record["id"]: dict(record) for _, record in journal.read(file)}


async def test_a_right_answer_is_kept_and_the_yield_is_told(tmp_path, capsys):
    config = recipe(tmp_path)
    await rolled(config)
    made = await filtering.run(config)
    assert set(kept(config)) == {"q0", "q3", "q4", "q5"}
    found = made.counts["datasets"]["world"]
    assert (found["asked"], found["failed"], found["matched"], found["kept"]) == (6, 1, 4, 4)
    assert found["yield"] == pytest.approx(4 / 6)
    assert found["by_hops"] == {"2": {"asked": 4, "kept": 2}, "3": {"asked": 2, "kept": 2}}
    said = capsys.readouterr().out
    assert "world: 6 asked, 1 failed, 4 right, 4 kept (66.7%)" in said
    assert "2 hops: 2 of 4 kept (50.0%)" in said
    assert await filtering.run(config) == made
    assert capsys.readouterr().out == ""


async def test_hops_that_were_corrected_later_count(tmp_path):
    config = recipe(tmp_path)
    await rolled(config)
    file = config.datasets[0].questions
    file.write_text(file.read_text().replace('"hops": 3', '"hops": 4'))
    found = (await filtering.run(config)).counts["datasets"]["world"]
    assert found["by_hops"] == {"2": {"asked": 4, "kept": 2}, "4": {"asked": 2, "kept": 2}}


async def test_more_rollouts_are_filtered_again_and_what_followed_from_them_is_forgotten(tmp_path):
    config = recipe(tmp_path)
    await rolled(config)
    await filtering.run(config)
    (config.out / "examples").mkdir()
    (config.out / "examples" / "manifest.json").write_text("{}")
    (dataset,) = config.datasets
    again = replace(rollout.job_of(config, dataset), retry_failed=True)
    questions = [question(n) for n in range(6)]
    await rollout.collect(again, questions, loop(ScriptedModel(reason)))
    made = await filtering.run(config)
    assert made.counts["datasets"]["world"]["kept"] == 5
    assert not (config.out / "examples" / "manifest.json").exists()


async def test_an_unsupported_step_drops_its_trajectory(tmp_path, capsys):
    config = recipe(tmp_path, steps="drop")
    await rolled(config)
    made = await filtering.run(config)
    assert set(kept(config)) == {"q0", "q4", "q5"}
    found = made.counts["datasets"]["world"]
    assert (found["unsupported"], found["dropped"], found["removed"]) == (1, 1, 0.25)
    assert "1 with an unsupported step (25.0% of the right ones): 1 dropped" in (
        capsys.readouterr().out
    )


async def test_an_unsupported_step_is_cut_off_and_the_rest_replays(tmp_path):
    config = recipe(tmp_path, steps="cut")
    await rolled(config)
    await filtering.run(config)
    assert set(kept(config)) == {"q0", "q3", "q4", "q5"}
    record = kept(config)["q3"]
    assert record["cut"] == 1
    assert "cut" not in kept(config)["q4"]
    trajectory = Trajectory.from_json(record["trajectory"])
    assert (len(trajectory.steps), trajectory.answer) == (1, "")
    flow = STRATEGIES["ircot"].flow(
        trajectory.question, options_for("ircot", FORMAT, FewShot("", ()))
    )
    outcomes = [outcome for _, outcome in drivers.replay(flow, trajectory)]
    assert [type(o) for o in outcomes[:2]] == [tuple, Completion]


SELF_ASK = [
    *(" Yes.\nFollow up: Who painted Work 3?", " Painter 3."),
    *("Follow up: Where was Painter 3 born?", " Atlantis Bay.", "So the final answer is: Oslo"),
]


async def test_a_self_ask_trajectory_is_cut_and_replays_too():
    asks = replace(loop(ScriptedModel(SELF_ASK)), strategy="self-ask")
    asks = replace(asks, format=replace(FORMAT, strategies=("self-ask",)))
    trajectory = await asks.run(Ask("Where was the painter of Work 3 born?"))
    assert support.lexical(trajectory)[-1] < 1
    shorter = filtering.cut(trajectory, 2)
    flow = STRATEGIES["self-ask"].flow(
        trajectory.question, options_for("self-ask", asks.format, FewShot("", ()))
    )
    effects = [effect for effect, _ in drivers.replay(flow, shorter)]
    assert len(shorter.steps) == 2
    assert len(effects) > 4


async def test_what_left_passages_out_or_would_be_empty_is_not_cut():
    step = Step("q", (), "T", (Completion("T", "stop"),))
    trajectory = Trajectory("ircot", "Q?", (step, step), "A", "answer")
    assert filtering.cut(trajectory, 0) is None
    assert filtering.cut(replace(trajectory, dropped=("p",)), 1) is None


async def test_an_answer_may_be_contained_if_so_chosen(tmp_path):
    def verbose(request):
        return " So the answer is: The city of Oslo or Turin or Lagos."

    for match, expected in (("exact", 0), ("accuracy", 6)):
        config = recipe(tmp_path / match, match=match)
        await rolled(config, verbose)
        await filtering.run(config)
        assert len(kept(config)) == expected


def steps_of(*told: tuple[str, str]) -> Trajectory:
    """A trajectory of (text of the passage found, thought)."""
    steps = tuple(
        Step("q", (Passage(f"p{n}", "Title", text),), thought, (Completion(thought, "stop"),))
        for n, (text, thought) in enumerate(told)
    )
    return Trajectory("ircot", "Who led Velm?", steps, "A", "answer")


@pytest.mark.parametrize(
    ("passage", "thought", "share"),
    [
        ("Dara Voss led it in 1954.", "Dara Voss led Velm in 1954.", 1.0),
        ("Dara Voss led it in 1954.", "Dara Voss led Velm in 1955.", 3 / 4),
        ("Nothing here.", "Dara Voss led Velm in 1954.", 1 / 4),
        ("Nothing here.", "It is not said who led it.", 1.0),
        ("Nothing here.", "So the answer is: yes.", 1.0),
        ("Nothing here.", "So the answer is: Dara.", 0.0),
        ("Nothing here.", "Therefore nothing is known. Directed plays follow.", 1.0),
        ("Nothing here.", "Follow up: Where was Ōta born?", 0.0),
        ("Nothing here.", "Title Velm is named.", 1.0),
    ],
)
def test_names_and_numbers_are_looked_for_in_what_was_read(passage, thought, share):
    assert support.lexical(steps_of((passage, thought))) == [pytest.approx(share)]


def test_a_step_has_read_what_earlier_steps_have_and_not_what_later_ones_find():
    trajectory = steps_of(("Dara Voss led it.", "Dara Voss."), ("In 1954.", "Dara Voss in 1954."))
    assert support.lexical(trajectory) == [1.0, 1.0]
    trajectory = steps_of(("Nothing.", "Dara Voss led."), ("Dara Voss led it.", "Dara Voss."))
    assert support.lexical(trajectory) == [0.0, 1.0]


def reply(text: str) -> Reply:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant"}}
    choice["message"]["content"] = text
    return Reply(body={"id": "c", "object": "chat.completion", "choices": [choice]})


@pytest.mark.parametrize(("param", "is_of_all"), [(None, False), ("max_tokens", True)])
async def test_a_judge_may_refuse(tmp_path, param, is_of_all):
    """One prompt that is too long for it is no reason to begin again and again."""
    error = {"message": "no such thing", "type": "invalid_request_error", "param": param}
    refused = Reply(status=400, body={"error": error})
    async with serve(reply("Yes"), refused, reply("Yes")) as server:
        judge = {"base_url": server.url, "model": "judge", "concurrency": 1}
        config = recipe(tmp_path, steps="drop", support="judge", judge=judge)
        await rolled(config)
        if is_of_all:
            with pytest.raises(EngineUnavailable, match="takes no 'max_tokens'"):
                await filtering.run(config)
        else:
            told = (await filtering.run(config)).counts["datasets"]["world"]
            assert (told["unsupported"], told["unclear"]) == (1, 1)


async def test_a_judge_decides_and_is_not_asked_twice(tmp_path, capsys):
    # Four are right, two steps each; they are judged one after the other, as the file has them.
    words = ["Yes.", "yes", "Yes", "No, it is not.", "Well…", "Yes", "yes", "yes"]
    async with serve(*map(reply, words)) as server:
        judge = {"base_url": server.url, "model": "judge", "concurrency": 1}
        config = recipe(tmp_path, steps="drop", support="judge", judge=judge)
        await rolled(config)
        made = await filtering.run(config)
        rows = [r for _, r in journal.read(rollout.file_of(config, config.datasets[0]))]
        right = [r for r in rows if r["id"] not in ("q1", "q2")]
        assert list(kept(config)) == [right[0]["id"], right[3]["id"]]
        told = made.counts["datasets"]["world"]
        assert (told["unsupported"], told["unclear"]) == (2, 1)
        assert "neither yes nor no: 1 of the judge's replies" in capsys.readouterr().out
        first, second = (body["messages"][0]["content"] for body in server.bodies[:2])
        assert "was painted by Painter" in first.partition("Statement:")[2]
        (work,), (painter,) = (step["passages"] for step in right[0]["trajectory"]["steps"])
        assert work["text"] in first
        assert painter["text"] not in first
        assert work["text"] in second  # a step is judged by all that was read until then
        assert painter["text"] in second
        assert len(server.bodies) == 8
        (config.out / "kept" / "manifest.json").unlink()
        await filtering.run(config)
        assert len(server.bodies) == 8


async def test_a_judge_that_is_down_is_named_and_its_verdicts_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("KEY", "secret")
    async with serve(reply("yes"), reply("yes"), Reply(status=404, body={})) as server:
        judge = {"base_url": server.url, "model": "judge", "api_key_env": "KEY"}
        judge["concurrency"] = 1
        config = recipe(tmp_path, steps="drop", support="judge", judge=judge)
        await rolled(config)
        with pytest.raises(EngineUnavailable, match=r"the judge 'judge' at http.*no verdict"):
            await filtering.run(config)
        assert "bearer secret" in server.headers[0]
    verdicts = filtering.file_of(config, config.datasets[0]).with_suffix(".verdicts.jsonl")
    assert len(list(journal.read(verdicts))) == 1
    assert not filtering.file_of(config, config.datasets[0]).exists()


def test_a_judge_without_its_key_says_which():
    with pytest.raises(ConfigurationError, match="NO_SUCH_KEY, which is not set"):
        support.Judge(JudgeConfig(base_url="http://x/v1", model="m", api_key_env="NO_SUCH_KEY"))


async def test_no_rollouts_are_named(tmp_path):
    config = recipe(tmp_path)
    with pytest.raises(StageMissing, match=r"rollouts/world\.jsonl is missing, empty"):
        await filtering.run(config)
    file = rollout.file_of(config, config.datasets[0])
    file.parent.mkdir(parents=True)
    file.write_text("")
    with pytest.raises(StageMissing, match=r"rollouts/world\.jsonl is missing, empty"):
        await filtering.run(config)


@pytest.mark.parametrize("column", ["answers", "trajectory"])
async def test_a_missing_column_is_named_with_its_line(tmp_path, column):
    config = recipe(tmp_path)
    await rolled(config)
    file = rollout.file_of(config, config.datasets[0])
    rows = [dict(record) for _, record in journal.read(file)]
    number = next(n for n, row in enumerate(rows) if row["id"] == "q4")
    del rows[number][column]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(
        BadRecord, match=rf"world\.jsonl, line {number + 1}: the record has no '{column}'"
    ):
        await filtering.run(config)
    assert not filtering.file_of(config, config.datasets[0]).exists()
