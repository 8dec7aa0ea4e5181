"""A judge over a real socket: verdicts counted by hand, kept, gone on with, and never guessed."""

import json
import re
from pathlib import Path

import pytest

from steper_serve.benchmarks.paper import judge as judging
from steper_serve.generation.scripted import ScriptedModel
from tests.api.serving import served
from tests.benchmarks.court import abilities, sitting, validity
from tests.benchmarks.worlds import bench, kind, last_line, proxy, write_dataset, wrong_about
from tests.recipes.worlds import city, loop, question

CLOSED = "http://127.0.0.1:9/v1"
WRONG = (0, 2, 5)


def number_of(prompt: str) -> int:
    return int(re.search(r"Question: .*?Work (\d+)", prompt)[1])


def write_world(folder: Path, numbers: range) -> Path:
    """A data set whose questions have two gold sub-questions, but for the first."""
    write_dataset(folder, numbers)
    lines = []
    for n in numbers:
        steps = [
            {"question": f"Who painted Work {n}?", "answer": f"Painter {n}"},
            {"question": "Where was #1 born?", "answer": city(n)},
        ]
        fields = {name: getattr(question(n), name) for name in ("id", "question", "answers")}
        titles = question(n).supporting_titles
        more = {"type": kind(n), "steps": steps if n else [], "supporting_titles": titles}
        lines.append(json.dumps(fields | more))
    (folder / "questions.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
async def answered(tmp_path) -> Path:
    """A folder of results: twelve questions, three of them wrong."""
    world = write_world(tmp_path / "world", range(12))
    async with served(loop(ScriptedModel(wrong_about(*WRONG)))) as url:
        done = await bench(
            *("accuracy", world, "--endpoint", f"here={url}/v1", "--out", tmp_path / "o"),
            *("--strategy", "ircot", "--max-steps", 5, "--top-k", 4),
        )
    assert last_line(done)["em"] == 9 / 12
    return tmp_path / "o"


@pytest.fixture
def no_retries(monkeypatch):
    monkeypatch.setattr(judging, "_RETRIES", 0)


async def paper(name, folder, url, *arguments):
    return await bench(
        *("paper", name, "--results", folder, "--out", folder, "--judge", url),
        *("--judge-model", "wise", *arguments),
    )


def verdicts(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "verdicts.jsonl").read_text().splitlines()]


async def test_figure_3_is_the_mean_of_what_the_judge_says(answered):
    """By hand: all 12 begin well, the odd 6 expand, the 9 right ones come to their answer."""

    def judge(prompt: str) -> str:
        n = number_of(prompt)
        return abilities(1, n % 2, int(n not in WRONG))

    async with sitting(judge) as court:
        done = await paper("fig3", answered, court.url)
    found = last_line(done)
    (line,) = found["here"]
    assert (line["Initialization"], line["Expansion"], line["Aggregation"]) == (100, 50, 75)
    assert "50.00 [" in done.stdout
    assert "- judge, paper: GPT-4o, prompt of Table 17" in done.stdout
    assert f"- judge, here: wise at {court.url}, a prompt of our own words" in done.stdout
    assert found["verdicts"][0]["num_in_form"] == 12
    assert {body["model"] for body in court.bodies} == {"wise"}
    assert {body["temperature"] for body in court.bodies} == {0}
    prompt = next(p for p in court.prompts if number_of(p) == 5)
    assert "Wikipedia Title: Painter 5\nPainter 5 was born in Lagos." in prompt
    assert "So the answer is: Paris, France." in prompt


async def test_replies_outside_the_form_are_counted_shown_and_in_no_mean(answered):
    """Of 12: one in prose, two with a 3; the other nine are all ones."""
    odd = {1: "I would say 1, 1 and 1.", 3: abilities(1, 3, 1), 4: abilities(1, 3, 1)}
    async with sitting(lambda prompt: odd.get(number_of(prompt), abilities(1, 1, 1))) as court:
        done = await paper("fig3", answered, court.url)
    found = last_line(done)
    assert found["here"][0]["Expansion"] == 100
    (counts,) = found["verdicts"]
    assert (counts["num_answers"], counts["num_in_form"], counts["num_outside"]) == (12, 9, 3)
    shown = done.stdout[done.stdout.index("Outside the form") :]
    assert re.search(r"here +2 +'Reasoning Expansion' is neither 0 nor 1", shown)
    assert re.search(r"here +1 +not one JSON object", shown)
    kept = {v["id"]: v for v in verdicts(answered)}
    assert kept["q1"]["reply"] == odd[1]
    assert (kept["q1"]["values"], kept["q1"]["problem"]) == (None, "not one JSON object")


