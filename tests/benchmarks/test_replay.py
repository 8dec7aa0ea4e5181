"""A replay sends what was served, to the byte, and as many tokens; what would differ is refused."""

import json
from dataclasses import replace

import pytest

from steper_serve.benchmarks import replay, replaying
from steper_serve.benchmarks.cells import Cell
from steper_serve.benchmarks.client import Client, Reply
from steper_serve.benchmarks.failures import ReplayDiffers, ServerFailed
from steper_serve.benchmarks.replay import Again, measure, requests_of
from steper_serve.benchmarks.replaying import Recording
from steper_serve.benchmarks.rows import Row
from steper_serve.benchmarks.server import Served
from steper_serve.errors import EngineFailed
from steper_serve.generation.scripted import ScriptedModel
from steper_serve.journal import BadRecord
from steper_serve.trajectory import Generate, Prompt
from tests.api.serving import QUESTION, STUDENT, THOUGHTS, make_loop, served
from tests.benchmarks.engines import Alone
from tests.recipes.worlds import question

CELL = Cell("d", "", "here", "", (), "steper", None, 3, None, streamed=True, concurrency=2)
ASKED = replace(question(1), question=QUESTION)
SCRIPTS = {
    "an answer": THOUGHTS,
    "a forced answer": (" It is not known.", "", "Verla."),
    "no answer": ("", ""),
    "a marker alone": (" So the answer is:", "Verla."),
}


async def answered(script, *, cell=CELL, started=100.0, **options) -> tuple[ScriptedModel, Row]:
    """What a served loop was asked, and the row of its answer."""
    model = ScriptedModel(script)
    async with (
        served(make_loop(model, **options)) as url,
        Client(f"{url}/v1") as client,
    ):
        reply = await client.ask(cell, QUESTION)
    return model, Row(cell, ASKED, started, reply, None)


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
async def test_prompts_are_those_that_were_served(script, streamed):
    model, row = await answered(script, cell=replace(CELL, streamed=streamed))
    again = requests_of(make_loop(Alone()), [row])
    assert [each.request.prompt.text for each in again] == [
        request.prompt.text for request in model.requests
    ]
    # The scripted model's tokens are words.
    assert [each.request.max_tokens for each in again] == [
        max(1, len(text.split())) for text in script[: len(again)]
    ]
    assert [each.request.stop for each in again] == [()] * len(again)


async def test_an_untuned_models_cut_steps_are_rebuilt():
    """Steps that are read off sentences: fewer tokens count than the model would have written."""
    few_shot = replace(STUDENT, step_end="sentence", instruction=None, few_shot=True)
    few_shot = replace(few_shot, max_prompt_tokens=5000)
    script = (" The Lumen was made by Ada Frost. And so on.", " So the answer is: Ada. No more.")
    model, row = await answered(script, format=few_shot)
    again = requests_of(make_loop(Alone(), format=few_shot), [row])
    assert [a.request.prompt.text for a in again] == [r.prompt.text for r in model.requests]
    assert again[0].request.max_tokens < len(script[0].split())


async def test_all_are_sent_in_the_order_in_which_they_began():
    """By hand: two answers of three steps, the second begun within the first's second step."""
    _, first = await answered(THOUGHTS, started=100.0)
    _, second = await answered(THOUGHTS, started=101.5)
    rows = [took(first, 1.0), took(second, 1.0)]
    began = [each.began for each in requests_of(make_loop(Alone()), rows)]
    assert began == pytest.approx([100.25, 101.5, 101.75, 102.75, 103.0, 104.25])


def took(row: Row, seconds: float) -> Row:
    """The row with steps of a quarter second's search and so many seconds' generation."""
    told = {"retrieval_seconds": 0.25, "generation_seconds": seconds}
    steps = [{**step, **told} for step in row.reply.trace["steps"]]
    return replace(row, reply=replace(row.reply, trace={**row.reply.trace, "steps": steps}))


