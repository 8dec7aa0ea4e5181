"""The page beside the endpoint: one server for both, and what the page is given to show.

The page and the endpoint know nothing of each other; here a request goes to one or the other.
Gradio is imported when a page is made. What is left out: both of them (ui, api).
"""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Receive, Scope, Send

from steper_serve import questions
from steper_serve.api.hosts import Hosts
from steper_serve.cli.wiring import BUNDLED_QUESTIONS
from steper_serve.errors import ConfigurationError, SteperError
from steper_serve.settings import Settings

if TYPE_CHECKING:
    from steper_serve.ui.shell import Shell

_MOST_EXAMPLES = 8
# What is the endpoint's; the page has the rest, and so what nobody has.
_ASKED_BY_MACHINES = ("/health", "/ready", "/metrics")
# Where a client asks that was given the endpoint's address without /v1: the endpoint says so.
_MISTAKEN = ("/chat", "/completions", "/embeddings", "/models", "/responses")
_OF_THE_ENDPOINT = ("/v1", *_ASKED_BY_MACHINES, "/openapi.json", *_MISTAKEN)


class Site:
    """The endpoint and the page as one ASGI application.

    Args:
        hosts: of the page, as `Policy.hosts` of the endpoint.
    """

    def __init__(
        self, endpoint: ASGIApp, page: ASGIApp, hosts: Collection[str] | None = None
    ) -> None:
        self._endpoint = endpoint
        self._page = page if hosts is None else Hosts(page, hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI. Start and end are the page's alone: the endpoint has nothing to do then."""
        here = scope["type"] == "http" and any(
            scope["path"] == path or scope["path"].startswith(f"{path}/")
            for path in _OF_THE_ENDPOINT
        )
        await (self._endpoint if here else self._page)(scope, receive, send)


def open_page(settings: Settings, port: int, report: Callable[[], str] | None) -> "Shell":
    """The page of a server that listens on `port`."""
    return make_page(
        f"{own_url(settings.host, port)}/v1",
        shown_url=settings.public_url and f"{settings.public_url.rstrip('/')}/v1",
        max_steps=settings.max_steps,
        top_k=settings.top_k,
        report=report,
    )


def make_page(
    endpoint: str,
    *,
    shown_url: str | None = None,
    max_steps: int = 5,
    top_k: int = 4,
    report: Callable[[], str] | None = None,
    key: str = "",
) -> "Shell":
    """`ui.app.create_page`; importing Gradio takes two seconds."""
    from steper_serve.ui.app import create_page

    return create_page(
        endpoint, shown_url=shown_url, max_steps=max_steps, top_k=top_k, report=report, key=key
    )


def own_url(host: str, port: int) -> str:
    """Where a server that listens on `host` reaches itself."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def examples_of(settings: Settings) -> tuple[str, ...]:
    """Questions for whoever does not know the corpus: those that are set, or the bundled ones.

    Raises:
        CorpusError: the file that is set is not a set of questions; names it.
    """
    file = settings.examples or (None if settings.index is not None else BUNDLED_QUESTIONS)
    if file is None:
        return ()
    return tuple(question.question for question in questions.read(file)[:_MOST_EXAMPLES])


def report_of(folder: Path) -> Callable[[], str]:
    """Makes the report of the results in a folder, or in the folders within it, as it is then.

    Raises:
        ConfigurationError: there are none.
    """
    _folders(folder)

    def made() -> str:
        from steper_serve.benchmarks import report
        from steper_serve.ui.client import Failed
        from steper_serve.ui.events import Problem

        try:
            return report.make(_folders(folder)).html()
        except SteperError as error:
            problem = Problem("The results cannot be read", f"{folder}: {error.message}")
            raise Failed(problem) from error

    return made


def _folders(folder: Path) -> list[Path]:
    from steper_serve.benchmarks.paper import saved
    from steper_serve.benchmarks.results import MANIFEST

    places = (folder, *sorted(folder.glob("*")))
    found = [place for place in places if (place / MANIFEST).is_file() or saved.files(place)]
    if not found:
        raise ConfigurationError(
            f"there are no results of a benchmark in {folder}, nor in the folders within it: "
            "give the --out of a `steper-serve bench …`"
        )
    return found
