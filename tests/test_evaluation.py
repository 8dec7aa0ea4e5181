"""Questions through the loop: what is asked at once, what a failure does, how scores add up."""

import asyncio
import json
import random
from statistics import NormalDist, fmean

import pytest

from steper_serve import crew, evaluation, questions
from steper_serve.errors import CorpusError, EngineFailed, EngineUnavailable, SteperError
from steper_serve.evaluation import Outcome, Score, interval, run, score, summary
from steper_serve.generation.scripted import ScriptedModel
from steper_serve.loop import Loop
from steper_serve.questions import Question
from steper_serve.trajectory import Sampling
from tests.recipes.worlds import loop, question, reason


def asked(request) -> int:
    return int(request.prompt.text.rpartition("painter of Work ")[2].split()[0])


async def gathered(*args, **settings) -> list[Outcome]:
    outcomes: list[Outcome] = []
    await run(*args, outcomes.append, **settings)
    return outcomes


async def evaluate(loop: Loop, asked: list[Question], *, concurrency: int) -> list[Score]:
    outcomes = await gathered(loop, asked, concurrency=concurrency)
    return [score(each.question, each.trajectory, each.seconds) for each in outcomes]


async def test_a_question_is_answered_scored_and_counted():
    model = ScriptedModel(reason)
    (found,) = await evaluate(loop(model), [question(4)], concurrency=3)
    assert (found.em, found.f1, found.acc, found.acc_generated) == (1, 1, 1, 1)
    assert (found.num_steps, found.num_generated_tokens) == (2, 7 + 11)
    assert (found.recall, found.complete, found.failed) == (1, 1, False)
    assert len(model.requests) == 2


async def test_tokens_are_drawn_as_the_caller_says():
    model, sampling = ScriptedModel(reason), Sampling(0.7, 0.9, 3)
    await gathered(loop(model), [question(4)], concurrency=1, sampling=sampling)
    assert [request.sampling for request in model.requests] == [sampling] * 2


async def test_no_more_are_asked_at_once_than_may_be():
    gate = asyncio.Event()
    model = ScriptedModel(reason, gate=gate)
    running = asyncio.create_task(
        gathered(loop(model), [question(n) for n in range(10)], concurrency=4)
    )
    while model.num_running() < 4:
        await asyncio.sleep(0)
    for _ in range(50):
        await asyncio.sleep(0)
    assert model.num_running() == 4
    gate.set()
    assert {o.question.id for o in await running} == {f"q{n}" for n in range(10)}


async def test_a_failed_question_is_handed_over_and_scores_nothing():
    def respond(request):
        return EngineFailed("no") if asked(request) == 1 else reason(request)

    outcomes = await gathered(
        loop(ScriptedModel(respond)), [question(0), question(1)], concurrency=1
    )
    assert [o.error is None for o in outcomes] == [True, False]
    failed = score(question(1), None)
    assert (failed.em, failed.acc_generated, failed.num_steps, failed.failed) == (0, 0, 0, True)


async def test_a_model_that_is_down_ends_the_run_and_what_it_did_not_answer_was_not_asked():
    model = ScriptedModel(reason)

    def take(outcome: Outcome) -> None:
        taken.append(outcome)
        if len(taken) == 3:
            model.down = "the plug is out"

    taken: list[Outcome] = []
    with pytest.raises(EngineUnavailable, match="the plug is out"):
        await run(loop(model), [question(n) for n in range(9)], take, concurrency=2)
    assert len(taken) in (3, 4)  # one was nearly done
    assert all(o.error is None for o in taken)


async def test_many_in_a_row_that_find_no_engine_end_the_run():
    model = ScriptedModel(lambda request: EngineUnavailable("busy"))
    taken: list[Outcome] = []
    with pytest.raises(EngineUnavailable, match="busy"):
        await run(loop(model), [question(n) for n in range(99)], taken.append, concurrency=1)
    assert taken == []
    assert len(model.requests) == crew.MOST_UNAVAILABLE


async def test_a_few_that_find_no_engine_are_failures_of_their_own():
    def respond(request):
        return EngineUnavailable("busy") if asked(request) in (2, 3, 9) else reason(request)

    outcomes = await gathered(
        loop(ScriptedModel(respond)), [question(n) for n in range(10)], concurrency=1
    )
    assert {o.question.id for o in outcomes if o.error} == {"q2", "q3", "q9"}
    assert len(outcomes) == 10


