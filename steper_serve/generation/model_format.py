"""What a model wants its prompts to look like: from its tokenizer and its `steper.json`.

What is left out: the keys of that file (student_card), the prompts themselves (strategies), and
the engine.
"""

from pathlib import Path
from typing import Any, Literal

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError
from jinja2 import TemplateError
from transformers import AutoTokenizer

from steper_serve.errors import ConfigurationError
from steper_serve.generation import student_card
from steper_serve.trajectory import PromptFormat

# Unlike anything a template adds, changes or strips.
SENTINEL = "stepersentinelquestion"

USUAL_SPECIAL_TOKENS = (
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
    *("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>"),
    *("<|eot_id|>", "<|eom_id|>", "<|start|>", "<|message|>", "<|channel|>", "<|end|>"),
    *("<|system|>", "<|user|>", "<|assistant|>", "<start_of_turn>", "<end_of_turn>"),
    *("[INST]", "[/INST]", "<s>", "</s>", "<bos>", "<eos>", "<pad>", "<unk>"),
)

Style = Literal["auto", "student", "few-shot"]


def load_format(
    model: str,
    *,
    max_model_len: int,
    reserve: int,
    style: Style = "auto",
    local_files_only: bool = False,
) -> PromptFormat:
    """The `PromptFormat` of a model.

    Args:
        model: a directory, which is read without any network access, or a hub id.
        max_model_len: its context length in tokens.
        reserve: tokens of it kept for what is generated.
        style: "auto" follows steper.json, and without one takes the model for an untuned one
            (the strategy's instruction, demonstrations, steps are sentences). "student" takes
            it for a student even without steper.json; "few-shot" for untuned in spite of one.
        local_files_only: for a hub id, use what was downloaded before and nothing else.

    Raises:
        ConfigurationError: the tokenizer or steper.json cannot be read or used.
    """
    _check_room(max_model_len, reserve)
    tokenizer = _tokenizer(model, local_files_only)
    card = _card(model, style, local_files_only)
    chat = _chat(tokenizer, model) if card.pop("chat") else None
    added = 0 if chat else tokenizer.num_special_tokens_to_add()

    def count_tokens(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False))

    return PromptFormat(
        max_prompt_tokens=max_model_len - reserve - added,
        count_tokens=count_tokens,
        max_model_len=max_model_len,
        special_tokens=_special_tokens(tokenizer),
        chat=chat,
        **card,
    )


def _tokenizer(model: str, local_files_only: bool) -> Any:
    local = local_files_only or Path(model).is_dir()
    try:
        return AutoTokenizer.from_pretrained(model, local_files_only=local)
    except (OSError, ValueError, KeyError) as error:
        advice = (
            "The directory must hold the tokenizer files (tokenizer.json and its config)."
            if Path(model).is_dir()
            else "Give a model directory, or a hub id that this machine can reach or has "
            f"downloaded before (`hf download {model}`)."
        )
        reason = str(error).strip().partition("\n")[0]
        raise ConfigurationError(
            f"No tokenizer could be read for the model {model!r}: {reason} {advice}"
        ) from error


def estimated_format(*, max_model_len: int, reserve: int, style: Style = "auto") -> PromptFormat:
    """A `PromptFormat` for a model behind an endpoint whose tokenizer is not at hand.

    Tokens are guessed as a third of the bytes, more than English has with the usual
    vocabularies; the control tokens are those of the usual families; there is no chat template.
    `load_format` with the model's tokenizer is exact. "auto" means untuned here.

    Raises:
        ConfigurationError: no room for a prompt.
    """
    _check_room(max_model_len, reserve)
    defaults = _defaults(style)
    del defaults["chat"]
    return PromptFormat(
        max_prompt_tokens=max_model_len - reserve,
        count_tokens=lambda text: -(-len(text.encode()) // 3),
        max_model_len=max_model_len,
        special_tokens=USUAL_SPECIAL_TOKENS,
        **defaults,
    )


def _check_room(max_model_len: int, reserve: int) -> None:
    if max_model_len <= reserve:
        raise ConfigurationError(
            f"A context of {max_model_len} tokens leaves no room for a prompt beside the "
            f"{reserve} kept for generation. Raise max_model_len or lower the token limit."
        )


def _card(model: str, style: Style, local_files_only: bool) -> dict[str, Any]:
    path = None if style == "few-shot" else _card_path(model, local_files_only)
    if path is not None:
        return student_card.read(path)
    return _defaults(style)


def _defaults(style: Style) -> dict[str, Any]:
    return dict(student_card.STUDENT if style == "student" else student_card.UNTUNED)


def _card_path(model: str, local_files_only: bool) -> Path | None:
    if Path(model).is_dir():
        return student_card.find(Path(model))
    try:
        return Path(hf_hub_download(model, student_card.FILE, local_files_only=local_files_only))
    except EntryNotFoundError:  # not in the repository, or offline and not downloaded
        return None
    except (HfHubHTTPError, HFValidationError) as error:
        raise ConfigurationError(
            f"The hub could not be asked for {student_card.FILE} of {model!r}: {error}"
        ) from error


def _chat(tokenizer: Any, model: str) -> tuple[str, str] | None:
    """What the chat template puts before and after a user's turn, to the open assistant turn."""
    if not tokenizer.chat_template:
        return None
    try:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": SENTINEL}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
        )
    except (TemplateError, ValueError) as error:
        raise ConfigurationError(f"The chat template of {model!r} fails: {error}") from error
    parts = text.split(SENTINEL)
    if len(parts) != 2:
        raise ConfigurationError(
            f"The chat template of {model!r} shows the user's text {len(parts) - 1} times, not "
            f'once, so no prompt can be built from it. Set "chat": false in its '
            f"{student_card.FILE}."
        )
    return parts[0], parts[1]


def _special_tokens(tokenizer: Any) -> tuple[str, ...]:
    added = [t.content for t in tokenizer.added_tokens_decoder.values() if t.special]
    return tuple(dict.fromkeys([*map(str, tokenizer.all_special_tokens), *added]))
