"""Rows and folders of results: what is kept is read back; what is wrong is named; cells."""

import json
from dataclasses import replace

import pytest

from steper_serve.benchmarks import results, rows
from steper_serve.benchmarks.cells import Cell, labels, matrix
from steper_serve.benchmarks.client import Reply, Times
from steper_serve.benchmarks.results import Results
from steper_serve.benchmarks.rows import Failure, Row
from steper_serve.errors import ConfigurationError
from steper_serve.journal import BadRecord
from tests.recipes.worlds import question

CELL = Cell("world", "d1", "student", "w1", ("--x",), "steper", "ircot", 5, 4)
TIMES = Times(0.5, 0.01, 0.1, 0.4)


def trace(answer: str, **more) -> dict:
    step = {
        "query": "Q?",
        "passages": [{"id": "w4", "title": "Work 4", "score": 1.0}],
        "thought": f"It may be Rome. So the answer is: {answer}.",
        "retrieval_seconds": 0.001,
        "queue_seconds": 0.002,
        "prefill_seconds": 0.03,
        "decode_seconds": 0.1,
        "generation_seconds": 0.14,
    }
    usage = {"num_prompt_tokens": 100, "num_completion_tokens": 10, "num_cached_tokens": 25}
    end = {"strategy": "ircot", "stop_reason": "answer", "usage": usage, "seconds": 0.3}
    return {"answer": answer, "steps": [step], **end, **more}


def row(number: int = 4, answer: str = "Turin", **changes) -> Row:
    reply = Reply(answer, trace(answer), TIMES)
    return replace(Row(CELL, question(number), 1000.25, reply, None), **changes)


FAILED = row(5, reply=None, failure=Failure("AnswerFailed", "it broke", {"steps": []}))


@pytest.mark.parametrize("kept", [row(), FAILED])
def test_a_row_is_read_back_as_it_was(tmp_path, kept):
    record = json.loads(json.dumps(rows.to_json(kept)))
    back = rows.from_json(record, tmp_path / "rows.jsonl", 1)
    assert back.key == kept.key
    assert rows.to_json(back) == rows.to_json(kept)
    assert back.score() == kept.score()


def test_a_row_is_scored_by_its_trace():
    """By hand: the answer is Turin, and 1 of 2 titles was found."""
    score = row().score()
    assert (score.em, score.f1, score.acc, score.acc_generated) == (1, 1, 1, 1)
    assert (score.recall, score.complete, score.num_steps, score.failed) == (0.5, 0, 1, False)
    assert (score.num_prompt_tokens, score.num_generated_tokens, score.seconds) == (100, 10, 0.5)
    assert row(answer="Oslo").score().em == 0
    step = {**trace("Rome")["steps"][0], "thought": "Turin, or Rome?"}
    thought = row(reply=Reply("Rome", trace("Rome", steps=[step]), TIMES)).score()
    assert (thought.acc, thought.acc_generated) == (0, 1)
    assert (FAILED.score().failed, FAILED.score().acc) == (True, 0)


def test_the_hash_tells_settings_apart_and_nothing_else():
    changed = [replace(CELL, **{name: "other"}) for name in ("dataset", "served", "model")]
    changed += [replace(CELL, max_steps=6), replace(CELL, top_k=None), replace(CELL, flags=())]
    changed += [replace(CELL, repetition=1), replace(CELL, concurrency=8)]
    assert len({cell.config for cell in [CELL, *changed]}) == 1 + len(changed)
    assert replace(CELL).config == CELL.config
    assert replace(CELL, repetition=2).group == CELL


def test_cells_are_called_by_what_tells_them_apart():
    other = replace(CELL, max_steps=None, top_k=8)
    assert labels([CELL, CELL]) == {CELL: "world"}
    assert labels([CELL, other]) == {CELL: "5 steps, top 4", other: "default steps, top 8"}


def test_what_goes_with_a_name_is_not_said_beside_it():
    other = replace(CELL, dataset="second", corpus="d2")
    assert labels([CELL, other]) == {CELL: "world", other: "second"}
    newer = replace(CELL, corpus="abcdef012345")
    assert labels([CELL, newer])[newer] == "corpus abcdef"


def test_a_matrix_is_every_combination_once():
    found = matrix([], ["ircot", "direct"], [3, 5, 3], [])
    assert [(s.model, s.strategy, s.max_steps, s.top_k) for s in found] == [
        ("steper", "ircot", 3, None),
        ("steper", "ircot", 5, None),
        ("steper", "direct", 3, None),
        ("steper", "direct", 5, None),
    ]
    assert len(matrix(["steper-ircot"], ["ircot"], [], [])) == 1
    with pytest.raises(ConfigurationError, match="steper-ircot is a strategy of its own"):
        matrix(["steper-ircot"], ["ircot", "direct"], [], [])


def test_a_folder_keeps_rows_and_knows_what_is_left(tmp_path):
    items = [(CELL, question(n)) for n in (4, 5, 6)]
    with Results(tmp_path, "accuracy", {"limit": 3}) as kept:
        assert kept.left(items, retry_failed=False) == items
        kept.add(row())
        kept.add(FAILED)
    with (tmp_path / "rows.jsonl").open("a") as out:
        out.write('{"id": "q6", "conf')
    with Results(tmp_path, "accuracy", {}) as kept:
        assert kept.left(items, retry_failed=False) == items[2:]
        assert kept.left(items, retry_failed=True) == items[1:]
        later = replace(CELL, max_steps=6)
        assert kept.left([(later, question(4))], retry_failed=False)
        kept.add(row(5))
    loaded = results.load(tmp_path)
    assert [(r.question.id, r.failure) for r in loaded.rows] == [("q4", None), ("q5", None)]
    assert [run["settings"] for run in loaded.manifest.runs] == [{"limit": 3}, {}]
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{}", r"line 2 is not a row of a benchmark \(KeyError: 'cell'\)"),
        (json.dumps({**rows.to_json(row()), "trace": {"steps": []}}), "line 2 is not a row"),
        (json.dumps({**rows.to_json(row()), "cell": {"x": 1}}), "line 2 is not a row"),
        ("[]", "line 2 is not a JSON object"),
    ],
)
def test_a_line_that_is_no_row_is_named(tmp_path, line, message):
    with Results(tmp_path, "accuracy", {}) as kept:
        kept.add(row())
    with (tmp_path / "rows.jsonl").open("a") as out:
        out.write(line + "\n")
    with pytest.raises(BadRecord, match=rf"rows\.jsonl, {message}"):
        results.load(tmp_path)
    with pytest.raises(BadRecord, match=message), Results(tmp_path, "accuracy", {}):
        pass
    (tmp_path / "rows.jsonl").unlink()
    with Results(tmp_path, "accuracy", {}) as kept:  # the lock was given back
        assert kept.rows == {}


def test_what_is_no_folder_of_results_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"holds no results: it has no manifest\.json"):
        results.load(tmp_path)
    (tmp_path / "manifest.json").write_text('{"a": 1}')
    with pytest.raises(
        BadRecord,
        match=r"manifest\.json is not as it was written .*: is .* a folder of",
    ):
        results.load(tmp_path)
    (tmp_path / "manifest.json").write_text('{"benchmark": "load"}')
    with pytest.raises(ConfigurationError, match="holds results of `bench load`"):
        Results(tmp_path, "accuracy", {})
