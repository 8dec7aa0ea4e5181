"""Read an answer off a model's text, and score it.

The scores are the official ones of HotpotQA, 2WikiMultiHopQA and MuSiQue: exact match and token
F1 over normalised text, the best over all gold answers. That "yes" and "no" match whole or not at
all is the rule of the first two; MuSiQue's scorer has none, and its answers are never yes or no.
Accuracy is the paper's (section 5.1): a gold answer is contained in the text. What is left out:
running questions (evaluation).
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_CLOSED = frozenset({"yes", "no", "noanswer"})
_EMPHASIS = "*`"  # what chat models set around an answer
_QUOTES = '"“”'
_ABBREVIATED = re.compile(r"(^|[\s.])[A-Z]\.$")


def clean(text: str) -> str:
    """One answer out of the text that follows an answer marker: its first line, unquoted.

    A final full stop goes unless it belongs to an abbreviation ("Washington, D.C.").
    """
    line = next((part for part in text.splitlines() if part.strip()), "")
    plain = line.strip().strip(_EMPHASIS).strip()
    return _without_stop(_without_quotes(_without_stop(plain)).strip(_EMPHASIS))


def _without_stop(answer: str) -> str:
    return answer if _ABBREVIATED.search(answer) else answer.rstrip(".").rstrip()


def _without_quotes(answer: str) -> str:
    """`answer` without the quotes around all of it; quotes around a part of it stay."""
    inner = answer.strip(_QUOTES + string.whitespace)
    return answer if any(quote in inner for quote in _QUOTES) else inner


def normalise(text: str) -> str:
    """Lower-case; without punctuation, articles and extra white space."""
    bare = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def exact_match(answer: str, gold: Sequence[str]) -> float:
    """1.0 if the normalised answer equals a normalised gold answer, else 0.0."""
    return _best(answer, gold, lambda a, g: float(a == g))


def f1(answer: str, gold: Sequence[str]) -> float:
    """The best token F1 of the answer over all gold answers, in [0, 1].

    As HotpotQA and 2WikiMultiHopQA score it: "yes", "no" and "noanswer" match whole or not at all.
    """
    return _best(answer, gold, _token_f1)


def accuracy(text: str, gold: Sequence[str]) -> float:
    """1.0 if a gold answer, normalised, is contained in the normalised text, else 0.0."""
    return _best(text, gold, lambda a, g: float(bool(g) and f" {g} " in f" {a} "))


def _best(answer: str, gold: Sequence[str], score: Callable[[str, str], float]) -> float:
    return max((score(normalise(answer), normalise(g)) for g in gold), default=0.0)


def _token_f1(answer: str, gold: str) -> float:
    if answer != gold and (answer in _CLOSED or gold in _CLOSED):
        return 0.0
    ours, theirs = answer.split(), gold.split()
    if not ours or not theirs:
        return float(ours == theirs)
    common = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * common / (len(ours) + len(theirs))
