"""Comprehension, measured: what one pass says of greedy decoding is what transformers decodes."""

import json

import torch
from click.testing import CliRunner
from transformers import AutoModelForCausalLM

from steper_serve.fictional import World
from steper_serve.recipes.distill import comprehension
from steper_serve.recipes.distill.readings import Shares
from steper_serve.recipes.distill.tokenization import StepTokenizer
from tests.recipes.training import ROOT

BASE = ROOT / "recipes" / "distill" / "assets" / "student-base"


def test_right_is_what_greedy_decoding_writes():
    tokenizer = StepTokenizer.load(str(BASE), templated=False)
    causal = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32).eval()
    asked = list(comprehension.texts(World(201, 400), 2, Shares(missing=0.5)))
    told = []
    for text, sample in zip(asked, tokenizer.samples(asked, "next"), strict=True):
        read = torch.tensor(sample.context_ids)[None]
        written = causal.generate(read, do_sample=False, max_new_tokens=60)[0, read.shape[1] :]
        said = tokenizer.tokenizer.decode(written, skip_special_tokens=True)
        ended = written[-1] == tokenizer.end_id
        told.append(bool(ended) and said == text["target"])
        assert comprehension.is_right(causal, sample) == told[-1], text["target"]
    assert any(told)
    assert not all(told)


def test_the_command_tells_each_kind():
    arguments = [str(BASE), "--passages", "400", "--searches", "1", "--world", "201"]
    done = CliRunner().invoke(comprehension.main, arguments, catch_exceptions=False)
    told = json.loads(done.stdout.splitlines()[-1])
    for kind in ("named", "described", "missing"):
        assert 0 <= told[kind]["low"] <= told[kind]["right"] <= told[kind]["high"] <= 1
        assert 0 < told[kind]["num_questions"] <= 12
