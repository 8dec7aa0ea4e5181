"""uvicorn's server, as ours end: open pages are let go, and running answers may finish.

What is left out: the page (ui), and what an answer is (api).
"""

import asyncio
import logging
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from steper_serve.api.admission import Admission
from steper_serve.api.health import Vitals

if TYPE_CHECKING:
    from steper_serve.ui.shell import Shell

_log = logging.getLogger(__name__)

# For what is written and not yet sent when a server ends.
_FLUSH_SECONDS = 5
# For pages to be told that what they asked for was stopped.
_STOP_SECONDS = 2
_LOOK_SECONDS = 0.02


class Server(uvicorn.Server):
    """Ends although pages are open, each of which holds a connection for as long as it is."""

    def __init__(self, config: uvicorn.Config, page: "Shell | None") -> None:
        super().__init__(config)
        self._page = page

    async def shutdown(self, sockets: object = None) -> None:
        """See uvicorn."""
        if self._page is not None:
            await self._last_told(self._page)
            self._page.close()
        await super().shutdown(sockets)  # type: ignore[arg-type]
        if self.force_exit:  # uvicorn leaves this out then, and is told so by its own task
            await self.lifespan.shutdown()

    async def _last_told(self, page: "Shell") -> None:
        """Return once pages have been told what they asked for, or that it was stopped.

        An endpoint in this process is done before; another one goes on, in its own time.
        """
        await self._while_asking(page, _FLUSH_SECONDS)
        page.stop()
        await self._while_asking(page, _STOP_SECONDS)

    async def _while_asking(self, page: "Shell", seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                # A second signal sets a flag of uvicorn's, which nothing can wait for.
                while page.num_asking and not self.force_exit:  # noqa: ASYNC110
                    await asyncio.sleep(_LOOK_SECONDS)


class AnsweringServer(Server):
    """Drains on a signal, ends at once on the next, and ends when the engine has died.

    While it drains it goes on listening, to say that it is not ready and takes nothing new.

    Args:
        drain_seconds: within which the answers that are present must end; those that do not are
            ended with an error that says so.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        page: "Shell | None",
        admission: Admission,
        vitals: Vitals,
        drain_seconds: float,
    ) -> None:
        config.timeout_graceful_shutdown = _FLUSH_SECONDS
        super().__init__(config, page)
        self._admission = admission
        self._vitals = vitals
        self._drain_seconds = drain_seconds
        self._drained_by: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See uvicorn."""
        self._captured_signals.append(sig)
        if self._admission.draining:
            self.should_exit = self.force_exit = True
        self._admission.drain()

    async def on_tick(self, counter: int) -> bool:
        """See uvicorn: called ten times a second; True ends the server."""
        if self._vitals.died is not None:
            self._admission.drain()  # what is present is told why, and needs no time but for that
            self._drain_seconds = min(self._drain_seconds, _FLUSH_SECONDS)
        if self._admission.draining and (self._is_drained() or self.should_exit):
            self._admission.stop()
            self.should_exit = True
        return await super().on_tick(counter)

    def _is_drained(self) -> bool:
        now = asyncio.get_running_loop().time()
        if self._drained_by is None:
            self._drained_by = now + self._drain_seconds
            self._say()
        return now >= self._drained_by or self._admission.num_present == 0

    def _say(self) -> None:
        told = {"event": "drain", "num_answers": (num := self._admission.num_present)}
        if num == 0:
            _log.info("Ending: no answer is running", extra=told)
            return
        _log.info(
            "Ending: %d answers may take %g s more; a second signal ends at once",
            num,
            self._drain_seconds,
            extra=told,
        )
