"""Whether the passages seen so far support what a step of a trajectory claims.

The step filter that the paper leaves as future work. A trajectory may end in the right answer
and claim on the way what it read nowhere; a student that learns it learns to invent. Two ways to
look: `lexical` compares words, `Judge` asks a model. What is left out: what becomes of such a
trajectory (filter).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import openai

from steper_serve.errors import EngineUnavailable
from steper_serve.generation.endpoint_key import key_in
from steper_serve.recipes.distill.sections import JudgeConfig
from steper_serve.strategies.passages import render_passages
from steper_serve.trajectory import Passage, Trajectory

# Capitalised, and no name.
_NO_NAMES = frozenset(
    "a an and are as at both but by did do does for from had has he her his how i if in is it its "
    "no of on or she since so that the their there therefore these they this those thus to was "
    "we were what when where which while who whom whose why yes answer final follow intermediate "
    "q".split()
)
# By which a judge says ever the same, in few words.
_SETTINGS = ("temperature", "max_tokens")
_WORD = re.compile(r"\w+")
_SENTENCE_END = frozenset(".!?\n")
_QUESTION = """\
Passages:

{passages}Question: {question}

Statement: {statement}

Do the passages, or the question itself, support every fact that the statement claims? A \
statement that only says what is still to be found, or that something is unknown, claims no fact \
and is supported. Reply with one word: yes or no."""


def lexical(trajectory: Trajectory) -> list[float]:
    """Of each step's names and numbers, the share that stands in what was read by then.

    What was read: the titles and texts of the passages of this and earlier steps, and the
    question. A name is a capitalised word; one that begins a sentence counts only if another
    follows it. A step without names and numbers claims nothing and has 1.0. A fact that is
    wrong although all its names occur is not seen.
    """
    read = set(_words(trajectory.question))
    shares = []
    for step in trajectory.steps:
        for passage in step.passages:
            read |= _words(passage.title) | _words(passage.text)
        claimed = set(claims(step.thought))
        shares.append(len(claimed & read) / len(claimed) if claimed else 1.0)
    return shares


def claims(thought: str) -> Iterator[str]:
    """The names and numbers of a thought, lower-cased, word by word."""
    found = list(_WORD.finditer(thought))
    for here, after in zip(found, [*found[1:], None], strict=True):
        word = here.group()
        if any(c.isdigit() for c in word) or (
            _is_name(word)
            and not (
                _begins_sentence(thought, here.start())
                and not (after is not None and _is_name(after.group()))
            )
        ):
            yield word.lower()


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judge's word on one trajectory: a truth value a step; `unclear` counts other replies."""

    supported: tuple[bool, ...]
    unclear: int


class Judge:
    """A model behind an OpenAI-compatible endpoint; end it by leaving its context."""

    def __init__(self, config: JudgeConfig) -> None:
        self._config = config
        self._client = openai.AsyncOpenAI(
            base_url=config.base_url,
            api_key=key_in(config.api_key_env, "`filter.judge.api_key_env`") or "none",
            max_retries=4,
            timeout=120.0,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._client.close()

    async def verdict(self, trajectory: Trajectory) -> Verdict:
        """What the judge says of each step; a reply that is neither yes nor no counts as no, and
        so does a request that it refuses.

        Raises:
            EngineUnavailable: the endpoint did not answer, or with an error.
        """
        seen: dict[str, Passage] = {}
        replies = []
        for step in trajectory.steps:
            seen |= {p.id: p for p in step.passages if p.id not in seen}
            replies.append(await self._ask(tuple(seen.values()), trajectory.question, step.thought))
        return Verdict(tuple(r == "yes" for r in replies), sum(not r for r in replies))

    async def _ask(self, passages: Sequence[Passage], question: str, statement: str) -> str:
        """ "yes", "no", or "" for any other reply or none."""
        text = _QUESTION.format(
            passages=render_passages(passages, ()), question=question, statement=statement
        )
        try:
            reply = await self._client.chat.completions.create(
                model=self._config.model,
                messages=[{"role": "user", "content": text}],
                temperature=0.0,
                max_tokens=8,
            )
        except openai.BadRequestError as error:
            if error.param in _SETTINGS:
                raise EngineUnavailable(
                    f"the judge {self._config.model!r} at {self._config.base_url} takes no "
                    f"{error.param!r}: take another model"
                ) from error
            return ""  # of this trajectory, which may be too long for it
        except openai.APIError as error:
            raise EngineUnavailable(
                f"the judge {self._config.model!r} at {self._config.base_url} gave no verdict: "
                f"{error.message}. Verdicts so far are kept: start the same command again when "
                "it answers"
            ) from error
        words = _WORD.findall((reply.choices[0].message.content or "").lower())
        return words[0] if words and words[0] in ("yes", "no") else ""


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))


def _is_name(word: str) -> bool:
    return word[0].isupper() and word.lower() not in _NO_NAMES


def _begins_sentence(text: str, start: int) -> bool:
    before = text[:start].rstrip(" \t\"'“‘(")
    return not before or before[-1] in _SENTENCE_END
