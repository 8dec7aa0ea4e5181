"""Which sentence of a passage a thought used, and where a query's words stand in a text.

A sentence is used if it, with the passage's title, holds three fifths of the thought's content
words, one of them not in the title; of several the one that holds most. The endpoint says which
passages are cited; this only shows where to look in them. What is left out: meaning.
"""

import re
from collections.abc import Iterable

_WORD = re.compile(r"\w+")
# A sentence ends at . ! ? before a space, but not after an initial or a short title.
_END = re.compile(r"(?<!\b\w)(?<!\bDr)(?<!\bMr)(?<!\bMs)(?<!\bSt)(?<!\bMrs)[.!?][\"'”’)]*(?=\s|$)")
_STOP_WORDS = frozenset(
    "a an and are as at be been but by did do does for from had has have he her his how if in "
    "into is it its of on or she so that the their then there they this to was were what when "
    "where which who whom whose why will with answer final follow up intermediate".split()
)
_COVERAGE = 0.6
_FEWEST_WORDS = 2

Span = tuple[int, int]


def used_sentence(title: str, text: str, thoughts: Iterable[str]) -> Span | None:
    """Where in `text` the sentence stands that one of `thoughts` used; None for none."""
    best: tuple[float, Span] | None = None
    named = _words(title)
    for thought in thoughts:
        content = _words(thought) - _STOP_WORDS
        if len(content) < _FEWEST_WORDS:
            continue
        for start, end in sentences(text):
            held = _words(text[start:end])
            covered = len(content & (held | named)) / len(content)
            if covered >= _COVERAGE and content & held - named and covered > (best or (0.0,))[0]:
                best = covered, (start, end)
    return best and best[1]


def sentences(text: str) -> list[Span]:
    """Where each sentence of `text` begins and ends, white space around it left out."""
    ends = [match.end() for match in _END.finditer(text)]
    if not ends or ends[-1] < len(text):
        ends.append(len(text))
    spans, start = [], 0
    for end in ends:
        said = text[start:end]
        if said.strip():
            spans.append((start + len(said) - len(said.lstrip()), start + len(said.rstrip())))
        start = end
    return spans


def words_of(query: str, text: str) -> list[Span]:
    """Where the content words of `query` stand in `text`, or all of its words if it has none."""
    wanted = _words(query)
    wanted = wanted - _STOP_WORDS or wanted
    return [m.span() for m in _WORD.finditer(text) if m.group().lower() in wanted]


def cut(text: str, spans: Iterable[Span]) -> list[tuple[str, bool]]:
    """`text` in pieces, each with whether it lies in one of the spans (sorted, disjoint)."""
    pieces, at = [], 0
    for start, end in spans:
        pieces += [(text[at:start], False), (text[start:end], True)]
        at = end
    pieces.append((text[at:], False))
    return [piece for piece in pieces if piece[0]]


def _words(text: str) -> frozenset[str]:
    return frozenset(word.lower() for word in _WORD.findall(text))
