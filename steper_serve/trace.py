"""The structured trace of an answer as JSON values: `ask --json` and the endpoint's `steper`.

Whole:      {answer, strategy, stop_reason, steps[…], usage, seconds, citations, dropped}
A step:     {query, passages[{id, title, score}], thought, completions[…], forced,
            retrieval_seconds, queue_seconds, prefill_seconds, decode_seconds, generation_seconds}
Completion: {text, finish_reason, num_prompt_tokens, num_completion_tokens, num_cached_tokens};
            with them and the passages' texts a trace can be replayed (drivers.feed)
As events:  {step, query}, {step, passages, retrieval_seconds}, {step, thought, completions[one],
            forced, …_seconds}, and last the whole without its steps.
"""

from dataclasses import asdict
from typing import Any

from steper_serve.drivers import Event, Found, Generated, Searching, Wrote
from steper_serve.trajectory import Completion, Passage, Step, Trajectory

# Of a step in a trace, in seconds.
TIMES = (
    "retrieval_seconds",
    "queue_seconds",
    "prefill_seconds",
    "decode_seconds",
    "generation_seconds",
)
_TOLD = (
    "text",
    "finish_reason",
    "num_prompt_tokens",
    "num_completion_tokens",
    "num_cached_tokens",
)


class Clockwork:
    """A watcher that adds up each step's times; a step may search once and generate twice."""

    def __init__(self) -> None:
        self.seconds: dict[int, dict[str, float]] = {}

    def __call__(self, event: Event) -> None:
        sums = self.seconds.setdefault(event.step, dict.fromkeys(TIMES, 0.0))
        for name, seconds in _times(event).items():
            sums[name] += seconds or 0.0


def event_json(event: Event) -> dict[str, Any] | None:
    """An event as JSON values, or None for text in the making, which goes out as it is."""
    match event:
        case Searching(step, query):
            return {"step": step, "query": query}
        case Found(step, passages):
            return {"step": step, "passages": [_passage(p) for p in passages], **_times(event)}
        case Generated(step, text, completion):
            wrote = {"completions": [_completion(completion)], "forced": event.final}
            return {"step": step, "thought": text.strip(), **wrote, **_times(event)}
        case Wrote():
            return None


def result_json(trajectory: Trajectory, seconds: float) -> dict[str, Any]:
    """The end of a trace: everything but the steps. `seconds` is the answer's wall time."""
    usage = trajectory.usage
    return {
        "answer": trajectory.answer,
        "strategy": trajectory.strategy,
        "stop_reason": trajectory.stop_reason,
        "citations": list(trajectory.citations),
        "dropped": list(trajectory.dropped),
        "usage": {**asdict(usage), "num_steps": len(trajectory.steps)},
        "seconds": round(seconds, 6),
    }


def trace_json(trajectory: Trajectory, seconds: float, clockwork: Clockwork) -> dict[str, Any]:
    """The whole trace of a finished answer."""
    result = result_json(trajectory, seconds)
    steps = [
        {**step_json(step), **clockwork.seconds.get(number, dict.fromkeys(TIMES, 0.0))}
        for number, step in enumerate(trajectory.steps, 1)
    ]
    return {"answer": result.pop("answer"), "steps": steps, **result}


def step_json(step: Step) -> dict[str, Any]:
    """A step without its times, as also an error tells of those that came before it."""
    passages = [_passage(p) for p in step.passages]
    return {
        "query": step.query,
        "passages": passages,
        "thought": step.thought,
        "completions": [_completion(completion) for completion in step.completions],
        "forced": step.forced,
    }


def _completion(completion: Completion) -> dict[str, Any]:
    return {name: getattr(completion, name) for name in _TOLD}


def _passage(passage: Passage) -> dict[str, Any]:
    return {"id": passage.id, "title": passage.title, "score": passage.score}


def _times(event: Event) -> dict[str, float | None]:
    match event:
        case Found():
            return {"retrieval_seconds": event.seconds}
        case Generated(completion=done):
            return {
                "queue_seconds": done.queue_seconds,
                "prefill_seconds": done.prefill_seconds,
                "decode_seconds": done.decode_seconds,
                "generation_seconds": event.seconds,
            }
        case _:
            return {}
