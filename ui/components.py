"""What the tabs' components share."""

from collections.abc import Mapping
from typing import Any

import gradio as gr

from steper_serve.ui import render
from steper_serve.ui.asking import Stops
from steper_serve.ui.client import Endpoint
from steper_serve.ui.request import MAX_STEPS, TOP_K


def quiet() -> dict[str, Any]:
    """How an event of the page is wired.

    No spinner over what streams, any number at once (one page must not wait for another), and
    none of it is an API of its own: that is the endpoint's.
    """
    return {"show_progress": "hidden", "concurrency_limit": None, "api_visibility": "private"}


def awaiting(region: str, box: str) -> str:
    """JavaScript before an event that changes the component `region`, asked for in `box`.

    Both are CSS selectors.
    """
    return f"(...inputs) => {{ window.steper.await('{region}', '{box}'); return inputs; }}"


def choices(models: Mapping[str, bool]) -> list[tuple[str, str]]:
    """What a list of models offers: what each is called, and its id.

    Args:
        models: by id, whether it was trained for its strategy.
    """
    return [(render.strategy_label(model, trained), model) for model, trained in models.items()]


def steps_slider(default: int, **how: Any) -> gr.Slider:
    """For the most steps of an answer."""
    return gr.Slider(*MAX_STEPS, default, step=1, label="Most steps", buttons=[], **how)


def top_k_slider(default: int, label: str, **how: Any) -> gr.Slider:
    """For the passages that a search returns."""
    return gr.Slider(*TOP_K, default, step=1, label=label, buttons=[], **how)


class Desk:
    """Asks the endpoint for every page's tab of one kind; what a page asks, it can stop.

    Args:
        shown_url: the endpoint's address as a browser reaches it; None is the page's own.
        stops: of this kind of tab alone.
    """

    def __init__(self, endpoint: Endpoint, shown_url: str | None, stops: Stops) -> None:
        self._endpoint = endpoint
        self._shown_url = shown_url
        self._stops = stops

    def stop(self, request: gr.Request) -> None:
        """Stop what this page is asking."""
        self._stops.end(str(request.session_hash))
