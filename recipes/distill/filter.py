"""Stage 2, `filter`: keep the trajectories that a student should learn from.

Kept is a trajectory whose answer matches a gold answer (paper, section 4.1). As an option, one
with a thought that what was read does not support is left out (`steps = "drop"`) or ended before
that thought ("cut"); a cut trajectory has no answer and the stop reason "budget", as if its time
had run out there, so that it replays like any other, and its record says how many steps it lost
(`cut`). One file a dataset, `kept/<name>.jsonl`, of rollout records. What is left out: what
support is (support).
"""

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from steper_serve import answers, journal
from steper_serve.crew import answer_all
from steper_serve.journal import Appender, Place, Record
from steper_serve.recipes.distill import datasets, manifest, records, rollout, support
from steper_serve.recipes.distill.config import Config, digest
from steper_serve.recipes.distill.failures import StageMissing
from steper_serve.recipes.distill.manifest import Manifest
from steper_serve.recipes.distill.sections import DatasetConfig, FilterConfig, JudgeConfig
from steper_serve.strategies.evidence import used_passages
from steper_serve.trajectory import Trajectory

Verdicts = dict[str, support.Verdict]


@dataclass(slots=True)
class Hops:
    """Questions of one number of hops: those asked, and those whose trajectory is kept."""

    asked: int = 0
    kept: int = 0


@dataclass(slots=True)
class Yield:
    """What became of a dataset's rollouts.

    `kept` includes those that were `cut`; `unclear` are a judge's replies that say neither yes nor
    no, each of which counts as no.
    """

    asked: int = 0
    failed: int = 0
    matched: int = 0
    unsupported: int = 0
    unclear: int = 0
    dropped: int = 0
    cut: int = 0
    kept: int = 0
    by_hops: dict[str, Hops] = field(default_factory=lambda: defaultdict(Hops))

    def shares(self) -> dict[str, float]:
        """Kept of those asked; removed, in whole or in part, of those whose answer matched."""
        removed = self.unsupported / self.matched if self.matched else 0.0
        return {"yield": self.kept / self.asked if self.asked else 0.0, "removed": removed}

    def of(self, hops: int | None) -> Hops:
        """The questions of so many hops."""
        return self.by_hops["unknown" if hops is None else str(hops)]


def file_of(config: Config, dataset: DatasetConfig) -> Path:
    """The dataset's kept trajectories."""
    return config.out / "kept" / f"{dataset.name}.jsonl"


async def run(config: Config) -> Manifest:
    """Filter every dataset's rollouts and print what is left of them.

    Raises:
        StageMissing: a dataset has no rollouts, or no question of it was answered.
        BadRecord: a line of the rollouts cannot be read; names file, line and field.
        EngineUnavailable: the judge does not answer; its verdicts so far are kept.
        DiskFailed: the disk refused.
    """
    folder, config_hash = config.out / "kept", config.stage_hash("filter")
    done, sources = manifest.finished(folder, config_hash), _sizes(config)
    if done and done.counts.get("bytes") == sources:
        return done
    start = time.perf_counter()
    manifest.forget(config.out / "examples")
    print(f"filtering {sum(sources.values()) / 1e6:,.1f} MB of rollouts")
    yields = {d.name: await _filter(config, d) for d in config.datasets}
    print(table(yields))
    counts = {name: _plain(found) for name, found in yields.items()}
    told = {"datasets": counts, "bytes": sources}
    seconds = time.perf_counter() - start
    made = Manifest("filter", config_hash, True, seconds, counts=told)
    manifest.write(folder, made)
    return made


def matches(trajectory: Trajectory, gold: Sequence[str], match: str) -> bool:
    """Whether the answer is right: equal after normalising ("exact"), or containing it."""
    score = answers.exact_match if match == "exact" else answers.accuracy
    return bool(trajectory.answer) and score(trajectory.answer, gold) == 1.0


def cut(trajectory: Trajectory, num_steps: int) -> Trajectory | None:
    """The first steps of a trajectory, as if time had run out; None if that is nothing.

    A trajectory that had to leave passages out is not cut either, since when it left them out
    is not kept, and so its prompts could not be rebuilt.
    """
    if num_steps < 1 or trajectory.dropped:
        return None
    steps = trajectory.steps[:num_steps]
    return replace(
        trajectory, steps=steps, answer="", stop_reason="budget", citations=used_passages(steps)
    )


def table(yields: dict[str, Yield]) -> str:
    """What was kept, by dataset and number of hops, for a terminal."""
    lines = []
    for name, found in yields.items():
        shares = found.shares()
        lines.append(
            f"{name}: {found.asked:,} asked, {found.failed:,} failed, {found.matched:,} right, "
            f"{found.kept:,} kept ({shares['yield']:.1%})"
        )
        if found.unsupported:
            lines.append(
                f"  {found.unsupported:,} with an unsupported step ({shares['removed']:.1%} of "
                f"the right ones): {found.dropped:,} dropped, {found.cut:,} cut"
            )
        if found.unclear:
            lines.append(f"  neither yes nor no: {found.unclear:,} of the judge's replies")
        for hops, tally in sorted(found.by_hops.items()):
            share = tally.kept / tally.asked
            lines.append(f"  {hops} hops: {tally.kept:,} of {tally.asked:,} kept ({share:.1%})")
    return "\n".join(lines)


