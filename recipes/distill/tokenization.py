"""Step samples as token ids: those that the engine would read and write.

A prompt is tokenised as a whole, as `generation.vllm_engine` does, because a student is served
with just that. What follows it is the rest of the whole text's tokens where these begin with the
prompt's, and otherwise tokenised by itself: no token may straddle what is read and what is
written. What is left out: texts (examples.py).
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from steper_serve.errors import ConfigurationError
from steper_serve.recipes.distill.batches import Sample
from steper_serve.recipes.distill.sections import Target

# Texts a call: enough for the tokenizer's threads.
_CHUNK = 512


@dataclass(frozen=True, slots=True)
class StepTokenizer:
    """A student's tokenizer.

    Args:
        tokenizer: Hugging Face's.
        templated: whether texts already hold the special tokens of a chat template, so that none
            is added (`trajectory.Prompt.templated`).
        end_id: the token that ends a step.
    """

    tokenizer: Any
    templated: bool
    end_id: int

    @classmethod
    def load(cls, model: str, *, templated: bool) -> "StepTokenizer":
        """The tokenizer of a model directory or hub id.

        Raises:
            ConfigurationError: it cannot be read, or has no end-of-sequence token.
        """
        try:
            tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=Path(model).is_dir())
        except (OSError, ValueError, KeyError) as error:
            raise ConfigurationError(
                f"no tokenizer could be read for the student {model!r}: {error}"
            ) from error
        if tokenizer.eos_token_id is None:
            raise ConfigurationError(
                f"the tokenizer of {model!r} has no end-of-sequence token, which a student needs "
                "to end its steps: set eos_token in its tokenizer_config.json"
            )
        return cls(tokenizer, templated, tokenizer.eos_token_id)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts that begin a prompt."""
        return self._encode(texts, special=not self.templated)

    def samples(
        self, rows: Iterable[Mapping[str, Any]], target: Target, question_key: str = "question_id"
    ) -> Iterator[Sample]:
        """Rows of the step-wise data set as samples.

        Args:
            rows: with dataset, question_id, kind, prompt, prefix and target.
            target: "cumulative" bears loss on prefix and target, "next" on the target alone.
        """
        rows = iter(rows)
        while chunk := list(islice(rows, _CHUNK)):
            served = self.encode([row["prompt"] + row["prefix"] for row in chunk])
            written = self._continued(served, chunk)
            prompts = self._prompts(served, chunk) if target == "cumulative" else served
            for row, context, ids in zip(chunk, prompts, written, strict=True):
                key = f"{row['dataset']}/{row[question_key]}"
                split = len(context)
                # Four bytes a token, where a list takes up to forty.
                read, wanted = array("i", ids[:split]), array("i", [*ids[split:], self.end_id])
                yield Sample(key, row["kind"], read, wanted)

    def _continued(
        self, served: Sequence[list[int]], chunk: Sequence[Mapping[str, Any]]
    ) -> list[list[int]]:
        """Each served prompt's tokens and its target's."""
        whole = self.encode([row["prompt"] + row["prefix"] + row["target"] for row in chunk])
        for n, (before, ids) in enumerate(zip(served, whole, strict=True)):
            if ids[: len(before)] != before:
                whole[n] = before + self._encode([chunk[n]["target"]], special=False)[0]
        return whole

    def _prompts(
        self, served: Sequence[list[int]], chunk: Sequence[Mapping[str, Any]]
    ) -> list[list[int]]:
        """The first of each served prompt's tokens: those before the model's own writing.

        A token that straddles the two is the prompt's, so that no token of it bears loss.
        """
        prompts = self.encode([row["prompt"] for row in chunk])
        return [
            ids[: _agreeing(ids, prompt)] if ids[: len(prompt)] != prompt else prompt
            for ids, prompt in zip(served, prompts, strict=True)
        ]

    def _encode(self, texts: Sequence[str], *, special: bool) -> list[list[int]]:
        encoded = self.tokenizer(
            list(texts), add_special_tokens=special, return_attention_mask=False, verbose=False
        )
        ids: list[list[int]] = encoded["input_ids"]
        return ids


def _agreeing(ids: Sequence[int], prompt: Sequence[int]) -> int:
    """Tokens of `ids` up to the first that is not the prompt's, that one included."""
    return next(n for n, (a, b) in enumerate(zip(ids, prompt, strict=False)) if a != b) + 1
