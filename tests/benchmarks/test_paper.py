"""`bench paper` over a real socket: the paper's figures beside scores that are known beforehand."""

import json
from pathlib import Path

import pytest

from steper_serve.benchmarks import report
from steper_serve.generation.scripted import ScriptedModel
from tests.api.serving import served
from tests.benchmarks.worlds import bench, last_line, rows, write_dataset, wrong_about
from tests.recipes.worlds import loop, reason


@pytest.fixture
def world(tmp_path) -> Path:
    return write_dataset(tmp_path / "world", range(12))


async def paper(name, *arguments, respond=reason, model=None):
    """The command, measuring a scripted model; its result."""
    async with served(loop(model or ScriptedModel(respond))) as url:
        return await bench("paper", name, *arguments, "--endpoint", f"here={url}/v1")


def here(done) -> list[dict]:
    return last_line(done)["here"]


async def test_table_1_puts_each_strategy_beside_the_papers_of_its_kind(world, tmp_path):
    """Oracle: 9 of 12 right, whatever the strategy; the kinds are how often was searched."""
    done = await paper("table1", world, "--out", tmp_path / "o", respond=wrong_about(0, 2, 5))
    found = {line["name"]: line for line in here(done)}
    assert {name: line["kind"] for name, line in found.items()} == {
        "here, direct": "No",
        "here, single": "Single",
        "here, ircot": "Multi",
        "here, self-ask": "Multi",
    }
    assert found["here, ircot"]["world EM"] == found["here, single"]["world Acc"] == 75
    shown = done.stdout.splitlines()
    (theirs,) = [line for line in shown if line.startswith("paper · StepER (distilled)")]
    assert theirs.split()[4:] == [
        *("Multi", "63.60", "69.45", "66.00", "51.00", "62.80", "61.00"),
        *("23.59", "36.13", "34.07", "46.06", "56.12", "53.69", "–", "–", "–"),
    ]
    (ours,) = [line for line in shown if line.startswith("here · here, ircot")]
    assert ours.split()[4:] == ["Multi", *("–" * 12), "75.00", "75.00", "75.00"]
    assert shown.index(ours) > shown.index(theirs)
    cells = {(r["cell"]["strategy"], r["cell"]["max_steps"]) for r in rows(tmp_path / "o")}
    assert cells == {(name, 5) for name in ("direct", "single", "ircot", "self-ask")}


async def test_what_differs_is_said(world, tmp_path):
    done = await paper("table6", world, "--out", tmp_path / "o", "--max-steps", 3)
    assert "- models, paper: Llama3.1-Instruct 70B, few-shot IRCoT (the teacher)" in done.stdout
    assert "- models, here: here (size unknown, http://127.0.0.1:" in done.stdout
    assert "12 questions (not the paper's data)" in done.stdout
    assert "- loop, here: ircot, top 4, at most 3 steps" in done.stdout
    assert [each["what"] for each in last_line(done)["differs"]] == ["models", "data", "loop"]


async def test_a_data_set_of_the_papers_name_stands_in_its_column_and_is_said_to_be_a_sample(
    tmp_path,
):
    hotpotqa = write_dataset(tmp_path / "hotpotqa", range(4))
    done = await paper(
        "table3", hotpotqa, "--out", tmp_path / "o", "--strategy", "self-ask", "--limit", 4
    )
    (line,) = here(done)
    assert set(line) == {"kind", "name", "HotpotQA EM", "HotpotQA F1", "HotpotQA Acc"}
    assert "HotpotQA by its name; this sample of it, and this corpus" in done.stdout


async def test_table_6_measures_3_to_7_steps_and_a_folder_serves_other_tables(world, tmp_path):
    out, model = tmp_path / "o", ScriptedModel(reason)
    done = await paper("table6", world, "--out", out, model=model)
    (line,) = here(done)
    assert {k: v for k, v in line.items() if k.isdecimal()} == dict.fromkeys("34567", 100)
    (theirs,) = [t for t in done.stdout.splitlines() if t.startswith("paper · IRCoT 70B")]
    assert theirs.split()[-5:] == ["56.45", "56.81", "57.23", "56.85", "56.43"]
    asked = len(model.requests)
    done = await paper("table7", world, "--out", out, model=model)
    assert len(model.requests) == asked
    answers, right, accuracy = here(done)
    assert (answers["2"], right["2"], accuracy["2"], answers["Total"]) == (12, 12, 100, 12)
    done = await bench("paper", "table8", "--results", out, "--out", tmp_path / "read")
    three = here(done)[0]
    assert (three["kind"], three["Recall"], three["Duplicativeness"]) == ("3 steps", 1, 0)


