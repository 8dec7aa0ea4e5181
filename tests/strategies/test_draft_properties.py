"""In any world a flow comes to an end that says how it went, and is replayed to the byte."""

import json
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from steper_serve import drivers
from steper_serve.strategies import STRATEGIES, Options
from steper_serve.trajectory import (
    Completion,
    Generate,
    OutOfTime,
    PromptFormat,
    Retrieve,
    Trajectory,
)
from tests.strategies.words import QUESTION, SHOTS, passage

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
        # Two generations and a search a step, and the forced answer.
        assert len(effects) <= 3 * options.max_steps + 1
        time_left -= 1
        if time_left < 0 and not getattr(effect, "final", False):
            outcome = OutOfTime()
        elif isinstance(effect, Retrieve):
            outcome = data.draw(st.lists(pool, max_size=effect.top_k, unique=True), "found")
        else:
            outcome = model_says(effect, data.draw(texts, "said"))
        outcomes.append(outcome)
        return outcome

    trajectory = driven(start(), respond)
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

    def respond(effect):
        return [passage("a")] if isinstance(effect, Retrieve) else model_says(effect, text)

    trajectory = driven(flow, respond)
    visible = trajectory.answer.strip(' \n\u200b"')
    assert bool(visible) == (trajectory.stop_reason == "answer")


def driven(flow, respond):
    """What a flow returns that is sent what `respond` makes of each of its effects."""
    outcome = None
    while True:
        try:
            effect = flow.send(outcome)
        except StopIteration as stop:
            return stop.value
        outcome = respond(effect)
