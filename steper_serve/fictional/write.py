"""A world in files: `corpus.jsonl` and `questions.jsonl`, as other question sets have them."""

import json
from pathlib import Path
from typing import Any

from steper_serve import journal
from steper_serve.fictional.passages import passage
from steper_serve.fictional.questions import questions as questions_of
from steper_serve.fictional.world import World


def write(out_dir: Path, *, seed: int, passages: int, questions: int) -> None:
    """Write the world of `seed`, `passages` large, and `questions` questions about it.

    Equal arguments give equal bytes. Each file is whole or absent, and with too many questions both
    are absent.

    Raises:
        ValueError: fewer than 100 passages, or more questions than the world has.
        DiskFailed: the folder cannot be written.
    """
    world = World(seed, passages)
    asked = (question.to_json() for question in questions_of(world, questions))
    journal.write_lines(out_dir / "questions.jsonl", map(_line, asked))
    texts = (passage(world, entity) for entity in world.entities())
    told = ({"id": p.id, "title": p.title, "text": p.text} for p in texts)
    journal.write_lines(out_dir / "corpus.jsonl", map(_line, told))


def _line(row: dict[str, Any]) -> str:
    return f"{json.dumps(row, ensure_ascii=False)}\n"
