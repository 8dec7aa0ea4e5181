"""API keys as they are written down: by hashlib's own SHA-256, and never told."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steper_serve.api.keys import Keyring, make_key, read_keys
from steper_serve.errors import ConfigurationError

SECRET = "correct-horse-battery"
HASHED = f"sha256-{hashlib.sha256(SECRET.encode()).hexdigest()}"


def _keys(text: str) -> Keyring:
    return Keyring(tuple(read_keys(text, "keys.txt")))


@pytest.mark.parametrize("written", [SECRET, HASHED, HASHED.replace("a", "A")])
def test_a_key_is_known_however_it_is_written(written: str) -> None:
    written = written.replace("shA", "sha")
    keys = _keys(f"ada:{written}")
    found = keys.find(SECRET.encode())
    assert found is not None
    assert (found.name, found.line()) == ("ada", f"ada:{HASHED}")
    assert keys.find(HASHED.encode()) is None
    assert keys.find(SECRET.encode() + b"x") is None
    assert SECRET not in repr(keys)


def test_several_keys_in_a_file() -> None:
    keys = _keys(
        f"# of the team\nada:{HASHED}  # the old one\n\n{'b' * 16}, bob@x.org:{'c' * 20}\n"
    )
    assert [key.name for key in keys.keys] == ["ada", "key-2", "bob@x.org"]
    assert [keys.find(s.encode()).name for s in (SECRET, "b" * 16, "c" * 20)] == [
        "ada",
        "key-2",
        "bob@x.org",
    ]


def test_no_key_is_no_lock() -> None:
    assert not _keys(" \n# none yet\n")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("too-short", "9 characters"),
        ("sha256-abc", "key 1 in keys.txt is not"),
        (f"SHA256-{'a' * 64}", "key 1 in keys.txt is not"),
        (f"sha256:{'a' * 64}", "key 1 in keys.txt is not"),
        (f"ada:sha-256_{'a' * 64}", "key 1 in keys.txt is not"),
        (f"{'a' * 20} sha256-{'g' * 64}", "key 2 in keys.txt is not"),
        ("b/c:" + "x" * 20, "key 1 in keys.txt has one colon at most"),
        ("too-short:too:" + "x" * 20, "key 1 in keys.txt has one colon at most"),
        ("schlüssel-schlüssel", "key 1 in keys.txt is not"),
    ],
)
def test_what_is_no_key_is_refused_and_not_told(text: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        _keys(text)
    assert told in str(refused.value)
    assert "xxxx" not in str(refused.value)
    assert "too-short" not in str(refused.value)


def test_a_made_key_opens_with_its_line_alone() -> None:
    secret, made = make_key("ada")
    assert _keys(made.line()).find(secret.encode()) == made
    assert secret not in made.line()
    assert make_key("ada")[0] != secret
    with pytest.raises(ConfigurationError, match="letters"):
        make_key("a b")


@given(st.binary(max_size=80))
def test_nothing_else_opens(secret: bytes) -> None:
    assert _keys(HASHED).find(secret) is None or secret == SECRET.encode()
