"""Cards: what a data set or a model is, how it was made, and with what figures.

Each is a README.md with the front matter that the Hugging Face hub reads. What is left out: the
figures of an evaluation, which come later (evaluate.py).
"""

import json
from collections.abc import Mapping
from typing import Any

from steper_serve.recipes.distill.config import Config

_COLUMNS = {
    "id": "`<dataset>/<question id>/<step>`",
    "dataset, question_id, hops": "where the question comes from",
    "strategy": "whose prompt it is",
    "step, num_steps": "number of the step, from 1, of how many",
    "kind": "`init` (first step), `exp` (a middle step) or `agg` (the last one)",
    "prompt": "question and passages so far, as the student is served with them",
    "prefix": "what was written before this step; prompt + prefix is the served prompt",
    "target": "what the step adds; end-of-sequence follows it",
    "target_mode": "`cumulative` or `next`",
    "context, completion": "what bears no loss and what does (TRL's prompt and completion)",
    "has_new_passages, passage_ids": "what the step's search found",
    "rollout, teacher": "hash of the rollout's settings, and who wrote it",
}


def dataset_card(config: Config, counts: Mapping[str, Any]) -> str:
    """The card of the step-wise data set; `counts` is its manifest's."""
    columns = "\n".join(f"| {name} | {meaning} |" for name, meaning in _COLUMNS.items())
    figures = json.dumps(counts, ensure_ascii=False, indent=2)
    return f"""---
task_categories: [question-answering, text-generation]
tags: [step-wise-distillation, {config.strategy}]
---

# {config.name}: step-wise samples

Written by the stage `examples` of StepER Serve's recipe from the kept trajectories of
{", ".join(d.name for d in config.datasets)}; one row is one step ({config.strategy}, at most
{config.max_steps} steps, {config.top_k} passages a search). Configuration hash
`{config.stage_hash("examples")}`.

| column | meaning |
|---|---|
{columns}

Loss belongs on `completion` alone: nothing retrieved is in it. For a target other than
`{config.examples.target}` there is a file of its own, `train-<target>`.

```json
{figures}
```
"""


def model_card(config: Config, student: str, seed: int, facts: Mapping[str, Any]) -> str:
    """The card of a trained student; `facts` holds its counts, losses and settings."""
    chosen = config.students[student]
    figures = json.dumps(facts, ensure_ascii=False, indent=2)
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags: [step-wise-distillation, multi-hop-question-answering, {config.strategy}]
---

# {config.student_name(student, seed)}

A student of the recipe `{config.name}`, trained from `{config.student.model}` on steps
{", ".join(map(str, chosen.steps))} of its teacher's trajectories ({config.strategy}; target
`{config.target_for(student)}`, weighting `{config.train_for(student).weighting}`). It ends each
step with end-of-sequence and is meant for that loop: `steper-serve serve --model DIR`.

    steper-serve distill train CONFIG --student {student} --seed {seed}

Configuration hash `{config.student_hash(student, seed)}`; seed {seed}. `normalised_sigma.svg`
and `metrics.jsonl` under `logs/` show its training.

```json
{figures}
```
"""
