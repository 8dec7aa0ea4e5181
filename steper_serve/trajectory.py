"""The nouns of the product and the protocols of its two outside worlds.

A strategy is a `Flow`: a generator that yields effects (`Retrieve`, `Generate`), is sent their
outcomes (passages, a `Completion`) and returns a `Trajectory`. `drivers.run` performs the
effects against a `Retriever` and a `LanguageModel`; `drivers.replay` feeds saved outcomes back.
What is left out: any I/O, and any library.
"""

from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

FinishReason = Literal["stop", "length"]
StopReason = Literal["answer", "max_steps", "budget", "no_answer_marker", "no_passages"]


@dataclass(frozen=True, slots=True)
class Passage:
    """A retrieved unit of text. `score` is the retriever's own (BM25), None outside a search."""

    id: str
    title: str
    text: str
    url: str | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. Temperature 0 is greedy."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model reads before it writes.

    `text` is the whole of it, byte for byte, for an engine that completes text. `user` and
    `partial` are the same content as an open conversation: the user's turn, and what the
    assistant has written of its turn so far. `templated` says that `text` already holds every
    special token (a chat template), so that the tokenizer must add none.
    """

    text: str
    user: str
    partial: str = ""
    templated: bool = False


@dataclass(frozen=True, slots=True)
class Retrieve:
    """Effect: the `top_k` best passages for `query`. Its outcome is a sequence of passages."""

    step: int
    query: str
    top_k: int


@dataclass(frozen=True, slots=True)
class Generate:
    """Effect: continue `prompt`. Its outcome is a `Completion`.

    Args:
        step: the step it belongs to, from 1.
        prompt: what the model reads.
        max_tokens: the most tokens to generate, at least 1.
        stop: strings that end the generation; none of them is part of the completion.
        cut: where a step ends inside the text so far (an index), or None to go on: a stop rule
            that no string can express. The driver ends the generation there.
        sampling: how tokens are drawn.
        lead: text that the strategy itself put at the end of the prompt and that belongs to
            this step's thought (an answer marker, say); shown to whoever watches.
        min_tokens: tokens before end-of-sequence may come; 1 forbids an empty step.
        final: the answer is being forced; performed even when the time budget is spent.
    """

    step: int
    prompt: Prompt
    max_tokens: int
    stop: tuple[str, ...] = ()
    cut: Callable[[str], int | None] | None = None
    sampling: Sampling = Sampling()
    lead: str = ""
    min_tokens: int = 1
    final: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read and written. Of several steps, a prompt counts once for each that read it."""

    num_prompt_tokens: int = 0
    num_completion_tokens: int = 0
    num_cached_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.num_prompt_tokens + other.num_prompt_tokens,
            self.num_completion_tokens + other.num_completion_tokens,
            self.num_cached_tokens + other.num_cached_tokens,
        )


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model wrote for one `Generate`, and what it cost.

    Times are in seconds and None where the engine does not tell. `prefill_seconds` is the time
    from the first scheduling to the first token, `decode_seconds` from there to the last.
    """

    text: str
    finish_reason: FinishReason
    num_prompt_tokens: int = 0
    num_completion_tokens: int = 0
    num_cached_tokens: int = 0
    queue_seconds: float | None = None
    prefill_seconds: float | None = None
    decode_seconds: float | None = None

    @property
    def usage(self) -> Usage:
        return Usage(self.num_prompt_tokens, self.num_completion_tokens, self.num_cached_tokens)


@dataclass(frozen=True, slots=True)
class Delta:
    """Newly generated text. `num_tokens` counts the completion's tokens up to here.

    The other two count the prompt's, 0 where the engine does not tell before the end.
    """

    text: str
    num_tokens: int
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a trajectory: at most one search, then the thought r_s.

    `query` and `passages` are q_s and P_s (paper, section 3); both are empty in a step without
    retrieval. `completions` are the raw outcomes that `thought` was read from, in order;
    `forced` says that the last of them is the answer to a `Generate` with `final`.
    """

    query: str | None
    passages: tuple[Passage, ...]
    thought: str
    completions: tuple[Completion, ...]
    forced: bool = False


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A finished flow.

    Args:
        strategy: its name in `strategies.STRATEGIES`.
        question: as it was asked.
        steps: r_1 … r_S with what each retrieved.
        answer: the final answer, "" where there is none.
        stop_reason: "answer", or why there is none; "budget" beside an answer says that tokens
            or time ran out and the final step was forced.
        citations: ids of the passages that the reasoning used, in order of first use.
        dropped: ids of passages left out of a later prompt because it was full.
    """

    strategy: str
    question: str
    steps: tuple[Step, ...]
    answer: str
    stop_reason: StopReason
    citations: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    @property
    def usage(self) -> Usage:
        completions = [c for step in self.steps for c in step.completions]
        return sum((completion.usage for completion in completions), Usage())

    @property
    def passages(self) -> tuple[Passage, ...]:
        """Every retrieved passage once, in order of first retrieval (P≤S)."""
        first: dict[str, Passage] = {}
        for passage in (p for step in self.steps for p in step.passages):
            first.setdefault(passage.id, passage)
        return tuple(first.values())

    def to_json(self) -> dict[str, Any]:
        """The trajectory as plain JSON values; `from_json` is its inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Trajectory":
        steps = tuple(
            Step(
                query=step["query"],
                passages=tuple(Passage(**p) for p in step["passages"]),
                thought=step["thought"],
                completions=tuple(Completion(**c) for c in step["completions"]),
                forced=step["forced"],
            )
            for step in data["steps"]
        )
        lists = {name: tuple(data[name]) for name in ("citations", "dropped")}
        return cls(**{**data, "steps": steps, **lists})


