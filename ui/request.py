"""What is asked of the endpoint, and the same as curl, as Python and as a link.

What is left out: sending it (client).
"""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlencode

MAX_STEPS = (1, 10)
TOP_K = (1, 20)
TEMPERATURE = (0.0, 2.0)
_SEEDS = 2**63
# Stands for the address of the page in what is copied; the browser knows it, we may not.
PAGE = "http://page.invalid"


@dataclass(frozen=True, slots=True)
class Ask:
    """A question and its settings.

    Args:
        model: id of the endpoint's model, which is a strategy.
        max_steps: the most steps, 1..10.
        top_k: passages a search, 1..20.
        temperature: 0 is greedy, up to 2.
        seed: of the sampling; None where nothing is sampled, or any will do.
        keyed: whether the server wants a key, which what is copied takes from $API_KEY.
    """

    question: str
    model: str = "steper"
    max_steps: int = 5
    top_k: int = 4
    temperature: float = 0.0
    seed: int | None = None
    keyed: bool = False

    @classmethod
    def of_link(cls, params: Mapping[str, str], default: Self) -> Self:
        """What a link asks; a setting that it does not hold, or that is out of bounds, is the
        default's."""
        return cls(
            question=params.get("question", default.question),
            model=params.get("model") or default.model,
            max_steps=int(_number(params.get("max_steps"), MAX_STEPS, default.max_steps)),
            top_k=int(_number(params.get("top_k"), TOP_K, default.top_k)),
            temperature=_number(params.get("temperature"), TEMPERATURE, default.temperature),
            seed=seed_of(params.get("seed")),
        )

    def body(self) -> dict[str, Any]:
        """The body of `POST /v1/chat/completions`, without what makes it a stream."""
        drawn: dict[str, Any] = {}
        if self.temperature:
            drawn["temperature"] = self.temperature
            if self.seed is not None:
                drawn["seed"] = self.seed
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": self.question}],
            **drawn,
            "steper": {"trace": True, "max_steps": self.max_steps, "top_k": self.top_k},
        }

    def link(self) -> str:
        """The query string of a page that holds this question and these settings."""
        seed = {} if self.seed is None or not self.temperature else {"seed": self.seed}
        settings = {
            "question": self.question,
            "model": self.model,
            "max_steps": self.max_steps,
            "top_k": self.top_k,
            "temperature": f"{self.temperature:g}",
        }
        return "?" + urlencode(settings | seed)


def seed_of(text: object) -> int | None:
    """The whole number that a field or a link holds; None for anything else."""
    written = str(text).strip()
    if not re.fullmatch(r"[+-]?[0-9]{1,19}", written):
        return None
    return seed if -_SEEDS <= (seed := int(written)) < _SEEDS else None


def as_curl(ask: Ask, url: str) -> str:
    """A command that asks the endpoint at `url` (up to /v1) the same."""
    body = json.dumps({**ask.body(), "stream": True}, ensure_ascii=False, indent=1)
    key = '  -H "Authorization: Bearer $API_KEY" \\\n' if ask.keyed else ""
    return (
        f"curl -sN {shlex.quote(url + '/chat/completions')} \\\n"
        f"{key}"
        "  -H 'Content-Type: application/json' \\\n"
        f"  -d {shlex.quote(body)}"
    )


def as_python(ask: Ask, url: str) -> str:
    """A program that asks the endpoint at `url` (up to /v1) the same, with the official client."""
    body = ask.body()
    settings = {name: value for name, value in body.pop("steper").items() if name != "trace"}
    arguments = "".join(f"    {name}={_python(value)},\n" for name, value in body.items())
    imports = "import os\n\n" if ask.keyed else ""
    key = 'os.environ["API_KEY"]' if ask.keyed else '"none"'
    return (
        f"{imports}from openai import OpenAI\n\n"
        f"client = OpenAI(base_url={_python(url)}, api_key={key})\n"
        "stream = client.chat.completions.create(\n"
        f"{arguments}"
        f'    extra_body={{"steper": {_python(settings)}}},\n'
        "    stream=True,\n"
        ")\n"
        "for chunk in stream:\n"
        "    delta = chunk.choices[0].delta\n"
        '    print(getattr(delta, "reasoning_content", None) or "", end="", flush=True)\n'
        "    if delta.content:\n"
        '        print("\\nAnswer:", delta.content)\n'
        '    for cited in getattr(delta, "annotations", None) or ():\n'
        '        print("-", cited["url_citation"]["title"], cited["url_citation"]["url"])\n'
    )


def _python(value: str | float | list[Any] | dict[str, Any]) -> str:
    """A literal with the quotes of the rest: JSON's are Python's too."""
    return json.dumps(value, ensure_ascii=False)


def _number(text: str | None, bounds: tuple[float, float], default: float) -> float:
    try:
        number = float(text or "")
    except ValueError:
        return default
    return number if bounds[0] <= number <= bounds[1] else default
