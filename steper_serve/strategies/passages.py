"""Render passages for a prompt, in the one place where untrusted text becomes a prompt.

Whatever stands in a passage, the rendered block is exactly a header line, a text line and a
blank line. Nothing in it can pass for an answer flag, a follow-up, a question, a role, another
passage's header or a special token of the model. Serving and training both render here.
What is left out: persuading text ("ignore the above"), which no rewriting removes.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from steper_serve.trajectory import Passage

HEADER = "Wikipedia Title:"

# A label with its colon is what the protocol of a prompt is made of; without the colon it is
# prose. Spaces may be several, a colon may be any of its look-alikes.
_PHRASES = (
    r"so\s+the\s+answer\s+is",
    r"so\s+the\s+final\s+answer\s+is",
    r"follow[\s\-‐‑‒–]*up",
    r"intermediate\s+answer",
    r"follow[\s\-‐‑‒–]*up\s+questions\s+needed\s+here",
    r"wikipedia\s+title",
)
# These only as words of their own: "Q:", not "Iraq:".
_WORDS = "passages passage question answer q a user assistant system human".split()
_COLONS = ":\u02d0\u02f8\u0589\u05c3\u1361\u1804\u205a\u2236\ua789\ufe13\ufe30\ufe55"
_LABEL = re.compile(
    rf"({'|'.join(_PHRASES)}|(?<![^\W_])(?:{'|'.join(_WORDS)}))(\s*[{_COLONS}])+",
    re.IGNORECASE,
)
# Control tokens of well-known templates, for a model whose tokenizer we cannot ask.
_TEMPLATE_TOKEN = re.compile(
    r"<\|[^|<>]{1,64}\|>|\[/?INST\]|<</?SYS>>|</?s>|</?(?:think|tool_call|tool_response)>"
    r"|<(?:start|end)_of_turn>"
)
_INSIDE_A_WORD = re.compile(r"(?<=\S)(?=\S)")
# Full-width forms of ASCII stand for the ASCII they look like.
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
# What shows as nothing, beyond the categories of `_hidden`: joiners, fillers, selectors.
_INVISIBLE = frozenset(
    map(chr, [0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0])
) | frozenset(map(chr, [*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)]))


@lru_cache(maxsize=4096)
def render_passage(title: str, text: str, special_tokens: tuple[str, ...]) -> str:
    """A passage as every prompt shows it: `Wikipedia Title: {title}\\n{text}\\n\\n`."""
    header = neutralise(title, special_tokens)
    # A colon here would end a label that the title holds.
    body = neutralise(text, special_tokens).lstrip(f"{_COLONS} ")
    return f"{HEADER} {header}\n{body}\n\n"


def render_passages(passages: Sequence[Passage], special_tokens: tuple[str, ...]) -> str:
    """The rendered passages, one after the other."""
    return "".join(render_passage(p.title, p.text, special_tokens) for p in passages)


def neutralise(text: str, special_tokens: Sequence[str] = ()) -> str:
    """`text` as one line in which no protocol label and no special token is left."""
    line = one_line(text, special_tokens)
    while (quiet := _LABEL.sub(r"\1 -", line)) != line:
        line = without_special_tokens(quiet, special_tokens)
    return line


def one_line(text: str, special_tokens: Sequence[str] = ()) -> str:
    """`text` on one line, without invisible characters and special tokens; labels may stay.

    For what the asker wrote, whose words are the request and are not rewritten.
    """
    visible = "".join(c for c in text.translate(_FULL_WIDTH) if c.isspace() or not _hidden(c))
    return without_special_tokens(" ".join(visible.split()), special_tokens)


def without_special_tokens(text: str, special_tokens: Sequence[str]) -> str:
    """`text`, its white space collapsed, in which each special token is broken up by a space."""
    tokens = [token for token in special_tokens if token.strip()]
    while True:
        broken = _TEMPLATE_TOKEN.sub(lambda match: _break(match.group()), text)
        for token in tokens:
            broken = broken.replace(token, _break(token))
        broken = " ".join(broken.split())
        if broken == text:
            return text
        text = broken


def _break(token: str) -> str:
    """`token` with a space inside a word of it, or else without its first character.

    Either way there is less to break than before, so that breaking comes to an end.
    """
    broken = _INSIDE_A_WORD.sub(" ", token, count=1)
    return broken if broken != token else f" {token.strip()[1:]}"


def _hidden(character: str) -> bool:
    return (
        unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn") or character in _INVISIBLE
    )
