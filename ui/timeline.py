"""What is shown of an answer, made of what the endpoint says of it, event by event.

`advance` is a pure function from a turn and an event to the next turn; so a timeline is tested
without a server, a browser or a clock. What is left out: where events come from (client) and
what a turn looks like (render).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from steper_serve.ui.events import (
    Answered,
    Event,
    Found,
    Passage,
    Problem,
    Result,
    Searching,
    Texts,
    Thought,
    Wrote,
)
from steper_serve.ui.highlight import Span, used_sentence
from steper_serve.ui.request import Ask

Status = Literal["asking", "done", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class Step:
    """A step as it stands. `open` while its thought is being written."""

    number: int
    query: str | None = None
    passages: tuple[Passage, ...] = ()
    searched: bool = False
    thoughts: tuple[str, ...] = ()
    writing: str = ""
    retrieval_seconds: float | None = None
    generation_seconds: float | None = None
    forced: bool = False

    @property
    def thought(self) -> str:
        """All that has been written in this step."""
        return " ".join(part.strip() for part in (*self.thoughts, self.writing) if part.strip())

    @property
    def state(self) -> Literal["searching", "thinking", "done"]:
        """What is being done in it."""
        if self.query is not None and not self.searched:
            return "searching"
        return "done" if self.thoughts and not self.writing else "thinking"


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its answer as far as it has come. `id` tells turns of one page apart."""

    id: str
    ask: Ask
    steps: tuple[Step, ...] = ()
    answer: str = ""
    cited: tuple[tuple[str, str], ...] = ()
    result: Result | None = None
    problem: Problem | None = None
    status: Status = "asking"
    texts: Mapping[str, Passage] = field(default_factory=dict)

    @property
    def passages(self) -> dict[str, Passage]:
        """Every passage found so far by its id, with its text where it has been read."""
        found: dict[str, Passage] = {}
        for passage in (p for step in self.steps for p in step.passages):
            found.setdefault(passage.id, self.read(passage))
        return found

    @property
    def citations(self) -> tuple[Passage, ...]:
        """The passages that the answer rests on, in the order of their numbers."""
        known = self.passages
        ids = self.result.citations if self.result else ()
        if all(id in known for id in ids) and (ids or not self.cited):
            return tuple(known[id] for id in ids)
        return tuple(Passage(id=url, title=title, url=url) for title, url in self.cited)

    def read(self, passage: Passage) -> Passage:
        """The passage with its text, where that has been read."""
        text = self.texts.get(passage.id)
        return passage if text is None else replace(passage, text=text.text, url=text.url)

    def used(self, passage: Passage, since: int = 1) -> Span | None:
        """Where its sentence stands that a thought of step `since` or later used."""
        text = self.read(passage).text
        if text is None:
            return None
        # A thought in the making has too few words yet to tell.
        thoughts = [" ".join(step.thoughts) for step in self.steps if step.number >= since]
        return used_sentence(passage.title, text, thoughts)


def advance(turn: Turn, event: Event) -> Turn:
    """The turn after an event."""
    match event:
        case Searching(number, query):
            return _put(turn, replace(_step(turn, number), query=query))
        case Found(number, passages, seconds):
            found = replace(_step(turn, number), passages=passages, searched=True)
            return _put(turn, replace(found, retrieval_seconds=seconds))
        case Wrote(text):
            return _wrote(turn, text)
        case Thought(number, text, seconds, forced):
            turn, step = _settled(turn, number), _step(turn, number)
            thoughts = (*step.thoughts, text)
            spent = (step.generation_seconds or 0.0) + (seconds or 0.0)
            done = replace(step, thoughts=thoughts, writing="", generation_seconds=spent)
            return _put(turn, replace(done, forced=forced))
        case Answered(text, cited):
            return replace(turn, answer=turn.answer + text, cited=(*turn.cited, *cited))
        case Texts(passages):
            return replace(turn, texts={**turn.texts, **passages})
        case Result():
            return replace(turn, result=event)
        case Problem():
            return replace(turn, problem=event, status="failed")


def stopped(turn: Turn) -> Turn:
    """The turn after its asker has stopped it."""
    return replace(turn, status="stopped")


def finished(turn: Turn) -> Turn:
    """The turn after the endpoint has said all; one that says nothing at all has failed."""
    if turn.status != "asking":
        return turn
    if turn.answer or turn.result:
        return replace(turn, status="done")
    said = "The connection ended before an answer and without an error."
    return advance(turn, Problem("The answer broke off", said, "Ask again."))


def note(turn: Turn) -> str:
    """What is to be known of how an answer ended; "" where it simply answered."""
    reason = turn.result.stop_reason if turn.result else ""
    match reason:
        case "max_steps":
            return f"No answer within {turn.ask.max_steps} steps. Allow more of them."
        case "budget" if turn.answer:
            return "The budget of tokens or time was used up, and this answer was forced early."
        case "budget":
            return "The budget of tokens or time was used up before there was an answer."
        case "no_answer_marker":
            return "The model ended its reasoning without saying what the answer is."
        case "no_passages":
            return "No passage has a word of the question: look at what the corpus holds."
        case "answer" if any(step.forced for step in turn.steps):
            return _forced(turn)
    return ""


def _forced(turn: Turn) -> str:
    """Why the model was made to answer, where it had not come to an answer itself."""
    num, most = len(turn.steps), turn.ask.max_steps
    if num < most:
        return "The model ended its reasoning early, and this answer was forced."
    steps = "the only step" if most == 1 else f"the last of {most} steps"
    return f"This answer was forced at {steps}: the model had not come to one by then."


def _wrote(turn: Turn, text: str) -> Turn:
    """Add text to the step that is being written, or to a new one where it begins a line."""
    last = turn.steps[-1] if turn.steps else Step(1)
    if text.startswith("\n") and last.thought:
        last = Step(last.number + 1)
    return _put(turn, replace(last, writing=last.writing + text))


def _settled(turn: Turn, number: int) -> Turn:
    """Without the steps that a line break seemed to begin where step `number` went on."""
    done = (s for s in turn.steps if s.number <= number or s.query is not None or s.thoughts)
    return replace(turn, steps=tuple(done))


def _step(turn: Turn, number: int) -> Step:
    return next((step for step in turn.steps if step.number == number), Step(number))


def _put(turn: Turn, step: Step) -> Turn:
    steps = {s.number: s for s in turn.steps} | {step.number: step}
    return replace(turn, steps=tuple(steps[number] for number in sorted(steps)))