async def _filter(config: Config, dataset: DatasetConfig) -> Yield:
    source, made_with = rollout.file_of(config, dataset), config.rollout_hash(dataset)
    questions = datasets.read_questions(config, dataset)
    held = records.scan(source, made_with)
    done = {q.id: held.done[q.id] for q in questions if q.id in held.done}
    if not done:
        raise StageMissing(
            f"{source} is missing, empty, or holds no answered question of this configuration: "
            "run `steper-serve distill rollout` first"
        )
    asked = [q for q in questions if q.id in done or q.id in held.failed]
    found = Yield(asked=len(asked), failed=len(asked) - len(done))
    tallies = {q.id: found.of(q.hops) for q in asked}
    for tally in tallies.values():
        tally.asked += 1
    verdicts = await _verdicts(config, dataset, done)
    found.unclear = sum(verdict.unclear for verdict in verdicts.values())
    kept = _kept(config.filter, source, done, verdicts, found)
    journal.write_lines(file_of(config, dataset), _lines(kept, tallies))
    return found


def _lines(kept: Iterator[Record], tallies: Mapping[str, Hops]) -> Iterator[str]:
    """The records as they are written; counts them by hops on the way."""
    for record in kept:
        tallies[record["id"]].kept += 1
        yield json.dumps(record, ensure_ascii=False) + "\n"


def _kept(
    chosen: FilterConfig, source: Path, places: dict[str, Place], verdicts: Verdicts, found: Yield
) -> Iterator[Record]:
    """The records that stay, as they stay; counts them on the way."""
    for place, record in journal.read_at(source, places.values()):
        trajectory = records.trajectory(record, source, place)
        stays: Record | None = None
        if matches(trajectory, records.required(record, "answers", source, place), chosen.match):
            found.matched += 1
            stays = _supported(chosen, record, trajectory, verdicts.get(record["id"]), found)
        if stays is not None:
            found.kept += 1
            yield stays


def _supported(
    chosen: FilterConfig,
    record: Record,
    trajectory: Trajectory,
    judged: support.Verdict | None,
    found: Yield,
) -> Record | None:
    """The record less what is not supported; None if nothing of it stays."""
    if chosen.steps == "off":
        return record
    supported = (
        judged.supported
        if judged
        else tuple(share >= chosen.threshold for share in support.lexical(trajectory))
    )
    if all(supported):
        return record
    found.unsupported += 1
    sound = supported.index(False)
    shorter = cut(trajectory, sound) if chosen.steps == "cut" else None
    if shorter is None:
        found.dropped += 1
        return None
    found.cut += 1
    lost = len(trajectory.steps) - sound
    return {**record, "trajectory": shorter.to_json(), "cut": lost}


async def _verdicts(config: Config, dataset: DatasetConfig, places: dict[str, Place]) -> Verdicts:
    """The judge's verdict on every right trajectory; none if no judge is asked.

    Each is kept in `kept/<name>.verdicts.jsonl` as it comes, and never asked for twice.
    """
    chosen, judge = config.filter, config.filter.judge
    if chosen.steps == "off" or chosen.support != "judge" or judge is None:
        return {}
    source = rollout.file_of(config, dataset)
    file = file_of(config, dataset).with_suffix(".verdicts.jsonl")
    made_with = digest([config.rollout_hash(dataset), judge.model])
    with Appender(file) as out:
        known = records.scan(file, made_with).done.values()
        verdicts: Verdicts = {
            r["id"]: support.Verdict(tuple(r["supported"]), r["unclear"])
            for _, r in journal.read_at(file, known)
        }
        right = {
            record["id"]: trajectory
            for place, record in journal.read_at(source, places.values())
            if record["id"] not in verdicts
            and matches(
                trajectory := records.trajectory(record, source, place),
                records.required(record, "answers", source, place),
                chosen.match,
            )
        }
        await _judge(judge, right, out, made_with, verdicts)
    return verdicts


async def _judge(
    config: JudgeConfig,
    trajectories: dict[str, Trajectory],
    out: Appender,
    made_with: str,
    verdicts: Verdicts,
) -> None:
    steps = sum(len(trajectory.steps) for trajectory in trajectories.values())
    print(f"the judge is asked about {len(trajectories):,} trajectories, {steps:,} steps")
    with tqdm(total=len(trajectories), unit=" trajectories", disable=not trajectories) as bar:
        async with support.Judge(config) as judge:

            async def ask(item: tuple[str, Trajectory]) -> _Judged:
                return _Judged(item[0], await judge.verdict(item[1]))

            def take(judged: _Judged) -> None:
                told = {"id": judged.id, "config": made_with, **asdict(judged.verdict)}
                out.append({**told, "error": None})
                verdicts[judged.id] = judged.verdict
                bar.update()

            await answer_all(
                trajectories.items(), ask, take, concurrency=config.concurrency, check=_no_check
            )


@dataclass(frozen=True, slots=True)
class _Judged:
    """The verdict on a trajectory; an error ends the run, so that none is kept."""

    id: str
    verdict: support.Verdict
    error: None = None


async def _no_check() -> None:
    pass


def _sizes(config: Config) -> dict[str, int]:
    """The size of each dataset's rollouts, which grow and never change: other ones, other size."""
    found = {d.name: rollout.file_of(config, d) for d in config.datasets}
    return {name: file.stat().st_size for name, file in found.items() if file.exists()}


def _plain(found: Yield) -> dict[str, Any]:
    by_hops = {hops: asdict(tally) for hops, tally in sorted(found.by_hops.items())}
    return {**asdict(replace(found, by_hops={})), "by_hops": by_hops, **found.shares()}