async def test_an_error_of_the_taker_ends_the_run():
    def take(outcome: Outcome) -> None:
        raise SteperError("no room")

    with pytest.raises(SteperError, match="no room"):
        await run(loop(), [question(n) for n in range(9)], take, concurrency=4)


async def test_an_unforeseen_error_is_shown_as_it_is():
    def take(outcome: Outcome) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run(loop(), [question(n) for n in range(9)], take, concurrency=4)


async def test_the_paper_reads_accuracy_in_the_whole_text():
    model = ScriptedModel([" It may be Turin or Oslo.", " So the answer is: Rome."])
    (found,) = await evaluate(loop(model), [question(1)], concurrency=1)
    assert (found.acc, found.acc_generated) == (0, 1)


async def test_means_over_all_over_types_and_over_hops():
    def respond(request):
        number = asked(request)
        return " So the answer is: Nowhere." if number < 2 else reason(request)

    asked_for = [question(n, type="a" if n < 3 else "b", hops=2 + n % 2) for n in range(4)]
    scores = await evaluate(loop(ScriptedModel(respond)), asked_for, concurrency=2)
    found = summary(scores)
    assert found["num_questions"] == 4
    assert found["em"]["mean"] == 0.5
    assert found["em"]["low"] == 0.0
    assert found["em"]["high"] == 1.0
    assert found["steps"] == {"1": 2, "2": 2}
    assert found["retrieval_recall"] == 0.75
    assert found["retrieval_complete"] == 0.5
    assert found["by_type"]["a"]["em"]["mean"] == pytest.approx(1 / 3)
    assert found["by_hops"]["3"]["num_questions"] == 2
    # Type b has one number of hops, and so is told by its type.
    both = {name: each["em"]["mean"] for name, each in found["by_type_and_hops"].items()}
    assert both == {"a, 2 hops": 0.5, "a, 3 hops": 0.0}
    assert json.loads(json.dumps(found)) == found
    assert summary(scores) == found
    lines = evaluation.table({"student": found, "none": found}).splitlines()
    assert lines[1].split()[:3] == ["student", "4", "0.500"]


def test_nothing_scored_is_no_summary():
    with pytest.raises(ValueError, match="nothing to sum up"):
        summary([])


def test_without_supporting_titles_there_is_no_recall():
    assert score(question(1, supporting_titles=()), None).recall is None


def test_the_interval_is_the_normal_one_where_that_holds():
    """Oracle: for many questions the mean is normal with deviation s / sqrt(n)."""
    draw = random.Random(1)
    values = [float(draw.random() < 0.7) for _ in range(2000)]
    mean = fmean(values)
    half = NormalDist().inv_cdf(0.975) * (mean * (1 - mean) / len(values)) ** 0.5
    low, high = interval(values)
    assert low == pytest.approx(mean - half, abs=0.002)
    assert high == pytest.approx(mean + half, abs=0.002)
    assert interval([1.0] * 5) == (1.0, 1.0)


