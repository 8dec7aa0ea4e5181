"""Accuracy and latency of a question set through the served endpoint.

    python -m benchmarks.answers --concurrency 1
    python -m benchmarks.answers --dataset DIR --endpoint http://127.0.0.1:8000/v1

A dataset is a folder with `questions.jsonl` ({question, answers, type, …}) whose passages the
server's index holds; the default is the bundled one. Prints a table and, last, one JSON line.

Where an answer's time goes is read off its trace: `engine` is vLLM's own queue, prefill and
decode; `front end` is the rest of the time inside a generation (tokenising, vLLM's hand-offs
between processes, passing tokens on); `outside` is what the client waited beyond all
generations (retrieval, prompt building, HTTP, JSON).
"""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median, quantiles
from typing import Any

import click
from openai import AsyncOpenAI

from benchmarks.server import server
from steper_serve import answers

BUNDLED = Path(__file__).parents[1] / "steper_serve" / "assets" / "corpus"
_ENGINE = ("queue_seconds", "prefill_seconds", "decode_seconds")


@dataclass(frozen=True, slots=True)
class Result:
    """One question's answer, its scores, and where its time went (seconds)."""

    type: str
    em: float
    f1: float
    acc: float
    num_steps: int
    wall: float
    retrieval: float
    engine: float
    front_end: float
    outside: float


@click.command()
@click.option("--endpoint", help="Base URL of a running server, up to /v1.")
@click.option("--dataset", type=click.Path(path_type=Path), default=BUNDLED)
@click.option("--model", default="steper-ircot", show_default=True)
@click.option("--max-steps", default=6, show_default=True)
@click.option("--top-k", default=4, show_default=True)
@click.option("--concurrency", default=32, show_default=True, help="Answers in flight.")
@click.option("--limit", type=int, help="Ask the first so many questions only.")
@click.option("--stream", is_flag=True, help="Ask for streams.")
@click.option("--serve-flag", "flags", multiple=True, help="A flag for the bundled server.")
def main(endpoint: str | None, dataset: Path, flags: Sequence[str], **options: Any) -> None:
    """Ask every question of a dataset and score the answers."""
    lines = (dataset / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line) for line in lines][: options.pop("limit")]
    with server(endpoint, *flags) as url:
        results, seconds = asyncio.run(_ask_all(url, questions, **options))
    _report(results, seconds, options)


async def _ask_all(
    url: str,
    questions: Sequence[Mapping[str, Any]],
    *,
    model: str,
    max_steps: int,
    top_k: int,
    concurrency: int,
    stream: bool,
) -> tuple[list[Result], float]:
    steper = {"trace": True, "max_steps": max_steps, "top_k": top_k}
    places = asyncio.Semaphore(concurrency)
    async with AsyncOpenAI(base_url=url, api_key="none", timeout=600) as client:

        async def ask(question: Mapping[str, Any]) -> Result:
            async with places:
                start = time.perf_counter()
                request = {
                    "model": model,
                    "messages": [{"role": "user", "content": question["question"]}],
                    "extra_body": {"steper": steper},
                }
                if stream:
                    content, steps = await _streamed(client, request)
                else:
                    done = await client.chat.completions.create(**request)
                    content, steps = done.choices[0].message.content, done.steper["steps"]
                return _result(question, content, steps, time.perf_counter() - start)

        await asyncio.gather(*(ask(q) for q in questions[:8]))  # warm-up
        start = time.perf_counter()
        results = await asyncio.gather(*(ask(q) for q in questions))
        return results, time.perf_counter() - start


async def _streamed(client: AsyncOpenAI, request: Mapping[str, Any]) -> tuple[str, list[Any]]:
    content, events = "", []
    async for chunk in await client.chat.completions.create(**request, stream=True):
        events.append(getattr(chunk, "steper", None) or {})
        content += (chunk.choices[0].delta.content if chunk.choices else None) or ""
    return content, [event for event in events if "step" in event]


def _result(
    question: Mapping[str, Any], content: str, steps: Sequence[Mapping[str, Any]], wall: float
) -> Result:
    def total(*names: str) -> float:
        return sum(step.get(name) or 0.0 for step in steps for name in names)

    engine, generation, gold = total(*_ENGINE), total("generation_seconds"), question["answers"]
    return Result(
        type=question.get("type") or "",
        em=answers.exact_match(content, gold),
        f1=answers.f1(content, gold),
        acc=answers.accuracy(content, gold),
        num_steps=len({step.get("step", n) for n, step in enumerate(steps)}),
        wall=wall,
        retrieval=total("retrieval_seconds"),
        engine=engine,
        front_end=generation - engine,
        outside=wall - generation,
    )


def _report(results: Sequence[Result], seconds: float, options: Mapping[str, Any]) -> None:
    by_type: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        by_type[result.type].append(result)
    groups = {"all": list(results), **dict(sorted(by_type.items()))}
    click.echo(f"{'questions':20} {'n':>5} {'EM':>6} {'F1':>6} {'Acc':>6} {'steps':>6}")
    for name, rows in groups.items():
        scores = [fmean(getattr(r, s) for r in rows) for s in ("em", "f1", "acc", "num_steps")]
        click.echo(f"{name:20} {len(rows):5} " + " ".join(f"{s:6.3f}" for s in scores))
    walls = sorted(r.wall for r in results)
    p50, p95 = median(walls), quantiles(walls, n=20)[-1]
    per_step = {
        part: median(getattr(r, part) / r.num_steps for r in results) * 1000
        for part in ("wall", "engine", "front_end", "outside", "retrieval")
    }
    rate = len(results) / seconds
    click.echo(f"\n{rate:.1f} answers/s; an answer: p50 {p50:.3f} s, p95 {p95:.3f} s")
    click.echo("a step, median ms: " + ", ".join(f"{k} {v:.2f}" for k, v in per_step.items()))
    summary = {
        **options,
        "num_questions": len(results),
        **{s: fmean(getattr(r, s) for r in results) for s in ("em", "f1", "acc")},
        "by_type": {n: fmean(r.em for r in rows) for n, rows in by_type.items()},
        "answers_per_second": rate,
        "p50_seconds": p50,
        "p95_seconds": p95,
        "step_milliseconds": per_step,
    }
    click.echo(json.dumps(summary))


if __name__ == "__main__":
    main()
