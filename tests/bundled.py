"""The bundled student over the bundled corpus, as a loop or a server, and questions to ask it."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from steper_serve import corpus, questions
from steper_serve.cli.wiring import BUNDLED_QUESTIONS, CORPUS, RESERVE
from steper_serve.generation.model_format import load_format
from steper_serve.generation.vllm_engine import VllmEngine
from steper_serve.loop import Loop
from steper_serve.retrieval import bm25
from tests.api.serving import make_loop

QUESTIONS = questions.read(BUNDLED_QUESTIONS)


def bundled_loop(engine: VllmEngine, student: Path, folder: Path) -> Loop:
    """The loop of `serve` as it is without flags, over an index that is built in `folder`."""
    bm25.build(corpus.read(CORPUS), folder / "index")
    format = load_format(str(student), max_model_len=engine.max_model_len, reserve=RESERVE)
    return make_loop(engine, retriever=bm25.Bm25Retriever.open(folder / "index"), format=format)


@contextmanager
def bundled_server(*flags: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """`steper-serve serve` as a user starts it: the process, and its URL once it is ready."""
    command = [sys.executable, "-m", "steper_serve", "serve", "--port", "0", *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stderr:
                if found := re.search(r"Ready after .*?: (http://\S+)/v1", line):
                    yield process, found[1]
                    break
            else:
                pytest.fail(f"the server did not start, exit code {process.wait()}")
        finally:
            process.kill()