async def test_table_8_measures_single_retrieval_once(world, tmp_path):
    await paper("table8", world, "--out", tmp_path / "o", "--limit", 2)
    cells = {(r["cell"]["strategy"], r["cell"]["max_steps"]) for r in rows(tmp_path / "o")}
    assert cells == {("ircot", 3), ("ircot", 4), ("ircot", 5), ("single", 5)}


async def test_figure_4_is_over_parameters(world, tmp_path):
    done = await paper("fig4", world, "--out", tmp_path / "o", "--parameters", "here=1.5B")
    (line,) = here(done)
    assert line["1.5B"] == 100
    again = ("--results", tmp_path / "o", "--out", tmp_path / "o", "--parameters")
    for size, column in (("7.62B", "7B"), ("8.03B", "8.03B"), ("494M", "0.5B")):
        (line,) = here(await bench("paper", "fig4", *again, f"here={size}"))
        assert line[column] == 100
    assert "The paper draws these values and prints none of them." in done.stdout
    assert (tmp_path / "o" / "paper" / "fig4.svg").read_text().count("<polyline") == 1


async def test_figure_5_says_what_was_trained_on(world, tmp_path):
    done = await paper("fig5", world, "--out", tmp_path / "o", "--trained", "here=musique")
    assert here(done)[0]["musique → world"] == 100
    done = await bench("paper", "fig5", "--results", tmp_path / "o", "--out", tmp_path / "o")
    assert here(done)[0]["unknown → world"] == 100
    assert "--trained NAME=DATA" in done.stdout
    wrong = ("--results", tmp_path / "o", "--trained", "there=musique")
    done = await bench("paper", "fig5", *wrong, "--out", tmp_path / "o")
    assert done.exit_code == 1
    assert "--trained names 'there', which is not here; there is here" in done.stderr
    done = await paper("fig5", world, "--out", tmp_path / "n", "--trained", "there=musique")
    assert "--trained names 'there', which is not here; there is here" in done.stderr
    assert rows(tmp_path / "o")
    assert not (tmp_path / "n" / "rows.jsonl").exists()


@pytest.mark.parametrize(
    ("trained", "column"),
    [
        ("musique", "MQ → HQ"),
        ("musique_ans_v1.0_train, musique", "MQ → HQ"),
        ("musique, world", "musique, world → hotpot_dev"),
        ("hotpotqa", "hotpotqa → hotpot_dev"),
    ],
)
async def test_figure_5_is_in_the_papers_column_where_the_pair_is_the_same(
    tmp_path, trained, column
):
    hotpot = write_dataset(tmp_path / "hotpot_dev", range(3))
    done = await paper("fig5", hotpot, "--out", tmp_path / "o", "--trained", f"here={trained}")
    assert here(done)[0][column] == 100


async def test_averages_of_table_1_are_of_all_of_its_data_sets(tmp_path):
    """By hand: 1 of 4, 4 of 4 and 3 of 4 right."""
    numbers = {"hotpotqa": (0, 1, 2, 3), "musique": (4, 6, 7, 8), "2wiki=dev": (2, 9, 10, 11)}
    sets = [write_dataset(tmp_path / n.rpartition("=")[2], those) for n, those in numbers.items()]
    given = (sets[0], sets[1], f"2wiki={sets[2]}", "--strategy", "ircot", "--out", tmp_path / "o")
    respond = wrong_about(0, 1, 2)
    (line,) = here(await paper("table1", *given, respond=respond))
    assert [line[f"{name} EM"] for name in ("HotpotQA", "MuSiQue", "2Wiki")] == [25, 100, 75]
    assert line["Avg. EM"] == line["Avg. Acc"] == pytest.approx(200 / 3, abs=1e-3)
    out = ("--strategy", "ircot", "--out", tmp_path / "two")
    (line,) = here(await paper("table1", *given[:2], *out, respond=respond))
    assert line["HotpotQA EM"] == 25
    assert "Avg. EM" not in line


