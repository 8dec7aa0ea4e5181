"""Typed errors. Each says what was wrong, where, and what to do about it.

Each class knows its HTTP status and OpenAI's error `type` and `code`; an error raised inside a
loop carries the steps finished before it. What is left out: how errors go over the wire (api).
"""

from typing import ClassVar

from steper_serve.trajectory import Step


class SteperError(Exception):
    """Base of every error that this project raises on purpose."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str | None] = None
    # What a client is told in place of a message that names what is inside a server.
    public: ClassVar[str | None] = None

    def __init__(
        self, message: str, *, param: str | None = None, retry_seconds: float | None = None
    ) -> None:
        """`retry_seconds`: when to try again, where that is known (`Retry-After`)."""
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_seconds = retry_seconds
        self.steps: tuple[Step, ...] = ()


class ConfigurationError(SteperError):
    """A setting, file or folder that the product cannot start with."""

    code = "configuration"


class CorpusError(SteperError):
    """A corpus file that cannot be read as one; the message names file and line."""

    code = "corpus"


class IndexUnavailable(SteperError):
    """An index that is missing, broken, or being written by somebody else."""

    status = 503
    code = "index_unavailable"


class InvalidRequest(SteperError):
    """A request that cannot be served as it is; `param` names the field."""

    status = 400
    type = "invalid_request_error"


class InvalidJson(InvalidRequest):
    """The request's body is not JSON; the message says where."""

    code = "invalid_json"


class UnknownParameter(InvalidRequest):
    """A field that no such request has."""

    code = "unknown_parameter"


class UnsupportedParameter(InvalidRequest):
    """A field of OpenAI's that this server has no use for, and will not ignore."""

    code = "unsupported_parameter"


class UnknownUrl(InvalidRequest):
    """Nothing is served at that path."""

    status = 404
    code = "unknown_url"


class MethodNotSupported(InvalidRequest):
    """The path takes requests of other methods."""

    status = 405
    code = "method_not_supported"


class PromptTooLong(InvalidRequest):
    """The question alone, or a prompt, is longer than the model reads."""

    code = "context_length_exceeded"


class ModelNotFound(InvalidRequest):
    """No model of that name is served here."""

    status = 404
    code = "model_not_found"


class PassageNotFound(InvalidRequest):
    """No passage has that id in the index."""

    status = 404
    code = "passage_not_found"


class KeyMissing(InvalidRequest):
    """The server wants an API key and the request has none."""

    status = 401
    code = "missing_api_key"


class KeyRefused(InvalidRequest):
    """The request's API key is none of the server's."""

    status = 401
    code = "invalid_api_key"


class OriginRefused(InvalidRequest):
    """A browser sent the request for a web page that is not allowed to ask."""

    status = 403
    code = "origin_not_allowed"


class HostRefused(InvalidRequest):
    """The request asks for a server of a name that is none of this one's."""

    status = 403
    code = "host_not_allowed"


class BodyTooLarge(InvalidRequest):
    """The request's body has more bytes than the server reads."""

    status = 413
    code = "body_too_large"


class BodyTooSlow(InvalidRequest):
    """The request's body did not come in time."""

    status = 408
    code = "body_too_slow"


class RequestRateExceeded(SteperError):
    """The key has asked as often in this minute as it may."""

    status = 429
    type = "requests"
    code = "rate_limit_exceeded"


class TokenRateExceeded(SteperError):
    """The key has used as many tokens in this minute as it may."""

    status = 429
    type = "tokens"
    code = "rate_limit_exceeded"


class Overloaded(SteperError):
    """As many answers run and wait as the server takes; a later try may be taken."""

    status = 503
    code = "server_overloaded"


class Draining(SteperError):
    """The server is ending: it takes no new answers, and ends those that take too long."""

    status = 503
    code = "server_draining"


class EngineUnavailable(SteperError):
    """The engine is not ready, is down, or cannot be reached; a later try may work."""

    status = 503
    code = "engine_unavailable"


class EngineDied(EngineUnavailable):
    """The engine has ended and will not come back: its process has to be started anew."""

    public = "the engine has ended: ask again when the server has been started anew"


class EngineFailed(SteperError):
    """The engine refused the request or broke while it ran; a second try will not help."""

    status = 502
    code = "engine_failed"


class EngineTimeout(EngineUnavailable):
    """The engine did not answer in time."""

    status = 504
    code = "engine_timeout"