@dataclass(frozen=True, slots=True)
class OutOfTime:
    """Outcome of an effect that was not performed: the time budget is spent."""


Effect = Retrieve | Generate
Outcome = Sequence[Passage] | Completion | OutOfTime
Flow = Generator[Effect, Outcome, Trajectory]


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A worked example for a few-shot prompt: passages, a question, thoughts and an answer.

    `thoughts` are in the strategy's own form, without the answer marker.
    """

    question: str
    passages: tuple[Passage, ...]
    thoughts: tuple[str, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class PromptFormat:
    """What a strategy must know of a model to write a prompt for it.

    Args:
        max_prompt_tokens: the most tokens a prompt may have (context length less the room kept
            for generation).
        count_tokens: tokens of a text by the model's own tokenizer.
        max_model_len: context length in tokens, prompt and completion together; None if the
            engine looks after that itself.
        special_tokens: strings that its tokenizer reads as control tokens.
        chat: what its chat template puts before and after the user's turn, up to where the
            assistant's turn opens; None for a model that completes plain text.
        step_end: "eos" for a student that ends each step with end-of-sequence, "sentence" for
            a model whose steps are read off its sentences.
        instruction: the line that says what to do: "" for a student that was trained without
            one, None to use the strategy's own.
        few_shot: whether demonstrations go before the passages.
        strategies: names of the strategies that the model was trained for; empty for any.
    """

    max_prompt_tokens: int
    count_tokens: Callable[[str], int] = field(repr=False)
    max_model_len: int | None = None
    special_tokens: tuple[str, ...] = ()
    chat: tuple[str, str] | None = None
    step_end: Literal["eos", "sentence"] = "sentence"
    instruction: str | None = None
    few_shot: bool = True
    strategies: tuple[str, ...] = ()


class LanguageModel(Protocol):
    """A model that continues prompts. Every adapter passes tests/generation/contract.py."""

    def generate(self, request: Generate) -> AsyncGenerator[Delta | Completion, None]:
        """Yield `Delta`s as text comes and, last, one `Completion` with the whole text.

        Closing the generator, or cancelling the task that reads it, aborts the generation in
        the engine. `request.cut` is the driver's business, not the adapter's.

        Raises:
            PromptTooLong: the prompt does not fit the model.
            EngineUnavailable: the engine is down or out of reach; trying again may help.
            EngineFailed: the engine refused or failed; trying again will not help.
        """
        ...

    async def check(self) -> None:
        """Return if the engine can serve.

        Raises:
            EngineUnavailable: it cannot, for the reason told; EngineDied, which is one, if it
                never will again.
        """
        ...


@dataclass(frozen=True, slots=True)
class CorpusInfo:
    """How large a corpus is. `size_bytes` is its index's; `created` when that was built.

    `created` is UTC in ISO 8601, `generation` counts how often it was changed; each is None
    where it is unknown.
    """

    num_passages: int
    size_bytes: int | None = None
    created: str | None = None
    generation: int | None = None


class Retriever(Protocol):
    """A searchable corpus. `search` may block, and runs in a thread unless it is `quick`."""

    @property
    def quick(self) -> bool:
        """Whether a search takes less time than its hand-over to a thread (about 1 ms).

        The driver then does without the thread.
        """
        ...

    def search(self, query: str, top_k: int) -> Sequence[Passage]:
        """The at most `top_k` best passages for the words of `query`, best first, scored.

        Ties break the same way every time. A query with no known word finds nothing.
        """
        ...

    def reload_if_changed(self) -> bool:
        """Go over to another state of the corpus if there is one; cheap if not.

        Raises:
            IndexUnavailable: the new state cannot be used; the old one goes on serving.
        """
        ...

    def passage(self, id: str) -> Passage:
        """The passage with this id.

        Raises:
            PassageNotFound: there is none.
        """
        ...

    def describe(self) -> CorpusInfo:
        """The corpus that is being searched."""
        ...
