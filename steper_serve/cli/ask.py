"""`steper-serve ask`: one question on the terminal, its steps as they happen."""

import asyncio
import json
import sys
import time
from typing import Any, TextIO

import click

from steper_serve.cli.options import loop_options, model_options, settings_from
from steper_serve.cli.wiring import model_name, open_loop
from steper_serve.drivers import Event, Found, Generated, Searching, Wrote
from steper_serve.errors import InvalidRequest
from steper_serve.loop import Ask
from steper_serve.settings import Settings
from steper_serve.trace import Clockwork, trace_json
from steper_serve.trajectory import Passage, Trajectory


@click.command()
@click.argument("question")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
@click.option("--trace", is_flag=True, help="Show passages' texts, scores and times as well.")
@model_options
@loop_options
def ask(question: str, as_json: bool, trace: bool, **flags: Any) -> None:
    """Answer QUESTION with the model in this process.

    Exit code 0 with an answer, 2 without one.
    """
    if not question.strip():
        raise InvalidRequest("the question is empty")
    settings = settings_from(flags)
    if settings.enforce_eager is None:  # one question does not repay a compilation
        settings = settings.model_copy(update={"enforce_eager": True})
    trajectory = asyncio.run(_ask(settings, question, as_json, trace))
    sys.exit(0 if trajectory.answer else 2)


async def _ask(settings: Settings, question: str, as_json: bool, trace: bool) -> Trajectory:
    click.echo(f"Loading {model_name(settings)} …", err=True)
    async with open_loop(settings) as loop:
        start = time.perf_counter()
        clockwork, show = Clockwork(), Show(sys.stdout, trace)

        def watch(event: Event) -> None:
            clockwork(event)
            if not as_json:
                show(event)

        trajectory = await loop.run(Ask(question), watch)
        seconds = time.perf_counter() - start
        if as_json:
            print(json.dumps(trace_json(trajectory, seconds, clockwork), ensure_ascii=False))
        else:
            show.result(trajectory, seconds)
        return trajectory


class Show:
    """A watcher that writes the steps to a terminal as they happen."""

    def __init__(self, out: TextIO, trace: bool) -> None:
        self._out = out
        self._trace = trace
        self._step = 0
        self._line_open = False

    def __call__(self, event: Event) -> None:
        if event.step != self._step:
            self._step = event.step
            self._line(click.style(f"Step {event.step}", bold=True))
        match event:
            case Searching(query=query):
                self._line(f"  search: {_told(query)}")
            case Found():
                self._found(event)
            case Wrote(text=text):
                self._wrote(text)
            case Generated():
                self._end_line()
                if self._trace:
                    self._line(click.style(f"    {_times(event)}", dim=True))

    def result(self, trajectory: Trajectory, seconds: float) -> None:
        """The answer, what it cites, and what it took."""
        cited = {p.id: p for p in trajectory.passages}
        self._line("")
        answer = trajectory.answer or f"(no answer: {trajectory.stop_reason})"
        self._line(click.style("Answer: ", bold=True) + _told(answer))
        for number, id in enumerate(trajectory.citations, 1):
            self._line(f"  [{number}] {_told(cited[id].title)}: {_told(cited[id].text)}")
        usage = trajectory.usage
        self._line(
            click.style(
                f"{len(trajectory.steps)} steps, {usage.num_completion_tokens} tokens, "
                f"{seconds:.2f} s",
                dim=True,
            )
        )

    def _found(self, event: Found) -> None:
        titles = ", ".join(_told(p.title) for p in event.passages) or "nothing"
        self._line(f"  found:  {titles}")
        if self._trace:
            for passage in event.passages:
                self._line(click.style(f"    {_passage(passage)}", dim=True))

    def _wrote(self, text: str) -> None:
        if not self._line_open:
            text = text.lstrip()
            self._out.write("  " if text else "")
            self._line_open = bool(text)
        self._out.write(_harmless(text).replace("\n", "\n  "))
        self._out.flush()

    def _line(self, text: str) -> None:
        self._end_line()
        click.echo(text, file=self._out)

    def _end_line(self) -> None:
        if self._line_open:
            self._out.write("\n")
            self._line_open = False


def _told(text: str) -> str:
    """What a corpus or a model says, on one line and without a terminal's commands."""
    return " ".join(_harmless(text).split())


def _harmless(text: str) -> str:
    return "".join(c for c in text if c.isprintable() or c == "\n")


def _passage(passage: Passage) -> str:
    score = "" if passage.score is None else f"{passage.score:.2f} "
    return f"{score}{_told(f'{passage.title} [{passage.id}]: {passage.text}')}"


def _times(event: Generated) -> str:
    done = event.completion
    parts = {
        "queue": done.queue_seconds,
        "prefill": done.prefill_seconds,
        "decode": done.decode_seconds,
        "in all": event.seconds,
    }
    return ", ".join(f"{name} {s * 1000:.1f} ms" for name, s in parts.items() if s is not None)
