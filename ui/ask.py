"""The Ask tab: a question, its answer as it forms, and the settings beside it."""

import random
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import gradio as gr

from steper_serve.ui import render
from steper_serve.ui.asking import Stops, follow
from steper_serve.ui.client import Endpoint
from steper_serve.ui.components import Desk, choices, quiet, steps_slider, top_k_slider
from steper_serve.ui.events import Problem
from steper_serve.ui.request import TEMPERATURE, Ask, seed_of
from steper_serve.ui.timeline import Turn, advance

# Puts the answer that is there above the next one, in the browser: the server keeps none of it.
_KEEP = "(...inputs) => { window.steper.keep(inputs); return inputs; }"


@dataclass(frozen=True, slots=True)
class AskTab:
    """The components that others fill or read."""

    question: gr.Textbox
    model: gr.Dropdown
    max_steps: gr.Slider
    top_k: gr.Slider
    temperature: gr.Slider
    seed: gr.Textbox
    key: gr.Textbox
    examples: gr.Dataset

    @property
    def settings(self) -> list[Any]:
        """What a link fills in, the model aside."""
        return [self.question, self.max_steps, self.top_k, self.temperature, self.seed]


def build(endpoint: Endpoint, shown_url: str | None, default: Ask, stops: Stops) -> AskTab:
    """Lay the tab out in the Blocks that are open, and make it work."""
    with gr.Row(elem_classes="ask"):
        with gr.Column(scale=5, min_width=320, elem_classes="talk"):
            gr.HTML('<div class="turns"></div>', apply_default_css=False, elem_id="log")
            live = gr.HTML(render.welcome(), apply_default_css=False, elem_id="live")
            examples = gr.Dataset(
                components=["number"],  # its samples are shown whole, a textbox's cut at 60
                samples=[],
                label="Questions to try",
                elem_id="examples",
            )
            with gr.Row(elem_classes="composer"):
                question = gr.Textbox(
                    label="Question",
                    show_label=False,
                    placeholder="Ask a question …",
                    max_lines=4,
                    autofocus=True,
                    container=False,
                    scale=8,
                    elem_id="question",
                    html_attributes=gr.InputHTMLAttributes(autocomplete="off"),
                )
                ask = gr.Button("Ask", variant="primary", scale=1, min_width=88, elem_id="ask")
                stop = gr.Button("Stop", variant="stop", scale=1, min_width=88, elem_id="stop")
        with (
            gr.Column(scale=2, min_width=260, elem_classes="aside"),
            gr.Accordion("Settings", elem_id="settings"),
        ):
            key = gr.Textbox(
                label="Key of this server",
                info="It answers only those who have one.",
                type="password",
                visible=False,
                elem_id="key",
            )
            model = gr.Dropdown(
                choices({default.model: True}),
                value=default.model,
                label="Strategy",
                elem_id="strategy",
                allow_custom_value=True,  # or what the server does not remember would be refused
            )
            max_steps = steps_slider(default.max_steps)
            top_k = top_k_slider(default.top_k, "Passages a search (top-k)")
            temperature = gr.Slider(
                *TEMPERATURE,
                default.temperature,
                step=0.05,
                label="Temperature (0: greedy)",
                buttons=[],
            )
            seed = gr.Textbox(label="Seed (blank: a new one each time)", elem_id="seed")
    tab = AskTab(question, model, max_steps, top_k, temperature, seed, key, examples)
    _wire(tab, _Desk(endpoint, shown_url, stops), live, ask, stop)
    return tab


def _wire(tab: AskTab, desk: "_Desk", live: gr.HTML, ask: gr.Button, stop: gr.Button) -> None:
    """Each output is updated with each frame, so there is one; which button shows is for CSS."""
    question, *settings = [*tab.settings, tab.model, tab.key]
    asked: dict[str, Any] = {"outputs": live, "js": _KEEP, "trigger_mode": "once", **quiet()}
    gr.on([ask.click, tab.question.submit], desk.ask, [question, *settings], **asked)
    tab.examples.click(desk.ask, [tab.examples, *settings], **asked)
    stop.click(desk.stop, **quiet())


class _Desk(Desk):
    async def ask(
        self,
        question: str | list[str],
        max_steps: int,
        top_k: int,
        temperature: float,
        seed: str,
        model: str,
        key: str,
        request: gr.Request,
    ) -> AsyncGenerator[str, None]:
        """Show an answer as it forms. `question` is a list where one to try is chosen."""
        question = question[0] if isinstance(question, list) else question
        if not question.strip():
            yield gr.skip()
            return
        ask = Ask(
            question.strip(),
            model,
            int(max_steps),
            int(top_k),
            float(temperature),
            seed_of(seed) if temperature else None,
            keyed=bool(key),
        )
        if temperature and ask.seed is None:
            if seed.strip():
                yield render.turn(_without_seed(ask, seed), self._shown_url)
                return
            ask = replace(ask, seed=random.randrange(2**31))  # noqa: S311
        with self._stops.begin(str(request.session_hash)) as stop:
            async for [turn] in follow(self._endpoint, [ask], stop, key):
                yield render.turn(turn, self._shown_url)


def _without_seed(ask: Ask, given: str) -> Turn:
    """A turn that says that what is given for a seed is none."""
    said = f"“{given.strip()}” is no whole number that a seed can be."
    hint = "Enter one, or leave the field blank for a new one each time."
    return advance(Turn(uuid4().hex[:8], ask), Problem("The seed is not a number", said, hint))
