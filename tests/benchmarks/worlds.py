"""A served world whose answers are known, and `steper-serve bench` asked about it.

The questions are those of tests.recipes.worlds: two facts each, "bridge" and two hops where even,
"other" and three hops where odd. What is left out: any real engine.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from steper_serve.cli import main
from steper_serve.trajectory import Generate
from tests.recipes.worlds import passages, question, reason


def kind(number: int) -> str:
    return "other" if number % 2 else "bridge"


def write_dataset(folder: Path, numbers: Iterable[int]) -> Path:
    """A dataset in the layout of a folder."""
    numbers = list(numbers)
    folder.mkdir(parents=True, exist_ok=True)
    asked = [question(n, type=kind(n), hops=2 + n % 2) for n in numbers]
    known = ("id", "question", "answers", "supporting_titles", "type", "hops")
    rows = [{name: getattr(q, name) for name in known} for q in asked]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = [{"id": p.id, "title": p.title, "text": p.text} for n in numbers for p in passages(n)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
    return folder


def number_of(request: Generate) -> int:
    return int(re.findall(r"Q: .*Work (\d+)", request.prompt.text)[-1])


def wrong_about(*numbers: int) -> Callable[[Generate], str]:
    """A model that answers these questions with another town, and all others rightly."""

    def respond(request: Generate) -> str:
        if number_of(request) in numbers and request.step == 2:
            return " So the answer is: Paris, France."
        return reason(request)

    return respond


async def bench(*arguments: object) -> Result:
    """`steper-serve bench …` in a thread, while the caller's loop serves."""
    texts = ["bench", *map(str, arguments)]
    return await asyncio.to_thread(CliRunner().invoke, main, texts)


def last_line(done: Result) -> Any:
    """The JSON that a command ends with."""
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout.splitlines()[-1])


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


@asynccontextmanager
async def proxy(url: str) -> AsyncIterator[tuple[str, Callable[[], None]]]:
    """A way to a server, and what blocks it: open connections break and new ones are refused."""
    host, _, port = url.rpartition("/")[2].partition(":")
    writers: list[asyncio.StreamWriter] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onwards = await asyncio.open_connection(host, int(port))
        writers.extend((writer, onwards[1]))
        await asyncio.gather(
            pump(reader, onwards[1]), pump(onwards[0], writer), return_exceptions=True
        )

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    own = server.sockets[0].getsockname()[1]

    def block() -> None:
        server.close()
        for writer in writers:
            writer.transport.abort()

    try:
        yield f"http://127.0.0.1:{own}", block
    finally:
        block()
