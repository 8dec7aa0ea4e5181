"""Flows performed for real (events, cuts, time, failure, cancellation) and from what was saved."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steper_serve import drivers
from steper_serve.drivers import Event, Found, Generated, Searching, Wrote
from steper_serve.errors import EngineFailed, EngineUnavailable, IndexUnavailable, InvalidRequest
from steper_serve.generation.scripted import ScriptedModel
from steper_serve.loop import Ask, Loop
from steper_serve.strategies import STRATEGIES, FewShot, Options
from steper_serve.trajectory import (
    Completion,
    Delta,
    Demonstration,
    Flow,
    Generate,
    OutOfTime,
    Passage,
    Prompt,
    PromptFormat,
    Retrieve,
    Trajectory,
)

QUESTION = "Where was the painter of Grey Harbour born?"
HARBOUR = Passage("h", "Grey Harbour", "Grey Harbour is a painting by Alma Berg.", score=3.5)
BERG = Passage("b", "Alma Berg", "Alma Berg was born in Oslo.", score=1.25)

THOUGHTS = ["Grey Harbour was painted by Alma Berg.", "So the answer is: Oslo."]
SCRIPTS = {
    "ircot": THOUGHTS,
    "self-ask": [
        " Yes.\nFollow up: Who painted Grey Harbour?",
        " Alma Berg.",
        "So the final answer is: Oslo",
    ],
    "single": THOUGHTS,
    "direct": THOUGHTS,
}
ALL = pytest.mark.parametrize("strategy", list(SCRIPTS))


class Index:
    """A retriever that finds passages by turns."""

    quick = False

    def __init__(self, *found: Sequence[Passage] | Exception) -> None:
        self._found = list(found) or [[HARBOUR], [HARBOUR, BERG]]
        self.queries: list[tuple[str, int]] = []

    def search(self, query: str, top_k: int) -> Sequence[Passage]:
        self.queries.append((query, top_k))
        found = self._found.pop(0) if len(self._found) > 1 else self._found[0]
        if isinstance(found, Exception):
            raise found
        return found

    def reload_if_changed(self) -> bool:
        return False

    def passage(self, id: str) -> Passage:
        raise NotImplementedError


class Model:
    """A model that is a generator function of the request; counts what is open."""

    def __init__(self, speak: Callable[[Generate], AsyncGenerator[Delta | Completion, None]]):
        self._speak = speak
        self.requests: list[Generate] = []
        self.num_open = 0
        self.num_closed = 0

    async def generate(self, request: Generate) -> AsyncGenerator[Delta | Completion, None]:
        self.requests.append(request)
        self.num_open += 1
        try:
            async for part in self._speak(request):
                yield part
        finally:
            self.num_open -= 1
            self.num_closed += 1

    async def check(self) -> None:
        pass


def student(**changes) -> PromptFormat:
    fields = {"count_tokens": lambda text: len(text.split()), "step_end": "eos"}
    return PromptFormat(10_000, **fields | changes)


def start(strategy: str = "ircot", question: str = QUESTION, step_end: str = "eos", **options):
    return STRATEGIES[strategy].flow(question, Options(student(step_end=step_end), **options))


class Watched:
    """A flow that tells whether it was closed."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self.closed = False

    def send(self, outcome):
        return self._flow.send(outcome)

    def throw(self, error):
        return self._flow.throw(error)

    def close(self):
        self.closed = True
        self._flow.close()


def untimed(event: Event) -> Event:
    match event:
        case Found(step, passages, seconds):
            assert seconds >= 0
            return Found(step, passages, 0)
        case Generated(step, text, completion, seconds):
            assert seconds >= 0
            return Generated(step, text, completion, 0)
    return event


