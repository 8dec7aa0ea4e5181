"""The command line: the only place where things are wired together."""

from steper_serve.cli.main import main

__all__ = ["main"]
