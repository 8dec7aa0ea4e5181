"""`steper-serve bench page` and `bench pictures`: the page in a browser.

What is left out: what is measured and how (benchmarks.page), what is shown (benchmarks.pictures).
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
    with _playwright():
        from steper_serve.benchmarks import page as pages_in_a_browser
    url = url.rstrip("/")
    measured = asyncio.run(
        pages_in_a_browser.measure(
            url,
            _bundled(questions),
            endpoint=endpoint or f"{url}/v1",
            num_pages=pages,
            key=key_in(key_env, "--key-env"),
        )
    )
    say([measured.table()], [measured.line()])


@click.command()
@click.argument("url")
@click.option("--question", help="What is asked (default: the first bundled question).")
@click.option(
    "--out",
    "folder",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the pictures.",
)
def pictures(url: str, question: str | None, folder: Path) -> None:
    """PNG files of every tab of the page at URL: in a wide window, a narrow one, and a dark one.

    It needs Chromium, and Playwright's package for Python.
    """
    with _playwright():
        from steper_serve.benchmarks import pictures as in_a_browser
    for file in asyncio.run(in_a_browser.take(url, question or _bundled(1)[0], folder)):
        click.echo(file)


def _bundled(num_questions: int) -> list[str]:
    from steper_serve import questions
    from steper_serve.cli.wiring import BUNDLED_QUESTIONS

    return [q.question for q in questions.read(BUNDLED_QUESTIONS)[:num_questions]]


@contextmanager
def _playwright() -> Iterator[None]:
    """What imports Playwright's package, which is no dependency."""
    try:
        yield
    except ImportError as error:
        raise ConfigurationError(
            f"a browser is driven by the package playwright ({error}): pip install playwright"
        ) from error
