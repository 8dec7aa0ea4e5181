"""Stage 3, `examples`: kept trajectories become step-wise samples (paper, section 4.1).

Each trajectory is replayed through the student's own flow with the outcomes that the teacher's
had, so that a sample's prompt is, to the byte, what the student is served. One row is one step:
the first initialises the reasoning, the last aggregates, those between expand. What a student
learns from (which steps) is chosen in training, so that one file serves all.

A row's text is prompt + prefix + target: question and passages so far, what was written before
this step, and what the step adds, in the form in which the next prompt holds it. `cumulative`
asks the student for prefix and target (eq. 3), `next` for the target alone; `context` and
`completion` are the two parts accordingly. What is left out: tokens (tokenization.py).
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from steper_serve import drivers, journal
from steper_serve.recipes.distill import card, manifest, records, tables
from steper_serve.recipes.distill.config import Config
from steper_serve.recipes.distill.failures import BadRecord, StageMissing
from steper_serve.recipes.distill.sections import DatasetConfig, Target
from steper_serve.strategies import STRATEGIES, FewShot, Options, options_for
from steper_serve.strategies.passages import one_line
from steper_serve.trajectory import Completion, Generate, Passage, PromptFormat, Trajectory

# Replay must leave nothing out for want of room; samples too long for the student are left out
# in training, where their tokens are counted.
_NO_BOUND = 2**40


@dataclass(frozen=True, slots=True)
class StepText:
    """The text of one step: `prompt` + `prefix` is what is served, `target` what is written."""

    step: int
    prompt: str
    prefix: str
    target: str
    passage_ids: tuple[str, ...]
    has_new_passages: bool


def run(config: Config) -> manifest.Manifest:
    """Write the data set, one file for each target that a student learns from, and its card.

    Raises:
        StageMissing: the filter has not run, or kept nothing.
        BadRecord: a kept record cannot be used; names file, line and field.
        DiskFailed: the disk refused.
    """
    folder, start = config.out / "examples", time.perf_counter()
    settings_hash = config.stage_hash("examples")
    if (done := manifest.finished(folder, settings_hash)) and _files_exist(config):
        return done
    options = student_options(config, student_format(config))
    counts: dict[str, Any] = {}
    for target in _targets(config):
        tally, left_out = tables.Tally(), Counter[str]()
        with tqdm(desc=target, total=_num_kept(config), unit=" trajectories") as bar:
            rows = _all_rows(config, options, target, left_out, bar)
            num_rows = tables.write(path(config, target), tally.counted(rows))
        if not num_rows:
            raise StageMissing(
                f"no trajectory under {config.out / 'kept'} gave a step sample "
                f"(left out: {dict(left_out) or 'none'}): run the filter, or look at its report"
            )
        counts[target] = tally.to_json() | {"left_out": dict(left_out)}
    journal.write_text(folder / "README.md", card.dataset_card(config, counts))
    done = manifest.Manifest(
        "examples", settings_hash, True, time.perf_counter() - start, counts=counts
    )
    manifest.write(folder, done)
    return done


def path(config: Config, target: Target) -> Path:
    """The file with the samples of a target; `train` is the one of [examples]."""
    name = "train" if target == config.examples.target else f"train-{target}"
    return config.out / "examples" / f"{name}.{config.examples.format}"


def student_format(config: Config) -> PromptFormat:
    """How the student is served: its tokenizer's special tokens, chat template if it is used.

    Raises:
        ConfigurationError: the student's tokenizer or chat template cannot be read.
    """
    from steper_serve.generation.model_format import load_format

    model = config.model_path(config.student.model)
    # "few-shot" reads no steper.json: what the student is served with, this recipe decides.
    format = load_format(model, max_model_len=_NO_BOUND, reserve=0, style="few-shot")
    return replace(
        format,
        max_model_len=None,
        chat=format.chat if config.student.chat else None,
        step_end="eos",
        instruction=config.student.instruction,
        few_shot=False,
        strategies=(config.strategy,),
    )


def is_templated(config: Config) -> bool:
    """Whether the student's prompts hold a chat template's special tokens already."""
    return student_format(config).chat is not None


def student_options(config: Config, format: PromptFormat) -> Options:
    """Options of the student's flow."""
    return replace(
        options_for(config.strategy, format, FewShot("", ())),
        max_steps=config.max_steps,
        top_k=config.top_k,
    )


def step_texts(trajectory: Trajectory, options: Options) -> list[StepText]:
    """The text of each step, by replay of the student's flow.

    A trajectory without an answer was cut by the filter: its steps are replayed as far as they
    go.

    Raises:
        ValueError: the trajectory cannot be replayed; says why.
    """
    generated = _generated(trajectory, options)
    if sorted(generated) != list(range(1, len(trajectory.steps) + 1)):
        raise ValueError("a step of it wrote nothing")
    opening = _without_lead(generated[1][0][0])
    texts, seen = [], set[str]()
    for number, step in enumerate(trajectory.steps, 1):
        first, (last, completion) = generated[number][0][0], generated[number][-1]
        if number + 1 in generated:
            after = _without_lead(generated[number + 1][0][0])
        else:
            special = options.format.special_tokens
            written = _as_written(last, completion.text, trajectory.strategy, special)
            after = last.prompt.partial + written
        prefix = first.prompt.partial.removeprefix(opening)
        texts.append(
            StepText(
                step=number,
                prompt=first.prompt.text[: len(first.prompt.text) - len(prefix)],
                prefix=prefix,
                target=after[len(first.prompt.partial) :],
                passage_ids=tuple(p.id for p in step.passages),
                has_new_passages=_adds(step.passages, seen),
            )
        )
    return texts


