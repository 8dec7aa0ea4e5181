"""The default engine: vLLM in this process, through `AsyncLLM`.

`VllmEngine` is a `LanguageModel`. vLLM's scheduler and worker are processes of their own; this
one tokenises, streams and aborts. Beside vllm_args.py (what it is started with) the only file of
the project that imports vLLM, and it does so when an engine starts, because vLLM reads its
environment (log level, usage statistics) as it is imported. What is left out: HTTP
(openai_endpoint), and what a prompt looks like (model_format).

vLLM is kept quiet: what its processes print goes to a file, which our errors name and whose cause
they quote, so that standard output holds our output alone. `VLLM_LOGGING_LEVEL=INFO` in the
environment brings the whole log to the terminal instead; a variable that is set there always
wins over the ones set here. The file goes with `aclose`, and stays where vLLM did not start.
"""

import asyncio
import itertools
import os
import re
import sys
import tempfile
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from steper_serve.errors import (
    ConfigurationError,
    EngineDied,
    EngineFailed,
    EngineUnavailable,
    PromptTooLong,
)
from steper_serve.generation import vllm_args
from steper_serve.generation.orphans import PARENT_VARIABLE
from steper_serve.generation.vllm_args import EngineArg
from steper_serve.trajectory import Completion, Delta, FinishReason, Generate

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.outputs import RequestOutput
    from vllm.v1.engine.async_llm import AsyncLLM

# In pieces as they come, all at once, or all at once and as many tokens as were asked for.
_Manner = Literal["streamed", "whole", "exactly"]

_RESET_TRIES, _RESET_SECONDS = 40, 0.05
# On a CPU a primitive is made for each number of tokens that a batch ever has; as many as oneDNN
# keeps by itself (1,024) are more than half a gigabyte of memory that grows for hours.
_ONEDNN_PRIMITIVES = "128"


