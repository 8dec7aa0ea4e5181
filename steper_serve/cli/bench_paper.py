"""`steper-serve bench paper NAME`: a table or figure of the paper beside what is measured here.

What is left out: what each of them is drawn from (benchmarks.paper), and measuring (bench).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from steper_serve.cli.bench import asked, plan_of, results_of
from steper_serve.cli.options import add
from steper_serve.errors import ConfigurationError
from steper_serve.generation.endpoint_key import key_in

if TYPE_CHECKING:
    from steper_serve.benchmarks.paper.experiments import Experiment
    from steper_serve.benchmarks.paper.gathering import Gathered
    from steper_serve.benchmarks.paper.verdicts import Court, Verdicts

F = TypeVar("F", bound=Callable[..., Any])

_TABLES = ("table1", "table2", "table3", "table4", "table6", "table7", "table8")
NAMES = (*_TABLES, "fig3", "fig4", "fig5", "fig6", "fig7")
_THERE = click.Path(exists=True, file_okay=False, path_type=Path)
_MEASURING = {
    "endpoints": "--endpoint",
    "serve": "--serve",
    "flags": "--serve-flag",
    "models": "--model",
    "strategies": "--strategy",
    "max_steps": "--max-steps",
    "top_k": "--top-k",
}
_OPTIONS = (
    click.option(
        "--results",
        "folders",
        multiple=True,
        type=_THERE,
        help="A folder of results; nothing is measured then. May be repeated.",
    ),
    click.option(
        "--recipe",
        "recipes",
        multiple=True,
        type=_THERE,
        help="A recipe's output folder (runs/fictional); nothing is measured. May be repeated.",
    ),
    click.option(
        "--trained",
        multiple=True,
        metavar="NAME=DATA",
        help="What a served model was trained on (fig5).",
    ),
    click.option("--judge", "judge_url", metavar="URL", help="OpenAI-compatible, up to /v1."),
    click.option("--judge-model", metavar="NAME", help="The judge's model there."),
    click.option(
        "--judge-key-env", metavar="VARIABLE", help="Environment variable with the judge's key."
    ),
    click.option("--judge-concurrency", type=click.IntRange(min=1), default=8, show_default=True),
    click.option(
        "--concurrency",
        type=click.IntRange(min=1),
        help="Answers in flight while measuring (default: 32; 1 for fig6).",
    ),
    click.option("--warmup", type=click.IntRange(min=0), default=8, show_default=True),
)


def _chosen(command: F) -> F:
    return add(command, _OPTIONS)


@click.command()
@click.argument("name", type=click.Choice(NAMES))
@asked
@_chosen
def paper(
    name: str,
    folder: Path,
    folders: tuple[Path, ...],
    recipes: tuple[Path, ...],
    trained: tuple[str, ...],
    **flags: Any,
) -> None:
    """A table or figure of the StepER paper, its figures beside ours.

    Ours are read from folders of results and recipes or, without any, measured into --out with
    the paper's settings (top 4, at most 5 steps), as far as they are not there. fig3 and table4
    need a judge, whose verdicts are kept in --out; fig7 needs a recipe. What is printed is kept
    in --out, too, for `bench report`.
    """
    from steper_serve.benchmarks.paper import figures, findings, saved
    from steper_serve.benchmarks.paper.experiments import EXPERIMENTS, Material
    from steper_serve.benchmarks.paper.published import published

    experiment, told = EXPERIMENTS[name], published()[name]
    court = _court(experiment, flags)
    data = _trained(name, trained)
    gathered = _gathered(experiment, folder, folders, recipes, data, flags)
    if court is not None or ((folders or recipes) and flags["datasets"]):
        gathered = _completed(experiment, gathered, folder, flags["datasets"])
    verdicts = _verdicts(experiment, gathered, court, folder)
    found = experiment.find(Material(gathered, data, verdicts))
    judge = f"{court.model} at {court.url}, a prompt of our own words" if court else ""
    differing = (
        figures.differences(told, gathered.trainings)
        if gathered.trainings
        else findings.differences(told, gathered.subjects, gathered.served, gathered.sources, judge)
    )
    section = findings.section(told, found, differing)
    line = findings.line_of_json(name, told, found, differing)
    saved.write(folder, name, section, line)
    for table in section.tables:
        click.echo(f"{table.text()}\n")
    click.echo(json.dumps(line, ensure_ascii=False))


def _gathered(
    experiment: "Experiment",
    folder: Path,
    folders: tuple[Path, ...],
    recipes: tuple[Path, ...],
    trained: Mapping[str, str],
    flags: Mapping[str, Any],
) -> "Gathered":
    """What was measured, or is measured now."""
    from steper_serve.benchmarks.paper import gathering
    from steper_serve.benchmarks.server import size_of

    if experiment.needs == "trainings" and not recipes:
        raise ConfigurationError("this is drawn from trainings: give a recipe's folder (--recipe)")
    if not folders and not recipes:
        return _measured(experiment, folder, trained, flags)
    if unused := [option for key, option in _MEASURING.items() if flags[key]]:
        raise ConfigurationError(
            f"{unused[0]} is for measuring, and with --results or --recipe nothing is measured: "
            "leave one out"
        )
    if experiment.needs == "trainings":
        return gathering.of_trainings(recipes)
    sizes = dict(size_of(text) for text in flags["parameters"])
    found = gathering.of_folders(folders, recipes).with_sizes(sizes)
    gathering.check_served("--trained", trained, found.names)
    return found.sampled(flags["limit"])


def _measured(
    experiment: "Experiment", folder: Path, trained: Mapping[str, str], flags: Mapping[str, Any]
) -> "Gathered":
    """What is not in the folder yet is asked."""
    from steper_serve.benchmarks.paper import gathering
    from steper_serve.benchmarks.results import Loaded
    from steper_serve.benchmarks.running import measure

    timed = experiment.needs == "times"
    concurrency = flags["concurrency"] or (1 if timed else 32)
    plan = plan_of({**flags, "concurrency": concurrency}, folder, timed=timed)
    gathering.check_served("--trained", trained, [served.name for served in plan.served])
    chosen = (flags[key] for key in ("models", "strategies", "max_steps", "top_k"))
    plan = replace(plan, settings=experiment.settings(*chosen))
    with results_of(folder, "latency" if timed else "accuracy", dict(flags)) as results:
        rows = measure(plan, results, folder)
    return gathering.of_results([Loaded(folder, results.manifest, tuple(rows))])


def _completed(
    experiment: "Experiment", gathered: "Gathered", folder: Path, given: tuple[str, ...]
) -> "Gathered":
    """With what rows do not hold: gold sub-questions and, for a judge, passages' texts."""
    from steper_serve.benchmarks.paper import sources
    from steper_serve.benchmarks.paper.forms import REASONING

    known = sources.read(gathered.subjects, given, gathered.sources, folder)
    subjects = sources.with_gold(gathered.subjects, known)
    if experiment.form is REASONING:
        subjects = sources.with_texts(subjects, known)
    return replace(gathered, subjects=subjects)


