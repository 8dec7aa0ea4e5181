"""Where a sentence or a line ends: the stop rules for a model that does not end its own steps.

Incremental: it looks at the text so far and answers only when the next word has begun, so
that "Edward L. Cahn" and "the U.S. Army" stay whole. What is left out: languages other than
those written with Latin punctuation.
"""

import re

# A full stop after one of these is part of the word.
_ABBREVIATIONS = frozenset(
    "adm al approx ave c capt co col corp dept dr ed est etc fig fr gen gov hon inc jr lt ltd maj "
    "mme mr mrs ms mt nos op pp pres prof rep rev rt sen sgt sr st v vol vs "
    "jan feb mar apr jun jul aug sep sept oct nov dec".split()
)
_END = re.compile(r"[.!?]+[\"'”’)\]]*(?=\s+[\"'“‘(\[]*\w)")
_LINE = re.compile(r"\s*\S[^\n]*(?=\n)")
_LAST_WORD = re.compile(r"[^\s(\[\"'“‘]+$")


def line_end(text: str) -> int | None:
    """Index just past the first line of `text` that holds any, or None while it goes on."""
    match = _LINE.match(text)
    return None if match is None else match.end()


def thought_end(text: str) -> int | None:
    """The end of the first sentence of `text` or of its first line, whichever is known first."""
    ends = [end for end in (sentence_end(text), line_end(text)) if end is not None]
    return min(ends, default=None)


def sentence_end(text: str) -> int | None:
    """Index just past the first sentence of `text`, or None while it is not known to end.

    >>> sentence_end("It was made by Edward L. Cahn. He")
    30
    """
    for match in _END.finditer(text):
        before, after = text[: match.start()], text[match.end() :].lstrip()
        if before.strip() and not _inside_a_name(before, match.group(), after):
            return match.end()
    return None


def _inside_a_name(before: str, end: str, after: str) -> bool:
    """Whether the full stop after `before` belongs to an abbreviation or an initial."""
    match = _LAST_WORD.search(before)
    if match is None or not end.startswith("."):
        return False
    word = match.group()
    if word.lower() == "no":  # "No. 5", but "The answer is no."
        return after[:1].isdigit()
    dotted = "." in word and any(c.isalpha() for c in word)
    return (len(word) == 1 and word.isupper()) or dotted or word.lower() in _ABBREVIATIONS
