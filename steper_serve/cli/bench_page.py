"""`steper-serve bench page`: the page in a browser, beside the endpoint that it asks.

What is left out: what is measured and how (benchmarks.page).
"""

import asyncio

import click

from steper_serve.cli.bench import say
from steper_serve.errors import ConfigurationError
from steper_serve.generation.endpoint_key import key_in


@click.command()
@click.argument("url")
@click.option(
    "--endpoint", metavar="URL", help="The endpoint that the page asks (default: URL/v1)."
)
@click.option("--pages", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--questions", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--key-env", metavar="VARIABLE", help="Environment variable with the API key.")
def page(url: str, endpoint: str | None, pages: int, questions: int, key_env: str | None) -> None:
    """How soon the page at URL shows streamed text, and whether many pages stay responsive.

    It asks the bundled questions; it needs Chromium, and Playwright's package for Python.
    """
    try:
        from steper_serve.benchmarks import page as pages_in_a_browser
    except ImportError as error:
        raise ConfigurationError(
            f"bench page needs the package playwright ({error}): pip install playwright"
        ) from error
    from steper_serve import questions as question_sets
    from steper_serve.cli.wiring import BUNDLED_QUESTIONS

    asked = [q.question for q in question_sets.read(BUNDLED_QUESTIONS)[:questions]]
    url = url.rstrip("/")
    measured = asyncio.run(
        pages_in_a_browser.measure(
            url,
            asked,
            endpoint=endpoint or f"{url}/v1",
            num_pages=pages,
            key=key_in(key_env, "--key-env"),
        )
    )
    say([measured.table()], [measured.line()])
