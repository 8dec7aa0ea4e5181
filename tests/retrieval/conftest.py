"""An index of the known passages."""

from pathlib import Path

import pytest

from steper_serve.retrieval.bm25 import build
from tests.retrieval.worlds import WORLD


@pytest.fixture
def index(tmp_path: Path) -> Path:
    build(WORLD, tmp_path / "index")
    return tmp_path / "index"
