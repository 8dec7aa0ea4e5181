"""API keys: how they are written down, made and recognised.

A key is kept as its SHA-256 alone. It is drawn at random, so that nobody finds it from its hash
by trying, and a slow hash or a salt would add nothing; a plain one that is too short to be such
is refused. What is left out: where keys are read from (cli), and HTTP (access).
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from steper_serve.errors import ConfigurationError

MADE_PREFIX = "sk-steper-"
LEAST_CHARACTERS = 16
_RANDOM_BYTES = 32
_HASHED = re.compile(r"sha256-([0-9a-fA-F]{64})")
_MEANT_AS_HASH = re.compile(r"sha-?256", re.IGNORECASE)
_PLAIN = re.compile(r"[!-9;-~]+")  # visible ASCII without the colon
_NAME = re.compile(r"[\w.@-]{1,64}", re.ASCII)
_FORM = "[NAME:]KEY, where KEY is sha256-<64 hex digits> or the key itself"


@dataclass(frozen=True, slots=True)
class Key:
    """A key without the key itself. Two of one name (an old and a new one) are one caller."""

    name: str
    digest: bytes

    def line(self) -> str:
        """How it is written in a file of keys."""
        return f"{self.name}:sha256-{self.digest.hex()}"


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys that a server takes; without any it takes everybody."""

    keys: tuple[Key, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.keys)

    def find(self, secret: bytes) -> Key | None:
        """The key that `secret` is; takes as long whichever it is, and if it is none."""
        digest, found = hashlib.sha256(secret).digest(), None
        for key in self.keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found


def make_key(name: str) -> tuple[str, Key]:
    """A new key, and what is kept of it.

    Raises:
        ConfigurationError: `name` cannot be written in a file of keys.
    """
    _check_name(name, f"the name of a key, here {name!r},")
    secret = MADE_PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    return secret, Key(name, hashlib.sha256(secret.encode()).digest())


def read_keys(text: str, where: str, first: int = 1) -> Iterator[Key]:
    """The keys in a text, separated by line ends, spaces or commas; `#` begins a comment.

    One without a name is called after its place: `key-1`, `key-2`, …

    Args:
        where: what an error calls the text; a key itself is never told.
        first: the place of the text's first key, after those of another text.

    Raises:
        ConfigurationError: something is no key.
    """
    lines = [line.partition("#")[0] for line in text.splitlines()]
    for number, item in enumerate(re.split(r"[\s,]+", " ".join(lines).strip()), 1):
        if item:
            yield _read(item, first + number - 1, f"key {number} in {where}")


def _read(item: str, number: int, where: str) -> Key:
    name, colon, rest = item.rpartition(":")
    if colon:
        _check_name(name, f"{where} has one colon at most, and its name")
    name = name or f"key-{number}"
    if match := _HASHED.fullmatch(rest):
        return Key(name, bytes.fromhex(match[1]))
    # Taken for a key, it would let in whoever has read the hash.
    meant = _MEANT_AS_HASH.match(rest) or _MEANT_AS_HASH.fullmatch(name)
    if meant or not _PLAIN.fullmatch(rest):
        raise ConfigurationError(f"{where} is not {_FORM}")
    if len(rest) < LEAST_CHARACTERS:
        raise ConfigurationError(
            f"{where} has {len(rest)} characters and can be guessed; a key has at least "
            f"{LEAST_CHARACTERS}: `steper-serve key` makes one"
        )
    return Key(name, hashlib.sha256(rest.encode()).digest())


def _check_name(name: str, what: str) -> None:
    # Not told: it may be a part of a key that should not have had a colon.
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"{what} may have 1 to 64 ASCII letters, digits and . _ @ -")
