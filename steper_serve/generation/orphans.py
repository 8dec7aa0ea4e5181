"""End a vLLM engine process whose server has died.

vLLM's engine core is a process of its own that does not watch the one that started it: after a
SIGKILL it would live on and keep its memory. vLLM runs
`end_with_parent` in each of its processes as a plugin (pyproject.toml, entry points); it does
nothing but in a child of a server of ours. What is left out: vLLM's workers, which do watch
the engine core; and the first seconds of a start, before vLLM runs its plugins (there the
engine core gives up by itself after five minutes).
"""

import multiprocessing
import os
import threading
import time

# Set while an engine is started: the process that its engine core belongs to.
PARENT_VARIABLE = "_STEPER_SERVE_PID"
_INTERVAL_SECONDS = 1.0


def end_with_parent() -> None:
    """Watch, in a thread, that this process's parent lives, if that is a server of ours."""
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is not None and parent != str(os.getpid()) and _is_engine_core():
        threading.Thread(target=_watch, args=(int(parent),), daemon=True).start()


def _is_engine_core() -> bool:
    # A worker's parent is the engine core, whatever that one's own parent is.
    return "EngineCore" in multiprocessing.current_process().name


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_INTERVAL_SECONDS)
    os._exit(1)
