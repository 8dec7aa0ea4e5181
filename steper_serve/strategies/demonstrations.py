"""Read a strategy's instruction and demonstrations from a TOML file.

The project's own stand in prompts/; a user's folder with files of the same names replaces
them. This is the one place in `strategies` that reads files, and it runs before any flow.

    instruction = "…"

    [[demonstrations]]
    question = "…"
    thoughts = ["…", "…"]        # in the strategy's own form, without the answer marker
    answer = "…"
    passages = [{ title = "…", text = "…" }]    # none by default
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from steper_serve.errors import ConfigurationError
from steper_serve.trajectory import Demonstration, Passage

_FIELDS: Mapping[str, type] = {"question": str, "thoughts": list, "answer": str, "passages": list}


@dataclass(frozen=True, slots=True)
class FewShot:
    """What goes before the passages of a model that was not trained for the strategy."""

    instruction: str
    demonstrations: tuple[Demonstration, ...]


def load(file: str, folder: Path | None = None) -> FewShot:
    """The few-shot prompt in `file` ("ircot.toml"), from `folder` or the project's own.

    Raises:
        ConfigurationError: the file is missing or malformed; the message says where.
    """
    source = (folder or files("steper_serve.strategies") / "prompts") / file
    try:
        data = tomllib.loads(source.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read the demonstrations in {source}: {error}") from error
    unknown = data.keys() - {"instruction", "demonstrations"}
    if unknown or not isinstance(data.get("instruction", ""), str):
        what = f"unknown key {min(unknown)!r}" if unknown else "`instruction` is not a text"
        raise ConfigurationError(f"{source}: {what}; it may hold instruction and demonstrations")
    shown = data.get("demonstrations", [])
    if not isinstance(shown, list):
        raise ConfigurationError(f"{source}: `demonstrations` is not a list of tables")
    return FewShot(
        instruction=data.get("instruction", ""),
        demonstrations=tuple(
            _demonstration(d, f"{source}, no. {n}") for n, d in enumerate(shown, 1)
        ),
    )


def _demonstration(data: Any, where: str) -> Demonstration:
    if not isinstance(data, dict) or data.keys() - _FIELDS.keys():
        raise ConfigurationError(
            f"demonstration in {where}: it must be a table of {', '.join(_FIELDS)}, not {data!r}"
        )
    data = {"passages": [], **data}
    for name, kind in _FIELDS.items():
        if not isinstance(data.get(name), kind):
            raise ConfigurationError(
                f"demonstration in {where}: `{name}` must be a {kind.__name__}"
            )
    if not all(isinstance(thought, str) for thought in data["thoughts"]):
        raise ConfigurationError(f"demonstration in {where}: each of `thoughts` must be a str")
    if not all(_is_passage(p) for p in data["passages"]):
        raise ConfigurationError(
            f"demonstration in {where}: each passage must have `title` and `text`"
        )
    passages = tuple(Passage(id=f"demonstration-{n}", **p) for n, p in enumerate(data["passages"]))
    return Demonstration(data["question"], passages, tuple(data["thoughts"]), data["answer"])


def _is_passage(data: Any) -> bool:
    return (
        isinstance(data, dict)
        and data.keys() == {"title", "text"}
        and all(isinstance(value, str) for value in data.values())
    )
