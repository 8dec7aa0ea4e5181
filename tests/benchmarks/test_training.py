"""Training throughput, measured: our trainer for real beside a stand-in for TRL's.

The stand-in takes what is given to TRL, says what it was, and trains nothing. What is left out:
that TRL takes it, which wants TRL; and how fast anything is.
"""

import json
import subprocess
import sys
from pathlib import Path

from tokenizers import Tokenizer

from steper_serve.recipes.distill import tables
from tests.recipes.training import ROOT, rows

DATASETS = """
from pyarrow import parquet

class Dataset:
    def __init__(self, rows):
        self.rows = rows
    @classmethod
    def from_parquet(cls, file):
        return cls(parquet.read_table(file).to_pylist())
    def __len__(self):
        return len(self.rows)
    def __getitem__(self, column):
        return [row[column] for row in self.rows]
    def select_columns(self, columns):
        return Dataset([{c: row[c] for c in columns} for row in self.rows])
    def rename_column(self, old, new):
        return Dataset([{new if c == old else c: v for c, v in r.items()} for r in self.rows])
"""
TRL = """
import json
from pathlib import Path
from types import SimpleNamespace as SFTConfig

class SFTTrainer:
    def __init__(self, model, args, train_dataset, processing_class, callbacks):
        self.args, self.data, self.clock = args, train_dataset, callbacks[0]
    def train(self):
        size = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        for _ in range(0, len(self.data), size):
            self.clock.on_step_begin()
            self.clock.on_step_end()
        told = {"rows": self.data.rows, "size": size}
        Path(__file__).with_name("told.json").write_text(json.dumps(told))
"""


def test_both_train_on_the_same_samples_of_the_first_questions(tmp_path: Path, student: Path):
    stand_in = tmp_path / "trl"
    stand_in.mkdir()
    (stand_in / "datasets.py").write_text(DATASETS)
    (stand_in / "trl.py").write_text(TRL)
    given = [{**row, "context": row["prompt"], "completion": row["target"]} for row in rows(40)]
    examples = tmp_path / "train.parquet"
    tables.write(examples, given)
    command = [sys.executable, "-m", "steper_serve.benchmarks.training", str(examples)]
    done = subprocess.run(
        [*command, str(student), "--trl", str(stand_in), "--questions", "36", "--rounds", "1"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert all(rates[0] > 0 for rates in told["tokens_per_second"].values())
    asked = [row for row in given if int(row["question_id"]) < 36]
    seen = json.loads((stand_in / "told.json").read_text())
    assert seen["rows"] == [{"prompt": r["context"], "completion": r["completion"]} for r in asked]
    # 36 questions have 90 samples, and 16 of them a step are 40, in whole batches of 16.
    assert seen["size"] == 32
    tokenizer = Tokenizer.from_file(str(student / "tokenizer.json"))
    texts = [row["context"] + row["completion"] for row in asked]
    assert told["sample_tokens"] == sum(len(each.ids) for each in tokenizer.encode_batch(texts))
