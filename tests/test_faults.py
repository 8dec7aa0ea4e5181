"""The table of faults names tests that there are."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMED = re.findall(r"`(test_\w+\.py)::(test_\w+)`", (ROOT / "benchmarks/README.md").read_text())


def test_the_table_is_found() -> None:
    assert len(NAMED) > 30


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_fault_has_its_test(file: str, name: str) -> None:
    trees = [ast.parse(path.read_text()) for path in (ROOT / "tests").rglob(file)]
    assert name in {
        node.name
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
