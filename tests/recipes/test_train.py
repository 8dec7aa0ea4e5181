"""Training for real, tiny: every split and stage the same curve, and a kill leaves no trace.

Runs are processes of their own, since DeepSpeed keeps state in the process. A process does several
trainings, because its start is what takes the time.
"""

import json
import math
import socket
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional
from torch.optim import _muon
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from steper_serve.errors import ConfigurationError
from steper_serve.generation.model_format import load_format
from steper_serve.journal import Appender
from steper_serve.recipes.distill import metrics, precision, students
from steper_serve.recipes.distill.batches import KINDS, Batches, Sample, collate, pack
from steper_serve.recipes.distill.config import Config
from steper_serve.recipes.distill.failures import BadRecord, StageMissing
from steper_serve.recipes.distill.jobs import Job, is_chosen, read_samples
from steper_serve.recipes.distill.loss import Objective, mid_steps_per_question
from steper_serve.recipes.distill.model import token_losses
from steper_serve.recipes.distill.train import learning_rate
from tests.recipes.training import column, curve, finish, job, kill_at, prepare, rows, start

# Few tokens a micro-batch, so that a global batch has several, and ranks different numbers.
EXACT = {"bf16": False, "tokens_per_micro_batch": 256}
LORA = {"r": 4, "alpha": 8.0, "dropout": 0.2, "target_modules": ["q_proj", "v_proj"]}
LONG = {"epochs": 8, "save_every": 3}
# All questions a step, so that their order does not matter.
FOLLOWED = EXACT | {"questions_per_batch": 12, "epochs": 4, "weighting": "uniform"}
RUNS = {
    "whole": {"bf16": False, "tokens_per_micro_batch": 100_000},
    "split": EXACT,
    "apart": EXACT | {"shared_prefix": False, "gradient_checkpointing": True},
    "zero-0": {"zero_stage": 0},
    "zero-1": {"zero_stage": 1},
    "zero-2": {"zero_stage": 2},
    "zero-3": {"zero_stage": 3, "gradient_checkpointing": True},  # as the paper's
    "tokens": {"max_tokens": 3000},
    "lora": LONG | {"lora": LORA, "zero_stage": 0},
    "long-3": LONG | {"zero_stage": 3},
    "sigma": EXACT | {"sigma_learning_rate": 0.2, "scale_expansion": False},
    "muon": FOLLOWED | {"muon": {"learning_rate": 0.05}, "weight_decay": 0.1},
    # Gradients so short that AdamW's epsilon tells them from others.
    "adamw": FOLLOWED | {"weight_decay": 5.0, "max_grad_norm": 1e-6},
    "muon-long": LONG | {"muon": {"learning_rate": 0.05}},
}
ON_TWO_RANKS = {
    "two": EXACT,
    "two-apart": EXACT | {"shared_prefix": False, "zero_stage": 2},
    "two-3": EXACT | {"zero_stage": 3},
    "two-muon": RUNS["muon"],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory, student) -> Path:
    """A tiny Llama with the bundled tokenizer, in bfloat16 as students are."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=2048,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=1,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(student).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory, model) -> Path:
    """The runs, done: those on one rank in one process, those on two in two."""
    folder = tmp_path_factory.mktemp("runs")
    alone = [prepare(folder, model, name, **train) for name, train in RUNS.items()]
    shared = [prepare(folder, model, name, **train) for name, train in ON_TWO_RANKS.items()]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    ranks = [start(shared, **where, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in (0, 1)]
    finish(start(alone), *ranks)
    return folder


def reference_loss(causal, samples, weights) -> torch.Tensor:
    """Equation 3 written down: each sample alone, Hugging Face's own loss, means by kind."""
    losses = {kind: [] for kind in KINDS}
    for sample in samples:
        ids = torch.tensor([[*sample.context_ids, *sample.completion_ids]])
        labels = ids.clone()
        labels[0, : len(sample.context_ids)] = -100
        losses[sample.kind].append(causal(input_ids=ids, labels=labels).loss)
    return sum(w * torch.stack(losses[k]).mean() for k, w in weights.items() if losses[k])


