"""`steper-serve key`: a new API key."""

import click

from steper_serve.api.keys import make_key


@click.command()
@click.argument("name", default="user")
def key(name: str) -> None:
    """Make an API key for NAME, and print the line that a server knows it by.

    The line goes to standard output, the key itself to standard error and nowhere else:
    `steper-serve key ada >> keys.txt`.
    """
    secret, made = make_key(name)
    click.echo(f"The key of {name}, shown this once: {secret}", err=True)
    click.echo(made.line())