class VllmEngine:
    """A model served by vLLM; build it with `start`, end it with `aclose`.

    It belongs to the event loop of its first `generate`. Prompts are cut nowhere: one that
    leaves no room for a single token is `PromptTooLong`; one that leaves less than `max_tokens`
    gets what is left.
    """

    def __init__(self, llm: "AsyncLLM", model: str, log: Path | None) -> None:
        self._llm = llm
        self._log = log
        self._tokenizer = llm.get_tokenizer()
        self._ids = itertools.count()
        self.model = model
        self.max_model_len: int = llm.model_config.max_model_len

    @classmethod
    def start(
        cls,
        model: str,
        *,
        max_model_len: int | None = None,
        kv_cache_gib: float | None = None,
        enforce_eager: bool = False,
        engine_args: Mapping[str, EngineArg] | None = None,
    ) -> Self:
        """Load `model` and return once it can serve. Blocks for 15 to 40 s on a CPU.

        Call it before the event loop runs, or from it through `asyncio.to_thread`. Because vLLM
        spawns its processes, a script that calls it needs an `if __name__ == "__main__"` guard.

        Args:
            model: a directory, or a hub id that vLLM fetches.
            max_model_len: context length in tokens; None for the model's own.
            kv_cache_gib: memory for the KV cache; None for 2 GiB on a CPU and for vLLM's share
                of the memory on a GPU.
            enforce_eager: start faster, run slower (no compilation, no CUDA graphs).
            engine_args: further `AsyncEngineArgs` by name, objects as JSON. They win over all of
                the above but `model`.

        Raises:
            ConfigurationError: an engine argument or the model cannot be used.
            EngineUnavailable: vLLM did not come up; its own log says why.
        """
        with _output_to_file() as log, _environment(_variables(model)):
            from vllm.v1.engine.async_llm import AsyncLLM

            own = vllm_args.own(model, max_model_len, kv_cache_gib, enforce_eager)
            args = vllm_args.merged(own, engine_args or {})
            try:
                return cls(AsyncLLM.from_engine_args(args), model, log)
            except (ValueError, OSError) as error:
                raise ConfigurationError(f"vLLM cannot serve {model!r}: {error}") from error
            except RuntimeError as error:
                raise EngineUnavailable(
                    f"vLLM did not start with {model!r}: {_cause(log) or error} {_see(log)}"
                ) from error

    async def generate(self, request: Generate) -> AsyncGenerator[Delta | Completion, None]:
        """As `LanguageModel.generate`."""
        ids = self._token_ids(request)
        text, num_tokens, last = "", 0, None
        async with aclosing(self._outputs(ids, request, "streamed")) as outputs:
            async for last in outputs:
                piece = last.outputs[0]
                text += piece.text
                num_tokens += len(piece.token_ids)
                if piece.text:
                    yield Delta(piece.text, num_tokens, len(ids), last.num_cached_tokens or 0)
        yield _completion(last, text, num_tokens)

    async def generate_exactly(self, request: Generate) -> Completion:
        """As many tokens as `request.max_tokens` says, whatever they are, all at once.

        What vLLM alone needs for a request whose outcome is known: for measurements. Neither
        end-of-sequence nor a stop ends it; only a full context does.

        Raises:
            SteperError: as `LanguageModel.generate`.
        """
        return await self._whole(request, "exactly")

    async def generate_whole(self, request: Generate) -> Completion:
        """As `generate`, but all at once: for a caller that has no use for pieces.

        Raises:
            SteperError: as `LanguageModel.generate`.
        """
        return await self._whole(request, "whole")

    async def check(self) -> None:
        """Raise EngineDied if vLLM's engine core is dead; costs nothing."""
        if self._llm.errored:
            raise EngineDied(self._dead())

    def num_running(self) -> int:
        """Requests in the engine's own table, waiting or running."""
        return len(self._llm.output_processor.request_states)

    async def reset_prefix_cache(self) -> None:
        """Forget every cached prefix, so that a measurement starts cold.

        Raises:
            EngineFailed: requests are still running.
        """
        for _ in range(_RESET_TRIES):  # a request that has just ended may hold its blocks yet
            if await self._llm.reset_prefix_cache():
                return
            await asyncio.sleep(_RESET_SECONDS)
        raise EngineFailed("vLLM does not forget its prefix cache: are requests still running?")

    async def aclose(self) -> None:
        """Stop vLLM and its processes. Requests that still run fail with EngineUnavailable."""
        from vllm.v1.engine.exceptions import EngineDeadError

        dead = self._llm.errored
        # vLLM would take the end of its processes for a crash, and say so.
        if self._llm.output_handler is not None:
            self._llm.output_handler.cancel()
        self._llm.output_processor.propagate_error(EngineDeadError())
        await asyncio.to_thread(self._llm.shutdown)
        # Its __del__ shuts down once more, and fails where Python itself is ending by then.
        self._llm.shutdown = lambda timeout=None: None
        if self._log is not None and not dead:  # the log of a death is what explains it
            self._log.unlink(missing_ok=True)
            self._log = None

    async def _whole(self, request: Generate, manner: _Manner) -> Completion:
        ids = self._token_ids(request)
        async with aclosing(self._outputs(ids, request, manner)) as outputs:
            given = [output async for output in outputs]
        last = given[-1] if given else None
        text, tokens = (last.outputs[0].text, last.outputs[0].token_ids) if last else ("", ())
        return _completion(last, text, len(tokens))

    def _dead(self) -> str:
        cause = _cause(self._log) or "its processes have ended."
        return f"vLLM with {self.model} is not running: {cause} Restart it. {_see(self._log)}"

    def _token_ids(self, request: Generate) -> list[int]:
        prompt = request.prompt
        ids: list[int] = self._tokenizer.encode(
            prompt.text, add_special_tokens=not prompt.templated
        )
        return ids

    def _room(self, request: Generate, num_prompt_tokens: int) -> int:
        room = self.max_model_len - num_prompt_tokens
        if room < 1:
            raise PromptTooLong(
                f"The prompt has {num_prompt_tokens} tokens and {self.model} reads "
                f"{self.max_model_len} in all, at least one of them generated. "
                "Ask for fewer passages (top_k) or serve with a larger max_model_len."
            )
        return min(request.max_tokens, room)

    async def _outputs(
        self, ids: list[int], request: Generate, manner: _Manner
    ) -> AsyncGenerator["RequestOutput", None]:
        """vLLM's outputs with its errors made ours; a request left early is aborted."""
        from vllm.exceptions import GracefulHTTPError, VLLMClientError
        from vllm.inputs.engine import tokens_input
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        max_tokens, name = self._room(request, len(ids)), f"steper-{next(self._ids)}"
        try:
            params = _sampling_params(request, max_tokens, manner)
            stream = self._llm.generate(tokens_input(ids), params, name)
            async with aclosing(stream):
                async for output in stream:
                    yield output
        except EngineDeadError as error:
            raise EngineDied(self._dead()) from error
        except GracefulHTTPError as error:
            raise EngineUnavailable(f"vLLM turned the request away: {error}") from error
        except (VLLMClientError, ValueError) as error:
            raise EngineFailed(f"vLLM refused the request: {error}") from error
        except EngineGenerateError as error:
            raise EngineFailed(f"vLLM failed: {error.__cause__ or error}") from error
        except (asyncio.CancelledError, GeneratorExit):
            # vLLM aborts too, except where it was still handing the request over.
            await self._llm.abort(name)
            raise


