"""FlashRAG's pipeline answers questions, in this process, so many given to it at a time.

Versions that pip takes for finished (0.1.2) answer one question after the other; those of its
documentation (`--pre`) take a step of all questions that they were given, then the next of those
that are not answered, and give all answers when the last is there. What is left out: the process
that this is (asking), and what the figures mean (comparing).
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from steper_serve.benchmarks.peers.flashrag import Engine, package_in, parts
from steper_serve.benchmarks.rows import Failure
from steper_serve.errors import EngineUnavailable, SteperError
from steper_serve.loop import Loop
from steper_serve.strategies.ircot import ANSWER_MARKER, parse_answer
from steper_serve.strategies.passages import one_line
from steper_serve.trace import Clockwork, trace_json
from steper_serve.trajectory import Step, StopReason, Trajectory

_OUTPUT = "intermediate_output_iter"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a question; `trace` or `failure` is None.

    Args:
        started: Unix time when the pipeline was given it and what was given beside.
        wall_seconds: from there until the pipeline gave all of their answers.
        trace: in the form of `ask --json`; besides, `read_by_us` is the answer that our own
            parser reads off the same text, "" without one.
        failure: as rows keep it.
    """

    started: float
    wall_seconds: float
    trace: Mapping[str, Any] | None
    failure: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Run:
    """All questions, `at_a_time` of them given at once. `started`, `ended`: Unix times."""

    at_a_time: int
    started: float
    ended: float
    seconds: float
    answers: Sequence[Answer]


async def measure(
    loop: Loop,
    engine: Engine,
    folder: Path,
    warmup: Sequence[str],
    asked: Sequence[str],
    at_a_time: Sequence[int],
) -> tuple[bool, list[Run]]:
    """Have the FlashRAG in `folder` answer all that is asked, once for each of `at_a_time`.

    One that answers question after question is asked once, whatever `at_a_time` says; whether it
    takes many at a time is told beside the runs. Before each run the engine forgets its prefix
    cache and the `warmup` is answered.

    Args:
        loop: its index, form of prompts, number of steps and of passages.

    Raises:
        ConfigurationError: FlashRAG, or something that it imports, is not in `folder`.
        EngineUnavailable: the engine is down.
    """
    peer = _Peer(loop, engine, folder)
    runs = []
    for number in dict.fromkeys(at_a_time if peer.takes_many else [1]):
        await engine.reset_prefix_cache()
        await asyncio.to_thread(peer.answer_all, warmup, number)
        started, start = round(time.time(), 6), time.perf_counter()
        answers = await asyncio.to_thread(peer.answer_all, asked, number)
        seconds = round(time.perf_counter() - start, 6)
        runs.append(Run(number, started, round(time.time(), 6), seconds, answers))
    return peer.takes_many, runs


class _Peer:
    """FlashRAG's pipeline. It is made in the engine's event loop and used in a thread."""

    def __init__(self, loop: Loop, engine: Engine, folder: Path) -> None:
        package = package_in(folder)
        self._given = parts(package, loop, engine)
        self._datasets = package.datasets
        self._special = loop.format.special_tokens
        self._pipeline = package.pipelines.IRCOTPipeline(
            self._given.config,
            prompt_template=self._given.prompt,
            retriever=self._given.retriever,
            generator=self._given.generator,
            max_iter=loop.max_steps,
        )
        self.takes_many = hasattr(self._pipeline, "run_batch")

    def answer_all(self, asked: Sequence[str], at_a_time: int) -> list[Answer]:
        """The answers, in order.

        Raises:
            EngineUnavailable: the engine is down.
        """
        starts = range(0, len(asked), at_a_time)
        return [a for n in starts for a in self._answer(asked[n : n + at_a_time])]

    def _answer(self, asked: Sequence[str]) -> list[Answer]:
        started, start = round(time.time(), 6), time.perf_counter()
        try:
            items = self._run(asked)
        except EngineUnavailable:
            raise
        except SteperError as error:
            wall, told = round(time.perf_counter() - start, 6), asdict(Failure.of(error))
            return [Answer(started, wall, None, told) for _ in asked]
        wall = round(time.perf_counter() - start, 6)
        return [Answer(started, wall, self._trace(item, wall), None) for item in items]

    def _run(self, asked: Sequence[str]) -> list[Any]:
        """FlashRAG's items with all that it says of them."""
        shown = [{"question": one_line(each, self._special)} for each in asked]
        with contextlib.redirect_stdout(sys.stderr):  # it tells how it goes
            items = [self._datasets.Item(each) for each in shown]
            given = self._datasets.Dataset(self._given.config, data=items)
            self._pipeline.run(given, do_eval=False)
        return items

    def _trace(self, item: Any, wall_seconds: float) -> dict[str, Any]:
        steps, clock, query = list[Step](), Clockwork(), item.question
        for wrote in _in_order(item.output):
            completion, generation_seconds = self._given.generator.wrote[wrote["input_prompt"]]
            passages, retrieval_seconds = self._given.retriever.found[query]
            steps.append(Step(query, passages, wrote["new_thought"], (completion,)))
            clock.seconds[len(steps)] = {
                "retrieval_seconds": retrieval_seconds,
                "queue_seconds": completion.queue_seconds or 0.0,
                "prefill_seconds": completion.prefill_seconds or 0.0,
                "decode_seconds": completion.decode_seconds or 0.0,
                "generation_seconds": generation_seconds,
            }
            query = wrote["new_thought"]
        written, answer = item.output["raw_pred"], item.output["pred"]
        reason: StopReason = "answer" if ANSWER_MARKER in written else "max_steps"
        ended = Trajectory("ircot", item.question, tuple(steps), answer, reason)
        read_by_us = parse_answer(written) or ""
        return {**trace_json(ended, wall_seconds, clock), "read_by_us": read_by_us}


def _in_order(output: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What an item's steps wrote, which FlashRAG numbers from 0 or from 1."""
    names = [name for name in output if name.startswith(_OUTPUT)]
    return [output[name] for name in sorted(names, key=lambda n: int(n.removeprefix(_OUTPUT)))]
