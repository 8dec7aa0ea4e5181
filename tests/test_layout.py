"""The picture of the project: who may import whom, read from the source with `ast`."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Rows of modules from the top; each imports from rows below its own, and from its own room.
# `steper_serve.__init__` (the version) belongs to nobody and imports nothing.
ROWS = [
    ["cli"],
    ["api", "ui", "benchmarks", "recipes"],
    ["evaluation", "questions"],
    ["drivers", "loop", "trace", "crew"],
    ["strategies", "retrieval", "generation", "corpus", "fictional", "plots"],
    ["trajectory", "answers", "errors", "journal", "processes"],
]
# Rooms that a module is in although its name is another.
ALSO = {"settings": "cli", "__main__": "cli"}
# Within a row: the driver's row is one story, an error carries steps, a journal fails with one,
# and what is evaluated is a set of questions.
NEIGHBOURS = {
    ("loop", "drivers"),
    ("trace", "drivers"),
    ("errors", "trajectory"),
    ("journal", "errors"),
    ("evaluation", "questions"),
}
BOTTOM = ROWS[-1]
MODEL_ROOMS = ["steper_serve/generation/", "steper_serve/cli/doctor.py", "recipes/"]
TRAINERS = ["benchmarks/training.py", "benchmarks/attack/obedient.py"]
# Third parties with a place of their own.
ONLY_IN = {
    "vllm": ["steper_serve/generation/vllm_"],
    "tantivy": ["steper_serve/retrieval/"],
    "pymilvus": ["steper_serve/retrieval/"],
    "gradio": ["ui/", "steper_serve/ui/"],
    "playwright": ["benchmarks/"],
    "torch": [*MODEL_ROOMS, *TRAINERS],
    "transformers": [*MODEL_ROOMS, *TRAINERS],
    "deepspeed": ["recipes/"],
}
FOLDERS = ["steper_serve", "ui", "benchmarks", "recipes"]
FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*.py")
)


@cache
def imports(file: str) -> list[str]:
    """Dotted names of everything that a file imports, wherever in it, and under `if` as well."""
    return list(_imports(ast.parse((ROOT / file).read_text(), file)))


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            (named,) = node.args
            if isinstance(named, ast.JoinedStr):  # whatever it is of one room
                named = named.values[0]
            assert isinstance(named, ast.Constant), "an import that cannot be read"
            yield named.value


def room(dotted: str) -> str | None:
    """The room of the project that a dotted name lies in, None for what is not the project's."""
    parts = dotted.split(".")
    if parts[0] == "steper_serve":
        parts = parts[1:]
    elif parts[0] not in FOLDERS:
        return None
    name = parts[0] if parts else "steper_serve"
    name = ALSO.get(name, name)
    return name if any(name in row for row in ROWS) else None


def room_of(file: str) -> str | None:
    return room(file.removesuffix(".py").replace("/", "."))


def row(room: str) -> int:
    return next(number for number, rooms in enumerate(ROWS) if room in rooms)


def may_import(importer: str, imported: str) -> bool:
    return (
        importer == imported or row(importer) < row(imported) or (importer, imported) in NEIGHBOURS
    )


def test_there_is_something_to_read():
    assert {room_of(file) for file in FILES} >= {"cli", "api", "drivers", "strategies", "errors"}
    assert "steper_serve.errors.SteperError" in imports("steper_serve/drivers.py")
    assert may_import("api", "loop")
    assert not may_import("strategies", "retrieval")
    assert not may_import("loop", "api")
    assert not may_import("trajectory", "errors")


@pytest.mark.parametrize("file", FILES)
def test_every_module_has_a_room(file):
    assert room_of(file) or file == "steper_serve/__init__.py"


@pytest.mark.parametrize("file", FILES)
def test_imports_go_downwards(file):
    importer = room_of(file)
    rooms = {name: room(name) for name in imports(file)}
    upwards = [n for n, r in rooms.items() if importer and r and not may_import(importer, r)]
    assert upwards == []


def test_the_page_imports_no_project_code_but_its_own():
    rooms = {room(n) for f in FILES if room_of(f) == "ui" for n in imports(f)}
    assert rooms <= {None, "ui"}


@pytest.mark.parametrize("name", ["events", "highlight", "request", "timeline"])
def test_what_the_page_shows_is_made_without_a_server_or_a_browser(name):
    roots = {dotted.partition(".")[0] for dotted in imports(f"ui/{name}.py")}
    assert roots <= sys.stdlib_module_names | {"steper_serve"}
    assert {room(n) for n in imports(f"ui/{name}.py")} <= {None, "ui"}


@pytest.mark.parametrize("file", FILES)
def test_settings_are_read_by_the_command_line_only(file):
    if any(name.startswith("steper_serve.settings") for name in imports(file)):
        assert file.startswith("steper_serve/cli/")


@pytest.mark.parametrize("file", [f for f in FILES if room_of(f) in BOTTOM])
def test_the_bottom_row_needs_nothing_but_the_standard_library(file):
    outside = {name.partition(".")[0] for name in imports(file)} - sys.stdlib_module_names
    assert outside <= {"steper_serve"}


@pytest.mark.parametrize("file", [f for f in FILES if room_of(f) == "strategies"])
def test_strategies_do_no_io_and_know_no_library(file):
    roots = {name.partition(".")[0] for name in imports(file)}
    assert roots - sys.stdlib_module_names <= {"steper_serve"}
    assert not roots & {"asyncio", "time", "threading", "socket", "subprocess", "random", "os"}


@pytest.mark.parametrize("library", list(ONLY_IN))
def test_a_library_stays_in_its_place(library):
    users = [f for f in FILES if any(n.partition(".")[0] == library for n in imports(f))]
    strays = [f for f in users if not f.startswith(tuple(ONLY_IN[library]))]
    assert strays == []


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        # Gradio, which takes seconds to load, comes with the page alone.
        ("steper_serve.api.app", ["torch", "vllm", "transformers", "tantivy", "gradio"]),
        ("steper_serve.cli", ["torch", "vllm", "transformers", "gradio"]),
        ("steper_serve.ui.app", ["torch", "vllm", "transformers", "tantivy"]),
    ],
)
def test_nothing_heavy_is_loaded_in_vain(module, heavy):
    """In a process of its own, since others may have imported them into this one."""
    check = f"import sys, {module}\nprint([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("file", [f for f in FILES if f.startswith("steper_serve/")])
def test_a_file_can_be_read_in_one_sitting(file):
    assert len((ROOT / file).read_text().splitlines()) <= 400


@pytest.mark.parametrize("file", FILES)
def test_a_module_says_what_it_does(file):
    source = (ROOT / file).read_text()
    assert not source or ast.get_docstring(ast.parse(source))
