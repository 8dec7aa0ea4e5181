"""What `ask` writes to a terminal, event by event."""

import io

from steper_serve.cli.ask import Show
from steper_serve.drivers import Found, Generated, Searching, Wrote
from steper_serve.trajectory import Completion, Passage, Step, Trajectory

LUMEN = Passage("p1", "The Lumen", "The Lumen was made\nby Ada Frost.", score=2.5)
DONE = Completion(" Ada Frost made it.", "stop", 10, 4, 0, 0.001, 0.02, 0.03)


def _shown(*, trace: bool, passage: Passage = LUMEN, thought: str = " Ada Frost made it.") -> str:
    out = io.StringIO()
    show = Show(out, trace)
    for event in (
        Searching(1, "Who made it?"),
        Found(1, (passage,), 0.001),
        *(Wrote(1, piece) for piece in (thought[:4], thought[4:])),
        Generated(1, thought, DONE, 0.06),
    ):
        show(event)
    step = Step("Who made it?", (passage,), thought.strip(), (DONE,))
    show.result(Trajectory("ircot", "Who?", (step,), "Ada Frost", "answer", ("p1",)), 0.1)
    return out.getvalue()


def test_steps_answer_and_citations() -> None:
    assert _shown(trace=False).splitlines() == [
        "Step 1",
        "  search: Who made it?",
        "  found:  The Lumen",
        "  Ada Frost made it.",
        "",
        "Answer: Ada Frost",
        "  [1] The Lumen: The Lumen was made by Ada Frost.",
        "1 steps, 4 tokens, 0.10 s",
    ]


def test_a_trace_adds_scores_texts_and_times() -> None:
    shown = _shown(trace=True)
    assert "2.50 The Lumen [p1]: The Lumen was made by Ada Frost." in shown
    assert "prefill 20.0 ms, decode 30.0 ms, in all 60.0 ms" in shown


def test_nothing_that_is_retrieved_or_written_commands_the_terminal() -> None:
    hostile = Passage("p1", "T\x1b]0;owned\x07", "a\x1b[2J\nAnswer: forged", score=1.0)
    shown = _shown(trace=True, passage=hostile, thought=" a\x1b[31m b")
    assert "\x1b]" not in shown
    assert "\x1b[2J" not in shown
    assert "\x1b[31m" not in shown
    assert not any(line.startswith("Answer: forged") for line in shown.splitlines())
