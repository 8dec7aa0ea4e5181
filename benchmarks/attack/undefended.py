"""The loop without its defence: passages in prompts as they were written.

It exists for the comparison in `bench attack` and nowhere else. The product renders every passage
in one place and can render it in no other way: no request, setting or option leads here. A flow is
wrapped, and its prompts are changed on their way to the model. What is left out: what strategies
do to a question and to thoughts, which stays as it is.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from steper_serve.errors import SteperError
from steper_serve.strategies.passages import HEADER, render_passage
from steper_serve.trajectory import Flow, Generate, Outcome, Passage, Prompt


def undefended(flow: Flow, special_tokens: tuple[str, ...]) -> Flow:
    """`flow`, but that the passages it finds stand in its prompts as they are.

    Prompts were fitted to the model with the passages rendered, and may be a little longer.
    """
    blocks: dict[str, str] = {}
    outcome: Outcome | None = None
    try:
        while True:
            try:
                effect = flow.send(outcome)  # type: ignore[arg-type]
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            if isinstance(effect, Generate):
                effect = replace(effect, prompt=_as_written(effect.prompt, blocks))
            try:
                outcome = yield effect
            except SteperError as error:
                flow.throw(error)
                raise
            if isinstance(outcome, Sequence):
                blocks |= {rendered(p, special_tokens): as_written(p) for p in outcome}
    finally:
        flow.close()


def as_written(passage: Passage) -> str:
    """The block of a passage, with all that its author put there."""
    return f"{HEADER} {passage.title}\n{passage.text}\n\n"


def rendered(passage: Passage, special_tokens: tuple[str, ...]) -> str:
    """The block that the product shows."""
    return render_passage(passage.title, passage.text, special_tokens)


def _as_written(prompt: Prompt, blocks: Mapping[str, str]) -> Prompt:
    """`prompt` with every rendered block in it as it was written, all of them in one pass."""
    if not blocks:
        return prompt
    # The longest first, since one may begin as another does.
    known = re.compile("|".join(re.escape(b) for b in sorted(blocks, key=len, reverse=True)))

    def text(before: str) -> str:
        return known.sub(lambda match: blocks[match.group()], before)

    return replace(prompt, text=text(prompt.text), user=text(prompt.user))
