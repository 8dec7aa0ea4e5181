"""What is measured: a server at a URL, or one that is started here for the purpose.

A server that was started here ends with the benchmark, also where that is killed (Linux), and has
its settings from its flags alone: neither variables of the caller nor a steper.toml that lies about
make another of it. What is left out: questions and answers (client).
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from steper_serve.benchmarks.failures import ServerFailed
from steper_serve.errors import ConfigurationError
from steper_serve.processes import ends_with_us

STUDENT = "student"
_READY = re.compile(r"Ready after .*?: (?P<url>http://\S+/v1)")
_NAMED_URL = re.compile(r"(?:(?P<name>[^=/:]+)=)?(?P<url>https?://.+)")
_NUMBER = re.compile(r"(?P<digits>\d+(?:\.\d+)?(?:[eE]\d+)?)(?P<unit>[KMBT]?)")
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_LINES_KEPT = 40
_LAST_WORDS = 4000
_END_SECONDS = 30
_SETTING = "STEPER_"
_KEPT = "STEPER_CACHE_DIR"  # where things lie is no setting of what is measured


@dataclass(frozen=True, slots=True)
class Served:
    """One thing to be measured.

    Args:
        name: what tables call it; results are kept apart by it.
        url: of a running server, up to /v1; None for one that is started.
        model: model directory or hub id of one that is started; None for the bundled student.
        flags: what else `steper-serve serve` is given.
        num_parameters: of its model; None where unknown.
        weights: digest of a model directory's files (names, sizes, times); "" of others.
    """

    name: str
    url: str | None = None
    model: str | None = None
    flags: tuple[str, ...] = ()
    num_parameters: int | None = None
    weights: str = ""


def all_served(
    endpoints: Sequence[str],
    models: Sequence[str],
    flags: Sequence[str],
    parameters: Sequence[str],
) -> list[Served]:
    """What the command line names, endpoints first; the bundled student if it names nothing.

    Raises:
        ConfigurationError: something is not of its form, or two have one name.
    """
    sizes = dict(size_of(text) for text in parameters)
    found = [_endpoint(text, sizes) for text in endpoints]
    wanted = list(models) or ([] if endpoints else [STUDENT])
    found += [_started(text, tuple(flags), sizes) for text in wanted]
    names = [served.name for served in found]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"two servers are called {name!r}: write NAME=… to tell them")
    if unknown := [name for name in sizes if name not in names]:
        raise ConfigurationError(
            f"--parameters names {unknown[0]!r}, which is not served; there is {', '.join(names)}"
        )
    return found


@contextmanager
def running(served: Served, index: Path | None) -> Iterator[str]:
    """The base URL (up to /v1) of what is served; a server that had to be started ends with it.

    Raises:
        ServerFailed: it did not start; the message holds what it said.
    """
    if served.url is not None:
        yield served.url
        return
    command = [sys.executable, "-m", "steper_serve", "serve", "--port", "0"]
    with started([*command, *flags_of(served, index)]) as url:
        yield url


def flags_of(served: Served, index: Path | None) -> list[str]:
    """What `steper-serve serve` is given for what is served, port aside."""
    model = [] if served.model is None else ["--model", served.model]
    search = [] if index is None else ["--index", str(index)]
    return [*model, *search, *served.flags]


def told_by(command: Sequence[str], *, name: str, advice: str) -> dict[str, Any]:
    """The last line that a process prints, as JSON; it ends with this one.

    Raises:
        ServerFailed: it ended otherwise; says what `name` it has, how, `advice`, and what it said.
    """
    done = subprocess.run(
        ends_with_us(command), env=_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return told
    if done.returncode < 0:
        raise ServerFailed(
            f"{name} was ended by signal {-done.returncode}: had it enough memory? {advice}"
        )
    raise ServerFailed(
        f"{name} ended with code {done.returncode}. {advice}:\n{done.stderr[-_LAST_WORDS:]}"
    )


@contextmanager
def started(command: Sequence[str]) -> Iterator[str]:
    """The URL of `process`."""
    with process(command) as (url, _):
        yield url


@contextmanager
def process(command: Sequence[str]) -> Iterator[tuple[str, int]]:
    """The URL that the process of `command` says on standard error once it is ready, and its id.

    Raises:
        ServerFailed: it ended before.
    """
    with subprocess.Popen(
        ends_with_us(command), env=_environment(), stderr=subprocess.PIPE, text=True
    ) as child:
        said: deque[str] = deque(maxlen=_LINES_KEPT)
        try:
            yield _url(child, said), child.pid
        finally:
            child.terminate()
            try:
                child.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()


def _environment() -> dict[str, str]:
    """Ours without settings, and with no file of settings but one that a flag names."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(_SETTING) or name.upper() == _KEPT
    }
    return {**kept, "STEPER_CONFIG": os.devnull}


