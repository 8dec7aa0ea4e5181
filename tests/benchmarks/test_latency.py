"""`bench latency`: sums worked out by hand, and the whole command over a real socket."""

from dataclasses import replace

import pytest

from steper_serve.benchmarks import accuracy, latency
from steper_serve.benchmarks.client import Reply, Times
from steper_serve.benchmarks.latency import Point, front, step_seconds
from steper_serve.generation.scripted import ScriptedModel
from tests.api.serving import served
from tests.benchmarks.test_rows import CELL, FAILED, row, trace
from tests.benchmarks.worlds import bench, last_line, rows, write_dataset, wrong_about
from tests.recipes.worlds import loop, question, reason


def timed(number: int, wall: float, *, started: float = 0.0, cell=CELL):
    times = Times(wall, wall / 100, wall / 10, wall / 2)
    reply = Reply("x", trace("x"), times)
    return replace(row(), cell=cell, question=question(number), started=started, reply=reply)


def test_an_answers_time_is_split_by_its_trace():
    """By hand: two steps; generation 0.5 s of which queue, prefill and decode take 0.4."""
    step = trace("x")["steps"][0]
    parts = {"queue_seconds": 0.05, "prefill_seconds": 0.05, "decode_seconds": 0.1}
    first = {**step, **parts, "retrieval_seconds": 0.02, "generation_seconds": 0.25}
    second = {**first, "retrieval_seconds": 0.0}
    given = row(reply=Reply("x", trace("x", steps=[first, second]), Times(0.6)))
    assert step_seconds(given) == pytest.approx(
        {
            "retrieval": 0.01,
            "queue": 0.05,
            "prefill": 0.05,
            "decode": 0.1,
            "front_end": 0.05,
            "outside": 0.05,
            "wall": 0.3,
        }
    )
    untold = [{**s, **dict.fromkeys(parts, 0.0)} for s in (first, second)]
    given = row(reply=Reply("x", trace("x", steps=untold), Times(0.6)))
    assert set(step_seconds(given)) == {"retrieval", "outside", "wall"}


def test_a_part_is_taken_over_the_answers_that_have_it():
    """By hand: of two answers one found no passage, and asked the engine for nothing."""
    step = trace("x")["steps"][0]
    parts = {"queue_seconds": 0.1, "prefill_seconds": 0.1, "decode_seconds": 0.2}
    wrote = {**step, **parts, "retrieval_seconds": 0.01, "generation_seconds": 0.5}
    silent = dict.fromkeys((*parts, "generation_seconds"), 0.0)
    nothing = {**step, **silent, "retrieval_seconds": 0.03}
    answered = [
        row(reply=Reply("x", trace("x", steps=[each]), Times(wall)))
        for each, wall in ((wrote, 0.6), (nothing, 0.1))
    ]
    found = latency.find(
        [replace(r, question=question(n)) for n, r in enumerate(answered)], {}, "em"
    )
    steps = {name: told["p50"] for name, told in found.timed[CELL]["step_seconds"].items()}
    assert (steps["decode"], steps["front_end"]) == (pytest.approx(0.2), pytest.approx(0.1))
    assert (steps["retrieval"], steps["outside"]) == (pytest.approx(0.02), pytest.approx(0.1))


def test_pauses_do_not_count_in_a_rate():
    """By hand: answers over 0..2, 1..3 and 10..11 keep the server busy for 4 seconds."""
    spans = [timed(1, 2.0, started=0), timed(2, 2.0, started=1), timed(3, 1.0, started=10)]
    assert accuracy.rate(spans) == 3 / 4
    assert accuracy.rate([*spans, timed(4, 0.5, started=1.5)]) == 4 / 4
    assert accuracy.rate([FAILED]) is None


