"""The budgets of a flow, and that every flow comes to an end that says what it is."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steper_serve import drivers
from steper_serve.errors import EngineFailed, PromptTooLong
from steper_serve.strategies import STRATEGIES, Options
from steper_serve.strategies.draft import ANSWER_TOKENS
from steper_serve.trajectory import (
    Completion,
    Demonstration,
    Generate,
    OutOfTime,
    Passage,
    PromptFormat,
    Retrieve,
    Trajectory,
)

ALL = pytest.mark.parametrize("strategy", list(STRATEGIES))
QUESTION = "Where was she born?"


def passage(id: str, text: str = "one two three four") -> Passage:
    return Passage(id, f"Title{id}", text)


def shown(prompt_text: str) -> str:
    """Ids of the passages in a prompt, in their order."""
    lines = prompt_text.splitlines()
    return "".join(
        line.removeprefix("Wikipedia Title: Title")
        for line in lines
        if line.startswith("Wikipedia Title: Title")
    )


def size(*, passages: int = 0, thoughts: int = 0, shots: int = 0) -> int:
    """Words of an ircot prompt: a passage has 7, a thought 2, a demonstration 18."""
    return len("Q: Where was she born? A:".split()) + 7 * passages + 2 * thoughts + 18 * shots


def flow(strategy: str, student, max_prompt_tokens: int, question: str = QUESTION, **options):
    format = student(max_prompt_tokens=max_prompt_tokens)
    return STRATEGIES[strategy].flow(question, Options(format, **options))


SHOTS = tuple(
    Demonstration(f"{name} q?", (passage(name),), (f"{name} is.",), f"{name}") for name in "xy"
)


def test_a_prompt_that_fits_keeps_everything(drive, said, student):
    limit = size(passages=1, shots=2)
    effects, trajectory = drive(
        flow("ircot", student, limit, demonstrations=SHOTS),
        [[passage("a")], said("So the answer is: x")],
    )
    assert shown(effects[1].prompt.text) == "xya"
    assert len(effects[1].prompt.text.split()) == limit
    assert trajectory.dropped == ()


def test_demonstrations_go_first_and_stay_away(drive, said, student):
    effects, trajectory = drive(
        flow("ircot", student, size(passages=3, shots=1) - 1, demonstrations=SHOTS),
        [[passage("a")], said("Na na."), [passage("b"), passage("c")], said("So the answer is: x")],
    )
    assert [shown(e.prompt.text) for e in effects if isinstance(e, Generate)] == ["ya", "abc"]
    assert trajectory.dropped == ()


def test_then_the_oldest_passage_that_no_step_used(drive, said, student):
    used = passage("b", "Berlin river tower four")
    effects, trajectory = drive(
        flow("ircot", student, size(passages=3, thoughts=3)),
        [
            [passage("a"), used, passage("c")],
            said("Berlin Titleb tower"),
            [passage("d")],
            said("Mm mm."),
            [passage("e")],
            said("So the answer is: x"),
        ],
    )
    prompts = [shown(e.prompt.text) for e in effects if isinstance(e, Generate)]
    assert prompts == ["abc", "bcd", "bde"]
    assert trajectory.dropped == ("a", "c")


def test_then_the_used_ones_oldest_first(drive, said, student):
    first, second = passage("a", "Berlin river"), passage("b", "Madrid tower")
    effects, trajectory = drive(
        flow("ircot", student, size(passages=3)),
        [
            [second, first],
            said("Berlin Titlea river. Madrid Titleb tower."),
            [passage("c"), passage("d")],
            said("So the answer is: x"),
        ],
    )
    assert trajectory.citations == ("b", "a")
    assert shown(effects[-1].prompt.text) == "cd"
    assert trajectory.dropped == ("b", "a")


def test_last_this_steps_own_the_worst_first(drive, said, student):
    _, trajectory = drive(
        flow("ircot", student, size(passages=1)),
        [[passage("a"), passage("b"), passage("c")], said("So the answer is: x")],
    )
    assert trajectory.dropped == ("c", "b")


def test_the_worst_of_a_step_is_judged_by_its_own_search(drive, said, student):
    """A passage found again at the end of the list is worse than a new one at its head."""
    effects, trajectory = drive(
        flow("ircot", student, size(passages=1, thoughts=1)),
        [[passage("a")], said("Mm mm."), [passage("b"), passage("a")], said("So the answer is: x")],
    )
    assert shown(effects[-1].prompt.text) == "b"
    assert trajectory.dropped == ("a",)


def test_a_dropped_passage_that_is_found_again_is_shown_again(drive, said, student):
    effects, trajectory = drive(
        flow("ircot", student, size(passages=1, thoughts=2)),
        [
            [passage("a")],
            said("Mm mm."),
            [passage("b")],
            said("Hm hm."),
            [passage("a")],
            said("So the answer is: x"),
        ],
    )
    assert [shown(e.prompt.text) for e in effects if isinstance(e, Generate)] == ["a", "b", "a"]
    assert trajectory.dropped == ("a", "b")


def test_passages_are_only_ever_added_while_there_is_room(drive, said, student):
    a, b, c, d = (passage(id) for id in "abcd")
    effects, _ = drive(
        flow("ircot", student, 1000),
        [[b, a], said("Mm."), [c, b, c], said("Hm."), [a, d], said("So the answer is: x")],
    )
    prompts = [e.prompt.text for e in effects if isinstance(e, Generate)]
    assert [shown(p) for p in prompts] == ["ba", "bac", "bacd"]


@ALL
def test_thoughts_that_fill_the_prompt_end_the_flow(play, said, student, strategy):
    """Nothing is left to drop: the flow ends without a prompt that would not fit."""
    limit = 40

    def respond(effect):
        if isinstance(effect, Retrieve):
            return [passage(str(effect.step))]
        assert len(effect.prompt.text.split()) <= limit
        return said("Yes.\nFollow up: " + "la " * 15)

    effects, trajectory = play(flow(strategy, student, limit, max_steps=10), respond)
    assert (trajectory.answer, trajectory.stop_reason) == ("", "budget")
    assert not any(isinstance(e, Generate) and e.final for e in effects)


@ALL
def test_a_question_that_fills_the_prompt_is_refused_before_any_effect(student, strategy):
    with pytest.raises(PromptTooLong, match="this model reads at most 100") as refused:
        next(flow(strategy, student, 100, question="why " * 100))
    assert refused.value.param == "messages"
    assert refused.value.steps == ()
    next(flow(strategy, student, 120, question="why " * 100))


def test_tokens_are_not_counted_where_bytes_already_fit(student):
    def count(text: str) -> int:
        raise AssertionError("a short prompt needs no counting")

    format = student(max_prompt_tokens=200, count_tokens=count)
    next(STRATEGIES["direct"].flow("é" * 80, Options(format)))
    with pytest.raises(AssertionError, match="needs no counting"):
        next(STRATEGIES["direct"].flow("é" * 100, Options(format)))


@ALL
def test_a_token_budget_below_the_reserve_goes_straight_to_the_answer(
    play, said, student, strategy
):
    for max_tokens in (1, ANSWER_TOKENS):
        effects, trajectory = play(
            flow(strategy, student, 1000, max_tokens=max_tokens),
            lambda e: [passage("a")] if isinstance(e, Retrieve) else said("x"),
        )
        generated = [e for e in effects if isinstance(e, Generate)]
        assert [(e.final, e.max_tokens) for e in generated] == [(True, max_tokens)]
        assert (trajectory.answer, trajectory.stop_reason) == ("x", "budget")


def test_a_thought_leaves_the_reserve_for_the_answer(drive, said, student):
    effects, trajectory = drive(
        flow("ircot", student, 1000, max_tokens=100),
        [
            [passage("a")],
            said("Mm.", tokens=50),
            [passage("b")],
            said("Hm hm", tokens=18, finish_reason="length"),
            [passage("c")],
            said("x"),
        ],
    )
    generated = [e for e in effects if isinstance(e, Generate)]
    assert [(e.max_tokens, e.final) for e in generated] == [(68, False), (18, False), (32, True)]
    assert (trajectory.answer, trajectory.stop_reason) == ("x", "budget")


@pytest.mark.parametrize("max_tokens", [33, 60, 200])
@pytest.mark.parametrize("max_steps", [1, 2, 5])
@ALL
def test_an_answer_never_takes_more_tokens_than_it_may(
    play, said, student, strategy, max_tokens, max_steps
):
    def respond(effect):
        if isinstance(effect, Retrieve):
            return [passage(str(effect.step))]
        # A model that always writes all that it may.
        text = "Oslo and" if effect.final else "Yes.\nFollow up: what"
        return said(text, effect.max_tokens, "length")

    _, trajectory = play(
        flow(strategy, student, 1000, max_tokens=max_tokens, max_steps=max_steps), respond
    )
    assert trajectory.usage.num_completion_tokens <= max_tokens
    assert trajectory.stop_reason == "budget"
    assert trajectory.answer


def test_an_error_carries_the_finished_steps(said, student):
    running = flow("ircot", student, 1000)
    next(running)
    running.send([passage("a")])
    running.send(said("Mm mm."))
    running.send([passage("b")])
    error = EngineFailed("broken")
    with pytest.raises(EngineFailed) as raised:
        running.throw(error)
    assert raised.value is error
    assert [(s.query, s.thought) for s in error.steps] == [(QUESTION, "Mm mm.")]


# Arbitrary worlds.

SPECIAL = ("<eos>", "<pad>")
bits = st.sampled_from(
    [
        *("So the answer is:", "So the final answer is:", "Follow up:", "Intermediate answer:"),
        *(
            "\nFollow up: who?\n",
            "Yes.",
            "No.",
            "Oslo",
            "Titlea",
            " ",
            "\n",
            ".",
            '"',
            "",
            "\u200b",
        ),
        *("<eos>", "Q:", "la la la la", "\ud800", "three", "four."),
    ]
)
texts = st.lists(bits, max_size=6).map(" ".join)
pool = st.sampled_from(
    [passage(id, f"{id} word, Q: x <eos>" * n) for n, id in enumerate("abcdefg")]
)
context_sizes = st.sampled_from([20, 30, 60, 1000])
numbers = st.fixed_dictionaries(
    {
        "max_steps": st.integers(1, 4),
        "top_k": st.integers(1, 3),
        "max_tokens": st.one_of(st.none(), st.integers(1, 90)),
        "max_step_tokens": st.sampled_from([2, 8, 128]),
        "instruction": st.sampled_from(["", "Do it."]),
        "demonstrations": st.sampled_from([(), SHOTS]),
    }
)


def format_of(max_prompt_tokens: int, step_end: str, chat: tuple[str, str] | None) -> PromptFormat:
    return PromptFormat(
        max_prompt_tokens=max_prompt_tokens,
        count_tokens=lambda text: len(text.split()),
        special_tokens=SPECIAL,
        step_end=step_end,
        chat=chat,
    )


formats = st.builds(
    format_of,
    context_sizes,
    st.sampled_from(["eos", "sentence"]),
    st.sampled_from([None, ("<U> ", " <A>")]),
)


def model_says(effect: Generate, text: str) -> Completion:
    """As an engine and the driver would let it through."""
    words = text.split(" ")
    reason = "length" if len(words) > effect.max_tokens else "stop"
    words = words[: effect.max_tokens]
    text = " ".join(words)
    for stop in effect.stop:
        text = text.partition(stop)[0]
    if effect.cut and (end := effect.cut(text)) is not None:
        text = text[:end]
    return Completion(text, reason, num_completion_tokens=len(words))


@settings(max_examples=500)
@given(st.data(), st.sampled_from(list(STRATEGIES)), formats, numbers)
def test_every_flow_ends_in_a_trajectory_that_says_how_it_went(data, strategy, format, numbers):
    options = Options(format, **numbers)
    start = lambda: STRATEGIES[strategy].flow(QUESTION, options)  # noqa: E731
    time_left = data.draw(st.integers(0, 12), "effects before time is up")
    effects, outcomes = [], []

    def respond(effect):
        nonlocal time_left
        effects.append(effect)
        time_left -= 1
        if time_left < 0 and not getattr(effect, "final", False):
            outcome = OutOfTime()
        elif isinstance(effect, Retrieve):
            outcome = data.draw(st.lists(pool, max_size=effect.top_k, unique=True), "found")
        else:
            outcome = model_says(effect, data.draw(texts, "said"))
        outcomes.append(outcome)
        return outcome

    flow, outcome = start(), None
    while True:
        try:
            effect = flow.send(outcome)
        except StopIteration as stop:
            trajectory = stop.value
            break
        outcome = respond(effect)
        # Two generations and a search a step, and the forced answer.
        assert len(effects) <= 3 * options.max_steps + 1

    searches = [e for e in effects if isinstance(e, Retrieve)]
    generations = [e for e in effects if isinstance(e, Generate)]
    assert isinstance(trajectory, Trajectory)
    assert bool(trajectory.answer) == (trajectory.stop_reason == "answer") or (
        trajectory.answer and trajectory.stop_reason == "budget"
    )
    assert len(searches) <= {"single": 1, "direct": 0}.get(strategy, options.max_steps)
    assert len(trajectory.steps) <= options.max_steps
    assert all(e.query.strip() for e in searches)
    assert all(len(e.prompt.text.split()) <= format.max_prompt_tokens for e in generations)
    assert all(e.max_tokens >= 1 and e.prompt.text.encode() for e in generations)
    assert all(not e.final for e in generations[:-1])
    if options.max_tokens:
        assert sum(e.max_tokens for e in generations[-1:]) <= options.max_tokens
        assert trajectory.usage.num_completion_tokens <= options.max_tokens
    if trajectory.stop_reason == "no_passages":
        assert not generations
        assert not trajectory.passages
    known = {p.id for p in trajectory.passages}
    assert known >= set(trajectory.citations) | set(trajectory.dropped)
    for e in generations:
        body = e.prompt.text.removeprefix("<U> ")
        assert "<eos>" not in body
        assert e.prompt.text.endswith(e.lead.strip())
        assert (e.prompt.user + e.prompt.partial == e.prompt.text) == (format.chat is None)

    # Saved as JSON and replayed, the prompts are the same to the byte.
    line = json.dumps(trajectory.to_json())
    saved = Trajectory.from_json(json.loads(line))
    assert saved == trajectory
    replayed = list(drivers.replay(start(), saved))
    assert [effect for effect, _ in replayed] == effects
    as_sent = [tuple(o) if isinstance(o, list) else o for o in outcomes]
    assert [outcome for _, outcome in replayed] == as_sent


@settings(max_examples=500)
@given(texts, st.sampled_from(["ircot", "self-ask"]))
def test_a_text_of_any_shape_never_makes_an_empty_answer_an_answer(text, strategy):
    format = format_of(1000, "eos", None)
    flow = STRATEGIES[strategy].flow(QUESTION, replace(Options(format), max_steps=2))
    outcome = None
    while True:
        try:
            effect = flow.send(outcome)
        except StopIteration as stop:
            trajectory = stop.value
            break
        found = [passage("a")]
        outcome = found if isinstance(effect, Retrieve) else model_says(effect, text)
    visible = trajectory.answer.strip(' \n\u200b"')
    assert bool(visible) == (trajectory.stop_reason == "answer")