@pytest.mark.parametrize("shared_prefix", [True, False])
@pytest.mark.parametrize("num_ranks", [1, 2, 3])
@pytest.mark.parametrize("tokens", [1, 300, 100_000])
def test_a_batch_has_one_loss_and_gradient_however_it_is_split(
    tmp_path, model, shared_prefix, num_ranks, tokens
):
    prepare(tmp_path.parent, model, tmp_path.name)
    task = job(tmp_path, model, bf16=False)
    samples, _ = read_samples(task)
    scale = mid_steps_per_question(samples)
    objective = Objective.build("first", num_mid_steps=scale)
    wrapped = students.load(task.config, task.train)
    total = 0.0
    for rank in range(num_ranks):
        (batch,) = Batches(
            samples,
            questions_per_batch=12,
            tokens_per_micro_batch=tokens,
            shared_prefix=shared_prefix,
            rank=rank,
            world_size=num_ranks,
        ).epoch(0)
        weights = torch.tensor(objective.coefficients(batch.counts))
        for micro_batch in batch.micro_batches:
            loss = (wrapped(micro_batch) * weights).sum()
            loss.backward()
            total += loss.item()
    plain = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    weights = {"init": 0.5, "exp": scale / 3, "agg": 1 / 6}
    expected = reference_loss(plain, samples, weights)
    expected.backward()
    assert total == pytest.approx(expected.item(), rel=1e-5)
    for (_, a), (_, b) in zip(
        wrapped.causal.named_parameters(), plain.named_parameters(), strict=True
    ):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("run", ["split", "apart", "two", "two-apart", "two-3"])
def test_splits_and_ranks_leave_the_curve_as_it_is(folder, run):
    for field in ("loss", "grad_norm", "learning_rate", "targets"):
        expected = column(folder, "whole", field)
        assert column(folder, run, field) == pytest.approx(expected, rel=1e-4), field
    weights = [
        load_file(folder / name / "students" / "s-seed0" / "model.safetensors")
        for name in ("whole", run)
    ]
    for name, value in weights[0].items():  # one bfloat16 apart at most
        torch.testing.assert_close(value.float(), weights[1][name].float(), rtol=1e-2, atol=1e-3)


def test_sharing_prefixes_reads_fewer_tokens(folder):
    assert sum(column(folder, "split", "tokens")) < 0.8 * sum(column(folder, "apart", "tokens"))


@pytest.mark.parametrize("run", ["zero-1", "zero-2", "zero-3"])
def test_every_stage_has_the_same_curve_within_bfloat16(folder, run):
    expected = column(folder, "zero-0", "loss")
    assert expected[-1] < 0.9 * expected[0]
    assert column(folder, run, "loss") == pytest.approx(expected, rel=5e-3)
    exact = column(folder, "whole", "loss")
    assert column(folder, run, "loss") == pytest.approx(exact, rel=5e-3)