def test_medians_tails_and_firsts():
    """By hand: of 1, 2, … 21 s the median is 11 and the 95th percentile 20."""
    answered = [timed(n, float(n)) for n in range(1, 22)]
    found = latency.find([*answered, replace(FAILED, question=question(99))], {}, "em")
    timing = found.timed[CELL]
    assert (timing["p50_seconds"], timing["p95_seconds"], timing["mean_seconds"]) == (11, 20, 11)
    assert timing["first_byte_p50_seconds"] == pytest.approx(0.11)
    assert timing["first_thought_p50_seconds"] == pytest.approx(1.1)
    assert timing["first_answer_p95_seconds"] == pytest.approx(10)
    assert timing["cached_share"] == 0.25
    assert found.summaries[CELL]["num_questions"] == 22
    assert found.summaries[CELL]["num_failed"] == 1


def test_repetitions_are_one_cell_and_a_question_counts_once():
    again = replace(CELL, repetition=1)
    given = [timed(1, 1.0), timed(1, 3.0, cell=again), timed(2, 2.0)]
    found = latency.find(given, {}, "em")
    assert list(found.timed) == [CELL]
    assert found.timed[CELL]["p50_seconds"] == 2
    assert found.summaries[CELL]["num_questions"] == 2


def point(name: str, seconds: float, mean: float) -> Point:
    return Point(replace(CELL, served=name), seconds, {"mean": mean}, None)


def test_the_pareto_front_is_what_nothing_beats():
    points = [
        point("slow and best", 4.0, 0.9),
        point("fast", 1.0, 0.5),
        point("as fast, less right", 1.0, 0.4),
        point("beaten by the next", 3.0, 0.7),
        point("middle", 2.0, 0.8),
        point("as right, slower", 2.5, 0.8),
        point("twin of middle", 2.0, 0.8),
    ]
    names = [p.cell.served for p in front(points)]
    assert names == ["fast", "middle", "twin of middle", "slow and best"]
    assert front([]) == []


def test_nothing_that_was_answered_makes_no_plot():
    found = latency.find([FAILED], {}, "em")
    assert (latency.tables(found), latency.plot(found)) == ([], "")
    (line,) = latency.lines(found, {})
    assert (line["em"], line["num_failed"], line["pareto"]) == (0, 1, False)


async def test_the_command_times_what_it_scores(tmp_path):
    world, out = write_dataset(tmp_path / "world", range(8)), tmp_path / "o"
    model = ScriptedModel(wrong_about(1))
    async with served(loop(model)) as url:
        done = await bench(
            *("latency", world, "--endpoint", f"here={url}/v1", "--out", out, "--warmup", 3),
            *("--max-steps", 1, "--max-steps", 3, "--limit", 5, "--parameters", "here=4.5M"),
            *("--repeat", 2, "--score", "em"),
        )
    assert len(rows(out)) == 2 * 2 * 5
    # Two generations a question, the answer forced or not; each of the four batches warms up.
    assert len(model.requests) == 2 * 4 * (5 + 3)
    short, long = last_line(done)
    assert (short["max_steps"], long["max_steps"], long["num_questions"]) == (1, 3, 5)
    assert 0 < long["first_byte_p50_seconds"] <= long["first_answer_p50_seconds"]
    assert long["first_answer_p50_seconds"] <= long["p50_seconds"] <= long["p95_seconds"]
    assert long["num_parameters"] == 4_500_000
    assert {"retrieval", "outside", "wall"} <= set(long["step_seconds"])
    assert any(each["pareto"] for each in (short, long))
    assert "Pareto front (EM over p50): " in done.stdout
    assert (out / "latency.svg").read_text().startswith("<?xml")
    cells = {(r["cell"]["streamed"], r["cell"]["concurrency"]) for r in rows(out)}
    assert cells == {(True, 1)}


async def test_warming_up_asks_what_is_not_measured(tmp_path):
    world = write_dataset(tmp_path / "world", range(8))
    model = ScriptedModel(reason)
    async with served(loop(model)) as url:
        await bench(
            *("latency", world, "--endpoint", f"{url}/v1", "--out", tmp_path / "o"),
            *("--limit", 4, "--warmup", 4),
        )
    first = {request.prompt.text for request in model.requests[: 2 * 4]}
    measured = [row["question"] for row in rows(tmp_path / "o")]
    assert len(model.requests) == 2 * 8
    assert not any(asked in text for text in first for asked in measured)
