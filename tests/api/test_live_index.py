"""An index that is switched under load, by another process: no answer fails, and none goes back.

What is left out: writers that are killed (tests/cli/test_index_processes.py).
"""

import asyncio
import json
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from openai import AsyncOpenAI

from steper_serve.generation.scripted import ScriptedModel
from steper_serve.retrieval import bm25, searcher
from steper_serve.trajectory import Generate, Passage
from tests.api.serving import PASSAGES, QUESTION, THOUGHTS, client_of, make_loop

NUM_SWITCHES = 20
NUM_CLIENTS = 12
# Both words are in the titles of what comes and goes, and in no other.
COMETS = "comet sighted"
# Does what it is told, by the commands as a user has them, and says when each is done.
WRITER = textwrap.dedent("""
    import shlex, sys
    from steper_serve.cli.index import index

    for line in sys.stdin:
        index.main(shlex.split(line), standalone_mode=False)
        print("switched", flush=True)
""")


class Writer:
    """Another process that changes an index. `states` are the comets of each of its generations."""

    def __init__(self, target: Path, process: "subprocess.Popen[str]") -> None:
        self._target, self._process = target, process
        self.states: list[frozenset[str]] = [frozenset()]

    async def switch(self) -> None:
        """Make the next generation: one that adds, one that adds, one that deletes, one anew."""
        now, number = self.states[-1], len(self.states)
        new = f"comet-{number}"
        match number % 4:
            case 1 | 2:
                wanted, command = now | {new}, f"add {self._corpus([new])} --index"
            case 3:
                gone = min(now)
                wanted, command = now - {gone}, f"delete {gone} --index"
            case _:
                wanted, command = frozenset({new}), f"build {self._corpus([new], whole=True)} --out"
        self.states.append(wanted)  # from now on it may be seen
        assert await asyncio.to_thread(self._do, f"{command} {self._target}") == "switched\n"

    def _do(self, command: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        while (said := self._process.stdout.readline()) not in ("switched\n", ""):
            pass
        return said

    def _corpus(self, comets: list[str], *, whole: bool = False) -> Path:
        file = self._target.with_name("more.jsonl")
        kept = [(p.id, p.title, p.text) for p in PASSAGES] if whole else []
        rows = [*kept, *((id, f"Comet {id} sighted", f"It is {id}.") for id in comets)]
        lines = (json.dumps(dict(zip(("id", "title", "text"), row, strict=True))) for row in rows)
        file.write_text("\n".join(lines))
        return file


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    bm25.build(PASSAGES, tmp_path / "index")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", WRITER], text=True, **pipes) as process:
        yield Writer(tmp_path / "index", process)
        process.kill()


class Witness:
    """A client that asks again and again, and sees each state of the index or a later one."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._seen = 0
        self.num_answers = 0

    def sees(self, comets: frozenset[str]) -> None:
        states = self._writer.states
        later = next((n for n in range(self._seen, len(states)) if states[n] == comets), None)
        assert later is not None, f"{sorted(comets)} is no state since {self._seen}"
        self._seen = later
        self.num_answers += 1


def _speak(request: Generate) -> str:
    """Searches for the comets at the second step, then answers."""
    return (f" {COMETS}", *THOUGHTS[1:])[request.step - 1]


async def _answer(client: AsyncOpenAI) -> frozenset[str]:
    """The comets that an answer's second search found; the answer must be what it always is."""
    done = await client.chat.completions.create(
        model="steper-ircot",
        messages=[{"role": "user", "content": QUESTION}],
        extra_body={"steper": {"trace": True, "top_k": 20}},
    )
    assert (done.choices[0].message.content, done.choices[0].finish_reason) == ("Verla", "stop")
    return _comets(done.model_extra["steper"]["steps"][1]["passages"])


async def _streamed(client: AsyncOpenAI) -> frozenset[str]:
    content, steps = "", {}
    async for chunk in await client.chat.completions.create(
        model="steper-ircot",
        messages=[{"role": "user", "content": QUESTION}],
        extra_body={"steper": {"trace": True, "top_k": 20}},
        stream=True,
    ):
        content += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        event = (chunk.model_extra or {}).get("steper") or {}
        if "passages" in event:
            steps[event["step"]] = event["passages"]
    assert content == "Verla"
    return _comets(steps[2])


async def _searched(client: AsyncOpenAI) -> frozenset[str]:
    response = await client.get(
        "/passages", cast_to=httpx.Response, options={"params": {"query": COMETS, "top_k": 20}}
    )
    return _comets(response.json()["data"])


def _comets(passages: list[dict[str, str]]) -> frozenset[str]:
    return frozenset(p["id"] for p in passages if p["id"].startswith("comet"))


Asking = Callable[[AsyncOpenAI], Awaitable[frozenset[str]]]
WAYS: tuple[Asking, ...] = (_answer, _streamed, _searched)


@asynccontextmanager
async def _load(client: AsyncOpenAI, writer: Writer) -> AsyncIterator[list[Witness]]:
    """Clients that ask in every way until the block ends; what fails one of them fails the test."""
    witnesses = [Witness(writer) for _ in range(NUM_CLIENTS)]
    over = asyncio.Event()

    async def ask(witness: Witness, way: Asking) -> None:
        while not over.is_set():
            witness.sees(await way(client))

    async with asyncio.TaskGroup() as group:
        for number, witness in enumerate(witnesses):
            group.create_task(ask(witness, WAYS[number % len(WAYS)]))
        yield witnesses
        over.set()


@pytest.mark.parametrize("quick", [True, False], ids=["in the event loop", "in threads"])
async def test_twenty_switches_under_load_fail_no_answer(
    writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: bool
) -> None:
    if not quick:
        monkeypatch.setattr(searcher, "_QUICK_DOCUMENTS", 0)
    retriever = bm25.Bm25Retriever.open(tmp_path / "index")
    async with (
        client_of(make_loop(ScriptedModel(_speak), retriever=retriever)) as client,
        _load(client, writer) as witnesses,
    ):
        for _ in range(NUM_SWITCHES):
            await writer.switch()
            asked = [witness.num_answers for witness in witnesses]
            for way in WAYS:  # whoever asks after a switch sees it
                assert await way(client) == writer.states[-1]
            while any(w.num_answers == n for w, n in zip(witnesses, asked, strict=True)):
                await asyncio.sleep(0.01)
    assert len(writer.states) == NUM_SWITCHES + 1
    assert len(list((tmp_path / "index" / "generations").iterdir())) == 2


async def test_an_answer_under_way_goes_on_in_the_index_that_is_there_by_then(
    tmp_path: Path,
) -> None:
    """Its first passages stay its own, though they are deleted while it thinks."""
    bm25.build(PASSAGES, tmp_path / "index")
    gate = asyncio.Event()
    model = ScriptedModel(THOUGHTS, gate=gate)
    loop = make_loop(model, retriever=bm25.Bm25Retriever.open(tmp_path / "index"))
    async with client_of(loop) as client:
        answer = asyncio.create_task(
            client.chat.completions.create(
                model="steper-ircot",
                messages=[{"role": "user", "content": QUESTION}],
                extra_body={"steper": {"trace": True}},
            )
        )
        while not model.requests:
            await asyncio.sleep(0.01)
        bm25.delete(["lum/1"], tmp_path / "index")
        bm25.add([Passage("new", "Ada Frost's film", "It is late.")], tmp_path / "index")
        await _searched(client)
        gate.set()
        done = await answer
    first, second, *_ = done.model_extra["steper"]["steps"]
    assert done.choices[0].message.content == "Verla"
    assert "lum/1" in [p["id"] for p in first["passages"]]
    assert {"new", "lum/1"} & {p["id"] for p in second["passages"]} == {"new"}
    assert "Ada Frost's film" in model.requests[1].prompt.text
    assert "The Lumen is a film" in model.requests[1].prompt.text
