"""What the Dockerfile says, as far as no Docker is needed to know it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from steper_serve.cli.page import examples_of
from steper_serve.cli.wiring import index_directory
from steper_serve.retrieval import bm25
from steper_serve.settings import Settings

SAID = (Path(__file__).parents[1] / "Dockerfile").read_text()


def test_the_bundled_corpus_is_indexed_where_serve_looks_and_its_questions_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = SAID.rpartition("\nFROM ")[2]
    for name, value in re.findall(r"^(?:ENV|   ) *(STEPER_\w+)=(\S+)", final, flags=re.MULTILINE):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("STEPER_CACHE_DIR", str(tmp_path))
    [program] = re.findall(r'^RUN python -c "(.*)"$', final, flags=re.MULTILINE)
    subprocess.run([sys.executable, "-c", program], check=True)
    assert [bm25.is_usable(folder) for folder in tmp_path.iterdir()] == [True]
    assert index_directory(Settings()) in tmp_path.iterdir()
    assert len(examples_of(Settings())) == 8
