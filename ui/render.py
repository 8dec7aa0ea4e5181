"""Turns, passages, numbers and problems as HTML.

What a corpus or a model says is text, never markup: the templates escape all of it. What is left
out: what is to be shown (timeline), and Gradio.
"""

from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from steper_serve.ui import highlight, timeline
from steper_serve.ui.client import Corpus
from steper_serve.ui.events import Passage, Problem
from steper_serve.ui.request import PAGE, Ask, as_curl, as_python
from steper_serve.ui.timeline import Turn

ASSETS = Path(__file__).parent / "assets"
# Servers and proxies refuse addresses that are much longer.
_LONGEST_LINK = 8000
# What a model is called; others by their id.
STRATEGIES = {
    "steper": "The server's default",
    "steper-ircot": "IRCoT: search with each thought",
    "steper-self-ask": "Self-Ask: search follow-up questions",
    "steper-single": "Single: search once, then reason",
    "steper-direct": "Direct: reason without a search",
}


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ASSETS / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"seconds": seconds, "size": size, "cut": highlight.cut, "date": date}
    return environment


def turn(shown: Turn, endpoint: str | None) -> str:
    """A question with its timeline and answer, for the Ask tab.

    Args:
        endpoint: the URL that copied commands ask; None for the one that the page comes from.
    """
    return _turn("turn.html.j2", shown, endpoint)


def column(shown: Turn, endpoint: str | None) -> str:
    """An answer with its timeline and what it took, for the Compare tab."""
    return _turn("column.html.j2", shown, endpoint)


def strategy_label(model: str, trained: bool = True) -> str:
    """What a model is called in a list to choose from."""
    name, colon, what = STRATEGIES.get(model, model).partition(":")
    # Beside the name: the end of a label is cut off where a list is narrow.
    return f"{name}{'' if trained else ' (not trained for it)'}{colon}{what}"


def hits(query: str, found: tuple[Passage, ...]) -> str:
    """What a search by hand has found, the query's words marked."""
    shown = [
        (p, highlight.words_of(query, p.title), highlight.words_of(query, p.text or ""))
        for p in found
    ]
    return _render("hits.html.j2", query=query, hits=shown)


def problem(shown: Problem) -> str:
    """A problem outside an answer."""
    return _render("problem.html.j2", problem=shown)


def light(known: bool) -> str:
    """The light in the header; server.js keeps it up to date.

    Args:
        known: whether the page knows what the endpoint serves.
    """
    return _render("light.html.j2", known=known)


def corpus(shown: Corpus) -> str:
    """The corpus in numbers."""
    return _render("corpus.html.j2", corpus=shown)


def brand() -> str:
    """The product's name and sign."""
    return _render("brand.html.j2")


def welcome() -> str:
    """What stands where no question has been asked yet."""
    return _render("welcome.html.j2")


def report(html: str | None) -> str:
    """A report of benchmarks in a frame of its own; None where no results are given."""
    return _render("report.html.j2", report=html)


def link_of(ask: Ask) -> str:
    """The address of a page with this question and these settings."""
    return PAGE + "/" + ask.link()


def seconds(number: float | None) -> str:
    """A time as people read it."""
    if number is None:
        return ""
    if number < 0.001:
        return "< 1 ms"
    return f"{number * 1000:.0f} ms" if number < 0.995 else f"{number:.2f} s"


def size(num_bytes: int) -> str:
    """A size in bytes as people read it."""
    number = float(num_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            break
        number /= 1000
    return f"{number:.3g} {unit}"


def date(iso: str) -> str:
    """A time in ISO 8601 to the minute; anything else as it is."""
    try:
        return datetime.fromisoformat(iso).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return iso


def _turn(template: str, shown: Turn, endpoint: str | None) -> str:
    url = endpoint or f"{PAGE}/v1"
    copies = [("curl", as_curl(shown.ask, url)), ("Python", as_python(shown.ask, url))]
    if len(link := link_of(shown.ask)) <= _LONGEST_LINK:
        copies.append(("link", link))
    passages = {**shown.passages, **{p.id: p for p in shown.citations}}
    return _render(
        template,
        turn=shown,
        passages=passages,
        order={id: number for number, id in enumerate(passages, 1)},
        numbers={p.id: number for number, p in enumerate(shown.citations, 1)},
        note=timeline.note(shown),
        copies=copies,
        strategy=strategy_label(shown.ask.model),
    )


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)
