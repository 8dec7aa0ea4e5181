"""What can go wrong in a benchmark, as typed errors. Each names the URL or file and what to do."""

from steper_serve.errors import EngineUnavailable, SteperError


class EndpointUnreachable(EngineUnavailable):
    """Nothing answers at the endpoint's URL, or what answers says that it is not ready."""

    code = "endpoint_unreachable"


class RequestRefused(SteperError):
    """The endpoint refuses what every question would ask for: a model, a setting, the key."""

    code = "request_refused"


class AnswerFailed(SteperError):
    """One question has no answer; `body` is what the endpoint said of it."""

    code = "answer_failed"

    def __init__(self, message: str, body: object = None) -> None:
        super().__init__(message)
        self.body = body


class ServerFailed(SteperError):
    """The server that a benchmark started did not come up, or ended."""

    code = "server_failed"


class ReplayDiffers(SteperError):
    """A recorded answer cannot be asked again as it was: other prompts, or other tokens."""

    code = "replay_differs"
