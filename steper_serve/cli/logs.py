"""What a server writes on standard error: lines for people, or JSON for a collector of logs.

Rooms below log through the standard library and know nothing of either. uvicorn's own lines go
the same way. What is left out: what is logged (api/lines and others).
"""

import logging
from typing import Literal

import click
from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

from steper_serve.api.account import REQUEST_ID
from steper_serve.errors import SteperError

LogFormat = Literal["text", "json"]

_TEXT = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")
_JSON = JsonFormatter(
    ["levelname", "name", "message"],
    rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception"},
    # uvicorn's, of the same text; vLLM's, the same in all of our lines.
    reserved_attrs=[*RESERVED_ATTRS, "color_message", "vllm_process_name"],
    timestamp="time",
)


def set_up(form: LogFormat) -> None:
    """Write lines of this form from here on: all of ours, and the warnings of everybody else."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JSON if form == "json" else _TEXT)
    handler.addFilter(_with_request_id)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("steper_serve").setLevel(logging.INFO)
    logging.captureWarnings(True)


def tell_failure(error: SteperError) -> None:
    """The last line of a command that failed, in the form that was set up."""
    if any(handler.formatter is _JSON for handler in logging.getLogger().handlers):
        fields = {"event": "failed", "code": error.code}
        logging.getLogger(__name__).error(error.message, extra=fields)
        return
    click.echo(f"steper-serve: {error.message}", err=True)


def _with_request_id(record: logging.LogRecord) -> bool:
    """Name the request that a line is about, where it is about one."""
    if (id := REQUEST_ID.get()) and not hasattr(record, "request_id"):
        record.request_id = id
    return True
