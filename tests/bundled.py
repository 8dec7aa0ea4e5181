"""The bundled student over the bundled corpus, and questions to ask it."""

from pathlib import Path

from steper_serve import corpus, questions
from steper_serve.cli.wiring import BUNDLED_QUESTIONS, CORPUS
from steper_serve.generation.model_format import load_format
from steper_serve.generation.vllm_engine import VllmEngine
from steper_serve.loop import Loop
from steper_serve.retrieval import bm25
from tests.api.serving import make_loop

QUESTIONS = questions.read(BUNDLED_QUESTIONS)


def bundled_loop(engine: VllmEngine, student: Path, folder: Path) -> Loop:
    """The loop of `serve` as it is without flags, over an index that is built in `folder`."""
    bm25.build(corpus.read(CORPUS), folder / "index")
    format = load_format(str(student), max_model_len=engine.max_model_len, reserve=160)
    return make_loop(engine, retriever=bm25.Bm25Retriever.open(folder / "index"), format=format)
