"""The Corpus tab: search the index by hand, and see scores and passages."""

from typing import Any

import gradio as gr

from steper_serve.ui import render
from steper_serve.ui.client import Endpoint, Failed
from steper_serve.ui.components import awaiting, quiet, top_k_slider


def build(endpoint: Endpoint, default_top_k: int, key: gr.Textbox) -> gr.HTML:
    """Lay the tab out in the Blocks that are open, and make it work; gives its numbers."""
    numbers = gr.HTML("", apply_default_css=False, elem_id="corpus-numbers")
    with gr.Row(elem_classes="composer top"):
        query = gr.Textbox(
            label="Query",
            show_label=False,
            placeholder="Words to search for …",
            container=False,
            scale=8,
            elem_id="query",
        )
        search = gr.Button("Search", variant="primary", scale=1, min_width=96, elem_id="search")
    top_k = top_k_slider(default_top_k, "Passages (top-k)", elem_id="hits-top-k")
    found = gr.HTML("", apply_default_css=False, elem_id="hits")

    async def look(words: str, num: int, key: str) -> Any:
        """What is found, or why nothing can be."""
        if not words.strip():
            return gr.skip()
        try:
            return render.hits(words.strip(), await endpoint.search(words, int(num), key))
        except Failed as failure:
            return render.problem(failure.problem)

    asked = [query, top_k, key]
    how = {"js": awaiting("#hits", "#query"), **quiet()}
    gr.on([search.click, query.submit], look, asked, found, **how)
    return numbers
