"""A server to measure: the one at a URL, or the bundled one, started for the purpose."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_READY = re.compile(r"Ready after .*?: (?P<url>http://\S+/v1)")


@contextmanager
def server(endpoint: str | None, *flags: str) -> Iterator[str]:
    """The base URL (up to /v1) of `endpoint`, or of a bundled server with these flags."""
    if endpoint is not None:
        yield endpoint
        return
    command = [sys.executable, "-m", "steper_serve", "serve", "--port", "0", *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield _url(process)
        finally:
            process.terminate()


def _url(process: "subprocess.Popen[str]") -> str:
    said = []
    for line in process.stderr or ():
        if match := _READY.search(line):
            return match["url"]
        said.append(line)
    raise SystemExit("the server did not start:\n" + "".join(said))
