"""A world in files: `corpus.jsonl` and `questions.jsonl`, as other question sets have them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from steper_serve.fictional.passages import passage
from steper_serve.fictional.questions import questions as questions_of
from steper_serve.fictional.world import World


def write(out_dir: Path, *, seed: int, passages: int, questions: int) -> None:
    """Write the world of `seed`, `passages` large, and `questions` questions about it.

    Equal arguments give equal bytes. Each file is whole or absent.

    Raises:
        ValueError: fewer than 100 passages, or more questions than the world has.
        OSError: the folder cannot be written.
    """
    world = World(seed, passages)
    out_dir.mkdir(parents=True, exist_ok=True)
    texts = (passage(world, entity) for entity in world.entities())
    _lines(
        out_dir / "corpus.jsonl",
        ({"id": p.id, "title": p.title, "text": p.text} for p in texts),
    )
    asked = (question.to_json() for question in questions_of(world, questions))
    _lines(out_dir / "questions.jsonl", asked)


def _lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    beside = path.with_name(f".{path.name}.partial")
    with beside.open("w", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    beside.replace(path)