def _with_prompts_of_their_own(texts: Sequence[StepText], has_answer: bool) -> list[StepText]:
    """Of steps with one prompt, since no search between them added a passage, the first; in place
    of the first the last of all, if that is where the answer stands."""
    kept: dict[str, StepText] = {}
    for text in texts:
        kept.setdefault(text.prompt, text)
    if has_answer:
        kept[texts[-1].prompt] = texts[-1]
    return list(kept.values())


def _generated(
    trajectory: Trajectory, options: Options
) -> dict[int, list[tuple[Generate, Completion]]]:
    """What each step generated, by its number, in order."""
    flow = STRATEGIES[trajectory.strategy].flow(trajectory.question, options)
    generated: dict[int, list[tuple[Generate, Completion]]] = {}
    num_left = sum(len(step.completions) for step in trajectory.steps)
    for effect, outcome in drivers.replay(flow, trajectory):
        if isinstance(effect, Generate) and isinstance(outcome, Completion):
            generated.setdefault(effect.step, []).append((effect, outcome))
            num_left -= 1
            if num_left == 0 and not trajectory.answer:
                break
    return generated


def _without_lead(request: Generate) -> str:
    """What the model's turn holds before a request, less what the strategy put there for it."""
    return request.prompt.partial.removesuffix(request.lead)


def _as_written(request: Generate, text: str, strategy: str, special: tuple[str, ...]) -> str:
    """A completion in the form in which a next prompt would hold it."""
    lines = text.splitlines() if strategy == "self-ask" else [text]
    tidy = "\n".join(tidied for line in lines if (tidied := one_line(line, special)))
    prompt = request.prompt
    alone = prompt.templated and not prompt.partial
    return tidy if alone or prompt.text[-1:].isspace() else f" {tidy}"


def _adds(passages: tuple[Passage, ...], seen: set[str]) -> bool:
    new = {p.id for p in passages} - seen
    seen |= new
    return bool(new)


def _targets(config: Config) -> list[Target]:
    return list(dict.fromkeys([config.examples.target, *config.targets()]))


def _num_kept(config: Config) -> int | None:
    """How many trajectories there are, where the filter came to its end."""
    told = manifest.read(config.out / "kept")
    return sum(d["kept"] for d in told.counts["datasets"].values()) if told else None


def _files_exist(config: Config) -> bool:
    return all(path(config, target).exists() for target in _targets(config))


def _all_rows(
    config: Config, options: Options, target: Target, left_out: Counter[str], bar: "tqdm[Any]"
) -> Iterator[tables.Row]:
    for dataset in config.datasets:
        file = config.out / "kept" / f"{dataset.name}.jsonl"
        if not file.exists():
            raise StageMissing(f"there is no {file}: run `filter` first")
        num_kept = 0
        for place, record in journal.read_placed(file):
            num_kept += 1
            where = f"{file}, line {place.line}"
            trajectory = _trajectory(records.required(record, "trajectory", file, place), where)
            yield from _rows(config, dataset, record, trajectory, options, target, left_out)
            bar.update()
        if num_kept == 0:
            raise StageMissing(f"{file} is empty: the filter kept no trajectory")


def _trajectory(data: Any, where: str) -> Trajectory:
    try:
        return Trajectory.from_json(data)
    except KeyError as error:
        raise BadRecord(f"{where}: the trajectory has no {error}: run `filter` again") from error
    except TypeError as error:
        raise BadRecord(f"{where}: not a trajectory ({error}): run `filter` again") from error


def _rows(
    config: Config,
    dataset: DatasetConfig,
    record: Mapping[str, Any],
    trajectory: Trajectory,
    options: Options,
    target: Target,
    left_out: Counter[str],
) -> Iterator[tables.Row]:
    """The rows of one trajectory; what gives none is counted in `left_out` with its reason."""
    if any(c.finish_reason == "length" for step in trajectory.steps for c in step.completions):
        left_out["trajectories with a thought that was cut off"] += 1
        return
    try:
        texts = step_texts(trajectory, options)
    except ValueError:
        left_out["trajectories that cannot be replayed"] += 1
        return
    num_steps, has_answer = len(texts), bool(trajectory.answer)
    whole = target == "cumulative"
    if whole:
        texts = _with_prompts_of_their_own(texts, has_answer)
        if len(texts) < num_steps:
            left_out["steps with the prompt of another"] += num_steps - len(texts)
    for text in texts:
        is_last = text.step == num_steps and has_answer
        yield {
            "id": f"{dataset.name}/{record['id']}/{text.step}",
            "dataset": dataset.name,
            "question_id": str(record["id"]),
            "strategy": trajectory.strategy,
            "step": text.step,
            "num_steps": num_steps,
            "kind": "agg" if is_last else "init" if text.step == 1 else "exp",
            "prompt": text.prompt,
            "prefix": text.prefix,
            "target": text.target,
            "target_mode": target,
            "context": text.prompt if whole else text.prompt + text.prefix,
            "completion": text.prefix + text.target if whole else text.target,
            "has_new_passages": text.has_new_passages,
            "passage_ids": list(text.passage_ids),
            "hops": record.get("hops"),
            "rollout": str(record.get("config", "")),
            "teacher": teacher_name(config),
        }


def teacher_name(config: Config) -> str:
    """The teacher as its rollouts know it."""
    teacher = config.teacher
    return teacher.endpoint.model if teacher.endpoint else str(teacher.model)
