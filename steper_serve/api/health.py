"""Whether the process lives, and whether it can answer.

`GET /health` is for a supervisor: it fails when only a new process will help. `GET /ready` is for
a load balancer: it fails as long as a question would. Neither wants a key.
"""

import asyncio
import logging

from fastapi import FastAPI

from steper_serve.api.admission import Admission
from steper_serve.errors import Draining, EngineDied, EngineUnavailable
from steper_serve.loop import Loop
from steper_serve.trajectory import LanguageModel

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5
# A probe waits no longer; an endpoint that is away would be asked again and again for it.
_PROBE_SECONDS = 3.0


class Vitals:
    """What is known of the engine's life; `died` says why it has ended."""

    def __init__(self) -> None:
        self.died: str | None = None

    def check(self) -> None:
        """Return if the engine lives, for all that is known.

        Raises:
            EngineDied: it has ended.
        """
        if self.died is not None:
            raise EngineDied(self.died)

    async def watch(self, model: LanguageModel) -> None:
        """Return when the model's engine has died; for one whose check costs nothing."""
        while self.died is None:
            try:
                await model.check()
            except EngineDied as error:
                self.died = error.message
                _log.error("the engine has died: %s", self.died, extra={"event": "engine_died"})
            except EngineUnavailable:
                pass  # it may come back
            await asyncio.sleep(_LOOK_SECONDS)


def install(app: FastAPI, loop: Loop, admission: Admission, vitals: Vitals) -> None:
    """Add the routes to `app`."""

    @app.head("/health", include_in_schema=False)
    @app.get("/health")
    async def health() -> dict[str, str]:
        """The process and its engine live; 503 with the reason where it has to be replaced."""
        vitals.check()
        return {"status": "ok"}

    @app.head("/ready", include_in_schema=False)
    @app.get("/ready")
    async def ready() -> dict[str, str]:
        """The engine lives, the model is loaded, the index is open, and answers are taken.

        503 with the reason otherwise.
        """
        if admission.draining:
            raise Draining("the server is ending")
        vitals.check()
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                await loop.model.check()
        except TimeoutError as error:
            raise EngineUnavailable(
                f"the model did not answer within {_PROBE_SECONDS:g} s"
            ) from error
        await asyncio.to_thread(loop.retriever.describe)
        return {"status": "ready"}
