"""The page, put together: header, tabs, and what is asked of the endpoint when it opens.

What is left out: each tab (ask, compare, corpus), and serving the application (the command line).
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import gradio as gr
from fastapi import FastAPI

from steper_serve.ui import ask, compare, corpus, render
from steper_serve.ui.asking import Stops
from steper_serve.ui.client import Corpus, Endpoint, Failed
from steper_serve.ui.components import choices, quiet
from steper_serve.ui.request import Ask
from steper_serve.ui.shell import Shell

_EXAMPLES_SHOWN = 5
# The last begins what the others have to do.
_SCRIPTS = ("asking.js", "server.js", "page.js")
_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def create_page(
    endpoint: str,
    *,
    shown_url: str | None = None,
    max_steps: int = 5,
    top_k: int = 4,
    report: Callable[[], str] | None = None,
    look_seconds: float = 2.0,
    key: str = "",
) -> Shell:
    """The page as an ASGI application, to be served at `/`.

    Args:
        endpoint: URL of the endpoint (up to /v1), as this process reaches it.
        shown_url: the same as whoever copies a command reaches it; None where the endpoint is
            at the address that the page comes from.
        max_steps: what the settings begin with, 1..10.
        top_k: likewise, 1..20.
        report: makes a page of benchmark results, as HTML, or raises `Failed`; called when its
            tab is opened, in a thread. None if there are no results.
        look_seconds: how often a page that is in sight looks whether the endpoint is ready.
        key: API key that is used for whoever gives none.
    """
    _without_statistics()
    client = Endpoint(endpoint, key)
    default = Ask("", max_steps=max_steps, top_k=top_k)
    stops = Stops(), Stops()
    with gr.Blocks(title="StepER Serve", analytics_enabled=False, fill_width=True) as blocks:
        light = _header()
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Ask", id="ask"):
                asking = ask.build(client, shown_url, default, stops[0])
            with gr.Tab("Compare", id="compare"):
                comparing = compare.build(client, shown_url, default, asking.key, stops[1])
            with gr.Tab("Corpus", id="corpus"):
                numbers = corpus.build(client, top_k, asking.key)
            with gr.Tab("Benchmarks", id="benchmarks") as benchmarks:
                _benchmarks(benchmarks, client, asking.key, report)
        # Gradio looks for work a thousand times a second, which takes 3% of a core; 5 ms will do.
        blocks._queue.sleep_when_free = 0.005
        blocks._queue.progress_update_sleep_when_free = 1.0
        _open(blocks, _Door(client, default), asking, comparing, numbers, light)
    return Shell(_mounted(blocks, client, look_seconds), client, stops)


def _without_statistics() -> None:
    """Gradio would tell its makers of each start, and make a table of all past events after each.

    It reads these variables when a page is made; whoever sets them otherwise wants it otherwise.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", str(10**12))
    os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")


def _header() -> gr.HTML:
    with gr.Row(elem_classes="header"):
        gr.HTML(render.brand(), apply_default_css=False, elem_classes="brand")
        return gr.HTML(render.light(False), apply_default_css=False, elem_id="up")


def _benchmarks(
    tab: gr.Tab, client: Endpoint, key: gr.Textbox, report: Callable[[], str] | None
) -> None:
    shown = gr.HTML(render.report(None), apply_default_css=False, elem_id="report")
    if report is not None:

        async def read(key: str) -> str:
            """The report, for whoever may ask, or why there is none."""
            try:
                await client.models(key)
                return render.report(await asyncio.to_thread(report))
            except Failed as failure:
                return render.problem(failure.problem)

        tab.select(read, key, shown, show_progress="minimal", api_visibility="private")


def _open(
    blocks: gr.Blocks,
    door: "_Door",
    asking: ask.AskTab,
    comparing: compare.CompareTab,
    numbers: gr.HTML,
    light: gr.HTML,
) -> None:
    """What happens when the page opens, when the endpoint comes back, and when a key is given.

    There are as few events as can be, and the browser itself looks whether the endpoint is there
    (server.js): Gradio closes the stream of answers with the last event, and one that is asked for
    at that very moment hears nothing until another opens the stream again. So asking.js nudges
    where nothing comes. Nor is there a gr.State: it would cost each open page one of the six
    connections that browsers allow to a server.
    """
    again = gr.Button(visible="hidden", elem_id="look")
    nudge = gr.Button(visible="hidden", elem_id="nudge")
    told = [light, asking.key, asking.model, *comparing.models, numbers, asking.examples]
    blocks.load(door.enter, None, [*asking.settings, *told], **quiet())
    nudge.click(lambda: None, None, None, **quiet())
    looking = [asking.key, asking.model, *comparing.models]
    again.click(door.look, looking, told, **quiet())
    asking.key.submit(door.look, looking, told, **quiet())


class _Door:
    """What the page asks the endpoint for itself."""

    def __init__(self, endpoint: Endpoint, default: Ask) -> None:
        self._endpoint = endpoint
        self._default = default

    async def enter(self, request: gr.Request) -> tuple[Any, ...]:
        """The settings that the page's address holds, and what the endpoint serves."""
        asked = Ask.of_link(dict(request.query_params), self._default)
        seed = "" if asked.seed is None else str(asked.seed)
        settings = asked.question, asked.max_steps, asked.top_k, asked.temperature, seed
        return *settings, *(await self.look("", asked.model, *compare.PREFERRED))

    async def look(self, key: str, chosen: str, *compared: str) -> tuple[Any, ...]:
        """What the endpoint serves, and what its corpus is; what is chosen stays so."""
        same = gr.skip()
        try:
            served = await self._endpoint.models(key) or {chosen: True}
            held = await self._endpoint.corpus(key)
        except Failed as failure:
            wanted = gr.update(visible=True) if failure.problem.wants_key else same
            alone = gr.update(choices=choices({chosen: True}), value=chosen)
            return render.light(False), wanted, alone, *[same] * (compare.NUM_COLUMNS + 2)
        models = [gr.update(choices=choices({chosen: True} | served), value=chosen)]
        for wish in compared:
            known = wish if wish in served else next(iter(served))
            models.append(gr.update(choices=choices(served), value=known))
        return render.light(True), same, *models, render.corpus(held), _examples(held)


def _examples(held: Corpus) -> Any:
    shown = [[question] for question in held.examples[:_EXAMPLES_SHOWN]]
    return gr.Dataset(samples=shown)


def _mounted(blocks: gr.Blocks, client: Endpoint, look_seconds: float) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await client.close()

    script = "\n".join(
        [
            f"window.steper = {{ lookSeconds: {look_seconds}, begin: [] }};",
            *((render.ASSETS / "scripts" / name).read_text("utf-8") for name in _SCRIPTS),
        ]
    )
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        show_error=True,
        favicon_path=str(render.ASSETS / "favicon.png"),
        theme=_theme(),
        css_paths=[render.ASSETS / "page.css", render.ASSETS / "turn.css"],
        head=f"<script>{script}</script>",
    )
    return app


def _theme() -> gr.themes.Base:
    """Fonts of the reader's own system: none is fetched."""
    return gr.themes.Base(
        primary_hue="teal", secondary_hue="teal", neutral_hue="slate", font=_FONTS, font_mono=_MONO
    )