async def test_events_in_their_order():
    model, index, events = ScriptedModel([*THOUGHTS[:1], "", "Oslo."]), Index(), []
    trajectory = await drivers.run(start(top_k=2), model, index, events.append)
    first, empty, last = (c for s in trajectory.steps for c in s.completions)
    assert [untimed(event) for event in events] == [
        Searching(1, QUESTION),
        Found(1, (HARBOUR,), 0),
        *(Wrote(1, w) for w in ["Grey", " Harbour", " was", " painted", " by", " Alma", " Berg."]),
        Generated(1, THOUGHTS[0], first, 0),
        Searching(2, THOUGHTS[0]),
        Found(2, (HARBOUR, BERG), 0),
        Generated(2, "", empty, 0),
        Wrote(2, " So the answer is:"),
        Wrote(2, "Oslo."),
        Generated(2, " So the answer is:Oslo.", last, 0),
    ]
    assert (first.text, first.num_completion_tokens) == (THOUGHTS[0], 7)
    assert index.queries == [(QUESTION, 2), (THOUGHTS[0], 2)]
    assert trajectory.answer == "Oslo"


@ALL
async def test_what_was_shown_is_what_was_thought(strategy):
    events = []
    trajectory = await drivers.run(
        start(strategy), ScriptedModel(SCRIPTS[strategy]), Index(), events.append
    )
    assert trajectory.stop_reason == "answer"
    for number, step in enumerate(trajectory.steps, 1):
        wrote = [e.text for e in events if isinstance(e, Wrote) and e.step == number]
        generated = [e.text for e in events if isinstance(e, Generated) and e.step == number]
        assert "".join(wrote).strip() == "".join(generated).strip() == step.thought


async def test_an_unwatched_run_ends_alike():
    model = ScriptedModel(THOUGHTS)
    assert (await drivers.run(start(), model, Index())).answer == "Oslo"


# A cut ends a generation early.


def in_pieces(text: str, sizes: Sequence[int]) -> list[str]:
    pieces, place = [], 0
    for size in sizes:
        pieces.append(text[place : place + size])
        place += size
    return [piece for piece in [*pieces, text[place:]] if piece]


def babbling(text: str, sizes: Sequence[int] = ()) -> Model:
    """Says `text` in pieces of these sizes and then what comes to its mind."""

    async def speak(request: Generate) -> AsyncGenerator[Delta | Completion, None]:
        for number, piece in enumerate(in_pieces(text, sizes), 1):
            yield Delta(piece, number)
        yield Completion(text, "stop", num_completion_tokens=len(sizes))

    return Model(speak)


@given(st.lists(st.integers(1, 9), max_size=40), st.sampled_from(["", '"', "(“"]))
def test_a_cut_is_the_same_however_the_text_comes(sizes, opening):
    first = 'It was made by Edward L. Cahn (see "Films.")'
    model, events = babbling(f"{first}  {opening}He also said. More", sizes), []
    flow = start("ircot", step_end="sentence", max_steps=2)
    trajectory = asyncio.run(drivers.run(flow, model, Index(), events.append))
    step = trajectory.steps[0]
    assert step.thought == first
    assert step.completions[0].text == first
    assert step.completions[0].finish_reason == "stop"
    assert "".join(e.text for e in events if isinstance(e, Wrote) and e.step == 1) == first
    assert model.num_open == 0


async def test_a_cut_closes_the_models_generator_and_counts_what_came():
    model = babbling("One. Two. Three.", [3, 2, 3, 2])
    trajectory = await drivers.run(start(step_end="sentence", max_steps=2), model, Index())
    first = trajectory.steps[0].completions[0]
    # "One", ". ", "Two": with the third piece the sentence is known to be over.
    assert (first.text, first.finish_reason, first.num_completion_tokens) == ("One.", "stop", 3)
    assert (model.num_open, model.num_closed) == (0, 3)


async def test_text_that_no_cut_ends_is_shown_to_its_last_character():
    events = []
    model = babbling('He left. "', [4, 5])
    await drivers.run(start(step_end="sentence", max_steps=2), model, Index(), events.append)
    assert "".join(e.text for e in events if isinstance(e, Wrote) and e.step == 1) == 'He left. "'