async def test_what_was_judged_is_not_asked_again_unless_it_was_outside_the_form(answered):
    replies = {1: "no form"}
    async with sitting(lambda prompt: replies.get(number_of(prompt), abilities(1, 1, 1))) as court:
        first = last_line(await paper("fig3", answered, court.url))
        assert len(court.prompts) == 12
        assert last_line(await paper("fig3", answered, court.url)) == first
        assert len(court.prompts) == 12
        replies.clear()
        again = last_line(await paper("fig3", answered, court.url, "--retry-failed"))
        assert len(court.prompts) == 13
    assert again["verdicts"][0]["num_in_form"] == 12
    done = await paper("fig3", answered, CLOSED)  # every verdict is there
    assert last_line(done)["here"] == again["here"]


async def test_another_judge_is_asked_anew(answered):
    async with sitting(lambda prompt: abilities(1, 1, 1)) as court:
        await paper("fig3", answered, court.url)
        await paper("fig3", answered, court.url, "--judge-model", "wiser")
    assert [body["model"] for body in court.bodies].count("wiser") == 12


async def test_a_judge_that_refuses_half_way_is_named_and_a_rerun_goes_on(answered):
    def judge(prompt: str):
        if len(court.prompts) >= 5:
            return 403, {"message": "the credit is used up", "code": "quota"}
        return abilities(1, 1, 1)

    async with sitting(judge) as court:
        done = await paper("fig3", answered, court.url, "--judge-concurrency", 1)
        assert done.exit_code == 1
        assert f"the judge 'wise' at {court.url} gave no verdict (403)" in done.stderr
        assert "the credit is used up. 5 verdicts are kept in" in done.stderr
        assert "Traceback" not in done.output
    kept = (answered / "verdicts.jsonl").read_text()
    assert len(verdicts(answered)) == 5
    async with sitting(lambda prompt: abilities(1, 1, 1)) as court:
        done = await paper("fig3", answered, court.url)
        assert last_line(done)["verdicts"][0]["num_in_form"] == 12
        assert len(court.prompts) == 7
    assert (answered / "verdicts.jsonl").read_text().startswith(kept)


async def test_a_judge_that_goes_away_half_way_is_named_and_a_rerun_goes_on(answered, no_retries):
    blocks = []

    def judge(prompt: str):
        if len(court.prompts) >= 5:
            blocks[0]()
        return abilities(1, 1, 1)

    async with (
        sitting(judge) as court,
        proxy(court.url.removesuffix("/v1")) as (way, block),
    ):
        blocks.append(block)
        done = await paper("fig3", answered, f"{way}/v1", "--judge-concurrency", 1)
        assert done.exit_code == 1
        assert f"at {way}/v1 gave no verdict" in done.stderr
        assert "5 verdicts are kept in" in done.stderr
    async with sitting(lambda prompt: abilities(1, 1, 1)) as court:
        done = await paper("fig3", answered, court.url)
        assert last_line(done)["verdicts"][0]["num_in_form"] == 12
        assert len(court.prompts) == 7


async def test_a_judge_that_is_not_there_is_named(answered, no_retries):
    done = await paper("fig3", answered, CLOSED)
    assert done.exit_code == 1
    assert CLOSED in done.stderr.splitlines()[-1]
    assert "0 verdicts are kept" in done.stderr
    assert "start the same command again" in done.stderr


async def test_a_prompt_that_is_refused_is_shown_and_asked_again_next_time(answered):
    refused = {3}

    def judge(prompt: str):
        if number_of(prompt) in refused:
            return 400, {"message": "too long", "code": "context_length_exceeded"}
        return abilities(1, 1, 1)

    async with sitting(judge) as court:
        found = last_line(await paper("fig3", answered, court.url))
        (counts,) = found["verdicts"]
        assert (counts["num_in_form"], counts["num_silent"]) == (11, 1)
        refused.clear()
        found = last_line(await paper("fig3", answered, court.url))
    assert found["verdicts"][0]["num_in_form"] == 12
    assert len(court.prompts) == 12