@pytest.mark.parametrize(("run", "within"), [("adamw", 1e-5), ("muon", 1e-3)])
def test_optimizers_are_torchs_own(folder, monkeypatch, run, within):
    """AdamW, or Muon for the layers' matrices and AdamW for the rest, after clipping, each at its
    share of the schedule's rate."""
    monkeypatch.setattr(_muon, "_zeropower_via_newtonschulz", precision.orthogonal)
    config = Config.model_validate(json.loads((folder / run / "config.json").read_text()))
    samples, _ = read_samples(Job.of(config, "s", 0))
    weights = {"init": 1 / 3, "exp": mid_steps_per_question(samples) / 3, "agg": 1 / 3}
    plain = AutoModelForCausalLM.from_pretrained(config.student.model, dtype=torch.float32)
    train = config.train
    muon = train.muon and train.muon.learning_rate
    matrices, others = [], []
    for name, parameter in plain.named_parameters():
        is_muons = muon and "layers" in name and parameter.ndim == 2
        (matrices if is_muons else others).append(parameter)
    decay = train.weight_decay
    optimizers = [torch.optim.AdamW(others, lr=train.learning_rate, weight_decay=decay)]
    if muon:
        optimizers.append(torch.optim.Muon(matrices, lr=muon, weight_decay=decay))
    rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    lines = curve(folder, run)
    for line in lines:
        loss = reference_loss(plain, samples, weights)
        assert line["loss"] == pytest.approx(loss.item(), rel=within)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), train.max_grad_norm)
        share = line["learning_rate"] / train.learning_rate
        for optimizer, rate in zip(optimizers, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * share
            optimizer.step()
            optimizer.zero_grad()
    assert lines[-1]["loss"] < 0.99 * lines[0]["loss"]


@pytest.mark.parametrize(("run", "rate"), [("whole", 1e-2), ("sigma", 0.2)])
def test_sigma_follows_the_losses(folder, run, rate):
    """Equation 4 written down, its gradient by autograd; what a step logs was used in it."""
    logs = [torch.zeros((), requires_grad=True) for _ in KINDS]
    optimizer = torch.optim.Adam(logs, lr=rate, betas=(0.9, 0.99))
    for line in curve(folder, run):
        for kind, log in zip(KINDS, logs, strict=True):
            assert line["sigma"][kind] == pytest.approx(math.exp(log.item() / 2), rel=1e-5)
        optimizer.zero_grad()
        present = [(log, line["losses"][k]) for k, log in zip(KINDS, logs, strict=True)]
        sum(loss / (2 * log.exp()) + log / 2 for log, loss in present if loss).backward()
        optimizer.step()


def test_middle_steps_may_count_once(folder):
    scaled, plain = (curve(folder, run)[0]["losses"] for run in ("whole", "sigma"))
    assert scaled["exp"] == pytest.approx(0.75 * plain["exp"], rel=1e-4)


def test_muon_has_one_curve_on_all_ranks(folder):
    for field in ("loss", "grad_norm"):
        expected = column(folder, "muon", field)
        assert column(folder, "two-muon", field) == pytest.approx(expected, rel=1e-3), field


def test_training_may_end_by_tokens(folder):
    total = column(folder, "tokens", "total_tokens")
    assert total[-1] >= 3000 > total[-2]
    assert column(folder, "tokens", "learning_rate")[-1] < 1e-2 / 3


def test_a_killed_run_goes_on_to_the_same_curve(tmp_path, folder, model):
    """With dropout, whose random numbers have to go on as well, and with partitioned weights."""
    names = ("lora", "long-3", "muon-long")
    files = {name: prepare(tmp_path, model, name, **RUNS[name]) for name in names}
    logs = [tmp_path / n / "students" / "s-seed0" / "logs" / "metrics.jsonl" for n in names]
    kill_at(8, {log: start([file]) for log, file in zip(logs, files.values(), strict=True)})
    for name, log in zip(names, logs, strict=True):
        assert len(curve(tmp_path, name)) < 24
        saved = sorted(p.name for p in log.parents[1].joinpath("checkpoints").glob("step-*"))
        assert len(saved) in (2, 3)  # the third may have been in the making
    before = {name: curve(tmp_path, name)[:3] for name in names}  # until the first checkpoint
    told = [tmp_path / names[0] / "evaluations" / f"{s}-eos-dev.json" for s in ("s-seed0", "t")]
    told[0].parent.mkdir()
    for file in told:
        file.touch()
    finish(start(list(files.values())))
    assert [file.exists() for file in told] == [False, True]  # the other is of another student
    for name in names:
        assert curve(tmp_path, name)[:3] == before[name]  # with the seconds that they took
        assert column(tmp_path, name, "step") == list(range(1, 25))
        for field in ("loss", "grad_norm", "learning_rate", "total_tokens"):
            expected = column(folder, name, field)
            assert column(tmp_path, name, field) == pytest.approx(expected, rel=1e-5), field
        assert curve(tmp_path, name)[-1]["sigma"] == pytest.approx(curve(folder, name)[-1]["sigma"])
        assert not logs[0].parents[1].joinpath("checkpoints").exists()


def test_a_student_is_trained_by_one_process_at_a_time(tmp_path, model):
    file = prepare(tmp_path, model, "run")
    log = tmp_path / "run" / "students" / "s-seed0" / "logs" / "metrics.jsonl"
    with Appender(log) as first:
        first.append({"step": 1})
        second = start([file])
        said, _ = second.communicate(timeout=240)
        first.append({"step": 2})
    assert second.returncode != 0
    assert f"another process is writing {log}: let it end first" in said
    assert [line["step"] for line in metrics.read(log.parent)] == [1, 2]


@pytest.mark.parametrize("run", ["zero-0", "zero-3", "lora"])
def test_what_is_saved_is_what_was_trained_and_can_be_served(folder, run):
    out = folder / run / "students" / "s-seed0"
    format = load_format(str(out), max_model_len=512, reserve=64)
    assert (format.step_end, format.instruction, format.few_shot) == ("eos", "", False)
    assert format.strategies == ("ircot",)
    saved = load_file(out / "model.safetensors")
    assert {value.dtype for value in saved.values()} == {torch.bfloat16}
    assert not any("lora" in name for name in saved)
    causal = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    config = Config.model_validate(json.loads((folder / run / "config.json").read_text()))
    samples, _ = read_samples(Job.of(config, "s", 0))
    weights = dict.fromkeys(KINDS, 1.0)
    before = AutoModelForCausalLM.from_pretrained(config.student.model, dtype=torch.float32)
    with torch.no_grad():
        assert reference_loss(causal, samples, weights) < reference_loss(before, samples, weights)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["finished"]
    assert manifest["counts"]["samples"] == {"init": 9, "exp": 9, "agg": 12}
    card = (out / "README.md").read_text()
    assert manifest["config_hash"] in card
    assert "distill train CONFIG --student s --seed 0" in card
    plot = ElementTree.parse(out / "logs" / "normalised_sigma.svg")  # noqa: S314
    assert len(plot.getroot().findall("{*}polyline")) == 3
    assert list((out / "logs" / "tensorboard").glob("events*"))


def test_the_first_step_is_that_of_an_untrained_model_with_sigma_one(folder):
    """Which guesses: each token costs log 2048; nine middle steps are 3/4 of twelve questions."""
    first = curve(folder, "whole")[0]
    guess = math.log(2048)
    assert first["losses"]["init"] == pytest.approx(guess, rel=0.03)
    assert first["losses"]["exp"] == pytest.approx(0.75 * guess, rel=0.03)
    assert first["sigma"] == dict.fromkeys(KINDS, 1.0)
    assert first["loss"] == pytest.approx(0.5 * sum(first["losses"].values()))


def test_steps_are_chosen_by_kind_or_number():
    everything = [(r["kind"], r["step"]) for r in rows(4)]

    def chosen(*steps):
        return [(k, n) for k, n in everything if is_chosen({"kind": k, "step": n}, steps)]

    assert chosen("final") == [("agg", 1), ("agg", 2), ("agg", 3), ("agg", 4)]
    assert chosen("first", "mid", "final") == everything
    assert chosen(1, "final")[:3] == [("agg", 1), ("init", 1), ("agg", 2)]
    assert ("exp", 3) not in chosen(1, 2, "final")
    assert ("exp", 2) in chosen(1, 2, "final")


def test_the_learning_rate_warms_up_and_falls_to_nothing(tmp_path, model):
    train = job(tmp_path, model, warmup_ratio=0.1, learning_rate=2.0).train
    rates = [learning_rate(train, n / 100) for n in range(101)]
    assert rates[5] == pytest.approx(1.0)
    assert max(rates) == rates[10] == 2.0
    assert rates[55] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.0)


