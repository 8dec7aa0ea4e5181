import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from steper_serve.errors import ConfigurationError
from steper_serve.generation.model_format import (
    estimated_format,
    load_format,
)
from steper_serve.trajectory import PromptFormat

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|endoftext|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>"
    "{% if enable_thinking is false %}<think></think>{% endif %}{% endif %}"
)


@pytest.fixture
def model(student: Path, tmp_path: Path) -> Path:
    """A model directory of its own, without weights and without steper.json."""
    directory = tmp_path / "model"
    directory.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(student / name, directory)
    return directory


def load(model: Path, **options: Any) -> PromptFormat:
    return load_format(str(model), **{"max_model_len": 2048, "reserve": 148} | options)


def test_the_bundled_student_gets_its_bare_prompt(student: Path) -> None:
    format = load(student)
    assert format.strategies == ("ircot", "single")
    assert (format.instruction, format.few_shot, format.step_end) == ("", False, "eos")
    assert format.chat is None
    assert format.max_prompt_tokens == 1900
    assert set(format.special_tokens) == {"<|endoftext|>", "<|pad|>"}


def test_a_model_without_a_card_is_taken_for_untuned(model: Path) -> None:
    format = load(model)
    assert (format.instruction, format.few_shot) == (None, True)
    assert (format.step_end, format.strategies) == ("sentence", ())


def test_style_overrules_the_card(model: Path, student: Path) -> None:
    assert load(model, style="student").step_end == "eos"
    untuned = load(student, style="few-shot")
    assert (untuned.few_shot, untuned.step_end) == (True, "sentence")


def test_tokens_are_counted_as_the_models_tokenizer_does(model: Path) -> None:
    from tokenizers import Tokenizer

    text = "Q: Where was Tirel Sarov born? <|endoftext|> Ünïcode, too.\nA:"
    reference = Tokenizer.from_file(str(model / "tokenizer.json"))
    assert load(model).count_tokens(text) == len(reference.encode(text, add_special_tokens=False))
    assert load(model).count_tokens("") == 0


def test_a_beginning_of_sequence_token_is_paid_for(model: Path) -> None:
    data = json.loads((model / "tokenizer.json").read_text())
    begin = {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}
    data["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [begin, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"],
        "special_tokens": {
            "<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}
        },
    }
    (model / "tokenizer.json").write_text(json.dumps(data))
    assert load(model).max_prompt_tokens == 1899
    assert load(model).count_tokens("") == 0


def test_the_chat_template_is_split_around_the_users_turn(model: Path) -> None:
    (model / "chat_template.jinja").write_text(TEMPLATE)
    assert load(model).chat == ("<|user|>", "<|endoftext|><|assistant|><think></think>")


def test_a_card_can_turn_the_chat_template_off(model: Path) -> None:
    (model / "chat_template.jinja").write_text(TEMPLATE)
    (model / "steper.json").write_text('{"chat": false}')
    assert load(model).chat is None


@pytest.mark.parametrize(
    ("template", "said"),
    [("{{ messages | length }}", "0 times"), ("{{ bos_token + nothing.at.all }}", "fails")],
)
def test_a_chat_template_that_cannot_be_used_is_refused(
    model: Path, template: str, said: str
) -> None:
    (model / "chat_template.jinja").write_text(template)
    with pytest.raises(ConfigurationError, match=said):
        load(model)


@pytest.mark.parametrize(
    ("card", "said"),
    [
        ('{"few_shots": true}', "unknown key 'few_shots'"),
        ('{"few_shot": "yes"}', "'few_shot' must be true or false"),
        ('{"step_end": "newline"}', "'step_end' must be"),
        ('{"step_end": []}', "'step_end' must be"),
        ('{"strategies": "ircot"}', "'strategies' must be a list"),
        ('{"instruction": null}', "'instruction' must be a string"),
        ("[]", "one JSON object"),
        ("{", "not readable as JSON"),
    ],
)
def test_a_faulty_card_is_refused_by_file_and_key(model: Path, card: str, said: str) -> None:
    (model / "steper.json").write_text(card)
    with pytest.raises(ConfigurationError, match=r"steper\.json") as caught:
        load(model)
    assert said in caught.value.message


def test_a_directory_is_read_without_the_network(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert load(model).few_shot


def test_a_model_that_cannot_be_read_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"tokenizer\.json"):
        load(tmp_path)
    with pytest.raises(ConfigurationError, match="hf download nobody/nothing"):
        load_format("nobody/nothing", max_model_len=100, reserve=10, local_files_only=True)


def test_no_room_for_a_prompt_is_refused(student: Path) -> None:
    with pytest.raises(ConfigurationError, match="no room"):
        load(student, reserve=2048)
    with pytest.raises(ConfigurationError, match="no room"):
        estimated_format(max_model_len=100, reserve=100)


def test_without_a_tokenizer_tokens_are_guessed_high(student: Path) -> None:
    guess = estimated_format(max_model_len=4096, reserve=96)
    assert guess.max_prompt_tokens == 4000
    assert guess.count_tokens("") == 0
    assert guess.count_tokens("Zürich") == 3
    assert "<|im_start|>" in guess.special_tokens
    assert estimated_format(max_model_len=9, reserve=1, style="student").step_end == "eos"
