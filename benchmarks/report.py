"""One page of any folders of results: tables, plots, how it was measured, and on what.

The HTML holds everything that it shows (no script, no font, no other file) and follows the
reader's light or dark scheme; the Markdown holds the tables. Nothing is measured anew. What is
left out: what a benchmark has to say of its results, which is its own `sections`.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

import steper_serve
from steper_serve import journal, plots
from steper_serve.benchmarks import accuracy, latency, load, retrieval
from steper_serve.benchmarks.attack import telling as attack
from steper_serve.benchmarks.paper import saved
from steper_serve.benchmarks.peers import comparing
from steper_serve.benchmarks.results import Manifest, read_manifest
from steper_serve.benchmarks.tables import Section, Table
from steper_serve.errors import ConfigurationError

# By the benchmark that a folder belongs to, in the order of the page.
SECTIONS: Mapping[str, Callable[[Sequence[Path]], list[Section]]] = {
    "accuracy": accuracy.sections,
    "attack": attack.sections,
    "latency": latency.sections,
    "load": load.sections,
    "peers": comparing.sections,
    "retrieval": retrieval.sections,
}


@dataclass(frozen=True, slots=True)
class Report:
    """The page's parts; `folders` are the manifests by folder."""

    folders: Mapping[Path, Manifest]
    sections: Sequence[Section]

    def html(self) -> str:
        """The page."""
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader([Path(__file__).parent / "templates", plots.FOLDER]),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["svg"] = Markup  # made by plots, and escaped there
        return environment.get_template("report.html.j2").render(
            sections=[*self.sections, *self._settings()], **_made()
        )

    def markdown(self) -> str:
        """The tables."""
        parts = ["# StepER Serve: benchmarks"]
        for section in [*self.sections, *self._settings()]:
            parts += [f"## {section.title}", section.text]
            parts += [table.markdown() for table in section.tables]
        return "\n\n".join(filter(None, parts)) + "\n"

    def _settings(self) -> list[Section]:
        return [_how(folder, manifest) for folder, manifest in self.folders.items()]


def make(folders: Iterable[Path]) -> Report:
    """The report of some folders of results.

    Raises:
        ConfigurationError: a folder holds none, or those of an unknown benchmark.
        BadRecord: what it holds cannot be read; names file and line.
    """
    kept = {folder: saved.read(folder) for folder in dict.fromkeys(folders)}
    found = {f: _manifest(f) for f, told in kept.items() if not told or read_manifest(f)}
    sections: list[Section] = []
    for name, sections_of in SECTIONS.items():
        mine = [folder for folder, manifest in found.items() if manifest.benchmark == name]
        sections += sections_of(mine) if mine else []
    return Report(found, sections + [section for told in kept.values() for section in told])


def write(report: Report, html: Path) -> Path:
    """Write the page and, beside it, the Markdown; the path of that.

    Raises:
        DiskFailed: one cannot be written.
    """
    journal.write_text(html, report.html())
    markdown = html.with_suffix(".md")
    journal.write_text(markdown, report.markdown())
    return markdown


def _manifest(folder: Path) -> Manifest:
    manifest = read_manifest(folder)
    if manifest is None:
        raise ConfigurationError(f"{folder} holds no results: it has no manifest.json")
    if manifest.benchmark not in SECTIONS:
        raise ConfigurationError(
            f"{folder} holds results of {manifest.benchmark!r}, which this version does not know; "
            f"it knows {', '.join(SECTIONS)}"
        )
    return manifest


def _how(folder: Path, manifest: Manifest) -> Section:
    """How a folder's results came about."""
    runs = [_flat(run) for run in manifest.runs]
    title = f"How {manifest.benchmark} was measured: {folder}"
    parts = (
        _facts("Datasets", manifest.datasets),
        _facts("Served", manifest.served),
        _facts("Runs", {f"{n}": run for n, run in enumerate(runs, 1)}),
    )
    return Section(title, tuple(filter(None, parts)))


def _facts(title: str, facts: Mapping[str, Mapping[str, Any]]) -> Table | None:
    """A table with a column for each thing, since they have many properties."""
    names = list(dict.fromkeys(name for each in facts.values() for name in each))
    rows = tuple((n, *(_said(each.get(n)) for each in facts.values())) for n in names)
    return Table(title, ("", *facts), rows) if rows else None


def _flat(run: Mapping[str, Any]) -> dict[str, Any]:
    machine = dict(run.get("machine", {}))
    versions = machine.pop("versions", {})
    told = {"started": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(run.get("started", 0)))}
    return {**told, "seconds": run.get("seconds"), **run.get("settings", {}), **machine, **versions}


def _said(value: Any) -> str:
    match value:
        case None | [] | "":
            return "–"
        case bool():
            return "yes" if value else "no"
        case int() if value >= 10_000:
            return f"{value:,}"
        case [*items]:
            return ", ".join(map(str, items))
        case _:
            return str(value)


def _made() -> dict[str, str]:
    return {
        "version": steper_serve.__version__,
        "made": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }
