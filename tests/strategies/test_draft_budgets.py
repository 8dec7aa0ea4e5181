"""The budgets of a flow: what a full prompt drops, what tokens an answer takes."""

import pytest

from steper_serve.errors import EngineFailed, PromptTooLong
from steper_serve.strategies import STRATEGIES, Options
from steper_serve.strategies.draft import ANSWER_TOKENS
from steper_serve.trajectory import Generate, Retrieve
from tests.strategies.words import QUESTION, SHOTS, passage

ALL = pytest.mark.parametrize("strategy", list(STRATEGIES))


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