# Cancellation.


async def test_cancelling_closes_the_flow_and_the_models_generator():
    gate = asyncio.Event()
    model, flow, begun = (
        ScriptedModel(["Grey Harbour"], gate=gate),
        Watched(start()),
        asyncio.Event(),
    )
    task = asyncio.create_task(
        drivers.run(flow, model, Index(), lambda e: begun.set() if isinstance(e, Wrote) else None)
    )
    await asyncio.wait_for(begun.wait(), 60)
    assert model.num_running() == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert model.num_running() == 0
    assert flow.closed


async def test_a_blocked_search_blocks_neither_the_event_loop_nor_a_cancellation():
    entered, release = threading.Event(), threading.Event()

    class Slow(Index):
        def search(self, query: str, top_k: int) -> Sequence[Passage]:
            entered.set()
            assert release.wait(60)
            return super().search(query, top_k)

    flow = Watched(start())
    blocked = asyncio.create_task(drivers.run(flow, ScriptedModel(THOUGHTS), Slow()))
    other = asyncio.create_task(drivers.run(start(), ScriptedModel(THOUGHTS), Slow()))
    try:
        while not entered.is_set():
            await asyncio.sleep(0.001)
        blocked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await blocked
        assert flow.closed
        assert not other.done()
    finally:
        release.set()
    assert (await asyncio.wait_for(other, 60)).answer == "Oslo"


async def test_a_quick_search_is_not_handed_to_a_thread():
    threads = set()

    class Quick(Index):
        quick = True

        def search(self, query: str, top_k: int) -> Sequence[Passage]:
            threads.add(threading.current_thread())
            return super().search(query, top_k)

    await drivers.run(start(), ScriptedModel(THOUGHTS), Quick())
    assert threads == {threading.current_thread()}


# Time.


def forever(text: str = "Grey Harbour") -> Model:
    """Says something and then waits for ever, but gives a forced answer at once."""

    async def speak(request: Generate) -> AsyncGenerator[Delta | Completion, None]:
        if request.final:
            yield Completion(" Oslo.", "stop", num_completion_tokens=1)
            return
        if text:
            yield Delta(text, 2)
        await asyncio.Event().wait()

    return Model(speak)


@ALL
@pytest.mark.parametrize("said", ["Grey Harbour", ""])
async def test_time_that_runs_out_ends_the_generation_and_forces_the_answer(strategy, said):
    max_seconds, model = 0.02, forever(said)
    while not any(not request.final for request in model.requests):  # too busy to get that far
        model, events = forever(said), []
        trajectory = await drivers.run(
            start(strategy), model, Index(), events.append, max_seconds=max_seconds
        )
        max_seconds *= 2
    assert (trajectory.answer, trajectory.stop_reason) == ("Oslo", "budget")
    cut_off = trajectory.steps[0].completions[0]
    assert cut_off == Completion(said, "length", num_completion_tokens=2 if said else 0)
    assert model.num_open == 0
    assert [e.step for e in events if isinstance(e, Generated)] == [1, len(trajectory.steps)]
    assert trajectory.steps[-1].forced


async def test_without_any_time_only_the_answer_is_generated():
    model, index = ScriptedModel([" Oslo"]), Index()
    trajectory = await drivers.run(start(), model, index, max_seconds=0.0)
    assert index.queries == []
    assert [request.final for request in model.requests] == [True]
    assert (trajectory.answer, trajectory.stop_reason) == ("Oslo", "budget")


async def test_time_enough_changes_nothing():
    trajectory = await drivers.run(start(), ScriptedModel(THOUGHTS), Index(), max_seconds=600)
    assert (trajectory.answer, trajectory.stop_reason) == ("Oslo", "answer")


