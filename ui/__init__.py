"""The page: watch an answer being reasoned, compare, search the corpus, read benchmarks.

It is an HTTP client of the endpoint and imports nothing else of the project. `app` puts it
together with Gradio; `timeline`, `highlight` and `request` are pure and need neither.
"""
