"""Training throughput: this recipe's `train` beside TRL's `SFTTrainer`, as a ratio.

    pip install --target var/trl --no-deps trl==1.16.0 datasets multiprocess pandas \
        python-dateutil tzdata xxhash
    python -m steper_serve.benchmarks.training \
        runs/fictional/examples/train.parquet MODEL --trl var/trl

Both train the same model on the same step samples, once over, with AdamW in bfloat16 (float32 on
a CPU that has no kernels for it), the same number of samples a step and the loss on completions
alone; ours from the command line. They take turns, so that a busy machine is unkind to both. A
token counts once for every sample that holds it, whether or not it was computed once for several:
what is compared is the samples' way through training. The first step of each run is left out, and
so is loading. What is left out: quality.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import click

from steper_serve.processes import ends_with_us

_RECIPE = """
name = "training"
out = "{out}"
[[datasets]]
name = "unused"
corpus = "unused"
questions = "unused"
[teacher]
model = "unused"
[student]
model = "{model}"
[train]
epochs = 1
learning_rate = 1e-4
questions_per_batch = {questions_per_batch}
tokens_per_micro_batch = 8192
save_every = 1000000
shared_prefix = {shared}
[students.steper]
weighting = "uniform"
"""
_QUESTIONS_PER_BATCH = 16


@click.command()
@click.argument("examples", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("model", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--trl", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--questions", default=96, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--as-trl", is_flag=True, hidden=True)
def main(examples: Path, model: Path, trl: Path, questions: int, rounds: int, as_trl: bool) -> None:
    """Measure, print a table and one line of JSON."""
    if as_trl:
        click.echo(json.dumps(_train_with_trl(examples, model)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        file = _first_questions(examples, questions, Path(scratch))
        tokens = _tokens(file, model)
        seconds: dict[str, list[float]] = {"ours": [], "ours, prefixes not shared": [], "trl": []}
        for number in range(rounds):
            folder = Path(scratch) / str(number)
            seconds["ours"].append(_ours(file, model, folder / "shared", shared=True))
            seconds["ours, prefixes not shared"].append(
                _ours(file, model, folder / "alone", shared=False)
            )
            seconds["trl"].append(_trl(file, model, trl))
    _report(tokens, seconds)


def _report(tokens: int, seconds: dict[str, list[float]]) -> None:
    rates = {name: [tokens / s for s in runs] for name, runs in seconds.items()}
    for name, each in rates.items():
        ratios = [a / b for a, b in zip(each, rates["trl"], strict=True)]
        click.echo(
            f"{name:28}{median(each):8,.0f} sample tokens/s  ({min(each):,.0f} to "
            f"{max(each):,.0f})  {median(ratios):.2f} x TRL"
        )
    click.echo(json.dumps({"sample_tokens": tokens, "tokens_per_second": rates}))


def _first_questions(examples: Path, count: int, scratch: Path) -> Path:
    """The rows of the first `count` questions, as a file of their own."""
    import pyarrow.compute as compute
    import pyarrow.parquet as parquet

    table = parquet.read_table(examples)
    ids = table.column("question_id").unique().slice(0, count)
    file = scratch / "train.parquet"
    parquet.write_table(table.filter(compute.is_in(table.column("question_id"), ids)), file)
    return file


def _tokens(file: Path, model: Path) -> int:
    import pyarrow.parquet as parquet
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = parquet.read_table(file, columns=["context", "completion"]).to_pylist()
    return sum(
        len(ids) for ids in tokenizer([r["context"] + r["completion"] for r in rows]).input_ids
    )


def _ours(file: Path, model: Path, out: Path, *, shared: bool) -> float:
    """Seconds of all steps but the first, scaled to all samples."""
    (out / "examples").mkdir(parents=True)
    (out / "examples" / "train.parquet").write_bytes(file.read_bytes())
    recipe = out / "recipe.toml"
    recipe.write_text(
        _RECIPE.format(
            out=out,
            model=model.resolve(),
            questions_per_batch=_QUESTIONS_PER_BATCH,
            shared=str(shared).lower(),
        )
    )
    train = "steper_serve.recipes.distill.train"
    _run([sys.executable, "-m", train, str(recipe), "--student", "steper"], {})
    lines = (out / "students" / "steper-seed0" / "logs" / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line) for line in lines]
    seconds = [float(step["tokens"] / step["tokens_per_second"]) for step in steps]
    tokens = [int(step["tokens"]) for step in steps]
    return sum(seconds[1:]) * sum(tokens) / sum(tokens[1:])


def _trl(file: Path, model: Path, trl: Path) -> float:
    command = [sys.executable, "-m", "steper_serve.benchmarks.training", str(file), str(model)]
    printed = _run([*command, "--trl", str(trl), "--as-trl"], {"PYTHONPATH": str(trl.resolve())})
    return float(json.loads(printed.splitlines()[-1])["seconds"])


def _run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        ends_with_us(command),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise click.ClickException(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def _train_with_trl(file: Path, model: Path) -> dict[str, Any]:
    """The same samples through TRL, as its documentation has it for prompt and completion."""
    import time

    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    data = Dataset.from_parquet(str(file))
    questions = len(set(data["question_id"]))
    data = data.select_columns(["context", "completion"]).rename_column("context", "prompt")
    per_step = round(len(data) / questions * _QUESTIONS_PER_BATCH)
    times: list[tuple[float, float]] = []

    class Clock(TrainerCallback):
        """When each step began and ended."""

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.begun = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append((self.begun, time.perf_counter()))

    on_gpu = torch.cuda.is_available()
    settings = SFTConfig(
        output_dir=str(file.with_name("trl")),
        num_train_epochs=1,
        learning_rate=1e-4,
        per_device_train_batch_size=16,
        gradient_accumulation_steps=max(1, per_step // 16),
        gradient_checkpointing=False,
        max_length=None,
        train_sampling_strategy="group_by_length",
        bf16=on_gpu or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()),
        use_cpu=not on_gpu,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        args=settings,
        train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(model),
        callbacks=[Clock()],
    )
    trainer.train()
    seconds = [end - begin for begin, end in times]
    return {"seconds": sum(seconds[1:]) * len(seconds) / (len(seconds) - 1), "steps": len(seconds)}


if __name__ == "__main__":
    main()
