"""What vLLM is given to read, without an engine: the ids of a prompt."""

from types import SimpleNamespace

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from steper_serve.generation.vllm_engine import VllmEngine
from steper_serve.trajectory import Generate, Prompt

BEGIN, WORD = 0, 1


@pytest.mark.parametrize(
    ("prompt", "ids"),
    [
        (Prompt("word word", "word word"), [BEGIN, WORD, WORD]),
        (Prompt("<s>word", "word", templated=True), [BEGIN, WORD]),
    ],
)
def test_a_prompt_begins_with_one_beginning(prompt: Prompt, ids: list[int]) -> None:
    """A chat template has written it already; a tokenizer adds it to any other text."""
    words = Tokenizer(WordLevel({"<s>": BEGIN, "word": WORD}, unk_token="word"))
    words.pre_tokenizer = Whitespace()
    words.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BEGIN)])
    engine = SimpleNamespace(
        _tokenizer=PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>")
    )
    assert VllmEngine._token_ids(engine, Generate(1, prompt, max_tokens=9)) == ids