def _verdicts(
    experiment: "Experiment", gathered: "Gathered", court: "Court | None", folder: Path
) -> "Verdicts | None":
    """Those of a judge, who is asked for what is not in the folder yet."""
    from steper_serve.benchmarks.paper.verdicts import Verdicts

    if experiment.form is None or court is None:
        return None
    verdicts = Verdicts(folder, experiment.form, court)
    verdicts.collect(gathered.subjects)
    return verdicts


def _court(experiment: "Experiment", flags: Mapping[str, Any]) -> "Court | None":
    from steper_serve.benchmarks.paper.verdicts import Court

    url, model = flags["judge_url"], flags["judge_model"]
    if experiment.form is None:
        if url or model:
            raise ConfigurationError("--judge is for fig3 and table4 alone: leave it out")
        return None
    if not url or not model:
        raise ConfigurationError(
            "this is drawn from a judge's verdicts: give --judge URL and --judge-model NAME, any "
            "OpenAI-compatible endpoint"
        )
    return Court(
        url=url.rstrip("/"),
        model=model,
        key=key_in(flags["judge_key_env"], "--judge-key-env"),
        concurrency=flags["judge_concurrency"],
        timeout=flags["timeout"],
        ask_again=flags["retry_failed"],
    )


def _trained(figure: str, texts: tuple[str, ...]) -> dict[str, str]:
    """The data of --trained by what is served."""
    if texts and figure != "fig5":
        raise ConfigurationError("--trained is for fig5 alone: leave it out")
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals or not value:
            raise ConfigurationError(f"--trained {text} is not NAME=DATA")
        pairs[name] = value
    return pairs
