"""The Compare tab: one question, several ways to answer it, at once and side by side."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from steper_serve.ui import render
from steper_serve.ui.asking import Stops, follow
from steper_serve.ui.client import Endpoint
from steper_serve.ui.components import Desk, awaiting, choices, quiet, steps_slider, top_k_slider
from steper_serve.ui.request import Ask

# What the columns begin with, as far as the endpoint serves it: what each search buys.
PREFERRED = ("steper-ircot", "steper-single", "steper-direct")
NUM_COLUMNS = len(PREFERRED)


@dataclass(frozen=True, slots=True)
class CompareTab:
    """The components that others fill."""

    question: gr.Textbox
    models: list[gr.Dropdown]


def build(
    endpoint: Endpoint, shown_url: str | None, default: Ask, key: gr.Textbox, stops: Stops
) -> CompareTab:
    """Lay the tab out in the Blocks that are open, and make it work."""
    with gr.Row(elem_classes="composer top"):
        question = gr.Textbox(
            label="Question",
            show_label=False,
            placeholder="Ask one question in several ways …",
            max_lines=4,
            container=False,
            scale=8,
            elem_id="compare-question",
        )
        ask = gr.Button("Compare", variant="primary", scale=1, min_width=104, elem_id="compare")
        stop = gr.Button("Stop", variant="stop", scale=1, min_width=104, elem_id="compare-stop")
    num = gr.Radio(
        [("2 columns", 2), ("3 columns", 3)],
        value=2,
        label="Columns",
        container=False,
        elem_id="columns",
        show_label=False,
    )
    settings: list[Any] = []
    shown: list[gr.HTML] = []
    with gr.Row(equal_height=False, elem_classes="columns"):
        for number, preferred in enumerate(PREFERRED, 1):
            with gr.Column(min_width=280, elem_classes="column"):
                model = gr.Dropdown(
                    choices({preferred: True}),
                    value=preferred,
                    label=f"Strategy {number}",
                    allow_custom_value=True,
                )
                with gr.Row(elem_classes="numbers"):
                    steps = steps_slider(default.max_steps, min_width=110)
                    top_k = top_k_slider(default.top_k, "Top-k", min_width=110)
                shown.append(gr.HTML("", apply_default_css=False, elem_id=f"column-{number}"))
            settings += [model, steps, top_k]
    desk = _Desk(endpoint, shown_url, stops)
    gr.on(
        [ask.click, question.submit],
        desk.ask,
        [key, question, num, *settings],
        shown,
        trigger_mode="once",
        js=awaiting("#column-1", "#compare-question"),
        **quiet(),
    )
    stop.click(desk.stop, **quiet())
    return CompareTab(question, settings[::3])


class _Desk(Desk):
    async def ask(
        self, request: gr.Request, key: str, question: str, num: int, *settings: Any
    ) -> AsyncGenerator[tuple[Any, ...], None]:
        """Show the answers side by side as they form.

        `settings` are model, most steps and top-k of each column in turn.
        """
        if not question.strip():
            yield tuple(gr.skip() for _ in range(NUM_COLUMNS))
            return
        wanted = [settings[at : at + 3] for at in range(0, 3 * num, 3)]
        asks = [
            Ask(question.strip(), model, int(steps), int(top_k), keyed=bool(key))
            for model, steps, top_k in wanted
        ]
        rest = [""] * (NUM_COLUMNS - num)
        with self._stops.begin(str(request.session_hash)) as stop:
            async for turns in follow(self._endpoint, asks, stop, key):
                yield *(render.column(turn, self._shown_url) for turn in turns), *rest
