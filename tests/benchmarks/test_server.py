"""What is measured: named on the command line, started, and ended with whoever started it."""

import json
import os
import signal
import subprocess
import sys
from importlib.resources import files
from math import prod
from pathlib import Path

import pytest

from steper_serve.benchmarks import server
from steper_serve.benchmarks.failures import ServerFailed
from steper_serve.benchmarks.server import Served, all_served, started
from steper_serve.errors import ConfigurationError
from tests.living import alive, wait_until

ROOT = Path(__file__).parents[2]
SAYS = """
import os, sys, time
print("Loading", file=sys.stderr)
print(f"Ready after 1 s: http://127.0.0.1:{os.getpid()}/v1 (models …)", file=sys.stderr, flush=True)
"""
SERVER = [sys.executable, "-c", SAYS + "time.sleep(600)"]
CHATTY = [
    sys.executable,
    "-c",
    SAYS
    + "for _ in range(9000): print('y' * 80, file=sys.stderr)\n"
    + "open(sys.argv[1], 'w').close()\ntime.sleep(600)",
]
TELLS = (
    SAYS
    + """
import json
from pathlib import Path
from steper_serve.settings import load_settings

file, config = map(Path, sys.argv[1:3])
settings = load_settings(config if config.name else None, {})
told = json.dumps([settings.model, settings.top_k, str(settings.cache_dir)])
file.write_text(told)
print(told)
"""
)
STARTER = f"""
import sys
from steper_serve.benchmarks.server import started
with started({SERVER!r}) as url:
    print(url, flush=True)
    sys.stdin.read()
"""


def pid_of(url: str) -> int:
    return int(url.removesuffix("/v1").rpartition(":")[2])


def test_a_server_is_there_within_and_gone_after():
    with started(SERVER) as url:
        assert alive(pid_of(url))
    assert not alive(pid_of(url))


def test_a_server_may_say_as_much_as_it_likes(tmp_path):
    """More than a pipe holds: it would stop if nobody read on."""
    with started([*CHATTY, str(tmp_path / "told")]):
        wait_until((tmp_path / "told").exists)


def test_a_server_that_does_not_start_has_its_last_words_shown():
    command = [sys.executable, "-c", "import sys; sys.exit('there is no model here')"]
    with pytest.raises(ServerFailed, match=r"code 1 .*\nthere is no model here"), started(command):
        pass


def test_a_server_ends_with_a_benchmark_that_is_killed():
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with starter:
        pid = pid_of(starter.stdout.readline().strip())
        assert alive(pid)
        os.kill(starter.pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid))


@pytest.mark.parametrize(("config", "top_k"), [("", 4), ("own.toml", 9)])
@pytest.mark.parametrize("way", ["server", "process"])
def test_settings_are_those_of_flags_alone(tmp_path, monkeypatch, way, config, top_k):
    """Neither the caller's variables nor a file that lies about; one that is named counts."""
    (tmp_path / "steper.toml").write_text("top_k = 7")
    (tmp_path / "own.toml").write_text("top_k = 9")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("STEPER_MODEL", "another")
    monkeypatch.setenv("steper_top_k", "8")
    monkeypatch.setenv("STEPER_CONFIG", "gone.toml")
    monkeypatch.setenv("STEPER_CACHE_DIR", "cache")
    command = [sys.executable, "-c", TELLS, "told.json", config]
    if way == "process":
        assert server.told_by(command, name="it", advice="") == [None, top_k, "cache"]
        return
    with started(command):
        wait_until(lambda: Path("told.json").exists() and Path("told.json").read_text())
    assert json.loads(Path("told.json").read_text()) == [None, top_k, "cache"]


def test_the_bundled_student_is_measured_by_default_and_counted():
    """Oracle: the file's own header, read by hand."""
    (student,) = all_served([], [], ["--enforce-eager"], [])
    folder = Path(str(files("steper_serve"))) / "assets" / "student"
    data = (folder / "model.safetensors").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    size = sum(prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    assert (student.name, student.url, student.model) == ("student", None, None)
    assert student.num_parameters == size
    assert student.flags == ("--enforce-eager",)
    assert student.weights


def test_what_is_served_has_a_name_of_its_own(tmp_path):
    (tmp_path / "best").mkdir()
    found = all_served(
        ["gpu=http://gpu:8000/v1/", "http://h:1/v1"],
        [str(tmp_path / "best"), "seven=Qwen/Qwen2.5-7B", "a/b"],
        [],
        ["seven=7.6B", "h:1=5e5"],
    )
    assert [(s.name, s.url, s.model, s.num_parameters) for s in found] == [
        ("gpu", "http://gpu:8000/v1", None, None),
        ("h:1", "http://h:1/v1", None, 500_000),
        ("best", None, str(tmp_path / "best"), None),
        ("seven", None, "Qwen/Qwen2.5-7B", 7_600_000_000),
        ("a/b", None, "a/b", None),
    ]
    with pytest.raises(ConfigurationError, match="two servers are called 'gpu'"):
        all_served(["gpu=http://a/v1", "gpu=http://b/v1"], [], [], [])


def test_a_server_that_runs_is_only_reached(tmp_path):
    with server.running(Served("x", url="http://there/v1"), tmp_path) as url:
        assert url == "http://there/v1"


def test_a_server_is_started_with_model_index_and_flags(monkeypatch, tmp_path):
    commands = []

    class Popen:
        stderr = iter(["Ready after 2 s: http://127.0.0.1:5/v1 (…)\n"])
        pid = 1

        def __init__(self, command, **options):
            commands.append(command)

        __enter__ = lambda self: self  # noqa: E731
        __exit__ = terminate = wait = lambda *_: None

    monkeypatch.setattr(server.subprocess, "Popen", Popen)
    served = Served("x", model="some/model", flags=("--enforce-eager",))
    with server.running(served, tmp_path / "index") as url:
        assert url == "http://127.0.0.1:5/v1"
    tail = commands[0][commands[0].index("serve") :]
    assert tail == [
        *("serve", "--port", "0", "--model", "some/model", "--index", str(tmp_path / "index")),
        "--enforce-eager",
    ]