@pytest.mark.parametrize("max_seconds", [None, 600])
async def test_a_models_own_timeout_is_a_failure_and_no_end_of_text(max_seconds):
    async def speak(request: Generate) -> AsyncGenerator[Delta | Completion, None]:
        yield Delta("So the answer is: Os", 5)
        raise TimeoutError("the connection timed out")

    flow = Watched(start())
    with pytest.raises(TimeoutError, match="the connection timed out"):
        await drivers.run(flow, Model(speak), Index(), max_seconds=max_seconds)
    assert flow.closed


# Failure.


@pytest.mark.parametrize("error", [EngineFailed("broken"), EngineUnavailable("down")])
async def test_a_models_error_carries_the_finished_steps(error):
    flow = Watched(start())
    with pytest.raises(type(error)) as raised:
        await drivers.run(flow, ScriptedModel([THOUGHTS[0], error]), Index())
    assert raised.value is error
    assert [(s.query, s.passages, s.thought) for s in error.steps] == [
        (QUESTION, (HARBOUR,), THOUGHTS[0])
    ]
    assert flow.closed


async def test_an_indexs_error_carries_the_finished_steps():
    error = IndexUnavailable("gone")
    with pytest.raises(IndexUnavailable) as raised:
        await drivers.run(start(), ScriptedModel(THOUGHTS), Index([HARBOUR], error))
    assert raised.value is error
    assert [s.thought for s in error.steps] == [THOUGHTS[0]]


async def test_an_error_that_nobody_foresaw_passes_as_it_is():
    flow = Watched(start())
    error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError) as raised:
        await drivers.run(flow, ScriptedModel(THOUGHTS), Index(error))
    assert raised.value is error
    assert flow.closed


async def test_an_error_in_the_watcher_stops_the_run():
    def watch(event: Event) -> None:
        if isinstance(event, Wrote):
            raise ConnectionError("nobody listens")

    model, flow = ScriptedModel(THOUGHTS), Watched(start())
    with pytest.raises(ConnectionError, match="nobody listens"):
        await drivers.run(flow, model, Index(), watch)
    assert model.num_running() == 0
    assert flow.closed


async def test_a_flow_that_ends_without_a_trajectory_is_a_mistake():
    def flow():
        yield Retrieve(1, "x", 1)

    with pytest.raises(TypeError, match="without a trajectory"):
        await drivers.run(flow(), ScriptedModel([]), Index())


# Replay.

SHOTS = (Demonstration("Q?", (BERG,), ("Hm.",), "a"),)
WAYS = {
    "student": {},
    "sentences": {"step_end": "sentence"},
    "shown how": {"instruction": "Do it.", "demonstrations": SHOTS, "step_end": "sentence"},
    "forced": {"max_steps": 1},
    "few tokens": {"max_tokens": 40},
    "fewest tokens": {"max_tokens": 3},
}


async def saved_run(strategy: str, max_seconds: float | None = None, model=None, **options):
    texts = iter(SCRIPTS[strategy])
    model = model or ScriptedModel(lambda r: "Oslo" if r.final else next(texts, "Hm."))
    trajectory = await drivers.run(
        start(strategy, **options), model, Index(), max_seconds=max_seconds
    )
    return model, Trajectory.from_json(json.loads(json.dumps(trajectory.to_json())))


def prompts(flow: Flow, saved: Trajectory) -> list[Prompt]:
    return [e.prompt for e, _ in drivers.replay(flow, saved) if isinstance(e, Generate)]


@ALL
@pytest.mark.parametrize("way", list(WAYS))
async def test_a_replayed_prompt_is_the_served_one(strategy, way):
    model, saved = await saved_run(strategy, **WAYS[way])
    served = [request.prompt for request in model.requests]
    assert served
    assert prompts(start(strategy, **WAYS[way]), saved) == served


