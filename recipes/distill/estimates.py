"""What a run through the loop will cost, said before it starts.

Tokens are estimated, not known: the first prompt of a few questions is built as it will be
served, and later steps are taken to add as many passages again. What is left out: seconds, which
depend on the engine; the progress bar soon tells them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from steper_serve.errors import SteperError
from steper_serve.loop import Ask, Loop
from steper_serve.questions import Question
from steper_serve.trajectory import Generate, Retrieve

_SAMPLES = 8
# A usual answer: so many steps, each a sentence long.
_USUAL_STEPS = 3
_TOKENS_A_STEP = 30


@dataclass(frozen=True, slots=True)
class Estimate:
    """Tokens a question, over all its steps."""

    read: float
    written: float


def announcement(
    name: str, done: int, failed: int, left: Sequence[Question], loop: Loop, tokens: int = 0
) -> str:
    """How many questions there are, what is done, and what the rest will take, about.

    `tokens` are those that were generated for the questions that are done.
    """
    total = done + failed + len(left)
    parts = [f"{name}: {total:,} questions, {done:,} done, {len(left):,} left"]
    if failed:
        parts.append(f"{failed:,} failed before (--retry-failed asks them again)")
    if left and (each := estimate(left, loop)):
        written = tokens / done if tokens else each.written
        read, written = each.read * len(left), written * len(left)
        parts.append(f"about {_short(read)} tokens to read and {_short(written)} to write")
    return "; ".join(parts)


def estimate(questions: Sequence[Question], loop: Loop) -> Estimate | None:
    """What a question of these takes; None if no first prompt can be built."""
    stride = max(1, len(questions) // _SAMPLES)
    samples = [_first_prompt(q, loop) for q in questions[::stride][:_SAMPLES]]
    known = [sample for sample in samples if sample is not None]
    if not known:
        return None
    steps = min(_USUAL_STEPS, loop.max_steps)
    first, found = (fmean(column) for column in zip(*known, strict=True))
    read = sum(first + step * (found + _TOKENS_A_STEP) for step in range(steps))
    return Estimate(read, float(steps * _TOKENS_A_STEP))


def _first_prompt(question: Question, loop: Loop) -> tuple[int, int] | None:
    """Tokens of the question's first prompt, and of the passages in it."""
    count = loop.format.count_tokens
    passages = ""
    try:
        flow = loop.flow(Ask(question.question))
        effect = next(flow)
        if isinstance(effect, Retrieve):
            found = loop.retriever.search(effect.query, effect.top_k)
            passages = "\n".join(f"{p.title}\n{p.text}" for p in found)
            effect = flow.send(found)
    except (SteperError, StopIteration):
        return None
    flow.close()
    return (count(effect.prompt.text), count(passages)) if isinstance(effect, Generate) else None


def _short(number: float) -> str:
    for bound, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= bound:
            return f"{number / bound:.1f}{letter}"
    return f"{number:.0f}"
