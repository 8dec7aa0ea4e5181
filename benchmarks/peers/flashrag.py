"""What FlashRAG's IRCoT is given: our index and engine, behind the methods that it calls.

The pipeline is FlashRAG's own (`flashrag.pipeline.IRCOTPipeline`): its loop, its merging and
sorting of passages, its cutting of long prompts, its reading of answers. Our objects stand where
its documentation lets a user put theirs: a mapping as configuration, a retriever, a generator,
and for a student the prompt that it was trained on, to the byte but for the order of the passages.
Any other model gets FlashRAG's prompt and its stops. What is left out: questions (answering).
"""

import asyncio
import importlib
import importlib.metadata
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from steper_serve.errors import ConfigurationError
from steper_serve.loop import Loop
from steper_serve.strategies import Options, options_for
from steper_serve.strategies.draft import Context
from steper_serve.strategies.ircot import render
from steper_serve.strategies.passages import HEADER, render_passage
from steper_serve.trajectory import Completion, Generate, Passage, Prompt, Retriever

PACKAGE = "flashrag-dev"
# What its pipelines import and our own installation may lack, at the versions that were measured.
# pip leaves FlashRAG's other dependencies out: they would bring another engine along.
INSTALL = (
    "pip install --no-deps --target {folder} flashrag-dev==0.3.0.dev20260919 datasets==5.2.0 "
    "multiprocess==0.70.19 xxhash==4.1.0 termcolor==3.3.0 pandas==3.1.1 python-dateutil==4.0.0 "
    "pyarrow==26.0.1"
)


@runtime_checkable
class Engine(Protocol):
    """What an engine must be able to do; `generation.vllm_engine.VllmEngine` can."""

    model: str

    async def generate_whole(self, request: Generate) -> Completion:
        """The completion, all at once."""
        ...

    async def reset_prefix_cache(self) -> None:
        """Forget every cached prefix; nothing may be running."""
        ...


class Package(NamedTuple):
    """Of FlashRAG: its modules of pipelines and of datasets, and the class of its prompts."""

    pipelines: Any
    datasets: Any
    template: Callable[..., Any]


class Config(dict[str, Any]):
    """A configuration that behaves as FlashRAG's own does: what is not set is None."""

    def __missing__(self, key: str) -> None:
        return None


def version_in(folder: Path) -> str | None:
    """The version of FlashRAG that was installed into `folder`; None without one."""
    found = importlib.metadata.distributions(name=PACKAGE, path=[str(folder)])
    return next((each.version for each in found), None)


def package_in(folder: Path) -> Package:
    """FlashRAG, out of `folder`, for this process.

    The folder comes last in the search, so that of what both have ours is taken: above all,
    of what the engine needs.

    Raises:
        ConfigurationError: it, or something that it imports, is not there.
    """
    sys.path.append(str(folder))
    try:
        return Package(
            importlib.import_module("flashrag.pipeline"),
            importlib.import_module("flashrag.dataset.dataset"),
            importlib.import_module("flashrag.prompt.base_prompt").PromptTemplate,
        )
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"FlashRAG in {folder} imports {error.name}, which is not installed: "
            f"pip install --no-deps --target {folder} {error.name}"
        ) from error


class IndexRetriever:
    """Our index as a FlashRAG retriever. `found` keeps each query's passages and seconds."""

    def __init__(self, retriever: Retriever, top_k: int, special_tokens: tuple[str, ...]) -> None:
        self._retriever = retriever
        self._top_k = top_k
        self._special = special_tokens
        self.found: dict[str, tuple[tuple[Passage, ...], float]] = {}

    def search(self, query: str, num: int | None = None, return_score: bool = False) -> Any:
        """Documents, best first, and with `return_score` their scores beside."""
        start = time.perf_counter()
        found = tuple(self._retriever.search(query, num or self._top_k))
        self.found[query] = (found, time.perf_counter() - start)
        documents = [self._document(passage) for passage in found]
        return (documents, [p.score for p in found]) if return_score else documents

    def batch_search(
        self, queries: Sequence[str], num: int | None = None, return_score: bool = False
    ) -> Any:
        """`search` of each."""
        found = [self.search(query, num, True) for query in queries]
        documents, scores = [each for each, _ in found], [each for _, each in found]
        return (documents, scores) if return_score else documents

    def _document(self, passage: Passage) -> dict[str, str]:
        """As our prompts show it; FlashRAG takes the first line for the title."""
        shown = render_passage(passage.title, passage.text, self._special)
        return {"id": passage.id, "contents": shown.removeprefix(f"{HEADER} ").rstrip("\n")}


