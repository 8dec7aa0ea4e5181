"""Who a server lets in, from settings: keys are read, and contradictions are refused.

What is left out: the flags (options), and letting anybody in (api).
"""

from steper_serve.api.admission import Admission
from steper_serve.api.app import Policy
from steper_serve.api.hosts import is_loopback, name_in
from steper_serve.api.keys import Key, Keyring, read_keys
from steper_serve.api.limits import Limits
from steper_serve.errors import ConfigurationError
from steper_serve.settings import Settings


def policy_of(settings: Settings) -> Policy:
    """Who may ask the server of these settings, and how much.

    Raises:
        ConfigurationError: a key cannot be read, a server that others reach has none, or one
            that has some is to want none.
    """
    keys = _keyring(settings)
    if keys and settings.allow_unauthenticated:
        raise ConfigurationError(
            "API keys are set, and allow_unauthenticated says that none is wanted: leave one out"
        )
    if not keys and not settings.allow_unauthenticated:
        check_exposure(
            settings.host,
            "there is no API key: set STEPER_API_KEYS or --api-keys-file (`steper-serve key` "
            "makes one), or say --allow-unauthenticated",
        )
    return Policy(
        keys=keys,
        origins=settings.cors_origins,
        hosts=None if keys or settings.allow_unauthenticated else _hosts(settings),
        limits=_limits(settings),
        requests_per_minute=settings.requests_per_minute,
        tokens_per_minute=settings.tokens_per_minute,
    )


def admission_of(settings: Settings) -> Admission:
    """The bounds on answers."""
    return Admission(settings.max_running, settings.max_queued)


def check_exposure(host: str, why: str) -> None:
    """Refuse an address that others than this machine reach.

    Raises:
        ConfigurationError: it is one; the message ends with `why`.
    """
    if not is_loopback(host):
        raise ConfigurationError(f"others than this machine reach a server on {host!r}, and {why}")


def described(settings: Settings) -> str:
    """For `doctor`: who may ask, in a few words.

    Raises:
        ConfigurationError: as `policy_of`.
    """
    policy = policy_of(settings)
    names = sorted({key.name for key in policy.keys.keys})
    who = f"keys of {', '.join(names)}" if names else "no key wanted"
    pages = f", pages of {', '.join(settings.cors_origins)}" if settings.cors_origins else ""
    bounds = f"{settings.max_running} answers run and {settings.max_queued} wait at most"
    return f"{settings.host}:{settings.port}, {who}{pages}; {bounds}"


def _keyring(settings: Settings) -> Keyring:
    keys: list[Key] = []
    if settings.api_keys is not None:
        keys += read_keys(settings.api_keys.get_secret_value(), "STEPER_API_KEYS")
    if (file := settings.api_keys_file) is not None:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"cannot read the API keys in {file}: {error}") from error
        found = list(read_keys(text, str(file), len(keys) + 1))
        if not found:
            raise ConfigurationError(f"there is no API key in {file}: `steper-serve key` makes one")
        keys += found
    return Keyring(tuple(keys))


def _hosts(settings: Settings) -> tuple[str, ...]:
    return (name_in(settings.public_url),) if settings.public_url else ()


def _limits(settings: Settings) -> Limits:
    return Limits(
        max_body_bytes=settings.max_body_bytes,
        max_messages=settings.max_messages,
        max_question_characters=settings.max_question_characters,
        max_answer_tokens=settings.max_answer_tokens,
        max_seconds=settings.max_seconds or Limits().max_seconds,
        client_seconds=settings.client_seconds,
    )
