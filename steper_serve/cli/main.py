"""The command group, and how an error of ours ends: one line that says what to do."""

import sys

import click

import steper_serve
from steper_serve.cli import logs
from steper_serve.cli.lazy import LazyGroup
from steper_serve.errors import SteperError

_COMMANDS = ("serve", "ui", "ask", "key", "index", "fictional", "distill", "bench", "doctor")


class _Group(LazyGroup):
    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except SteperError as error:
            logs.tell_failure(error)
            sys.exit(1)


@click.group(
    cls=_Group,
    lazy={name: name for name in _COMMANDS},
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(steper_serve.__version__, prog_name="steper-serve")
def main() -> None:
    """Multi-hop question answering with a small student model, step by step."""
