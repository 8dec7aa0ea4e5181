"""`steper-serve fictional`: an invented world in files."""

from pathlib import Path

import click

from steper_serve import fictional as worlds
from steper_serve.errors import ConfigurationError


@click.command()
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--passages", type=click.IntRange(min=100, max=1_000_000), default=4000, show_default=True
)
@click.option("--questions", type=click.IntRange(min=0), default=1000, show_default=True)
@click.option(
    "--out",
    "folder",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for corpus.jsonl and questions.jsonl; it must not hold other ones.",
)
def fictional(seed: int, passages: int, questions: int, folder: Path) -> None:
    """Write an invented world: passages, and multi-hop questions with their gold steps.

    The same numbers give the same bytes. Worlds whose seeds differ modulo 256 share no name.
    """
    taken = [name for name in ("corpus.jsonl", "questions.jsonl") if (folder / name).exists()]
    if taken:
        raise ConfigurationError(f"{folder} already holds {taken[0]}: choose another --out")
    try:
        worlds.write(folder, seed=seed, passages=passages, questions=questions)
    except ValueError as error:
        raise ConfigurationError(
            f"{error}: ask for fewer --questions or more --passages"
        ) from error
    click.echo(
        f"{folder}: {passages:,} passages and {questions:,} questions of world {seed}\n"
        f"Next: steper-serve index build {folder / 'corpus.jsonl'} --out {folder / 'index'}"
    )
