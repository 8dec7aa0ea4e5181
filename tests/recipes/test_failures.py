"""A disk that takes no more, as the writers of torch and transformers see it: a limit on a file's
size, in a process of its own."""

import subprocess
import sys
from pathlib import Path

SAVE = """
import resource, signal, sys
import safetensors.torch, torch
from transformers import LlamaConfig, LlamaForCausalLM
from steper_serve.recipes.distill.failures import DiskFailed, saving
sizes = dict.fromkeys(("hidden_size", "intermediate_size", "num_hidden_layers"), 32)
model = LlamaForCausalLM(LlamaConfig(vocab_size=64, num_attention_heads=4, **sizes))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
folder, weights = sys.argv[1], model.state_dict()
for save in (
    lambda: model.save_pretrained(folder),
    lambda: safetensors.torch.save_file(weights, folder + "/model.safetensors"),
    lambda: torch.save(weights, folder + "/checkpoint.pt"),
):
    try:
        with saving(f"the model to {folder}"):
            save()
    except DiskFailed as error:
        print("told:", error.message)
"""


def test_a_full_disk_is_told_as_one(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SAVE, str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    told = [line for line in done.stdout.splitlines() if line.startswith("told: ")]
    assert len(told) == 3
    for line in told:
        assert line.startswith(f"told: cannot save the model to {tmp_path}: ")
        assert line.endswith("; make room and start again")
