"""Self-Ask: prompt, stop rule and parser.

The model decomposes the question: it asks a follow-up, which is searched for, answers it from
the passages, and goes on until it states the final answer (paper, section 6.3; prompt shape of
Tables 13 to 16). The model's turn is a transcript of lines; each generation ends where such a
line does, so that nothing is generated and thrown away.
"""

import re
from collections.abc import Generator, Sequence

from steper_serve import answers
from steper_serve.strategies.draft import Context, Draft, Ends
from steper_serve.strategies.options import Options
from steper_serve.strategies.passages import one_line, render_passages
from steper_serve.trajectory import (
    Demonstration,
    Effect,
    Flow,
    Outcome,
    Passage,
    Prompt,
    PromptFormat,
    StopReason,
)

OPENING = "Are follow up questions needed here:"
FOLLOW_UP = "Follow up:"
INTERMEDIATE_ANSWER = "Intermediate answer:"
FINAL_MARKER = "So the final answer is:"

_FOLLOW_UP = re.compile(r"^[ \t]*follow[ -]?up\s*:[ \t]*(?P<rest>[^\n]*)", re.IGNORECASE | re.M)
_FINAL = re.compile(
    r"so\s+the\s+final\s+answer\s+is\s*[*_]*\s*:[ \t]*(?P<rest>[^\n]*)", re.IGNORECASE
)


def self_ask(question: str, options: Options) -> Flow:
    """Search with the question, then with each follow-up; at most `max_steps` searches."""
    with Draft("self-ask", question, options, render) as draft:
        query = question
        reason: StopReason = "max_steps"
        for step in range(1, options.max_steps + 1):
            if not (yield from draft.search(query)):
                reason = "budget"
                break
            if draft.found_nothing:
                return draft.finish("", "no_passages")
            if step > 1 and not (yield from _answer_follow_up(draft)):
                reason = "budget"
                break
            if step == options.max_steps:
                break
            text = yield from _decide(draft)
            if text is None:
                reason = "budget"
                break
            if answer := parse_answer(text):
                return draft.say(answer)
            follow_up = parse_follow_up(text)
            if not follow_up:
                reason = "no_answer_marker"
                break
            query = follow_up
        return (yield from draft.conclude(_marker(draft.written), answers.clean, reason))


def render(context: Context, format: PromptFormat) -> Prompt:
    """The prompt: instruction, demonstrations, passages, question, and the transcript so far."""
    special = format.special_tokens
    intro = f"{context.instruction}\n\n" if context.instruction else ""
    shown = "".join(_demonstration(d, special) for d in context.demonstrations)
    user = f"{intro}{shown}{_asked(context.question, context.passages, special)}"
    partial = f"{OPENING}{context.written}"
    if format.chat is None:
        return Prompt(f"{user}\n{partial}", user=f"{user}\n", partial=partial)
    before, after = format.chat
    return Prompt(f"{before}{user}{after}{partial}", user=user, partial=partial, templated=True)


def parse_follow_up(text: str) -> str | None:
    """The last follow-up question that `text` asks, or None."""
    found = [match["rest"].strip() for match in _FOLLOW_UP.finditer(text)]
    return next((rest for rest in reversed(found) if rest), None)


def parse_answer(text: str) -> str | None:
    """The final answer that `text` states, or None."""
    match = _FINAL.search(text)
    return None if match is None else answers.clean(one_line(match["rest"]))


def decision_end(text: str) -> int | None:
    """Index just past the line that ends a generation: a follow-up's or the final answer's."""
    ends = [
        match.end()
        for pattern in (_FOLLOW_UP, _FINAL)
        for match in pattern.finditer(text)
        if match["rest"].strip() and match.end() < len(text)
    ]
    return min(ends, default=None)


def _marker(written: str) -> str:
    """What leads to the final answer after `written`."""
    if not written:
        return f" No.\n{FINAL_MARKER}"
    return "" if written.endswith(FINAL_MARKER) else f"\n{FINAL_MARKER}"


def _answer_follow_up(draft: Draft) -> Generator[Effect, Outcome, bool]:
    """Let the model answer its last follow-up; False if time, tokens or room ran out."""
    if draft.must_answer:
        return False
    lead = f"\n{INTERMEDIATE_ANSWER}"
    tokens = draft.options.max_step_tokens
    text = yield from draft.generate(lead=lead, ends=draft.line_ends(), max_tokens=tokens)
    if text is None:
        return False
    draft.written += f"{lead} {one_line(text, draft.format.special_tokens)}"
    return True


def _decide(draft: Draft) -> Generator[Effect, Outcome, str | None]:
    """Let the model ask its next follow-up or state the final answer; None as above."""
    if draft.must_answer:
        return None
    lead = "\n" if draft.written else ""
    tokens = draft.options.max_step_tokens
    text = yield from draft.generate(lead=lead, ends=Ends(cut=decision_end), max_tokens=tokens)
    if text is not None and (tidy := _tidy(text, draft.format)):
        draft.written += f"{lead or ' '}{tidy}"
    return text


def _tidy(text: str, format: PromptFormat) -> str:
    """`text` without blank lines and stray white space."""
    lines = [one_line(line, format.special_tokens) for line in text.splitlines()]
    return "\n".join(line for line in lines if line)


def _asked(question: str, passages: Sequence[Passage], special: tuple[str, ...]) -> str:
    return f"Passages:\n{render_passages(passages, special)}Question: {question}"


def _demonstration(shown: Demonstration, special: tuple[str, ...]) -> str:
    lines = "\n".join([*shown.thoughts, f"{FINAL_MARKER} {shown.answer}"])
    return f"{_asked(shown.question, shown.passages, special)}\n{OPENING} Yes.\n{lines}\n\n"
