"""`steper-serve bench load`, and the replay that it runs in a process of its own.

What is left out: what is measured and how (benchmarks.load, sweep, replay).
"""

from pathlib import Path
from typing import Any

import click

from steper_serve.cli.bench import asked, plan_of, results_of, say
from steper_serve.cli.bench_sweep import alone, concurrency_option, numbers_of, swept, tell
from steper_serve.cli.wiring import open_loop
from steper_serve.errors import ConfigurationError
from steper_serve.settings import Settings

_CONCURRENCY = (1, 2, 4, 8, 16, 32, 64)


@click.command()
@asked
@concurrency_option(_CONCURRENCY, "Answers in flight")
@swept
@click.option(
    "--replay/--no-replay",
    default=True,
    show_default=True,
    help="Whether the same prompts are timed in the engine alone.",
)
def load(
    folder: Path, concurrency: tuple[int, ...], streamed: bool, replay: bool, **flags: Any
) -> None:
    """Answers a second and seconds an answer by answers in flight, and vLLM alone beside it.

    Each repetition of each combination has a server of its own, unless it is asked of an
    --endpoint, and right after it a replay of the same prompts in an engine of the same settings,
    as independent requests: the replay ratio is that time divided by the served time. Take at
    least ten times as many questions as are in flight.
    """
    from steper_serve import journal, plots
    from steper_serve.benchmarks import load as loads
    from steper_serve.benchmarks.sweep import Sweep, measure

    numbers = numbers_of(concurrency, flags)
    plan = plan_of({**flags, "concurrency": 1}, folder, timed=True)
    given = {**flags, "concurrency": numbers, "streamed": streamed, "replay": replay}
    with results_of(folder, "load", given) as results:
        found = measure(Sweep(plan, numbers, streamed, replay), results, folder)
        told = loads.find(found, list(results.rows.values()))
    if drawn := loads.plot(told):
        journal.write_text(folder / "load.svg", plots.standalone(drawn))
    say(loads.tables(told), loads.lines(told))


@click.command(hidden=True)
@alone
def replay(file: Path, **flags: Any) -> None:
    """Time the answers recorded in FILE in the engine alone; `bench load` runs this."""
    tell(_replay, file, flags)


async def _replay(settings: Settings, file: Path) -> dict[str, Any]:
    from steper_serve.benchmarks import replay as replays
    from steper_serve.benchmarks import replaying

    recording = replaying.read(file)
    async with open_loop(settings) as loop:
        if not isinstance(loop.model, replays.Engine):
            raise ConfigurationError(
                f"a model behind an endpoint ({settings.endpoint}) cannot be measured alone: "
                "give --no-replay"
            )
        return await replays.measure(
            loop, loop.model, recording.warmup, recording.rows, recording.concurrency
        )