@ALL
@pytest.mark.parametrize("max_seconds", [0.0, 0.02])
async def test_a_run_that_time_ended_is_replayed(strategy, max_seconds):
    _, saved = await saved_run(strategy, max_seconds, forever())
    last = [e for e, o in drivers.replay(start(strategy), saved) if not isinstance(o, OutOfTime)][
        -1
    ]
    assert last.final
    assert saved.stop_reason == "budget"


async def test_a_thought_that_was_never_performed_does_not_get_the_answers_completion():
    """Time ran out between a search and its thought: what is saved last is the forced answer."""
    flow, outcome, effects = start(), None, []
    for reply in [[HARBOUR], OutOfTime(), Completion(" Oslo", "stop")]:
        effects.append(flow.send(outcome))
        outcome = reply
    with pytest.raises(StopIteration) as stop:
        flow.send(outcome)
    assert [e for e, _ in drivers.replay(start(), stop.value.value)] == effects


@pytest.mark.parametrize(
    ("strategy", "options"),
    [
        ("ircot", {"max_steps": 1}),
        ("ircot", {"max_tokens": 3}),
        ("ircot", {"question": "Another question?"}),
        ("ircot", {"special_tokens": ("Harbour",)}),
        ("self-ask", {}),
        ("single", {}),
        ("direct", {}),
    ],
)
async def test_a_replay_under_other_options_is_refused(strategy, options):
    _, saved = await saved_run("ircot")
    assert len(saved.steps) == 2
    special = options.pop("special_tokens", ())
    question = options.pop("question", QUESTION)
    flow = STRATEGIES[strategy].flow(question, Options(student(special_tokens=special), **options))
    with pytest.raises(ValueError, match="was it made with other options"):
        list(drivers.replay(flow, saved))


async def test_a_replay_of_a_longer_run_than_was_saved_is_refused():
    _, saved = await saved_run("ircot", max_steps=1)
    with pytest.raises(ValueError, match="step 2 asks for a search"):
        list(drivers.replay(start(), saved))


async def test_a_replay_that_is_left_early_closes_the_flow():
    _, saved = await saved_run("ircot")
    flow = Watched(start())
    replay = drivers.replay(flow, saved)
    assert next(replay) == (Retrieve(1, QUESTION, 4), (HARBOUR,))
    replay.close()
    assert flow.closed


# The loop: a model, an index and a strategy put together.

FEW = dict.fromkeys(STRATEGIES, FewShot("", ()))


def loop(**changes) -> Loop:
    model = ScriptedModel(THOUGHTS)
    return Loop(model, Index(), student(few_shot=False), FEW, **changes)


async def test_a_loop_answers_with_its_defaults():
    trajectory = await loop(strategy="single").run(Ask(QUESTION))
    assert (trajectory.answer, trajectory.strategy) == ("Oslo", "single")


async def test_an_ask_goes_before_the_defaults():
    asked = loop(strategy="single", max_steps=5, top_k=4)
    await asked.run(Ask(QUESTION, strategy="ircot", max_steps=1, top_k=2))
    assert asked.retriever.queries == [(QUESTION, 2)]
    assert [r.final for r in asked.model.requests] == [False, True]


async def test_an_ask_may_have_a_time_of_its_own():
    trajectory = await loop(max_seconds=600).run(Ask(QUESTION, max_seconds=0.0))
    assert trajectory.stop_reason == "budget"


@pytest.mark.parametrize(
    ("ask", "param"),
    [
        (Ask(QUESTION, strategy="ircott"), "strategy"),
        (Ask(QUESTION, max_steps=0), "max_steps"),
        (Ask(QUESTION, top_k=21), "top_k"),
        (Ask(QUESTION, max_tokens=0), "max_tokens"),
    ],
)
async def test_what_an_ask_may_not_say_is_refused_by_name(ask, param):
    with pytest.raises(InvalidRequest, match=param) as refused:
        await loop().run(ask)
    assert refused.value.param == param
