"""Settings: which source goes before which, and that nothing unknown is passed over."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from steper_serve.errors import ConfigurationError
from steper_serve.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """No variable of ours, and no file in the working directory."""
    for name in list(os.environ):
        if name.upper().startswith("STEPER_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def write(text: str, name: str = "steper.toml") -> Path:
    path = Path.cwd() / name
    path.write_text(text)
    return path


def test_defaults():
    settings = load_settings(None, {})
    assert (settings.strategy, settings.max_steps, settings.top_k) == ("ircot", 5, 4)
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.model is None
    assert settings.max_seconds is None


@pytest.mark.parametrize(
    ("flag", "variable", "in_file", "used"),
    [
        (1, "2", 3, 1),
        (None, "2", 3, 2),
        (1, None, 3, 1),
        (None, None, 3, 3),
        (1, "2", None, 1),
        (None, "2", None, 2),
        (1, None, None, 1),
        (None, None, None, 5),
    ],
)
def test_flags_go_before_variables_before_the_file(monkeypatch, flag, variable, in_file, used):
    write("" if in_file is None else f"max_steps = {in_file}")
    if variable is not None:
        monkeypatch.setenv("STEPER_MAX_STEPS", variable)
    assert load_settings(None, {"max_steps": flag}).max_steps == used


def test_sources_are_mixed_setting_by_setting(monkeypatch):
    write("top_k = 7\nport = 1\nhost = 'a'")
    monkeypatch.setenv("STEPER_PORT", "2")
    monkeypatch.setenv("STEPER_HOST", "b")
    settings = load_settings(None, {"host": "c"})
    assert (settings.top_k, settings.port, settings.host) == (7, 2, "c")


def test_a_flag_that_says_no_is_a_flag(monkeypatch):
    monkeypatch.setenv("STEPER_ENFORCE_EAGER", "true")
    assert load_settings(None, {"enforce_eager": False}).enforce_eager is False


@pytest.mark.parametrize("way", ["argument", "variable", "working directory"])
def test_where_the_file_may_be(monkeypatch, way):
    other = write("top_k = 7", "other.toml")
    if way == "working directory":
        other.rename("steper.toml")
    if way == "variable":
        monkeypatch.setenv("STEPER_CONFIG", str(other))
    settings = load_settings(other if way == "argument" else None, {})
    assert settings.top_k == 7


def test_a_file_that_is_named_goes_before_the_others(monkeypatch):
    write("top_k = 1")
    monkeypatch.setenv("STEPER_CONFIG", str(write("top_k = 2", "second.toml")))
    assert load_settings(None, {}).top_k == 2
    assert load_settings(write("top_k = 3", "third.toml"), {}).top_k == 3


@pytest.mark.parametrize("way", ["argument", "variable"])
def test_the_null_device_is_no_file_at_all(monkeypatch, way):
    write("top_k = 7")
    if way == "variable":
        monkeypatch.setenv("STEPER_CONFIG", os.devnull)
    assert load_settings(Path(os.devnull) if way == "argument" else None, {}).top_k == 4


@pytest.mark.parametrize("way", ["argument", "variable"])
def test_a_file_that_is_named_must_exist(monkeypatch, way):
    if way == "variable":
        monkeypatch.setenv("STEPER_CONFIG", "gone.toml")
    with pytest.raises(ConfigurationError, match=r"there is no configuration file gone\.toml"):
        load_settings(Path("gone.toml") if way == "argument" else None, {})


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("STEPER_MAX_STEP", "did you mean STEPER_MAX_STEPS?"),
        ("STEPER_TOPK", "did you mean STEPER_TOP_K?"),
        ("steper_max_step", "did you mean STEPER_MAX_STEPS?"),
        ("STEPER_ZZZZZZ", "see steper-serve serve --help"),
        ("STEPER_", "see steper-serve serve --help"),
    ],
)
def test_an_unknown_variable_is_refused_by_name(monkeypatch, name, hint):
    monkeypatch.setenv(name, "3")
    with pytest.raises(ConfigurationError) as refused:
        load_settings(None, {})
    assert f"unknown environment variable {name}: {hint}" in str(refused.value)


@pytest.mark.parametrize("name", ["STEPER_DATA_DIR", "STEPER_CONFIG", "OTHER_MAX_STEP", "STEPERX"])
def test_a_variable_that_is_no_setting_may_be_there(monkeypatch, name):
    monkeypatch.setenv(name, str(write("")))
    assert load_settings(None, {}).max_steps == 5


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch):
    monkeypatch.setenv("STEPER_MAX_STEPS", "")
    monkeypatch.setenv("STEPER_CONFIG", "")
    assert load_settings(None, {}).max_steps == 5


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("max_step = 3", "unknown setting `max_step` in steper.toml"),
        ("[steper]\nmax_steps = 3", "unknown setting `steper` in steper.toml"),
        ("max_steps = 'many'", "`max_steps` in steper.toml"),
        ("max_steps = 11", "not 11"),
        ("max_steps = 0", "not 0"),
        ("top_k = 21", "`top_k`"),
        ("max_seconds = 0", "`max_seconds`"),
        ("strategy = 'irkot'", "not 'irkot'"),
        ("port = 65536", "`port`"),
        ("port = -1", "`port`"),
        ("enforce_eager = 'perhaps'", "`enforce_eager`"),
        ("style = 'fancy'", "`style`"),
        ("max_model_len = 63", "`max_model_len`"),
        ("kv_cache_gib = 0", "`kv_cache_gib`"),
        ("cors_origins = 'https://a.example/page'", "`cors_origins`"),
        ("max_running = 0", "`max_running`"),
        ("engine_args = 'x=1'", "`engine_args`"),
        ("engine_args = {x = [1]}", "`engine_args` in steper.toml: input should be a valid str"),
        ("max_steps = = 1", "cannot read the settings (steper.toml)"),
    ],
)
def test_a_file_that_is_wrong_is_refused_where_it_is(text, complaint):
    write(text)
    with pytest.raises(ConfigurationError) as refused:
        load_settings(None, {})
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STEPER_MAX_STEPS", "many"),
        ("STEPER_PORT", "80.5"),
        ("STEPER_STRATEGY", "x"),
        ("STEPER_ENDPOINT_IS_VLLM", "perhaps"),
    ],
)
def test_a_variable_that_is_wrong_is_refused_by_its_names(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as refused:
        load_settings(None, {})
    flag = name.removeprefix("STEPER_").lower().replace("_", "-")
    assert f"--{flag}, {name} or " in str(refused.value)
    assert f"not {value!r}" in str(refused.value)


def test_json_in_a_variable_that_cannot_be_read_is_refused(monkeypatch):
    monkeypatch.setenv("STEPER_ENGINE_ARGS", "{not json")
    with pytest.raises(ConfigurationError, match="engine_args"):
        load_settings(None, {})


def test_every_complaint_is_heard():
    with pytest.raises(ConfigurationError, match=r"--port.*--max-steps"):
        load_settings(None, {"port": 99999, "max_steps": 0})


def test_engine_arguments_keep_their_types(monkeypatch):
    monkeypatch.setenv("STEPER_ENGINE_ARGS", '{"a": 1, "b": true, "c": "1", "d": 1.5}')
    given = load_settings(None, {}).engine_args
    assert [(name, type(value)) for name, value in given.items()] == [
        ("a", int),
        ("b", bool),
        ("c", str),
        ("d", float),
    ]


def test_a_key_is_never_shown(monkeypatch):
    monkeypatch.setenv("STEPER_ENDPOINT_KEY", "sk-secret")
    settings = load_settings(None, {})
    assert "sk-secret" not in repr(settings) + str(settings)
    assert settings.endpoint_key.get_secret_value() == "sk-secret"
    monkeypatch.delenv("STEPER_ENDPOINT_KEY")
    write("endpoint_key = 31415926")
    with pytest.raises(ConfigurationError) as refused:
        load_settings(None, {})
    assert "`endpoint_key`" in str(refused.value)
    assert "31415926" not in str(refused.value)


@pytest.mark.parametrize(
    "given", ["https://a.example,http://b:80", " https://a.example  http://b:80"]
)
def test_origins_are_several_in_one_text_or_a_list(monkeypatch, given):
    both = ("https://a.example", "http://b:80")
    write('cors_origins = ["*"]')
    assert load_settings(None, {}).cors_origins == ("*",)
    monkeypatch.setenv("STEPER_CORS_ORIGINS", given)
    assert load_settings(None, {}).cors_origins == both
    assert load_settings(None, {"cors_origins": "null://x"}).cors_origins == ("null://x",)


def test_api_keys_are_never_shown(monkeypatch):
    monkeypatch.setenv("STEPER_API_KEYS", "sk-secret")
    assert "sk-secret" not in repr(load_settings(None, {}))


def test_settings_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        load_settings(None, {}).port = 1


def test_paths_are_paths():
    assert load_settings(None, {"index": "x/y"}).index == Path("x/y")


def test_every_setting_can_come_from_a_variable():
    """The prefix and the name are all it takes; an alias would break the check of names."""
    assert all(field.alias is None for field in Settings.model_fields.values())