async def test_both_runs_start_cold_and_warmed_up():
    _, row = await answered(THOUGHTS)
    _, warm = await answered(SCRIPTS["a forced answer"])
    engine = Alone()
    told = await measure(make_loop(engine), engine, [warm], [row] * 4, 2)
    # Three generations of the warm-up, then four answers of three; twice.
    assert engine.resets == [0, 15]
    assert engine.most_running == 12
    texts = [request.prompt.text for request in engine.again]
    assert texts[:15] == texts[15:]
    assert told["num_requests"] == 12
    assert told["num_completion_tokens"] == 4 * sum(len(text.split()) for text in THOUGHTS)
    words = [len(text.split()) for text in texts[3:15]]
    assert told["num_prompt_tokens"] == sum(words)
    assert told["seconds"] > 0 < told["unbounded_seconds"]
    assert 0 < told["cached_share"] <= 1
    # The warm-up's prompts begin with the same passages.
    assert told["unbounded_cached_share"] == told["cached_share"]


async def test_no_more_are_in_flight_than_were():
    _, row = await answered(THOUGHTS)
    engine = Alone()
    again = requests_of(make_loop(engine), [row] * 5)
    await replay._run(engine, [], again, 3)
    assert engine.most_running == 3


def test_the_share_that_a_cache_could_hold():
    """By hand: "ab|cd" after "ab" repeats 2 of 4; "x" after it none of 1; a first prompt counts
    nowhere."""

    def again(text: str) -> Again:
        return Again(0.0, Generate(1, Prompt(text, text), 1), 1, "q")

    assert replay.repeated_share([[again("ab"), again("abcd"), again("x")]]) == 2 / 5
    assert replay.repeated_share([[again("ab")], []]) is None


async def test_a_row_of_a_failed_question_has_nothing_to_replay():
    assert requests_of(make_loop(Alone()), [Row(CELL, ASKED, 1.0, None, None)]) == []
    with pytest.raises(ReplayDiffers, match="nothing to replay"):
        await measure(make_loop(Alone()), Alone(), [], [], 1)


async def test_what_cannot_be_rebuilt_is_named():
    _, row = await answered(THOUGHTS)
    short = replace(row, cell=replace(CELL, max_steps=2))
    with pytest.raises(ReplayDiffers, match=r"question 'q1' .*other options"):
        requests_of(make_loop(Alone()), [short])
    trace = row.reply.trace
    other = {**trace, "answer": "Oslo"}
    with pytest.raises(ReplayDiffers, match="'q1' ended in 'Oslo' after 3 generations"):
        requests_of(make_loop(Alone()), [with_trace(row, other)])
    old = [{k: v for k, v in step.items() if k != "completions"} for step in trace["steps"]]
    with pytest.raises(ReplayDiffers, match="no 'completions'"):
        requests_of(make_loop(Alone()), [with_trace(row, {**trace, "steps": old})])


def with_trace(row: Row, trace: dict) -> Row:
    return replace(row, reply=Reply(row.reply.content, trace, row.reply.times))


@pytest.mark.parametrize(
    ("engine", "format", "message"),
    [
        (Alone(short_by=1), STUDENT, "generated tokens when it was served"),
        (Alone(), replace(STUDENT, instruction="Please."), "prompt tokens when it was served"),
    ],
)
async def test_another_engine_or_prompt_is_refused(engine, format, message):
    _, row = await answered(THOUGHTS)
    with pytest.raises(ReplayDiffers, match=rf"step 1 of question 'q1' had \d+ {message}"):
        await measure(make_loop(engine, format=format), engine, [], [row], 1)


async def test_an_engine_that_fails_ends_the_replay():
    class Broken(Alone):
        async def generate_exactly(self, request):
            raise EngineFailed("it broke")

    _, row = await answered(THOUGHTS)
    with pytest.raises(EngineFailed, match="it broke"):
        await measure(make_loop(Broken()), Broken(), [], [row], 4)


async def test_a_recording_is_read_back(tmp_path):
    _, row = await answered(THOUGHTS)
    file = tmp_path / "recording.jsonl"
    replaying.write(Recording(3, [row], [row, row]), file)
    back = replaying.read(file)
    assert (back.concurrency, len(back.warmup), len(back.rows)) == (3, 1, 2)
    loop = make_loop(Alone())
    assert requests_of(loop, back.rows) == requests_of(loop, [row, row])
    file.write_text(json.dumps({"x": 1}) + "\n")
    with pytest.raises(BadRecord, match="is no recording"):
        replaying.read(file)


def test_a_replay_that_fails_shows_its_last_words(tmp_path):
    """The real command, which refuses a flag before it starts any engine."""
    with pytest.raises(ServerFailed, match=r"ended with code 2[^$]*no-such-flag"):
        replaying.replayed(
            Served("x", flags=("--no-such-flag",)), None, Recording(1, [], []), tmp_path
        )
