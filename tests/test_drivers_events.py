"""What a watcher of a run is shown, in its order."""

from steper_serve import drivers
from steper_serve.drivers import Event, Found, Generated, Searching, Wrote
from steper_serve.generation.scripted import ScriptedModel
from tests.flows import ALL, BERG, HARBOUR, QUESTION, SCRIPTS, THOUGHTS, Index, start


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