def test_questions_are_read_with_what_is_known_of_them(tmp_path):
    file = tmp_path / "questions.jsonl"
    rows = [
        {"id": "a", "question": "Q?", "answers": ["x"], "hops": 3, "type": None},
        {"id": "b", "question": "Q?", "answers": ["x"], "type": "bridge-2hop", "split": "dev"},
        {"id": "c", "question": "Q?", "answers": ["x", "y"], "type": "4hop1"},
        {"id": "d", "question": "Q?", "answers": ["x"], "steps": [{"question": "?"}] * 2},
        {"question": "Q?", "answers": ["x"], "type": "comparison"},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = questions.read(file)
    assert [q.hops for q in found] == [3, 2, 4, 2, None]
    assert [q.id for q in found] == ["a", "b", "c", "d", "5"]
    assert found[0].type == ""
    assert found[2].answers == ("x", "y")


def test_a_sample_is_random_ever_the_same_and_kept_by_a_greater_one() -> None:
    asked = [questions.Question(f"q{n}", "?", ("a",)) for n in range(100)]
    few, more = questions.drawn(asked, 10), questions.drawn(asked, 40)
    assert few == questions.drawn(asked, 10) == [q for q in more if q in few]
    assert few != asked[:10]
    assert [asked.index(q) for q in more] == sorted(asked.index(q) for q in more)
    assert questions.drawn(asked, None) == questions.drawn(asked, 1000) == asked


HOTPOT = {"_id": "h", "question": "Q?", "answer": "x", "type": "bridge", "level": "hard"}
FACTS = [["A", 0], ["B", 1], ["A", 2]]
MUSIQUE = {
    "id": "3hop1__7",
    "question": "Q?",
    "answer": "x",
    "answer_aliases": ["y"],
    "paragraphs": [{"title": "A", "is_supporting": True}, {"title": "B", "is_supporting": False}],
    "question_decomposition": [{"question": "1"}, {"question": "2"}, {"question": "3"}],
}


@pytest.mark.parametrize(
    "facts", [FACTS, json.dumps(FACTS), {"title": ["A", "B", "A"], "sent_id": [0, 1, 2]}]
)
def test_hotpotqa_and_2wiki_are_read_as_published(tmp_path, facts):
    file = tmp_path / "train.json"
    file.write_text(json.dumps([HOTPOT | {"supporting_facts": facts}]))
    assert questions.read(file) == [
        questions.Question("h", "Q?", ("x",), ("A", "B"), type="bridge"),
    ]


def test_2wikis_aliases_stand_beside_its_questions(tmp_path):
    file, aliases = tmp_path / "dev.json", tmp_path / "id_aliases.json"
    asked = [HOTPOT | {"_id": str(n), "answer_id": id} for n, id in enumerate(("Q1", "Q7", None))]
    file.write_text(json.dumps(asked))
    lines = [{"Q_id": "Q1", "aliases": ["y", "z"], "demonyms": ["w"]}, {"Q_id": "Q2"}]
    aliases.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = [question.answers for question in questions.read(file)]
    assert found == [("x", "y", "z", "w"), ("x",), ("x",)]
    aliases.write_text('{"aliases": []}\n')
    with pytest.raises(CorpusError, match=r"id_aliases\.json, line 1: `Q_id` must be a text"):
        questions.read(file)


@pytest.mark.parametrize(
    ("odd", "name"),
    [
        ({"supporting_facts": [7]}, "supporting_facts"),
        ({"supporting_facts": [[{}, 0]]}, "supporting_facts"),
        ({"supporting_facts": None, "paragraphs": ["A"]}, "paragraphs"),
        ({"supporting_facts": None, "paragraphs": [{"is_supporting": True}]}, "paragraphs"),
        ({"supporting_facts": [[7, 0]]}, "supporting_titles"),
    ],
)
def test_what_is_not_as_published_is_named_with_its_line(tmp_path, odd, name):
    file = tmp_path / "train.jsonl"
    file.write_text(json.dumps(HOTPOT) + "\n" + json.dumps(HOTPOT | {"_id": "i"} | odd) + "\n")
    with pytest.raises(CorpusError, match=rf"train\.jsonl, line 2: `{name}`"):
        questions.read(file)


def test_questions_without_an_id_are_numbered(tmp_path):
    file = tmp_path / "questions.jsonl"
    asked = {"id": None, "question": "Q?", "answers": ["x"]}
    file.write_text(2 * (json.dumps(asked) + "\n"))
    assert [question.id for question in questions.read(file)] == ["1", "2"]


def test_musique_is_read_as_published(tmp_path):
    file = tmp_path / "train.jsonl"
    file.write_text(json.dumps(MUSIQUE) + "\n")
    (found,) = questions.read(file)
    assert (found.id, found.answers, found.supporting_titles) == ("3hop1__7", ("x", "y"), ("A",))
    assert found.hops == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "b", "answers": ["x"]}', "line 2: `question` is missing"),
        ('{"id": "b", "question": "Q?"}', "line 2: `answers` must be a list"),
        ('{"id": "b", "question": "Q?", "answers": []}', "line 2: `answers` must be"),
        ('{"id": "b", "question": "Q?", "answers": "x"}', "line 2: `answers` must be"),
        ('{"id": "b", "question": "Q?", "answers": ["x"], "hops": "2"}', "line 2: `hops`"),
        ('{"id": "b", "question": "Q?", "answers": ["x"], "steps": [1]}', "line 2: `steps`"),
        ('{"id": "a", "question": "Q?", "answers": ["x"]}', "line 2: the id 'a' occurs twice"),
        ("[1]", "line 2"),
        ("{", "line 2: not valid JSON"),
    ],
)
def test_a_question_that_is_none_is_named(tmp_path, line, message):
    file = tmp_path / "questions.jsonl"
    file.write_text('{"id": "a", "question": "Q?", "answers": ["x"]}\n' + line + "\n")
    with pytest.raises(CorpusError, match=message):
        questions.read(file)


def test_an_empty_question_file_is_named(tmp_path):
    (tmp_path / "none.jsonl").write_text("")
    with pytest.raises(CorpusError, match=r"none\.jsonl is empty"):
        questions.read(tmp_path / "none.jsonl")
