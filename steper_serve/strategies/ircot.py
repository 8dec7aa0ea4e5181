"""IRCoT and its two relatives: prompt, stop rule and parser.

IRCoT searches with the question, then with its own last thought, and writes one thought a step
until one holds the answer marker (paper, section 3, eq. 2; prompt shape of Tables 9 to 12).
`single` searches once (Vanilla-RAG, eq. 1), `direct` never; both then write on alike. At its
last step a flow that has no answer appends the marker itself (section 4.1, aggregation).
"""

import re
from collections.abc import Generator

from steper_serve import answers
from steper_serve.strategies.draft import Context, Draft
from steper_serve.strategies.options import Options
from steper_serve.strategies.passages import one_line, render_passages
from steper_serve.strategies.sentences import sentence_end
from steper_serve.trajectory import (
    Demonstration,
    Effect,
    Flow,
    Outcome,
    Prompt,
    PromptFormat,
    StopReason,
)

ANSWER_MARKER = "So the answer is:"
_MARKER = re.compile(r"so\s+the\s+answer\s+is\s*[*_]*\s*:", re.IGNORECASE)


def ircot(question: str, options: Options) -> Flow:
    """Search, think, search with the thought; at most `max_steps` searches."""
    return _reason("ircot", question, options, num_searches=options.max_steps)


def single(question: str, options: Options) -> Flow:
    """Search once with the question, then think at most `max_steps` thoughts."""
    return _reason("single", question, options, num_searches=1)


def direct(question: str, options: Options) -> Flow:
    """Think at most `max_steps` thoughts, without any passage."""
    return _reason("direct", question, options, num_searches=0)


def render(context: Context, format: PromptFormat) -> Prompt:
    """The prompt: demonstrations, passages, question, and the thoughts so far."""
    special = format.special_tokens
    shown = "".join(_demonstration(d, context, special) for d in context.demonstrations)
    asked = _asked(context.question, context)
    user = f"{shown}{render_passages(context.passages, special)}{asked}"
    if format.chat is None:
        return Prompt(f"{user}\nA:{context.written}", user=f"{user}\nA:", partial=context.written)
    before, after = format.chat
    partial = context.written.removeprefix(" ")
    return Prompt(f"{before}{user}{after}{partial}", user=user, partial=partial, templated=True)


def parse_answer(thought: str) -> str | None:
    """The answer that a thought states, or None if it holds no answer marker."""
    match = _MARKER.search(thought)
    return None if match is None else _first_sentence(thought[match.end() :])


def _asked(question: str, context: Context) -> str:
    return f"Q: {context.instruction}\n{question}" if context.instruction else f"Q: {question}"


def _demonstration(shown: Demonstration, context: Context, special: tuple[str, ...]) -> str:
    passages = render_passages(shown.passages, special)
    reasoning = " ".join([*shown.thoughts, f"{ANSWER_MARKER} {shown.answer}."])
    return f"{passages}{_asked(shown.question, context)}\nA: {reasoning}\n\n\n"


def _first_sentence(text: str) -> str:
    return answers.clean(text[: sentence_end(text)])


def _reason(strategy: str, question: str, options: Options, num_searches: int) -> Flow:
    with Draft(strategy, question, options, render) as draft:
        query, marker = question, f" {ANSWER_MARKER}"
        reason: StopReason = "max_steps"
        for step in range(1, options.max_steps + 1):
            if step > num_searches:
                draft.open()
            elif not (yield from draft.search(query)):
                reason = "budget"
                break
            if num_searches and draft.found_nothing:
                return draft.finish("", "no_passages")
            if draft.must_answer:
                reason = "budget"
                break
            text = yield from _think(draft, cut=step < num_searches)
            if text is None:
                reason = "budget"
                break
            thought = one_line(text, options.format.special_tokens)
            if answer := parse_answer(thought):
                return draft.say(answer)
            if not thought:
                reason = "no_answer_marker"
                break
            draft.written += f" {thought}"
            query = thought
            if answer is not None:  # the marker, and nothing behind it
                marker, reason = "", "no_answer_marker"
                break
        return (yield from draft.conclude(marker, _first_sentence, reason))


def _think(draft: Draft, *, cut: bool) -> Generator[Effect, Outcome, str | None]:
    """One thought; all of them at once where nothing is to be searched between them."""
    by_sentence = draft.format.step_end == "sentence"
    tokens = draft.options.max_step_tokens
    return (
        yield from draft.generate(
            ends=draft.line_ends(first_sentence=cut),
            max_tokens=tokens * draft.options.max_steps if by_sentence and not cut else tokens,
        )
    )
