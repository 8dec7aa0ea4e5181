"""`steper-serve bench peers`, and FlashRAG's side of it, which it runs in a process of its own.

What is left out: what is measured and how (benchmarks.peers).
"""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from steper_serve.cli.bench import asked, plan_of, results_of, say
from steper_serve.cli.bench_sweep import alone, concurrency_option, numbers_of, swept, tell
from steper_serve.cli.options import settings_from
from steper_serve.cli.wiring import open_loop
from steper_serve.errors import ConfigurationError
from steper_serve.settings import Settings

_CONCURRENCY = (1, 32)
_NOT_COMPARED = {
    "endpoints": "--endpoint: FlashRAG is given the engine of the servers that are started here",
    "models": "--model: the strategy is IRCoT",
    "strategies": "--strategy: it is IRCoT",
}


@click.command()
@asked
@click.option(
    "--flashrag",
    "flashrag",
    multiple=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder that FlashRAG was installed into (benchmarks/README.md); may be repeated, for "
    "several versions (default: flashrag in the cache folder).",
)
@concurrency_option(
    _CONCURRENCY, "Answers in flight of ours, questions given at a time to FlashRAG"
)
@swept
def peers(
    folder: Path,
    flashrag: tuple[Path, ...],
    concurrency: tuple[int, ...],
    streamed: bool,
    **flags: Any,
) -> None:
    """Answers a second, seconds and EM, beside FlashRAG's IRCoT on the same index and engine.

    Ours is a server, asked over HTTP. FlashRAG answers in a process of its own, with the same
    model, index and flags: so many questions given at a time and, where it takes many, all at
    once. It is installed into a folder of its own.
    """
    from steper_serve.benchmarks.peers import comparing
    from steper_serve.benchmarks.peers.asking import measure, peers_in
    from steper_serve.benchmarks.sweep import Sweep

    if unfit := [said for name, said in _NOT_COMPARED.items() if flags[name]]:
        raise ConfigurationError(f"`bench peers` has no use for {unfit[0]}; leave it out")
    numbers = numbers_of(concurrency, flags)
    found = peers_in(flashrag or [settings_from({}).cache_dir / "flashrag"])
    given = {**flags, "concurrency": 1, "strategies": ("ircot",)}
    plan = plan_of(given, folder, timed=True)
    told = {"flashrag": [str(peer.folder) for peer in found], "concurrency": numbers}
    with results_of(folder, "peers", {**flags, **told, "streamed": streamed}) as results:
        loads = measure(Sweep(plan, numbers, streamed, replays=False), found, results, folder)
        compared = comparing.compare(loads, list(results.rows.values()))
    say(comparing.tables(compared), comparing.lines(compared))


@click.command(hidden=True)
@alone
def peer(file: Path, **flags: Any) -> None:
    """Have FlashRAG do the task in FILE; `bench peers` runs this."""
    tell(_answered, file, flags)


async def _answered(settings: Settings, file: Path) -> dict[str, Any]:
    from steper_serve.benchmarks.peers import answering
    from steper_serve.benchmarks.peers.asking import read_task
    from steper_serve.benchmarks.peers.flashrag import Engine

    task = read_task(file)
    async with open_loop(settings) as loop:
        engine = loop.model
        if not isinstance(engine, Engine):
            raise ConfigurationError(
                f"FlashRAG cannot be given a model behind an endpoint ({settings.endpoint})"
            )
        takes_many, runs = await answering.measure(
            replace(
                loop, max_steps=task.max_steps or loop.max_steps, top_k=task.top_k or loop.top_k
            ),
            engine,
            Path(task.folder),
            task.warmup,
            task.asked,
            task.at_a_time,
        )
    return {"takes_many": takes_many, "runs": [asdict(run) for run in runs]}
