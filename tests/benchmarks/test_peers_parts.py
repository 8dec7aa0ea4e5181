"""What FlashRAG is given, and figures worked out by hand."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from steper_serve.benchmarks.cells import Cell
from steper_serve.benchmarks.client import Reply, Times
from steper_serve.benchmarks.load import Load
from steper_serve.benchmarks.peers import comparing
from steper_serve.benchmarks.peers.flashrag import Package, parts
from steper_serve.benchmarks.rows import Row
from steper_serve.errors import EngineFailed
from steper_serve.strategies import FewShot
from steper_serve.trajectory import Demonstration, Generate
from tests.benchmarks.test_peers import Whole
from tests.recipes.worlds import FORMAT, loop, question

NOTHING = Package(None, None, lambda *given, **named: pytest.fail("no prompt of ours"))
SHOWN = Demonstration("Where?", (), ("Here.",), "Here")
OURS = Cell("d", "", "here", "", (), "steper", "ircot", 5, 4, True, 32)
THEIRS = replace(OURS, model="flashrag-dev 1", streamed=False)


async def test_a_model_that_is_no_student_keeps_flashrags_prompt_and_stops():
    engine = Whole(lambda request: " Said")
    untuned = replace(FORMAT, step_end="sentence", few_shot=True, instruction=None)
    few_shot = {"ircot": FewShot("Think.", (SHOWN,))}
    given = parts(NOTHING, replace(loop(engine), format=untuned, few_shot=few_shot), engine)
    assert given.prompt is None
    assert (
        await asyncio.to_thread(given.generator.generate, ["a", "b"], [".", "\n"]) == ["Said"] * 2
    )
    assert [request.stop for request in engine.requests] == [(".", "\n")] * 2
    assert await asyncio.to_thread(given.generator.generate, "c", logprobs=1) == ["Said"]
    assert engine.requests[-1].stop == ()
    assert await asyncio.to_thread(given.generator.generate, []) == []


async def test_what_runs_beside_an_error_has_ended_when_it_is_raised():
    def respond(request: Generate) -> str | EngineFailed:
        return EngineFailed("it broke") if request.prompt.text == "b" else " A long text of words"

    engine = Whole(respond)
    given = parts(Package(None, None, lambda *given, **named: None), loop(engine), engine)
    with pytest.raises(EngineFailed, match="it broke"):
        await asyncio.to_thread(given.generator.generate, ["a", "b", "c"])
    assert engine.num_running() == 0


def answered(cell: Cell, number: int, answer: str, **more: Any) -> Row:
    usage = {"num_prompt_tokens": 100, "num_completion_tokens": 20, "num_cached_tokens": 50}
    trace = {"steps": [], "answer": answer, "stop_reason": "answer", "usage": usage, **more}
    return Row(cell, question(number), 105.0, Reply(answer, trace, Times(0.5)), None)


def measured(cell: Cell, seconds: Sequence[float]) -> list[Load]:
    cells = [replace(cell, repetition=n) for n in range(len(seconds))]
    times = zip(cells, seconds, strict=True)
    return [Load(cell, "digest", 2, 8, 100.0, 110.0, s, None) for cell, s in times]


def rows_of(loads: Sequence[Load], make: Callable[[Cell], list[Row]]) -> list[Row]:
    return [row for load in loads for row in make(load.cell)]


def test_a_ratio_is_the_median_over_repetitions_of_both():
    """By hand: two answers each; ours 2, 4 and 1 answers/s, theirs 1, 1 and 2."""
    ours, theirs = measured(OURS, (1.0, 0.5, 2.0)), measured(THEIRS, (2.0, 2.0, 1.0))
    alone = measured(replace(OURS, concurrency=1), (4.0,))
    other = measured(replace(OURS, top_k=8), (0.1, 0.1, 0.1))
    loads = [*theirs, *ours, *alone, *other]
    # Question 0 is answered by Oslo, question 1 by Turin.
    right = rows_of(
        [*ours, *alone, *other], lambda c: [answered(c, 0, "Oslo"), answered(c, 1, "Turin")]
    )
    half = rows_of(
        theirs,
        lambda c: [answered(c, 0, "Oslo."), answered(c, 1, "So it is Turin.", read_by_us="Turin")],
    )
    compared = comparing.compare(loads, [*right, *half])
    found = {(c.system, c.cell.concurrency, c.cell.top_k): c for c in compared}
    told = found["flashrag-dev 1", 32, 4]
    assert told.ratios == {1: 0.5, 32: 2.0}  # of 2/1, 4/1 and 1/2; of 0.5/1
    assert (told.scores["em"]["mean"], told.em_read_by_us) == (0.5, 1.0)
    assert told.figures["answers_per_second"] == 1.0
    assert told.scores["mean_generated_tokens"] == 20
    assert found["steper-serve", 32, 4].ratios == {}
    assert found["steper-serve", 32, 4].em_read_by_us == 1.0
    assert found["steper-serve", 32, 8].ratios == {}
    line = comparing.lines([told])[0]
    assert (line["ours_ratio"], line["em"], line["spread"]["answers_per_second"]) == (
        {"1": 0.5, "32": 2.0},
        0.5,
        [1.0, 2.0],
    )
    (table,) = comparing.tables(compared)
    assert [row[0] for row in table.rows] == [
        "top 4, steper-serve, 32 in flight",
        "top 4, steper-serve, 1 in flight",
        "top 4, flashrag-dev 1, 32 at a time",
        "top 8, steper-serve, 32 in flight",
    ]
    assert table.rows[2][1:4] == ("1.0 [1.0, 2.0]", "× 0.50", "× 2.00")


def test_nothing_measured_has_no_table():
    assert comparing.tables(comparing.compare([], [])) == []
