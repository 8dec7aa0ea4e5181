"""A served endpoint and page with a model that each test tells what to say."""

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import ASGIApp

from steper_serve.api.app import Policy, create_app
from steper_serve.cli.page import Site
from steper_serve.cli.server import Server
from steper_serve.cli.serving import bind, url_of
from steper_serve.generation.scripted import ScriptedModel
from steper_serve.loop import Loop
from steper_serve.trajectory import Completion, Delta, Generate
from steper_serve.ui.app import create_page
from steper_serve.ui.shell import Shell
from tests.api.serving import QUESTION, by_step, make_loop


class Actor:
    """A `LanguageModel` whose script a test may change; it says its lines at once."""

    def __init__(self) -> None:
        self.says()

    def says(
        self,
        script: Callable[[Generate], object] = by_step,
        *,
        gate: asyncio.Event | None = None,
        down: str | None = None,
    ) -> None:
        """What it says from now on; see `ScriptedModel`."""
        self.model = ScriptedModel(script, gate=gate)  # type: ignore[arg-type]
        self.model.down = down

    def generate(self, request: Generate) -> AsyncGenerator[Delta | Completion, None]:
        return self.model.generate(request)

    async def check(self) -> None:
        await self.model.check()

    def num_running(self) -> int:
        return self.model.num_running()


@asynccontextmanager
async def on_port(
    app: ASGIApp, port: int = 0, page: Shell | None = None, *, dies: bool = False
) -> AsyncIterator[str]:
    """Any application on a port, served as `steper-serve` serves it; gives its URL.

    Args:
        dies: whether it ends as a process does that is killed.
    """
    with bind("127.0.0.1", port) as listener:
        async with _on(listener, app, page, dies) as url:
            yield url


@asynccontextmanager
async def _on(
    listener: socket.socket, app: ASGIApp, page: Shell | None, dies: bool = False
) -> AsyncIterator[str]:
    server = Server(uvicorn.Config(app, log_level="error"), page)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield url_of(listener)
    finally:
        if dies:
            for connection in server.server_state.connections:
                connection.transport.abort()
        server.should_exit = True
        await task


@asynccontextmanager
async def site(
    loop: Loop | None = None, policy: Policy | None = None, **page: object
) -> AsyncIterator[str]:
    """Endpoint and page on one port, as `steper-serve serve` serves them; gives the URL."""
    policy = policy or Policy()
    endpoint = create_app(loop or make_loop(Actor()), examples=[QUESTION], policy=policy)
    with bind("127.0.0.1", 0) as listener:
        shell = create_page(f"{url_of(listener)}/v1", **page)  # type: ignore[arg-type]
        async with _on(listener, Site(endpoint, shell, policy.hosts), shell) as url:
            yield url
