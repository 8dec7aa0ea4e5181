"""The key of a model behind an endpoint: never in a file or a flag, but in the environment."""

import os

from steper_serve.errors import ConfigurationError


def key_in(variable: str | None, named_by: str) -> str | None:
    """What the environment variable holds; None where none is named.

    Args:
        variable: its name.
        named_by: the flag or key of a file that names it.

    Raises:
        ConfigurationError: it is not set.
    """
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        raise ConfigurationError(f"{named_by} names {variable}, which is not set: export it")
    return key