class EngineGenerator:
    """Our engine as a FlashRAG generator: greedy, all prompts at once, nothing streamed.

    It is made in the event loop that the engine belongs to and used in a thread. `wrote` keeps
    each prompt's completion and the seconds that the pipeline waited for it.
    """

    def __init__(self, engine: Engine, options: Options) -> None:
        self._engine = engine
        self._max_tokens = options.max_step_tokens
        # A student ends its steps itself, as it does in our loop. FlashRAG's stop at the first
        # full stop would cut "Edward L. Cahn" in two.
        self._ends_itself = options.format.step_end == "eos"
        self._loop = asyncio.get_running_loop()
        self.wrote: dict[str, tuple[Completion, float]] = {}

    def generate(
        self, prompts: str | Sequence[str], stop: Iterable[str] = (), **_: object
    ) -> list[str]:
        """What the model writes after each prompt, once all of it is there.

        Raises:
            SteperError: one of them failed.
        """
        asked = [prompts] if isinstance(prompts, str) else list(prompts)
        ends = ("\n",) if self._ends_itself else tuple(stop)
        start = time.perf_counter()
        done = asyncio.run_coroutine_threadsafe(self._all(asked, ends), self._loop).result()
        seconds = time.perf_counter() - start
        self.wrote |= {p: (each, seconds) for p, each in zip(asked, done, strict=True)}
        return [each.text.strip() for each in done]

    async def _all(self, prompts: Sequence[str], stop: tuple[str, ...]) -> list[Completion]:
        async def write(text: str) -> Completion:
            request = Generate(1, Prompt(text, user=text), self._max_tokens, stop=stop)
            return await self._engine.generate_whole(request)

        # All of them end before an error is raised, so that none runs on into what comes next.
        done = await asyncio.gather(*map(write, prompts), return_exceptions=True)
        for each in done:
            if isinstance(each, BaseException):
                raise each
        return [each for each in done if isinstance(each, Completion)]


class StudentPrompt:
    """FlashRAG's template in a student's own form, with a space before what it has written."""

    def __init__(self, template: Any) -> None:
        self._template = template

    def get_string(self, *, previous_gen: str = "", **given: object) -> str:
        """The prompt; FlashRAG cuts out its middle where it is too long."""
        written = f" {previous_gen}" if previous_gen else ""
        prompt: str = self._template.get_string(previous_gen=written, **given)
        return prompt


class Parts(NamedTuple):
    """What a pipeline of FlashRAG's is given; `prompt` is None where its own is used."""

    config: Config
    prompt: StudentPrompt | None
    retriever: IndexRetriever
    generator: EngineGenerator


def parts(package: Package, loop: Loop, engine: Engine) -> Parts:
    """What stands in for FlashRAG's own parts; to be called in the engine's event loop."""
    config = Config(
        device="cpu",  # of models that it would load itself, which are none
        framework="vllm",
        generator_model_path=engine.model,
        generator_max_input_len=loop.format.max_prompt_tokens,
        dataset_name="benchmark",
        metrics=[],
        save_retrieval_cache=False,
    )
    options = options_for("ircot", loop.format, loop.few_shot["ircot"])
    return Parts(
        config=config,
        prompt=_prompt(package, config, options),
        retriever=IndexRetriever(loop.retriever, loop.top_k, loop.format.special_tokens),
        generator=EngineGenerator(engine, options),
    )


def _prompt(package: Package, config: Config, options: Options) -> StudentPrompt | None:
    if options.demonstrations or options.format.chat is not None:
        return None
    bare = render(Context(options.instruction, (), (), "{question}", ""), options.format).text
    template = package.template(
        config,
        user_prompt=f"{{reference}}{bare}",
        reference_template=f"{HEADER} {{title}}\n{{text}}\n\n",
        enable_chat=False,
    )
    return StudentPrompt(template)
