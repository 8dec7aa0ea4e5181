"""What a server does not start with: one line that says what to do, and doctor says the same."""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from steper_serve import settings as settings_module
from steper_serve.cli import doctor, main, wiring
from steper_serve.errors import ConfigurationError
from steper_serve.retrieval import bm25
from steper_serve.retrieval.manifest import FILE_NAME
from steper_serve.settings import Settings, load_settings
from steper_serve.trajectory import Passage

URL = "http://127.0.0.1:9/v1"
PASSAGE = Passage("a", "Verla", "Verla is a town.")
CONTRADICTIONS = [
    ({"endpoint": URL}, "needs a `model`"),
    ({"endpoint": URL, "model": "m", "engine_args": {"dtype": "float32"}}, "`engine_args`"),
    ({"endpoint": URL, "model": "m", "kv_cache_gib": 1.0}, "`kv_cache_gib`"),
    ({"endpoint": URL, "model": "m", "enforce_eager": False}, "`enforce_eager`"),
    ({"tokenizer": "some/model"}, "`tokenizer` is about a model behind an endpoint"),
    ({"endpoint_api": "chat"}, "`endpoint_api`"),
    ({"endpoint_is_vllm": False}, "`endpoint_is_vllm`"),
    ({"engine_args": {"model": "m"}}, "set `model` alone"),
    ({"engine_args": {"max_model_len": 512}, "max_model_len": 512}, "set `max_model_len` alone"),
    ({"engine_args": {"enforce_eager": True}, "enforce_eager": True}, "set `enforce_eager` alone"),
    ({"engine_args": {"kv_cache_memory_bytes": 9}, "kv_cache_gib": 1}, "set `kv_cache_gib` alone"),
    ({"page": False, "results": "var/results"}, "`page` is off"),
    ({"style": "student", "prompts": "prompts"}, "`prompts`"),
]


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No variable of ours, no file in the working directory, and logging as it was afterwards."""
    for name in list(os.environ):
        if name.upper().startswith(settings_module.PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], level = before
    root.setLevel(level)
    logging.captureWarnings(False)


@pytest.mark.parametrize(("given", "told"), CONTRADICTIONS)
def test_what_cannot_be_meant_together_is_refused_by_name(given: dict, told: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load_settings(None, given)
    assert told in refused.value.message
    assert "\n" not in refused.value.message


@pytest.mark.parametrize(
    "given",
    [
        {"endpoint": URL, "model": "m", "max_model_len": 4096, "tokenizer": "some/model"},
        {"engine_args": {"max_model_len": 512}},
        {"page": False, "examples": "questions.jsonl"},
        {"style": "few-shot", "prompts": "prompts"},
        {"engine_args": {}, "endpoint": URL, "model": "m"},
    ],
)
def test_what_can_be_meant_together_is_not(given: dict) -> None:
    assert load_settings(None, given).model_fields_set == set(given)


def _student(change: Callable[[Path], object]) -> Callable[[Path], list[str]]:
    def made(folder: Path) -> list[str]:
        shutil.copytree(wiring.STUDENT, folder / "student")
        change(folder / "student")
        return ["--model", str(folder / "student")]

    return made


def _index(change: Callable[[Path], object]) -> Callable[[Path], list[str]]:
    def made(folder: Path) -> list[str]:
        bm25.build([PASSAGE], folder / "index")
        change(folder / "index")
        return ["--index", str(folder / "index")]

    return made


def _of_another_version(index: Path) -> None:
    [file] = index.glob(f"generations/*/{FILE_NAME}")
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema_version": 99}))


def _short(file: str) -> Callable[[Path], object]:
    return lambda folder: (folder / file).write_bytes((folder / file).read_bytes()[:100])


def _flags(*flags: str) -> Callable[[Path], list[str]]:
    return lambda folder: list(flags)


def _file(text: str) -> Callable[[Path], list[str]]:
    def made(folder: Path) -> list[str]:
        (folder / "own.toml").write_text(text)
        return ["--config", str(folder / "own.toml")]

    return made


REFUSED = {
    "no model there": (_flags("--model", "/no/such/model"), "no model directory /no/such/model"),
    "no weights": (_student(lambda m: (m / "model.safetensors").unlink()), "has no weights"),
    "weights cut off": (_student(_short("model.safetensors")), "model.safetensors"),
    "config cut off": (_student(_short("config.json")), "config.json"),
    "tokenizer cut off": (_student(_short("tokenizer.json")), "tokenizer.json"),
    "card of a student broken": (
        _student(lambda m: (m / "steper.json").write_text('{"step_end": "word"}')),
        "'step_end' must be",
    ),
    "no such engine argument": (_flags("--engine-arg", "block_sise=9"), "no engine argument 'bl"),
    "endpoint away": (_flags("--endpoint", URL, "--model", "m"), "cannot be reached or broke off"),
    "no room": (_flags("--max-model-len", "100"), "`max_model_len` is 100"),
    "no index there": (_flags("--index", "/no/such/index"), "/no/such/index"),
    "index of another version": (_index(_of_another_version), "has schema version 99"),
    "index without passages": (_index(lambda i: bm25.delete(["a"], i)), "is empty: add passages"),
    "index broken": (_index(lambda i: (i / "CURRENT").write_text("gone")), "CURRENT names"),
    "prompts missing": (_flags("--prompts", "/no/such/prompts"), "/no/such/prompts"),
    "others without a key": (_flags("--host", "0.0.0.0"), "--allow-unauthenticated"),  # noqa: S104
    "keys missing": (_flags("--api-keys-file", "/no/such/keys"), "/no/such/keys"),
    "contradiction": (_file('page = false\nresults = "var"'), "`page` is off"),
    "questions to try missing": (_flags("--examples", "/no/such/file"), "/no/such/file"),
    "results missing": (_flags("--results", "/no/such/results"), "/no/such/results"),
    "out of bounds": (_flags("--max-steps", "11"), "--max-steps, STEPER_MAX_STEPS"),
}


@pytest.mark.parametrize("wrong", list(REFUSED))
def test_a_server_does_not_start_and_doctor_says_the_same(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, told = REFUSED[wrong]
    flags = make(tmp_path)
    # What costs seconds and is the same everywhere; the bundled corpus is indexed once.
    monkeypatch.setattr(doctor, "_engine", lambda _: "not looked at")
    monkeypatch.setenv("STEPER_CACHE_DIR", str(tmp_path / "cache"))
    serving = CliRunner().invoke(main, ["serve", "--port", "0", *flags])
    said = serving.stderr.splitlines()[-1]
    assert serving.exit_code == 1
    assert said.startswith("steper-serve: ")
    assert told in said
    asked = CliRunner().invoke(main, ["doctor", *flags])
    failed = [line for line in asked.stdout.splitlines() if line.startswith("FAIL")]
    assert asked.exit_code == 1
    assert failed[-1].endswith(said.removeprefix("steper-serve: "))


@pytest.mark.parametrize("command", ["serve", "doctor"])
def test_an_unknown_variable_is_refused_by_both(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPER_TOP", "3")
    done = CliRunner().invoke(main, [command])
    assert done.exit_code == 1
    assert "unknown environment variable STEPER_TOP: did you mean STEPER_TOP_K?" in done.output


def test_traces_by_a_protocol_that_is_not_spoken_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "_engine", lambda _: "not looked at")
    monkeypatch.setenv("STEPER_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "pigeon")
    for command in (["serve", "--port", "0"], ["doctor"]):
        done = CliRunner().invoke(main, command)
        assert (done.exit_code, "is 'pigeon'" in done.output) == (1, True)


def test_what_fails_after_the_form_of_lines_is_known_is_told_in_it() -> None:
    done = CliRunner().invoke(
        main, ["serve", "--port", "0", "--log-format", "json", "--index", "/no/such/index"]
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["start", "failed"]
    assert (lines[-1]["level"], lines[-1]["code"]) == ("ERROR", "index_unavailable")
    assert "/no/such/index" in lines[-1]["message"]
    assert done.exit_code == 1


def test_no_setting_contradicts_its_own_default() -> None:
    assert list(settings_module._contradictions(Settings())) == []


def test_a_bundled_index_of_another_version_is_built_anew(tmp_path: Path) -> None:
    settings = Settings(cache_dir=tmp_path)
    before = wiring.open_index(settings).num_documents
    _of_another_version(wiring.index_directory(settings))
    assert wiring.open_index(settings).num_documents == before
