"""What does not start, because others could reach it or because it contradicts itself."""

import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from steper_serve.api.app import Policy
from steper_serve.api.hosts import is_loopback
from steper_serve.api.keys import Keyring, read_keys
from steper_serve.api.limits import Limits
from steper_serve.cli.guarding import admission_of, described, policy_of
from steper_serve.cli.options import settings_from
from steper_serve.cli.serve import serve
from steper_serve.errors import ConfigurationError, Overloaded
from steper_serve.settings import Settings

EVERYWHERE = "0.0.0.0"  # noqa: S104 - the very thing
KEY = "a-key-of-the-test"


def test_by_default_this_machine_alone_is_served_and_needs_no_key() -> None:
    assert policy_of(Settings()) == Policy(hosts=())
    assert not policy_of(Settings()).keys
    assert "no key wanted" in described(Settings())


@pytest.mark.parametrize("host", [EVERYWHERE, "::", "", "192.0.2.1", "box.example", "127.0.0.1.x"])
def test_others_are_served_with_keys_or_knowingly(host: str) -> None:
    with pytest.raises(ConfigurationError, match="--allow-unauthenticated"):
        policy_of(Settings(host=host))
    assert policy_of(Settings(host=host, api_keys=KEY)).keys
    assert not policy_of(Settings(host=host, allow_unauthenticated=True)).keys


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_what_is_this_machine_alone(host: str) -> None:
    assert is_loopback(host)


def test_only_where_nobody_else_comes_are_names_known() -> None:
    public = "https://Answers.example:8443/qa"
    assert policy_of(Settings(public_url=public)).hosts == ("answers.example",)
    assert policy_of(Settings(public_url=public, api_keys=KEY)).hosts is None
    assert policy_of(Settings(allow_unauthenticated=True)).hosts is None


def test_keys_come_from_variable_and_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"ada:{KEY}1\nbob:{KEY}2\n")
    settings = Settings(api_keys=f"{KEY}3, cy:{KEY}4", api_keys_file=file)
    assert [key.name for key in policy_of(settings).keys.keys] == ["key-1", "cy", "ada", "bob"]
    assert KEY not in repr(settings) + repr(policy_of(settings)) + described(settings)
    # Two without a name are two callers.
    file.write_text(f"{KEY}5")
    assert [key.name for key in policy_of(settings).keys.keys] == ["key-1", "cy", "key-3"]


def _settings(*flags: str) -> Settings:
    return settings_from(serve.make_context("serve", list(flags)).params)


def test_flags_reach_what_they_bound(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"ada:{KEY}")
    policy = Policy(
        keys=Keyring(tuple(read_keys(f"ada:{KEY}", "here"))),
        origins=("https://a.example", "https://b.example"),
        limits=Limits(
            max_body_bytes=2000,
            max_messages=3,
            max_question_characters=100,
            max_answer_tokens=50,
            max_seconds=7,
            client_seconds=2,
        ),
        requests_per_minute=4,
        tokens_per_minute=500,
    )
    settings = _settings(
        "--api-keys-file", str(file),
        "--cors-origins", "https://a.example,https://b.example",
        "--max-body-bytes", "2000",
        "--max-messages", "3",
        "--max-question-characters", "100",
        "--max-answer-tokens", "50",
        "--max-seconds", "7",
        "--client-seconds", "2",
        "--requests-per-minute", "4",
        "--tokens-per-minute", "500",
    )  # fmt: skip
    assert policy_of(settings) == policy
    for given in (policy, policy.limits):
        default = type(given)()
        same = {f.name for f in fields(given) if getattr(given, f.name) == getattr(default, f.name)}
        assert same <= {"hosts"}  # of any name, where there are keys


def test_as_many_answers_are_let_in_as_the_flags_say() -> None:
    admission = admission_of(_settings("--max-running", "2", "--max-queued", "0"))
    refused = pytest.raises(Overloaded, match="2 answers may run and 0 wait")
    with admission.enter(), admission.enter(), refused, admission.enter():
        pass


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"api_keys_file": "/no/such/keys"}, "/no/such/keys"),
        ({"api_keys_file": os.devnull}, "no API key in /dev/null"),
        ({"api_keys": "guess-me"}, "STEPER_API_KEYS has 8 characters"),
        ({"api_keys": KEY, "allow_unauthenticated": True}, "leave one out"),
    ],
)
def test_what_contradicts_itself_or_cannot_be_read_is_refused(given: dict, told: str) -> None:
    for asked in (policy_of, described):
        with pytest.raises(ConfigurationError, match=told) as refused:
            asked(Settings(**given))
        assert "guess-me" not in str(refused.value)


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["serve", "--host", EVERYWHERE], "--allow-unauthenticated"),
        (["ui", "--host", EVERYWHERE], "--allow-unauthenticated"),
        (["ui", "--key-env", "NO_SUCH_KEY"], "NO_SUCH_KEY"),
        (["serve", "--api-keys-file", "/no/such/keys"], "/no/such/keys"),
        (["serve", "--cors-origins", "https://a.example/page"], "cors_origins"),
        (["key", "no name"], "'no name'"),
        (["doctor", "--host", EVERYWHERE], "--allow-unauthenticated"),
    ],
)
def test_it_ends_in_one_line(args: list[str], told: str) -> None:
    command = [sys.executable, "-m", "steper_serve", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    said = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    [line] = said or done.stderr.splitlines()
    assert told in line