def _see(log: Path | None) -> str:
    return "Its own log says more." if log is None else f"More in {log}."


def _cause(log: Path | None) -> str | None:
    """The first error that vLLM's processes logged: what follows from it comes later."""
    text = "" if log is None else log.read_text(encoding="utf-8", errors="replace")
    found = re.search(r"\b\w*(?:Error|Exception): .+", text)
    return found[0] if found else None


def _variables(model: str) -> dict[str, str]:
    """What vLLM's processes find in their environment unless the user set it already."""
    variables = {
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": _ONEDNN_PRIMITIVES,
        PARENT_VARIABLE: str(os.getpid()),
    }
    if Path(model).is_dir():
        variables |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    return variables


@contextmanager
def _output_to_file() -> Iterator[Path | None]:
    """File descriptors 1 and 2 lead to a new file; processes started meanwhile keep it so.

    Not where the user has asked to see vLLM's log; the file is None then.
    """
    if "VLLM_LOGGING_LEVEL" in os.environ:
        yield None
        return
    descriptor, name = tempfile.mkstemp(prefix="steper-vllm-", suffix=".log")
    kept = {fd: os.dup(fd) for fd in (1, 2)}
    _redirect({1: descriptor, 2: descriptor})
    os.close(descriptor)
    try:
        yield Path(name)
    except ConfigurationError:  # says all there is to say
        os.unlink(name)
        raise
    finally:
        _redirect(kept)
        for fd in kept.values():
            os.close(fd)


def _redirect(targets: Mapping[int, int]) -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for fd, target in targets.items():
        os.dup2(target, fd)


@contextmanager
def _environment(defaults: Mapping[str, str]) -> Iterator[None]:
    """`os.environ` with `defaults` where unset, and as it was afterwards.

    vLLM itself writes there too (LD_PRELOAD, for one), which later child processes of ours
    should not inherit.
    """
    before = dict(os.environ)
    os.environ.update({k: v for k, v in defaults.items() if k not in before})
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


def _sampling_params(request: Generate, max_tokens: int, manner: _Manner) -> "SamplingParams":
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    kind = RequestOutputKind
    return SamplingParams(
        temperature=request.sampling.temperature,
        top_p=request.sampling.top_p,
        seed=request.sampling.seed,
        max_tokens=max_tokens,
        min_tokens=min(request.min_tokens, max_tokens),
        stop=[] if manner == "exactly" else list(request.stop),
        ignore_eos=manner == "exactly",
        output_kind=kind.DELTA if manner == "streamed" else kind.FINAL_ONLY,
    )


def _completion(last: "RequestOutput | None", text: str, num_tokens: int) -> Completion:
    reason = last.outputs[0].finish_reason if last else None
    if last is None or reason not in ("stop", "length"):
        raise EngineUnavailable(f"vLLM ended the request early ({reason}); try again.")
    finish: FinishReason = reason
    return Completion(
        text=text,
        finish_reason=finish,
        num_prompt_tokens=len(last.prompt_token_ids or ()),
        num_completion_tokens=num_tokens,
        num_cached_tokens=last.num_cached_tokens or 0,
        **_seconds(last.metrics),
    )


def _seconds(stats: Any) -> dict[str, float]:
    """Times from the engine core's own clock, where it kept them."""
    if stats is None or not stats.first_token_ts:
        return {}
    return {
        "queue_seconds": stats.scheduled_ts - stats.queued_ts,
        "prefill_seconds": stats.first_token_ts - stats.scheduled_ts,
        "decode_seconds": stats.last_token_ts - stats.first_token_ts,
    }
