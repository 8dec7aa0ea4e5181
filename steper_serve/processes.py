"""Processes that end with the one that started them, however that ends.

What is left out: what they run, and reading what they say.
"""

import sys
from collections.abc import Sequence

# Asks the kernel to end the process when its parent dies, and becomes what is to run.
_ENDS_WITH_PARENT = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
os.execvp(sys.argv[1], sys.argv[1:])
"""


def ends_with_us(command: Sequence[str]) -> list[str]:
    """`command`, so that its process gets SIGTERM when this one ends, be it killed (Linux)."""
    return [sys.executable, "-c", _ENDS_WITH_PARENT, *command]
