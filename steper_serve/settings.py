"""Every setting of the product, in one frozen object.

Flags go before environment variables (`STEPER_…`), those before a TOML file. `cli` builds the
one instance, and nothing else reads these variables. What is left out: what a request may set.
"""

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from steper_serve.errors import ConfigurationError
from steper_serve.generation.vllm_args import EngineArg
from steper_serve.strategies.options import MAX_STEPS, TOP_K

PREFIX = "STEPER_"
DEFAULT_FILE = Path("steper.toml")
# Variables with our prefix that are no settings: the settings' own file, the tests' data.
_OTHER_VARIABLES = frozenset({"CONFIG", "DATA_DIR"})

# Kubernetes gives every container such variables of a service that is named "steper".
_OF_KUBERNETES = re.compile(r"(^|_)SERVICE_(HOST|PORT)|(^|_)PORT_\d+_(TCP|UDP)")


def _separated(value: Any) -> Any:
    """A text of several, separated by commas or spaces, as a list."""
    return (
        [item for item in re.split(r"[\s,]+", value) if item] if isinstance(value, str) else value
    )


Origin = Annotated[str, Field(pattern=r"^(\*|[a-z][a-z0-9+.-]*://[^/?#]+)$")]


class Settings(BaseSettings):
    """See `steper-serve serve --help` for each setting in a sentence."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True
    )

    model: str | None = None
    index: Path | None = None
    cache_dir: Path = Path(os.path.expanduser("~/.cache/steper-serve"))

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    public_url: Annotated[str, Field(pattern=r"^https?://")] | None = None
    page: bool = True
    results: Path | None = None
    examples: Path | None = None

    api_keys: SecretStr | None = None
    api_keys_file: Path | None = None
    allow_unauthenticated: bool = False
    cors_origins: Annotated[tuple[Origin, ...], NoDecode, BeforeValidator(_separated)] = ()
    requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    tokens_per_minute: Annotated[int, Field(ge=1)] | None = None

    max_running: Annotated[int, Field(ge=1)] = 128
    max_queued: Annotated[int, Field(ge=0)] = 256
    max_body_bytes: Annotated[int, Field(ge=1024)] = 2**20
    max_messages: Annotated[int, Field(ge=1)] = 500
    max_question_characters: Annotated[int, Field(ge=1)] = 10_000
    max_answer_tokens: Annotated[int, Field(ge=1)] = 8192
    client_seconds: Annotated[float, Field(gt=0)] = 30.0
    drain_seconds: Annotated[float, Field(ge=0)] = 25.0

    log_format: Literal["text", "json"] = "text"
    record_content: bool = False

    strategy: Literal["ircot", "self-ask", "single", "direct"] = "ircot"
    max_steps: Annotated[int, Field(ge=MAX_STEPS[0], le=MAX_STEPS[1])] = 5
    top_k: Annotated[int, Field(ge=TOP_K[0], le=TOP_K[1])] = 4
    max_seconds: Annotated[float, Field(gt=0)] | None = None
    style: Literal["auto", "student", "few-shot"] = "auto"
    prompts: Path | None = None

    max_model_len: Annotated[int, Field(ge=64)] | None = None
    kv_cache_gib: Annotated[float, Field(gt=0)] | None = None
    enforce_eager: bool | None = None
    engine_args: Mapping[str, EngineArg] = {}

    endpoint: str | None = None
    endpoint_api: Literal["completions", "chat"] = "completions"
    endpoint_key: SecretStr | None = None
    endpoint_is_vllm: bool = True
    tokenizer: str | None = None


# Settings about one of the two places where the model may be. A key for an endpoint may lie in the
# environment for other commands.
_OF_THE_ENGINE = ("kv_cache_gib", "enforce_eager", "engine_args")
_OF_AN_ENDPOINT = ("endpoint_api", "endpoint_is_vllm", "tokenizer")
# Engine arguments that are settings too.
_TWICE = {
    "model": "model",
    "max_model_len": "max_model_len",
    "enforce_eager": "enforce_eager",
    "kv_cache_memory_bytes": "kv_cache_gib",
}


def load_settings(file: Path | None, flags: Mapping[str, Any]) -> Settings:
    """The settings from flags, environment and file; a flag that is None was not given.

    The null device (`os.devnull`) as the file stands for none, also where there is a DEFAULT_FILE.

    Raises:
        ConfigurationError: an unknown variable, key or value, or two that contradict each other;
            the message names them.
    """
    _check_variables()
    file = file or (Path(env) if (env := os.environ.get("STEPER_CONFIG")) else None)
    if file is not None and not file.is_file() and str(file) != os.devnull:
        raise ConfigurationError(f"there is no configuration file {file}")
    source = file or DEFAULT_FILE

    class FromFile(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            toml = TomlConfigSettingsSource(settings_cls, toml_file=source)
            return init_settings, env_settings, toml

    try:
        found = FromFile(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        raise ConfigurationError(_one_line(error, source)) from error
    except ValueError as error:  # TOML, or JSON in a variable, that cannot be read
        raise ConfigurationError(f"cannot read the settings ({source}): {error}") from error
    if wrong := "; ".join(_contradictions(found)):
        raise ConfigurationError(wrong)
    return found


def _contradictions(settings: Settings) -> Iterator[str]:
    """What cannot be meant together, each with what to do."""
    given = {
        name for name in settings.model_fields_set if getattr(settings, name) not in (None, {})
    }
    if settings.endpoint is None:
        for name in _OF_AN_ENDPOINT:
            if name in given:
                yield f"`{name}` is about a model behind an endpoint, and `endpoint` is not set"
    else:
        if settings.model is None:
            yield "an `endpoint` needs a `model`: its id there (--model)"
        for name in _OF_THE_ENGINE:
            if name in given:
                yield (
                    f"`{name}` is about the engine in this process, and `endpoint` puts the model "
                    "elsewhere: leave one out"
                )
    for argument, name in _TWICE.items():
        if argument in settings.engine_args and (name == "model" or name in given):
            yield f"`{name}` and the engine argument {argument!r} are the same: set `{name}` alone"
    if settings.results is not None and not settings.page:
        yield "`results` are shown by the page, and `page` is off: leave one out"
    if settings.prompts is not None and settings.style == "student":
        yield "`prompts` are demonstrations, of which the `style` student has none: leave one out"


def _check_variables() -> None:
    known = {name.upper() for name in Settings.model_fields} | _OTHER_VARIABLES
    for name in sorted(os.environ):
        # Settings are read from names in any case, so that misspelt ones are seen in any case.
        prefix, rest = name[: len(PREFIX)].upper(), name[len(PREFIX) :].upper()
        if prefix == PREFIX and rest not in known and not _OF_KUBERNETES.search(rest):
            close = difflib.get_close_matches(rest, known, n=1)
            hint = f"did you mean {PREFIX}{close[0]}?" if close else "see steper-serve serve --help"
            raise ConfigurationError(f"unknown environment variable {name}: {hint}")


def _one_line(error: ValidationError, file: Path) -> str:
    parts: dict[str, str] = {}
    for problem in error.errors():
        name, value = str(problem["loc"][0]), repr(problem["input"])
        variable, flag = PREFIX + name.upper(), "--" + name.replace("_", "-")
        where = f"{flag}, {variable} or `{name}` in {file}"
        if problem["type"] == "extra_forbidden":
            parts[name] = f"unknown setting `{name}` in {file}"
        elif Settings.model_fields[name].annotation == SecretStr | None:
            parts[name] = f"{where}: {problem['msg'].lower()}"
        else:  # of a union's complaints the last: the widest type's
            parts[name] = f"{where}: {problem['msg'].lower()}, not {value}"
    return "; ".join(parts.values())
