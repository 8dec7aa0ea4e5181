"""The Ask tab: a question, its answer as it forms, and the settings beside it."""

import random
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from steper_serve.ui import render
from steper_serve.ui.asking import Stops, follow
from steper_serve.ui.client import Endpoint
from steper_serve.ui.components import choices, quiet, steps_slider, top_k_slider
from steper_serve.ui.request import TEMPERATURE, Ask, seed_of

# Earlier answers that stay on a page; older ones go.
_TURNS_KEPT = 20
_MAX_QUESTION = 20_000


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


def build(endpoint: Endpoint, shown_url: str | None, default: Ask) -> AskTab:
    """Lay the tab out in the Blocks that are open, and make it work."""
    with gr.Row(elem_classes="ask"):
        with gr.Column(scale=5, min_width=320, elem_classes="talk"):
            log = gr.HTML("", apply_default_css=False, elem_id="log")
            live = gr.HTML(render.welcome(), apply_default_css=False, elem_id="live")
            examples = gr.Dataset(
                components=["textbox"],
                samples=[],
                label="Questions to try",
                visible=False,
                elem_id="examples",
            )
            with gr.Row(elem_classes="composer"):
                question = gr.Textbox(
                    label="Question",
                    show_label=False,
                    placeholder="Ask a question …",
                    max_lines=4,
                    max_length=_MAX_QUESTION,
                    autofocus=True,
                    container=False,
                    scale=8,
                    elem_id="question",
                    html_attributes=gr.InputHTMLAttributes(autocomplete="off"),
                )
                ask = gr.Button("Ask", variant="primary", scale=1, min_width=88, elem_id="ask")
                stop = gr.Button(
                    "Stop", variant="stop", scale=1, min_width=88, visible=False, elem_id="stop"
                )
        with (
            gr.Column(scale=2, min_width=260, elem_classes="aside"),
            gr.Accordion("Settings", elem_id="settings"),
        ):
            model = gr.Dropdown(
                choices([default.model]),
                value=default.model,
                label="Strategy",
                elem_id="strategy",
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
            seed = gr.Textbox(
                label="Seed (blank: a new one each time)", visible=False, elem_id="seed"
            )
            key = gr.Textbox(
                label="Key of this server", type="password", visible=False, elem_id="key"
            )
    tab = AskTab(question, model, max_steps, top_k, temperature, seed, key, examples)
    _wire(tab, _Desk(endpoint, shown_url), log, live, ask, stop)
    return tab


def _wire(
    tab: AskTab, desk: "_Desk", log: gr.HTML, live: gr.HTML, ask: gr.Button, stop: gr.Button
) -> None:
    held = gr.State([])
    asked: dict[str, Any] = {
        "inputs": [held, tab.key, tab.model, *tab.settings],
        "outputs": [held, log, live, tab.question, tab.examples, ask, stop],
        **quiet(),
    }
    gr.on([ask.click, tab.question.submit], desk.ask, trigger_mode="once", **asked)
    tab.examples.click(_first, tab.examples, tab.question, **quiet()).then(desk.ask, **asked)
    stop.click(desk.stop, **quiet())
    tab.temperature.change(_shown_if_drawn, tab.temperature, tab.seed, **quiet())


class _Desk:
    """Asks for the page, and stops for it."""

    def __init__(self, endpoint: Endpoint, shown_url: str | None) -> None:
        self._endpoint = endpoint
        self._shown_url = shown_url
        self._stops = Stops()

    async def ask(
        self,
        held: list[str],
        key: str,
        model: str,
        question: str,
        max_steps: int,
        top_k: int,
        temperature: float,
        seed: str,
        request: gr.Request,
    ) -> AsyncGenerator[tuple[Any, ...], None]:
        """Show an answer as it forms, below the earlier ones; `held` are those."""
        if not question.strip():
            yield tuple(gr.skip() for _ in range(7))
            return
        drawn = seed_of(seed) if seed_of(seed) is not None else random.randrange(2**31)  # noqa: S311
        sampled = drawn if temperature else None
        ask = Ask(question.strip(), model, int(max_steps), int(top_k), float(temperature), sampled)
        same = gr.skip()
        with self._stops.begin(str(request.session_hash)) as stop:
            first = True
            async for [turn] in follow(self._endpoint, [ask], stop, key):
                shown = render.turn(turn, self._shown_url)
                if first:
                    log, busy = "".join(held), gr.update(visible=True)
                    hidden = gr.update(visible=False)
                    yield same, log, shown, gr.update(value=""), hidden, hidden, busy
                    first = False
                else:
                    yield same, same, shown, same, same, same, same
        held = [*held, shown][-_TURNS_KEPT:]
        again = gr.update(visible=True), gr.update(visible=False)
        yield held, same, shown, same, same, *again

    def stop(self, request: gr.Request) -> None:
        """Stop what this page is asking."""
        self._stops.end(str(request.session_hash))


def _first(sample: list[str]) -> str:
    return sample[0]


def _shown_if_drawn(temperature: float) -> Any:
    return gr.update(visible=temperature > 0)
