"""`steper.json`: the file in a model's directory (or hub repository) that marks it as a student.

All its keys are optional:

    strategies   names it was trained for or is served with; default: any
    instruction  the line before a question; default: none
    few_shot     whether demonstrations go before the passages; default: false
    step_end     "eos" (it ends each step with end-of-sequence, the default) or "sentence"
    chat         whether its chat template, if it has one, is used; default: true

What is left out: what its tokenizer adds to that (model_format).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steper_serve.errors import ConfigurationError

FILE = "steper.json"

UNTUNED: Mapping[str, Any] = {
    "strategies": (),
    "instruction": None,
    "few_shot": True,
    "step_end": "sentence",
    "chat": True,
}
STUDENT: Mapping[str, Any] = {
    "strategies": (),
    "instruction": "",
    "few_shot": False,
    "step_end": "eos",
    "chat": True,
}


def find(folder: Path) -> Path | None:
    """The card of a model's directory; None for an untuned model."""
    path = folder / FILE
    return path if path.exists() else None


def read(path: Path) -> dict[str, Any]:
    """What a card says, and a student's defaults for the rest.

    Raises:
        ConfigurationError: it cannot be read, or a key or a value is wrong; names both.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} is not readable as JSON: {error}") from error
    if not isinstance(data, Mapping):
        raise ConfigurationError(f"{path} must hold one JSON object, not {data!r}")
    for key, value in data.items():
        _check_key(path, key, value)
    given = {k: tuple(v) if k == "strategies" else v for k, v in data.items()}
    return {**STUDENT, **given}


def _check_key(path: Path, key: str, value: Any) -> None:
    rules: dict[str, tuple[bool, str]] = {
        "strategies": (
            isinstance(value, list) and all(isinstance(v, str) for v in value),
            "a list of strategy names",
        ),
        "instruction": (isinstance(value, str), "a string"),
        "few_shot": (isinstance(value, bool), "true or false"),
        "step_end": (value in ("eos", "sentence"), '"eos" or "sentence"'),
        "chat": (isinstance(value, bool), "true or false"),
    }
    if key not in rules:
        raise ConfigurationError(f"{path}: unknown key {key!r}; known are {', '.join(rules)}")
    fits, wanted = rules[key]
    if not fits:
        raise ConfigurationError(f"{path}: {key!r} must be {wanted}, not {value!r}")
