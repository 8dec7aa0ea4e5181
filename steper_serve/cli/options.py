"""The flags that several commands share, and the settings that come of them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from steper_serve.generation.vllm_args import EngineArg
from steper_serve.settings import Settings, load_settings
from steper_serve.strategies import STRATEGIES

F = TypeVar("F", bound=Callable[..., Any])

# No flag has a default of its own, so that one that is not given leaves the setting to the
# environment and the file.
_MODEL = (
    click.option("--config", type=click.Path(path_type=Path), help="TOML file of settings."),
    click.option("--model", help="Model directory or hub id (default: the bundled student)."),
    click.option(
        "--index",
        type=click.Path(path_type=Path),
        help="Index directory (default: the bundled corpus, indexed on first use).",
    ),
    click.option("--endpoint", help="Use the model behind this OpenAI-compatible URL instead."),
    click.option(
        "--endpoint-api",
        type=click.Choice(["completions", "chat"]),
        help="Which API of the endpoint to use (default: completions).",
    ),
    click.option(
        "--endpoint-is-vllm/--endpoint-is-not-vllm",
        default=None,
        help="Whether it takes vLLM's extra fields (default: it does).",
    ),
    click.option("--tokenizer", help="Tokenizer of the endpoint's model: directory or hub id."),
    click.option("--max-model-len", type=int, help="Context length in tokens."),
    click.option("--kv-cache-gib", type=float, help="Memory for the KV cache, in GiB."),
    click.option("--enforce-eager/--compiled", default=None, help="Start fast, or run fast."),
    click.option(
        "--engine-arg",
        "engine_args",
        multiple=True,
        metavar="NAME=VALUE",
        help="Any engine argument of vLLM, e.g. tensor_parallel_size=2; may be repeated.",
    ),
)
_LOOP = (
    click.option("--strategy", type=click.Choice(list(STRATEGIES)), help="Default: ircot."),
    click.option("--max-steps", type=int, help="Most steps, 1 to 10 (default 5)."),
    click.option("--top-k", type=int, help="Passages per search, 1 to 20 (default 4)."),
    click.option(
        "--max-seconds",
        type=float,
        help="Time budget of an answer; a served request may ask for less (there: default 600).",
    ),
    click.option(
        "--style",
        type=click.Choice(["auto", "student", "few-shot"]),
        help="Bare prompt or demonstrations (default: what the model's steper.json says).",
    ),
    click.option(
        "--prompts",
        type=click.Path(path_type=Path),
        help="Folder with your own ircot.toml, self-ask.toml and direct.toml.",
    ),
)
_GUARD = (
    click.option("--host", help="Address to serve on (default 127.0.0.1)."),
    click.option("--port", type=int, help="Port to serve on (default 8000; 0 takes a free one)."),
    click.option(
        "--api-keys-file",
        type=click.Path(path_type=Path),
        help="File of API keys, as `steper-serve key` makes them (STEPER_API_KEYS holds them too).",
    ),
    click.option(
        "--allow-unauthenticated/--no-allow-unauthenticated",
        default=None,
        help="Serve others than this machine although no key is set.",
    ),
    click.option(
        "--cors-origins",
        metavar="ORIGIN,…",
        help="Web origins whose pages may ask from a browser, or * (default: none).",
    ),
    click.option("--requests-per-minute", type=int, help="Answers that a key may ask for."),
    click.option("--tokens-per-minute", type=int, help="Tokens that a key may use."),
    click.option("--max-running", type=int, help="Answers at one time (default 128)."),
    click.option("--max-queued", type=int, help="Answers waiting beyond these (default 256)."),
    click.option("--max-body-bytes", type=int, help="Size of a request (default 1 MiB)."),
    click.option("--max-messages", type=int, help="Messages in a request (default 500)."),
    click.option("--max-question-characters", type=int, help="Of a question (default 10000)."),
    click.option("--max-answer-tokens", type=int, help="Tokens of an answer (default 8192)."),
    click.option(
        "--client-seconds",
        type=float,
        help="Within which a client must send its request, and read what it is sent (default 30).",
    ),
    click.option(
        "--drain-seconds",
        type=float,
        help="Within which running answers must end after a signal (default 25).",
    ),
)
_TOLD = (
    click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        help="Lines on standard error for people, or as JSON (default: text).",
    ),
    click.option(
        "--record-content/--no-record-content",
        default=None,
        help="Put questions, answers and passages into logs and traces (default: no).",
    ),
)

_PAGE = (
    click.option("--public-url", help="Address that citations point to, behind a proxy."),
    click.option("--page/--no-page", default=None, help="Serve the page at / too (default: yes)."),
    click.option(
        "--results",
        type=click.Path(path_type=Path),
        help="Folder with results of `steper-serve bench`, for the page to show.",
    ),
    click.option(
        "--examples",
        type=click.Path(path_type=Path),
        help="File of questions to try on the page (default: the bundled corpus's, with it).",
    ),
)


def guard_options(command: F) -> F:
    """Flags that say where a server listens, to whom, how much it takes, and what it tells."""
    return add(command, (*_GUARD, *_TOLD))


def page_options(command: F) -> F:
    """Flags that say what a browser is shown, and where it finds the server."""
    return add(command, _PAGE)


def model_options(command: F) -> F:
    """Flags that choose and tune the model and the index."""
    return add(command, _MODEL)


def loop_options(command: F) -> F:
    """Flags that set the loop's defaults."""
    return add(command, _LOOP)


def settings_from(flags: dict[str, Any]) -> Settings:
    """The settings that a command's flags, the environment and the file make.

    Raises:
        ConfigurationError: any of them is wrong.
    """
    config = flags.pop("config", None)
    if given := flags.pop("engine_args", ()):
        flags["engine_args"] = _engine_args(given)
    return load_settings(config, flags)


def add(command: F, options: Sequence[Callable[[F], F]]) -> F:
    """`options` on a command, in the order in which its help shows them."""
    for option in reversed(options):
        command = option(command)
    return command


def _engine_args(given: Sequence[str]) -> dict[str, EngineArg]:
    pairs = [item.partition("=") for item in given]
    for name, equals, _ in pairs:
        if not (name and equals):
            raise click.BadParameter(f"{name!r} is not NAME=VALUE", param_hint="--engine-arg")
    return {name.replace("-", "_"): _value(text) for name, _, text in pairs}


def _value(text: str) -> EngineArg:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