def test_bad_input_is_named(tmp_path, model):
    with pytest.raises(StageMissing, match=r"no .*train\.jsonl: run `examples`"):
        read_samples(job(tmp_path, model))
    prepare(tmp_path.parent, model, tmp_path.name)
    with pytest.raises(StageMissing, match="no sample for the student 'never'"):
        read_samples(job(tmp_path, model, "never"))
    samples, left_out = read_samples(job(tmp_path, model, max_length=60))
    assert left_out["longer than max_length"] == 30 - len(samples) > 0
    file = tmp_path / "examples" / "train.jsonl"
    file.write_text(file.read_text().replace('"target"', '"aim"'))
    with pytest.raises(BadRecord, match=r"train\.jsonl, line 1 has no column 'target'"):
        read_samples(job(tmp_path, model))
    with pytest.raises(ConfigurationError, match="nowhere"):
        students.load(job(tmp_path, tmp_path / "nowhere").config, job(tmp_path, model).train)


def test_cross_entropy_is_taken_in_float32(model):
    """A bfloat16 model's losses are those of its own logits, not rounded again."""
    causal = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
    batch = collate([pack([Sample("q", "agg", [5, 6, 7], [8, 0])])])
    with torch.no_grad():
        losses = token_losses(causal, batch, batch.positions, batch.labels)
        logits = causal(torch.tensor([[5, 6, 7, 8]])).logits[0, 2:].float()
    assert losses.dtype == torch.float32
    expected = functional.cross_entropy(logits, torch.tensor([8, 0]), reduction="none")
    torch.testing.assert_close(losses, expected, rtol=2e-2, atol=2e-2)