def _url(process: "subprocess.Popen[str]", said: deque[str]) -> str:
    for line in process.stderr or ():
        said.append(line)
        if match := _READY.search(line):
            # Read on, or a full pipe would bring the server to a halt.
            threading.Thread(target=said.extend, args=(process.stderr,), daemon=True).start()
            return match["url"]
    raise ServerFailed(
        f"the server ended with code {process.wait()} before it was ready:\n{''.join(said)}"
    )


def _endpoint(text: str, sizes: dict[str, int]) -> Served:
    match = _NAMED_URL.fullmatch(text)
    if match is None:
        raise ConfigurationError(f"--endpoint {text} is no URL: http://HOST:PORT/v1, or NAME=URL")
    url = match["url"].rstrip("/")
    name = match["name"] or url.removesuffix("/v1").partition("://")[2]
    return Served(name, url=url, num_parameters=sizes.get(name))


def _started(text: str, flags: tuple[str, ...], sizes: dict[str, int]) -> Served:
    """`text` is [NAME=]MODEL."""
    if text == STUDENT and not Path(text).exists():
        from importlib.resources import files

        folder = Path(str(files("steper_serve"))) / "assets" / "student"
        known = sizes.get(STUDENT) or num_parameters(folder)
        return Served(STUDENT, None, None, flags, known, _weights(folder))
    name, equals, model = text.partition("=")
    model = model if equals else text
    name = name if equals else Path(text).name if Path(text).is_dir() else text
    if model[:1] in ("/", ".", "~") and not Path(model).is_dir():
        raise ConfigurationError(f"there is no model directory {model}")
    known = sizes.get(name) or num_parameters(Path(model))
    return Served(name, None, model, flags, known, _weights(Path(model)))


def size_of(text: str) -> tuple[str, int]:
    """What is served and its parameters, of NAME=NUMBER.

    Raises:
        ConfigurationError: it is not of this form.
    """
    name, _, number = text.rpartition("=")
    match = _NUMBER.fullmatch(number)
    if not name or match is None:
        raise ConfigurationError(f"--parameters {text} is not NAME=NUMBER, such as student=4.5M")
    return name, round(float(match["digits"]) * _UNITS[match["unit"]])


def num_parameters(folder: Path) -> int | None:
    """Counted in the headers of its safetensors files; None without any."""
    from safetensors import safe_open

    def sizes(file: Path) -> Iterable[int]:
        with safe_open(file, "numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - no mapping
                yield prod(tensors.get_slice(name).get_shape())

    return sum(size for file in folder.glob("*.safetensors") for size in sizes(file)) or None


def _weights(folder: Path) -> str:
    if not folder.is_dir():
        return ""
    states = [(file.name, file.stat()) for file in sorted(folder.iterdir()) if file.is_file()]
    text = repr([(name, state.st_size, state.st_mtime_ns) for name, state in states])
    return hashlib.sha256(text.encode()).hexdigest()[:12]