async def test_two_parts_of_one_of_the_papers_sets_keep_their_names(tmp_path):
    sets = [write_dataset(tmp_path / f"hotpot_{part}", range(3)) for part in ("dev", "train")]
    (line,) = here(await paper("table2", *sets, "--out", tmp_path / "o"))
    assert line["hotpot_dev EM"] == line["hotpot_train EM"] == 100


async def test_figure_6_is_timed(world, tmp_path):
    arguments = (world, "--out", tmp_path / "o", "--limit", 4, "--warmup", 1)
    done = await paper("fig6", *arguments)
    (line,) = here(done)
    assert line["Accuracy"] == 100
    assert line["Seconds"] > 0
    assert "Pareto front (Acc over p50): " in done.stdout
    assert (tmp_path / "o" / "paper" / "fig6.svg").exists()
    assert json.loads((tmp_path / "o" / "manifest.json").read_text())["benchmark"] == "latency"
    assert last_line(done)["latency"][0]["num_questions"] == 4
    fewer = ("--results", tmp_path / "o", "--out", tmp_path / "few", "--limit", 2)
    done = await bench("paper", "fig6", *fewer)
    assert last_line(done)["latency"][0]["num_questions"] == 2


async def test_figure_6_of_untimed_answers_is_refused(world, tmp_path):
    await paper("table7", world, "--out", tmp_path / "o", "--limit", 2)
    done = await bench("paper", "fig6", "--results", tmp_path / "o", "--out", tmp_path / "f")
    assert done.exit_code == 1
    assert "no answer here was timed" in done.stderr


async def test_a_limit_draws_the_same_sample_from_a_folder(world, tmp_path):
    await paper("table7", world, "--out", tmp_path / "o")
    done = await bench(
        *("paper", "table7", "--results", tmp_path / "o", "--out", tmp_path / "o", "--limit", 5)
    )
    assert here(done)[0]["Total"] == 5


async def test_what_was_printed_is_in_the_report(world, tmp_path):
    await paper("table6", world, "--out", tmp_path / "o", "--max-steps", 3, "--limit", 2)
    await bench("paper", "table7", "--results", tmp_path / "o", "--out", tmp_path / "only")
    made = report.make([tmp_path / "o", tmp_path / "only"])
    titles = [section.title for section in made.sections]
    assert titles[1:] == [
        "Table 6: accuracy by the most steps allowed",
        "Table 7: how many searches an answer took, and how often it was right",
    ]
    assert "paper · IRCoT 70B (teacher)" in made.markdown()
    assert "paper · IRCoT 70B (teacher)" in made.html()
    (tmp_path / "only" / "paper" / "table7.json").write_text("[]")
    done = await bench("report", tmp_path / "only", "--out", tmp_path / "r.html")
    assert "table7.json is not what `bench paper` keeps" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fig7"], "give a recipe's folder (--recipe)"),
        (["fig7", "--results", "."], "give a recipe's folder (--recipe)"),
        (["fig4", "--trained", "a=musique"], "--trained is for fig5 alone"),
        (["fig3"], "give --judge URL and --judge-model NAME"),
        (["table1", "--judge", "http://j/v1"], "--judge is for fig3 and table4 alone"),
        (["fig5", "--trained", "musique"], "--trained musique is not NAME=DATA"),
        (["table1", "--results", ".", "--max-steps", "3"], "--max-steps is for measuring"),
        (["table1", "--results", "."], "holds no results: it has no manifest.json"),
        (["table1", "--recipe", "."], "holds no finished evaluation"),
        (["fig7", "--recipe", "."], "no training with learned σ (students/*/logs/"),
    ],
)
async def test_what_cannot_be_drawn_ends_in_one_line(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    done = await bench("paper", *arguments, "--out", tmp_path / "o")
    assert done.exit_code == 1
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.output