@pytest.mark.parametrize(("at_once", "num_asked"), [(1, 3 + 1), (3, 3 + 3)])
async def test_a_setting_that_a_judge_does_not_know_is_left_out(answered, at_once, num_asked):
    """Also of prompts that were in flight with the first that it refused."""

    def judge(prompt: str):
        asked = [body for body in court.bodies if body["messages"][0]["content"] == prompt]
        if "temperature" in asked[-1]:
            return 400, {"message": "unsupported", "param": "temperature", "code": "unsupported"}
        return abilities(1, 1, 1)

    async with sitting(judge, at_once=at_once) as court:
        arguments = ("--limit", 3, "--judge-concurrency", at_once)
        found = last_line(await paper("fig3", answered, court.url, *arguments))
    assert found["verdicts"][0]["num_in_form"] == 3
    assert len(court.bodies) == num_asked


async def test_the_key_comes_from_the_environment(answered, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "sk-1")
    async with sitting(lambda prompt: abilities(1, 1, 1)) as court:
        arguments = ("--judge-key-env", "JUDGE_KEY", "--limit", 1)
        await paper("fig3", answered, court.url, *arguments)
        done = await paper("fig3", answered, court.url, "--judge-key-env", "NO_SUCH_KEY")
    assert set(court.keys) == {"Bearer sk-1"}
    assert "sk-1" not in (answered / "verdicts.jsonl").read_text()
    assert "--judge-key-env names NO_SUCH_KEY, which is not set" in done.stderr


async def test_table_4_is_answerability_and_integrity(answered):
    """By hand, over q1 to q11 (q0 has no sub-questions): 9 of 11 are right by Acc.

    The judge calls the same 9 correct; of these it finds a sub-question missing in q7 (0.5), and
    in q2 and q5, which are wrong, both (0): SQA (8 + 0.5) / 11, RI 8 / 9.
    """

    def judge(prompt: str) -> str:
        n = number_of(prompt)
        if n in WRONG:
            return validity(0.0, "wrong", "wrong", "wrong")
        missing = n == 7
        return validity(
            0.5 if missing else 1.0, "correct", "correct", "wrong" if missing else "correct"
        )

    async with sitting(judge) as court:
        done = await paper("table4", answered, court.url)
    found = last_line(done)
    (line,) = found["here"]
    assert line["Accuracy"] == pytest.approx(100 * 9 / 11, abs=1e-3)
    assert line["SQA"] == pytest.approx(100 * 8.5 / 11, abs=1e-3)
    assert line["RI"] == pytest.approx(100 * 8 / 9, abs=1e-3)
    (counts,) = found["verdicts"]
    assert (counts["num_in_form"], counts["num_left_out"]) == (11, 1)
    assert len(court.prompts) == 11
    assert "paper · StepER" in done.stdout
    prompt = next(p for p in court.prompts if number_of(p) == 7)
    assert "Sub-question 2: Where was Painter 7 born?\nRight answer 2: Turin" in prompt


async def test_a_corpus_that_has_changed_is_not_judged_by(answered):
    corpus = answered.parent / "world" / "corpus.jsonl"
    corpus.write_text(corpus.read_text().replace("Oslo", "Bergen"))
    async with sitting(lambda prompt: abilities(1, 1, 1)) as court:
        done = await paper("fig3", answered, court.url)
    assert done.exit_code == 1
    assert "is not the one that was searched" in done.stderr
    assert court.prompts == []


async def test_a_data_set_that_has_moved_is_given_by_name(answered, tmp_path):
    (tmp_path / "world").rename(tmp_path / "elsewhere")
    async with sitting(lambda prompt: abilities(1, 1, 1)) as court:
        done = await paper("fig3", answered, court.url)
        assert "there is no dataset" in done.stderr
        (tmp_path / "new").mkdir()
        (tmp_path / "elsewhere").rename(tmp_path / "new" / "world")
        done = await paper("fig3", answered, court.url, tmp_path / "new" / "world")
    assert last_line(done)["here"][0]["Expansion"] == 100


async def test_what_is_kept_and_is_no_verdict_is_named(answered):
    (answered / "verdicts.jsonl").write_text('{"key": 1}\n')
    async with sitting(lambda prompt: abilities(1, 1, 1)) as court:
        done = await paper("fig3", answered, court.url)
    assert "verdicts.jsonl, line 1 is not a verdict" in done.stderr
