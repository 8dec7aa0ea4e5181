"""A tokenizer for a model that is made from scratch: byte-level BPE over the texts it will read.

Digits stand alone, so that numbers can be compared digit by digit; every byte has a token, so
that any text can be read. What is left out: the texts.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

END = "<|endoftext|>"
PAD = "<|pad|>"


def learn(texts: Iterable[str], size: int, max_length: int) -> Any:
    """A Hugging Face tokenizer of `size` tokens, learnt from `texts`.

    Args:
        max_length: the context length that it tells of, in tokens.
    """
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    bpe.decoder = decoders.ByteLevel()
    bpe.post_processor = processors.ByteLevel(trim_offsets=False)
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=[END, PAD],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    wrapped: Any = PreTrainedTokenizerFast
    return wrapped(
        tokenizer_object=bpe,
        eos_token=END,
        pad_token=PAD,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )


def save(tokenizer: Any, folder: Path) -> None:
    """Write a tokenizer beside its model."""
    tokenizer.save_pretrained(folder)
